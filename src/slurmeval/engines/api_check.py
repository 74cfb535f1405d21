"""Whether a server that slurmeval did not start will do: reached, trusted, with our key, with the model."""

from __future__ import annotations

import difflib
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from slurmeval.state.external import ExternalServer, is_here
from slurmeval.variables import certificates

ANSWER_S = 10.0
"""Longest wait for each answer."""
NAMES_SHOWN = 5
"""Models of the server that a message names."""
SAID = 300
"""Characters of an answer that a message shows."""
VERSION = "v1"
"""Where most servers have their API."""
NO_CREDIT = frozenset(
    {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "billing_not_active"}
)
"""Codes of errors that waiting does not mend, although their status is that of a rate limit."""


@dataclass(frozen=True)
class Fault:
    """Why a server will not do."""

    text: str
    may_pass: bool = False
    """It may do later, as it is."""


def trusted(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Returns the authorities that servers' certificates may be of.

    They are those of a variable (`SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`), or the machine's
    own and those that come with requests: a Python that was not built for this machine may not find its own.
    """
    context = ssl.create_default_context()  # knows SSL_CERT_FILE and SSL_CERT_DIR
    named = certificates(environment)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if name in named:
            context.load_verify_locations(named[name])
    if not named:
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context


def unreachable(error: Exception) -> str:
    """Returns in words why there is no answer."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = f"{error.certificate_error}".partition(" (_ssl")[0]
        todo = "set SSL_CERT_FILE to a file with the certificate of its authority"
        return f"the server's certificate is not trusted ({why}): {todo}"
    return f"the server cannot be reached: {str(error) or type(error).__name__}"


def redirected(answer: aiohttp.ClientResponse) -> str | None:
    """Returns where an answer sends its client, in words. None: it is an answer."""
    if answer.status not in (301, 302, 303, 307, 308):
        return None
    address = answer.headers.get("Location", "nowhere")[:SAID]
    return f"the server redirects requests to {address}: see servers.<id>.url"


def no_credit(status: int, content: bytes) -> str | None:
    """Returns in words that a server answers no more until somebody pays; None: it does not say so."""
    error = _error(content)
    named = {str(error.get(key)) for key in ("code", "type")} if isinstance(error, dict) else set()
    if status == 402 or (status in (403, 429) and named & NO_CREDIT):
        return f"the server answers no more for want of credit{_said(content)}"
    return None


async def fault_of(server: ExternalServer, key: str | None) -> Fault | None:
    """Returns why a server will not do, asked from here with this key, or None."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(ssl=trusted(os.environ))
    proxied = not is_here(server.url)  # as in a run, whose processes go without proxies on this machine
    async with aiohttp.ClientSession(headers=headers, trust_env=proxied, connector=connector) as client:
        return await fault(client, server)


async def fault(client: aiohttp.ClientSession, server: ExternalServer) -> Fault | None:
    """Returns why a server will not do, or None.

    It is asked for no text: that may cost money. One that has no list of models will do.
    """
    try:
        return await _fault(client, server)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        lasts = isinstance(error, aiohttp.ClientConnectorCertificateError)
        return Fault(unreachable(error), may_pass=not lasts)


async def _fault(client: aiohttp.ClientSession, server: ExternalServer) -> Fault | None:
    status, content, elsewhere = await _get(client, f"{server.url}/models")
    if elsewhere is not None:
        return Fault(elsewhere)
    if status in (401, 403):
        return Fault(f"the server refuses the key (status {status}): see api_key{_said(content)}")
    if status == 429 or status >= 500:
        text = f"the server answers {status} to the question for its models{_said(content)}"
        return Fault(text, may_pass=True)
    names = _names(content) if status == 200 else []
    if not names:
        status, content, _ = await _get(client, f"{server.url}/{VERSION}/models")
        if status in (401, 403) or (status == 200 and _names(content)):
            return Fault(f"the server's API begins at {server.url}/{VERSION}: say that in servers.<id>.url")
    elif server.model not in names and not await _knows(client, server):
        near = difflib.get_close_matches(server.model, names, NAMES_SHOWN, cutoff=0) or names
        listed = ", ".join(name[:100] for name in near)
        return Fault(f"the server has no model {server.model}, but {listed}")
    return None


async def _knows(client: aiohttp.ClientSession, server: ExternalServer) -> bool:
    """Whether a server knows a name that it does not list: an alias."""
    status, content, _ = await _get(client, f"{server.url}/models/{quote(server.model, safe='/')}")
    try:
        return status == 200 and isinstance(orjson.loads(content)["id"], str)
    except (ValueError, LookupError, TypeError):
        return False


async def _get(client: aiohttp.ClientSession, url: str) -> tuple[int, bytes, str | None]:
    """Returns status and content of an answer, and where it sends its client."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with client.get(url, timeout=timeout, allow_redirects=False) as answer:
        return answer.status, await answer.read(), redirected(answer)


def _names(content: bytes) -> list[str]:
    """Returns the models that a server lists; none where it answers something else."""
    try:
        return [str(entry["id"]) for entry in orjson.loads(content)["data"]]
    except (ValueError, LookupError, TypeError):
        return []


def _said(content: bytes) -> str:
    """Returns what an error says, to stand behind a text; empty: nothing that can be read."""
    error = _error(content)
    message = error.get("message") if isinstance(error, dict) else error
    return f" ({' '.join(str(message).split())[:SAID]})" if message else ""


def _error(content: bytes) -> Any:
    """Returns the error in an answer, as the server writes it; None: there is none."""
    try:
        return orjson.loads(content)["error"]
    except (ValueError, LookupError, TypeError):
        return None
