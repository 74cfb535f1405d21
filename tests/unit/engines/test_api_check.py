"""Whether a server that slurmeval did not start will do."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from slurmeval.engines import api_check
from slurmeval.engines.forwarder import Forwarder
from slurmeval.state.external import ExternalServer
from tests.internet.certificates import make

OWN = {"Authorization": "Bearer own"}
Ready = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
async def ready(tmp_path: Path) -> AsyncIterator[Ready]:
    """Asks a forwarder whether a server with these answers, by path, will do."""

    async def ask(answers: dict[str, Any], base: str, tls: ssl.SSLContext | None = None) -> tuple[int, str]:
        async def answer(request: web.Request) -> web.Response:
            found = answers.get(request.path, 404)
            if isinstance(found, str):
                return web.Response(status=301, headers={"Location": found})
            if isinstance(found, tuple):
                return web.json_response({"error": {"message": found[1]}}, status=found[0])
            return web.Response(status=found) if isinstance(found, int) else web.json_response(found)

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        server = TestServer(app, scheme="http" if tls is None else "https", host="localhost")
        await server.start_server(ssl=tls)
        try:
            external = ExternalServer(
                url=str(server.make_url(base)).rstrip("/"),
                model="a/model",
                max_in_flight=1,
                spent_file=str(tmp_path / "spent.json"),
            )
            async with TestClient(TestServer(Forwarder(external, "ours", "own").app())) as client:
                said = await client.get("/ready", headers=OWN)
                return said.status, (await said.text()).replace(external.url, "URL")
        finally:
            await server.close()

    yield ask


def models(*names: str) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name} for name in names]}


@pytest.mark.parametrize(
    ("answers", "base", "status", "text"),
    [
        ({"/v1/models": models("a/model")}, "/v1", 200, "ready"),
        ({}, "/v1", 200, "ready"),
        ({"/v1/models": models()}, "/v1", 200, "ready"),
        ({"/v1/models": models("b")}, "/v1", 400, "the server has no model a/model, but b"),
        ({"/v1/models": models("b"), "/v1/models/a/model": {"id": "b"}}, "/v1", 200, "ready"),
        ({"/v1/models": models("b"), "/v1/models/a/model": {}}, "/v1", 400, "has no model a/model"),
        ({"/v1/models": models("a/model")}, "/", 400, "API begins at URL/v1: say that in servers.<id>.url"),
        ({"/v1/models": 401}, "/", 400, "the server's API begins at URL/v1"),
        ({"/api/models": {}, "/api/v1/models": models("b")}, "/api", 400, "API begins at URL/v1"),
        ({"/v1/models": (401, "no such key")}, "/v1", 400, "the key (status 401): see api_key (no such key)"),
        ({"/v1/models": (403, "not yours")}, "/v1", 400, "the key (status 403): see api_key (not yours)"),
        (
            {"/v1/models": (503, "too busy")},
            "/v1",
            502,
            "answers 503 to the question for its models (too busy)",
        ),
        ({"/v1/models": "https://a.example/v1"}, "/v1", 400, "redirects requests to https://a.example/v1"),
    ],
)
async def test_what_is_wrong_is_told_in_a_line(
    answers: dict[str, Any], base: str, status: int, text: str, ready: Ready
) -> None:
    told = await ready(answers, base)
    assert told[0] == status
    assert text in told[1]


async def test_a_certificate_is_trusted_once_its_authority_is_named(
    ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    made = make("localhost", tmp_path / "certificates")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    status, text = await ready({}, "/v1", tls)
    assert status == 400
    assert "certificate is not trusted" in text
    assert "set SSL_CERT_FILE to a file with the certificate of its authority" in text
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(made.trusted))
        assert await ready({}, "/v1", tls) == (200, "ready")
        monkeypatch.delenv(name)


def test_without_variables_the_authorities_of_the_web_are_trusted() -> None:
    assert api_check.trusted({}).cert_store_stats()["x509_ca"] > 50


async def test_a_server_on_this_machine_is_asked_without_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with TestServer(web.Application()) as here:
        for url, reached in ((str(here.make_url("/v1")), True), ("http://api.invalid/v1", False)):
            server = ExternalServer(url=url, model="m", max_in_flight=1, spent_file=str(tmp_path / "spent"))
            fault = await api_check.fault_of(server, None)
            assert (fault is None) is reached
