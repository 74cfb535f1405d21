"""What a registry says of an image: the digest of a tag, the architectures, and how much to download.

Images themselves are downloaded by Apptainer (`pulling.py`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from slurmeval.containers.reference import DIGEST, Reference
from slurmeval.containers.registry_login import Login, find_login
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.progress import Progress
from slurmeval.retrying import (
    BUSY_STATUSES,
    WAIT_LIMIT_S,
    Retry,
    backoff_s,
    call_with_retries,
    requested_wait_s,
)

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ANSWER_LIMIT_S = (20.0, 60.0)
"""To connect, and between two pieces of an answer."""
ATTEMPTS = 6
CONNECTION_ATTEMPTS = 4
"""Attempts while no connection can be made."""
MANIFEST_BYTES = 32 * 2**20
"""A larger manifest is none."""


@dataclass(frozen=True)
class Named:
    """Digest and architectures of a name."""

    digest: str
    architectures: tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """One compressed file of an image; `size` in bytes."""

    digest: str
    size: int


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: requests.structures.CaseInsensitiveDict[str]
    body: bytes


def _judge(result: _Answer | Exception, number: int) -> Retry | None:
    """Returns when a busy or unreachable registry is asked again."""
    if isinstance(result, _Answer):
        asked_s = requested_wait_s(result.headers)
        wait_s = backoff_s(number) if asked_s is None else asked_s
        if result.status not in BUSY_STATUSES or wait_s > WAIT_LIMIT_S:
            return None
        return Retry(f"the registry answers {result.status}", wait_s)
    broken = isinstance(
        result, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError
    )
    if not broken or isinstance(result, requests.exceptions.SSLError) or number >= CONNECTION_ATTEMPTS:
        return None
    return Retry("no connection", backoff_s(number))


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Adds the token."""
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class _Nobody(AuthBase):
    """No login. Without it requests would take one from ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


@dataclass
class Registry:
    """Registry of one image, asked over HTTP (OCI distribution specification, version 2).

    `what` begins each message. All methods raise UserError (login, name, certificate) or SlurmevalError
    (network), one line.
    """

    what: str
    reference: Reference
    progress: Progress
    sleep: Callable[[float], None] = time.sleep
    _auth: AuthBase = field(default_factory=_Nobody, init=False, repr=False)
    _login: Login | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Prepares the address."""
        host = "registry-1.docker.io" if self.reference.host == "docker.io" else self.reference.host
        self._base = f"{'http' if plain_http() else 'https'}://{host}/v2/{self.reference.path}"
        self._session = requests.Session()

    def digest(self) -> str | None:
        """Returns the digest that the name stands for now, or None if the registry does not say."""
        answer = self._ask(f"manifests/{self._name()}", method="HEAD")
        said = answer.headers.get("Docker-Content-Digest", "")
        return said if DIGEST.fullmatch(said) else None

    def named(self) -> Named:
        """Returns what the name stands for now."""
        digest, manifest = self._manifest(self._name())
        if _is_index(manifest):
            return Named(digest, tuple(dict.fromkeys(_architecture(entry) for entry in _images(manifest))))
        return Named(digest, (self._architecture_of(manifest),))

    def layers(self, digest: str, architecture: str) -> tuple[Layer, ...]:
        """Returns the files to download of `digest` for machines of this architecture."""
        _, manifest = self._manifest(digest)
        if _is_index(manifest):
            entries = list(_images(manifest))
            fitting = [entry for entry in entries if _architecture(entry) == architecture]
            if not fitting:
                raise self._other_machines(architecture, [_architecture(entry) for entry in entries])
            _, manifest = self._manifest(str(fitting[0]["digest"]))
        elif (made_for := self._architecture_of(manifest)) != architecture:
            raise self._other_machines(architecture, [made_for])
        files = [manifest.get("config"), *manifest.get("layers", [])]
        return tuple(
            Layer(str(file["digest"]), int(file["size"])) for file in files if isinstance(file, dict)
        )

    def _other_machines(self, architecture: str, there: list[str]) -> UserError:
        return UserError(
            f"{self.what}: {self.reference} is not made for {architecture}, the architecture of this "
            f"machine; there is: {', '.join(dict.fromkeys(there)) or 'none'}"
        )

    def _name(self) -> str:
        return self.reference.digest or self.reference.tag or "latest"

    def _architecture_of(self, manifest: dict[str, Any]) -> str:
        """Returns the architecture of an image by itself, from its configuration."""
        digest = str((manifest.get("config") or {}).get("digest", ""))
        config = self._json(self._ask(f"blobs/{digest}"), digest)
        return str(config.get("architecture") or "unknown")

    def _manifest(self, name: str) -> tuple[str, dict[str, Any]]:
        """Returns digest and content of a manifest. The digest is computed, not believed."""
        answer = self._ask(f"manifests/{name}")
        digest = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        said = answer.headers.get("Docker-Content-Digest", digest)
        for wanted in (said, name):
            if DIGEST.fullmatch(wanted) and wanted != digest:
                raise SlurmevalError(
                    f"{self.what}: {self.reference.host} sent something else than {wanted}: is there a proxy "
                    "between that alters it?"
                )
        manifest = self._json(answer, digest)
        if not (_is_index(manifest) or "layers" in manifest):
            raise UserError(f"{self.what}: {self.reference} is no image of a kind that Apptainer can pull")
        return digest, manifest

    def _json(self, answer: _Answer, digest: str) -> dict[str, Any]:
        try:
            content = json.loads(answer.body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise SlurmevalError(f"{self.what}: {self.reference.host} sent no JSON for {digest[:19]}…")
        return content

    def _ask(self, place: str, method: str = "GET") -> _Answer:
        """Returns the answer to a request in the image's repository, logged in as far as needed."""
        answer = self._send(method, f"{self._base}/{place}")
        if answer.status == 401:
            self._authorise(answer.headers.get("WWW-Authenticate", ""))
            answer = self._send(method, f"{self._base}/{place}")
        if answer.status in (401, 403):
            raise self._refused(answer.status)
        if answer.status == 404:
            raise self._missing(place)
        if answer.status != 200:
            raise SlurmevalError(f"{self.what}: {self.reference.host} answers {answer.status} for {place}")
        return answer

    def _send(self, method: str, url: str, auth: AuthBase | None = None, **more: dict[str, str]) -> _Answer:
        host = urlsplit(url).netloc

        def once() -> _Answer:
            with self._session.request(
                method,
                url,
                auth=auth or self._auth,
                headers={"Accept": ", ".join((*INDEXES, *MANIFESTS, "application/json"))},
                timeout=ANSWER_LIMIT_S,
                verify=_trusted(),
                stream=True,
                **more,  # type: ignore[arg-type]
            ) as response:
                return _Answer(response.status_code, response.headers, _body(response))

        try:
            answer = call_with_retries(self.what, once, _judge, self.progress, ATTEMPTS, self.sleep)
        except requests.exceptions.SSLError as error:
            raise UserError(
                f"{self.what}: the certificate of {host} is not trusted ({_cause(error)}): set SSL_CERT_FILE "
                "to a file with the certificate of its authority"
            ) from None
        except (requests.RequestException, OSError) as error:
            raise SlurmevalError(
                f"{self.what}: {host} cannot be reached ({_cause(error)}): is there a network here, or a "
                "proxy to set (https_proxy)?"
            ) from None
        if answer.status in BUSY_STATUSES:
            raise SlurmevalError(
                f"{self.what}: {host} answers {answer.status} again and again: try later"
                + (", or log in: the limit is higher then" if answer.status == 429 else "")
            )
        return answer

    def _authorise(self, challenge: str) -> None:
        """Logs in by the method that the registry asks for.

        Either with a token that its token service gives, even without a login, or with name and password.
        """
        kind, _, rest = challenge.partition(" ")
        self._login = find_login(self.reference.host)
        if kind.lower() == "basic" and self._login is not None and self._login.password:
            self._auth = HTTPBasicAuth(self._login.username.encode(), self._login.password.encode())
        elif kind.lower() == "bearer":
            self._auth = _Bearer(self._token(dict(re.findall(r'(\w+)="([^"]*)"', rest))))

    def _token(self, asked: dict[str, str]) -> str:
        realm = asked.get("realm", "")
        if not realm.startswith(("https://", "http://") if plain_http() else "https://"):
            raise SlurmevalError(f"{self.what}: {self.reference.host} names no safe place to log in at")
        scope = {"service": asked.get("service", ""), "scope": f"repository:{self.reference.path}:pull"}
        login = self._login
        if login is not None and login.identity_token:
            form = {**scope, "grant_type": "refresh_token", "refresh_token": login.identity_token}
            answer = self._send("POST", realm, _Nobody(), data={**form, "client_id": "slurmeval"})
        elif login is not None:
            basic = HTTPBasicAuth(login.username.encode(), login.password.encode())
            answer = self._send("GET", realm, basic, params=scope)
        else:
            answer = self._send("GET", realm, _Nobody(), params=scope)
        if answer.status in (400, 401, 403, 404):
            raise self._refused(answer.status)
        content = self._json(answer, "a token")
        token = content.get("token") or content.get("access_token")
        if not token:
            raise SlurmevalError(f"{self.what}: {self.reference.host} gives no token")
        return str(token)

    def _refused(self, status: int) -> UserError:
        return refused(self.what, self.reference, status, self._login)

    def _missing(self, place: str) -> UserError:
        if not place.startswith("manifests/"):
            return UserError(f"{self.what}: {self.reference.repository} is incomplete: {place} is not there")
        if DIGEST.fullmatch(place.removeprefix("manifests/")):
            return gone(self.what, self.reference)
        tags = self._tags()
        near = difflib.get_close_matches(self.reference.tag or "", tags, n=3, cutoff=0.3) or tags[-3:]
        there = f"; there are {len(tags)} others, such as {', '.join(near)}" if near else ""
        return UserError(f"{self.what}: {self.reference.repository} has no tag {self.reference.tag}{there}")

    def _tags(self) -> list[str]:
        """Returns all tags, or none if they are not available: they only make a message better."""
        try:
            answer = self._send("GET", f"{self._base}/tags/list")
            found = json.loads(answer.body).get("tags") if answer.status == 200 else None
        except (SlurmevalError, ValueError, AttributeError):
            return []
        return [str(tag) for tag in found or []]


def refused(what: str, reference: Reference, status: int, login: Login | None) -> UserError:
    """Returns the error for a registry that wants a login, or another one."""
    how = f"apptainer registry login --username NAME docker://{reference.host}"
    if login is None:
        return UserError(
            f"{what}: {reference.host} refuses {reference.path} ({status}): log in with `{how}`, unless "
            "there is no such image"
        )
    return UserError(
        f"{what}: {reference.host} refuses {reference.path} ({status}) with the login of {login.source}: has "
        f"it expired, or no right to this image? `{how}`"
    )


def gone(what: str, reference: Reference) -> UserError:
    """Returns the error for a registry that no longer has the digest."""
    return UserError(
        f"{what}: {reference.host} has no such digest of {reference.path} (any more): "
        f"`slurmeval images lock` asks for what {reference.tag or 'its tag'} names now"
    )


def plain_http() -> bool:
    """Returns whether registries are asked without TLS, by Apptainer's own variable."""
    names = (
        f"{program}_{name}" for program in ("APPTAINER", "SINGULARITY") for name in ("NOHTTPS", "NO_HTTPS")
    )
    return any(os.environ.get(name, "").lower() in ("1", "true", "t", "yes") for name in names)


def _body(response: requests.Response) -> bytes:
    """Returns the content, up to a limit."""
    body = b""
    for piece in response.iter_content(65536):
        body += piece
        if len(body) > MANIFEST_BYTES:
            break
    return body


def _trusted() -> str | bool:
    """Returns the trusted authorities: SSL_CERT_FILE as for Apptainer, or the machine's own."""
    if file := os.environ.get("SSL_CERT_FILE"):
        return file
    if os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"):
        return True  # requests reads these itself
    return ssl.get_default_verify_paths().cafile or True


def _is_index(manifest: dict[str, Any]) -> bool:
    return isinstance(manifest.get("manifests"), list)


def _images(index: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the entries of an index that are images. It may also list attestations."""
    return [
        entry
        for entry in index["manifests"]
        if isinstance(entry, dict)
        and (entry.get("platform") or {}).get("os", "linux") == "linux"
        and _architecture(entry) != "unknown"
    ]


def _architecture(entry: dict[str, Any]) -> str:
    return str((entry.get("platform") or {}).get("architecture") or "unknown")


def _cause(error: BaseException) -> str:
    """Returns the innermost reason, in few words and without addresses, which may hold keys."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    text = re.sub(r"https?://\S+", "…", " ".join(str(error).split()))
    return text.rpartition("> ")[2][:160] or type(error).__name__
