"""Where a server listens, what others are told, and how it asks itself."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from slurmeval.servers import ports
from slurmeval.servers.ports import BindAddress, NoAddress, bind_address, free_port


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names mean on this node, gpu1."""
    known: dict[str, list[str]] = {}

    def resolve(host: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(ports.socket, "gethostname", lambda: "gpu1")
    monkeypatch.setattr(ports.socket, "getaddrinfo", resolve)
    return known


@pytest.mark.parametrize(
    ("addresses", "bind", "own_url"),
    [
        (["10.0.0.7"], "10.0.0.7", "http://10.0.0.7:8000"),
        (["::1", "127.0.0.1", "10.0.0.7"], "10.0.0.7", "http://10.0.0.7:8000"),
        (["2001:db8::7"], "2001:db8::7", "http://[2001:db8::7]:8000"),
        (["2001:db8::7", "10.0.0.7"], "10.0.0.7", "http://10.0.0.7:8000"),
        (["127.0.1.1"], "0.0.0.0", "http://127.0.0.1:8000"),
        (["::1"], "::", "http://[::1]:8000"),
    ],
)
def test_node_asks_itself_where_it_listens_whatever_its_name_means_there(
    hosts: dict[str, list[str]], addresses: list[str], bind: str, own_url: str
) -> None:
    hosts["gpu1i"] = addresses
    found = bind_address("{host}i")
    assert found == BindAddress("gpu1i", bind)
    assert (found.own_url(8000), found.url(8000)) == (own_url, "http://gpu1i:8000")


def test_address_is_taken_as_it_is(hosts: dict[str, list[str]]) -> None:
    hosts |= {"127.0.0.1": ["127.0.0.1"], "::1": ["::1"]}
    assert bind_address("127.0.0.1") == BindAddress("127.0.0.1", "127.0.0.1")
    assert bind_address("::1").url(80) == "http://[::1]:80"


@pytest.mark.usefixtures("hosts")
def test_name_that_the_node_itself_cannot_resolve_names_the_key() -> None:
    with pytest.raises(NoAddress, match=r"servers.address .* gives gpu1.nowhere.invalid, which gpu1 itself"):
        bind_address("{host}.nowhere.invalid", timeout_s=0)


def test_address_of_another_machine_names_the_key() -> None:
    with pytest.raises(NoAddress, match=r"servers\.address in site\.yaml gives 192\.0\.2\.1"):
        free_port("192.0.2.1")


def test_port_is_free_where_the_server_binds() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port("127.0.0.1")))
