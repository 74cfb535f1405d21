"""Whether an endpoint is healthy, and our model's server: somebody else's may have taken over its port."""

from __future__ import annotations

import asyncio

import orjson

from slurmeval.gateway.connection import Connection, Connections, encode_request
from slurmeval.gateway.finder import Refusal, ServerEndpoint

PROBE_TIMEOUT_S = 5.0


async def probe(endpoint: ServerEndpoint, model: str) -> Refusal | None:
    """Asks a server whether it is healthy, refuses who has no key, and lists `model` to who has ours.

    It asks on connections of its own. The key goes to none that would take any.
    """
    place = f"server {endpoint.server_id} does not answer at {endpoint.url}"
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            status, _ = await _get(endpoint, "/health", "")
            if status >= 500:
                return Refusal(f"{place}: it is not healthy (status {status})")
            status, _ = await _get(endpoint, "/v1/models", "")
            if status < 400:
                return Refusal(f"{place}, but another server does: it wants no key", True)
            status, body = await _get(endpoint, "/v1/models", endpoint.api_key)
    except (OSError, ValueError) as error:  # ValueError: no URL
        return Refusal(f"{place}: {str(error) or 'no answer in time'}")
    if status >= 500:
        return Refusal(f"{place}: it cannot say what it serves (status {status})")
    if status != 200:
        return Refusal(f"{place}, but another server does: it refuses our key (status {status})", True)
    names = _names(body)
    if model not in names:
        serves = ", ".join(names) or "no model"
        return Refusal(f"{place}, but another server does: it serves {serves}, not {model}", True)
    return None


async def _get(endpoint: ServerEndpoint, path: str, api_key: str) -> tuple[int, bytes]:
    connection: Connection = await Connections.open(endpoint.url)
    try:
        await connection.ask(encode_request("GET", endpoint.url, path, api_key, "application/json", b""))
        return connection.status, b"" if connection.streams else connection.body()
    finally:
        connection.close()


def _names(body: bytes) -> list[str]:
    try:
        return [str(entry["id"])[:100] for entry in orjson.loads(body)["data"]]
    except (ValueError, KeyError, TypeError):
        return []
