"""The gateway's process from start to end."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
from dataclasses import replace
from pathlib import Path

import uvloop

from slurmeval.errors import SlurmevalError
from slurmeval.gateway.accepting import shares, tcp_socket, unix_socket
from slurmeval.gateway.app import GatewayApp
from slurmeval.gateway.log import repair
from slurmeval.gateway.replay import Replays
from slurmeval.gateway.settings import GatewayConfig, GatewayReady
from slurmeval.gateway.upstream import Upstream
from slurmeval.gateway.writer import LogWriter, own_log
from slurmeval.parent_death import signal_at_parent_death
from slurmeval.processes import raise_open_files
from slurmeval.state.records import load, write

PROGRESS_FILE = "progress.json"
PROGRESS_S = 2.0
"""Seconds between two writes of the progress file."""

PARENT_CHECK_S = 1.0

_logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """`python -m slurmeval.gateway <config.json>`.

    Status 0: stopped by SIGTERM or its parent's end; 2: it could not start, with the reason as the last
    line of standard error.
    """
    parent = os.getppid()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if len(arguments) != 1:
        print("usage: python -m slurmeval.gateway <config.json>", file=sys.stderr)
        return 2
    try:
        uvloop.run(serve(load(Path(arguments[0]), GatewayConfig), parent))
    except (SlurmevalError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


async def serve(config: GatewayConfig, parent: int) -> None:
    """Runs a gateway until SIGTERM or SIGINT, or until `parent` is no longer this process's parent."""
    stop = asyncio.Event()
    _stop_on_signals(stop, parent)
    own_log(config.log)
    repair(config.log)
    replays = Replays(config.log)
    log = LogWriter(config.log)
    _logger.info("segment %04d; %d stored answers", log.segment, replays.stored)
    api_key = secrets.token_urlsafe(32)
    try:
        async with Upstream(config) as upstream:
            in_flight, connections = shares(raise_open_files(), config.max_in_flight)
            gateway = GatewayApp(api_key, replace(config, max_in_flight=in_flight), upstream, replays, log)
            server = gateway.server(connections)
            listener = tcp_socket(config.host, config.port)
            host, port = listener.getsockname()[:2]
            server.listen([listener, *([] if config.socket is None else [unix_socket(config.socket)])])
            ready = GatewayReady(f"http://{host}:{port}", api_key, os.getpid())
            write(config.ready_file, ready, mode=0o600)
            _logger.info("listening on %s; at most %d connections", ready.url, connections)
            try:
                await _until_stopped(stop, parent, gateway, config.log / PROGRESS_FILE)
            finally:
                await server.stop_listening()
                await server.shutdown(timeout=0.1)
                if gateway.audit is not None:
                    await gateway.audit.stop()
                write(config.log / PROGRESS_FILE, gateway.progress_report())
    finally:
        config.ready_file.unlink(missing_ok=True)
        replays.close()
        log.close()


def _stop_on_signals(stop: asyncio.Event, parent: int) -> None:
    """Ends the gateway if its parent is gone.

    SIGUSR1 comes from the kernel when the thread that started this process ends, which need not be the
    parent's end: so it only makes us look.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: stop.set() if os.getppid() != parent else None)
    signal_at_parent_death(signal.SIGUSR1)


async def _until_stopped(stop: asyncio.Event, parent: int, gateway: GatewayApp, progress_file: Path) -> None:
    loop = asyncio.get_running_loop()
    written_at, written = 0.0, None
    while not stop.is_set() and os.getppid() == parent:
        gateway.take_share()
        report = gateway.progress_report()
        if report != written and loop.time() >= written_at + PROGRESS_S:
            written_at, written = loop.time(), report
            try:
                await asyncio.to_thread(write, progress_file, report)
            except OSError as error:
                _logger.warning("%s cannot be written: %s", progress_file, error)
        try:
            await asyncio.wait_for(stop.wait(), PARENT_CHECK_S)
        except TimeoutError:
            continue
