"""Addresses and ports of a server: where it listens, and whether it is really the server that does."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Collection
from typing import NamedTuple

import psutil

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that stand for all of a node's, and by which it then reaches itself."""

RESOLVE_S = 3.0
"""How long a name may fail to resolve: name servers are away for moments."""


class NoAddress(Exception):
    """The name by which others are to reach this node leads nowhere; the text says what to change."""


class BindAddress(NamedTuple):
    """Where a server of this node listens."""

    host: str
    """The name or address by which others reach it."""
    bind: str
    """The address that it binds to."""

    def url(self, port: int) -> str:
        """For others."""
        return _url(self.host, port)

    def own_url(self, port: int) -> str:
        """For this node, whatever its name means here."""
        return _url(EVERYWHERE.get(self.bind, self.bind), port)


def bind_address(template: str, timeout_s: float = RESOLVE_S) -> BindAddress:
    """From ServerSpec.host.

    A node that knows its own name only as a loopback address listens on all of its addresses. Raises
    NoAddress.
    """
    node = socket.gethostname()
    host = template.format(host=node)
    found = sorted(
        (ipaddress.ip_address(address) for address in _addresses(host, node, timeout_s)), key=_last
    )
    address = found[0]
    if address.is_loopback and host != str(address):
        return BindAddress(host, "0.0.0.0" if address.version == 4 else "::")
    return BindAddress(host, str(address))


def _addresses(host: str, node: str, timeout_s: float) -> set[str]:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            return {str(entry[4][0]).partition("%")[0] for entry in found}
        except (OSError, UnicodeError):
            if time.monotonic() >= deadline:
                raise NoAddress(
                    f"servers.address in site.yaml gives {host}, which {node} itself cannot resolve: "
                    "change it to a name or address by which other nodes reach this one (docs/sites.md)"
                ) from None
        time.sleep(min(1.0, timeout_s / 5))


def _last(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[bool, bool, int]:
    """Loopback after what others reach, IPv6 after IPv4."""
    return address.is_loopback or address.is_link_local, address.version == 6, int(address)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def free_port(bind: str) -> int:
    """A TCP port that nobody listens on now.

    Another may take it before the engine does: it then says so. Raises NoAddress where `bind` is no
    address of this node.
    """
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
        try:
            probe.bind((bind, 0))
        except OSError as error:
            raise NoAddress(
                f"servers.address in site.yaml gives {bind}, on which {socket.gethostname()} cannot listen "
                f"({error.strerror}): change it to a name of this node (docs/sites.md)"
            ) from None
        port: int = probe.getsockname()[1]
        return port


def strangers_listen(bind: str, port: int, ours: Collection[int]) -> bool | None:
    """Returns who would get a connection to `port`.

    False: only processes of `ours`; True: also another, or another alone; None: nobody listens.
    """
    listeners = []
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr:
            address = connection.laddr.ip.removeprefix("::ffff:")
            if connection.laddr.port == port and (bind in EVERYWHERE or address in {bind, *EVERYWHERE}):
                listeners.append(connection.pid)
    if not listeners:
        return None
    return any(pid is None or pid not in ours for pid in listeners)
