"""Addresses and ports of a server: where it listens, and whether it is really the server that does."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from typing import NamedTuple

import psutil

EVERYWHERE = frozenset({"0.0.0.0", "::"})


class Place(NamedTuple):
    """Where a server of this node listens."""

    host: str
    """The name or address by which others reach it."""
    bind: str
    """The address that it binds to."""


def place(template: str) -> Place:
    """From ServerSpec.host. A node that knows its own name only as a loopback address listens on all of its
    addresses."""
    node = socket.gethostname()
    host = template.format(host=node)
    try:
        address = socket.gethostbyname(host)
    except OSError:
        return Place(host, "0.0.0.0")
    if ipaddress.ip_address(address).is_loopback and host != address:
        return Place(host, "0.0.0.0")
    return Place(host, address)


def free_port(bind: str) -> int:
    """A TCP port that nobody listens on now. Another may take it before vLLM does: vLLM then says so."""
    with socket.socket() as probe:
        probe.bind((bind, 0))
        port: int = probe.getsockname()[1]
        return port


def strangers_listen(bind: str, port: int, ours: Collection[int]) -> bool | None:
    """Who would get a connection to `port`: False: only processes of `ours`; True: also another, or another
    alone; None: nobody listens."""
    listeners = []
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr:
            address = connection.laddr.ip.removeprefix("::ffff:")
            if connection.laddr.port == port and (bind in EVERYWHERE or address in {bind, *EVERYWHERE}):
                listeners.append(connection.pid)
    if not listeners:
        return None
    return any(pid is None or pid not in ours for pid in listeners)
