"""One engine run after another: started, proved, watched, and ended with nothing left of it."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import replace

from slurmeval.engines.failures import Failure
from slurmeval.engines.readiness import Nonsense, NotReady
from slurmeval.engines.registry import find_engine
from slurmeval.errors import ErrorClass
from slurmeval.servers.accounting import EngineRun
from slurmeval.servers.engine_process import EngineProcess
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.launch import launch
from slurmeval.servers.ports import BindAddress, NoAddress, bind_address, free_port, strangers_listen
from slurmeval.servers.ranks import Workers
from slurmeval.servers.state import Published
from slurmeval.servers.timing import Timing
from slurmeval.state.server import ServerStatus
from slurmeval.state.server_spec import ServerSpec

log = logging.getLogger(__name__)

NONSENSE_TRIES = 3
"""Wrong answers in a row until a server that starts counts as wrong for good."""


STRANGER_LOOKS = 2
"""Looks in a row at which someone else listens on the engine's port until the port counts as lost."""


class Died(Exception):
    """An engine run has ended by itself."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class EngineRuns:
    """The engine of a server, one engine run after another.

    `pause` waits, and raises whatever is to end the server.
    """

    def __init__(
        self,
        folder: ServerFolder,
        spec: ServerSpec,
        timing: Timing,
        published: Published,
        pause: Callable[[float], None],
    ) -> None:
        self._folder, self._spec, self._timing = folder, spec, timing
        self._published, self._pause = published, pause
        self._engine = find_engine(spec.engine)
        self._workers = Workers(folder, spec, published.fencing_token)
        self._process: EngineProcess | None = None
        self.engine_run: EngineRun | None = None
        self._address = BindAddress("localhost", "127.0.0.1")
        self._port = 0
        self._url = self._api_key = ""
        self._strangers = 0

    def use(self, spec: ServerSpec) -> None:
        """From the next engine run on: the same server from other places on this node."""
        self._spec = spec

    def start(self) -> None:
        """Begins an engine run. Raises Died."""
        engine_run = EngineRun(self._published.engine_runs + 1, time.time())
        self.engine_run = engine_run
        self._published.begin(engine_run)
        self._published.change(ServerStatus.STARTING)
        self._api_key = secrets.token_urlsafe(32)
        self._strangers = 0
        try:
            self._address = bind_address(self._spec.host)
            self._port = free_port(self._address.bind)
            rank = self._workers.start(engine_run.number)
        except NoAddress as error:
            raise Died(Failure(str(error), ErrorClass.SERVER_LOST, retryable=False)) from error
        self._url = self._address.own_url(self._port)
        try:
            self._process = launch(
                self._engine,
                self._spec,
                self._address,
                self._folder.engine_log,
                port=self._port,
                api_key=self._api_key,
                rank=rank,
            )
        except OSError as error:
            reason = f"the environment's interpreter cannot be run: {error}"
            raise Died(Failure(reason, ErrorClass.SERVER_LOST, retryable=False)) from error
        log.info("engine run %d: process %d, %s", engine_run.number, self._process.pid, self._url)

    def await_ready(self) -> None:
        """Returns when the engine has completed a prompt, and publishes it. Raises Died."""
        deadline = time.monotonic() + self._spec.ready_timeout_s
        nonsense, seen, listens = 0, "nothing", None
        while True:
            self._check_process()
            try:
                self._check_port()
                listens = listens or time.time()
                self._engine.check_ready(self._url, self._api_key, self._spec.served_name)
                self._check_process()
                break
            except Nonsense as error:
                nonsense += 1
                if nonsense == NONSENSE_TRIES:
                    raise Died(Failure(str(error), ErrorClass.BAD_RESULT, retryable=False)) from error
                seen = str(error)
            except NotReady as error:
                nonsense, seen = 0, str(error)
            if time.monotonic() > deadline:
                within = f"within {self._spec.ready_timeout_s:g} s"
                reason = f"{self._engine.name} was not ready {within}; seen last: {seen}"
                raise Died(Failure(reason, ErrorClass.TIME_LIMIT, retryable=False))
            self._published.seen(seen)
            self._published.heartbeat(self._timing.heartbeat_s)
            self._pause(min(0.5, self._timing.poll_s))
        assert self.engine_run is not None
        self.engine_run.ready = time.time()
        assert self._process is not None
        waited_s = self.engine_run.ready - (listens or self.engine_run.ready)
        self.engine_run.parts = self._process.start_parts() | {"first_answer_s": round(waited_s, 3)}
        self._published.announce(
            self._address.url(self._port), self._api_key, self._spec.served_name, self.engine_run.number
        )
        self._published.change(ServerStatus.READY)
        log.info(
            "engine run %d: ready after %.1f s",
            self.engine_run.number,
            self.engine_run.ready - self.engine_run.started,
        )

    def _check_port(self) -> None:
        """Checks that the engine itself listens on its port.

        Raises NotReady unless it does, and Died where someone else does: it can have it no more, and what
        answers there may even look like it.
        """
        assert self._process is not None
        strangers = strangers_listen(self._address.bind, self._port, self._process.processes())
        # Sockets and processes are not listed in one moment: an engine that listens just now looks like
        # another.
        self._strangers = self._strangers + 1 if strangers else 0
        if strangers is None:
            raise NotReady(f"{self._engine.name} does not listen yet")
        if strangers:
            reason = f"another process listens on the server's port {self._port}"
            if self._strangers < STRANGER_LOOKS:
                raise NotReady(reason)
            raise Died(Failure(reason, ErrorClass.SERVER_LOST, retryable=True, port_taken=True))

    def keep(self, look: Callable[[EngineRun], None]) -> None:
        """Watches the engine while it serves, and has `look` look at its figures. Raises Died."""
        failing_since: float | None = None
        while True:
            self._check_process()
            try:
                self._engine.check_health(self._url, self._api_key)
                look(self.sample())
                failing_since = None
            except NotReady as error:
                # From the first failure on, not from the last success: a machine may have slept.
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > self._timing.unhealthy_s:
                    for_how_long = f"no good answer for {self._timing.unhealthy_s:g} s"
                    reason = f"{self._engine.name} hangs: {for_how_long} ({error})"
                    raise Died(Failure(reason, ErrorClass.SERVER_LOST, retryable=True)) from error
            self._published.heartbeat(self._timing.heartbeat_s)
            self._pause(self._timing.poll_s)

    def sample(self) -> EngineRun:
        """Takes in the engine's figures. Raises NotReady."""
        assert self.engine_run is not None
        self.engine_run.sample(self._engine.read_figures(self._url, self._api_key), time.time())
        self._published.take_in(self.engine_run)
        return self.engine_run

    def wait(self, seconds: float) -> bool:
        """Waits; returns at once, and True, when the engine has ended."""
        if self._process is None:
            time.sleep(seconds)
            return False
        return self._process.wait(seconds)

    def _check_process(self) -> None:
        assert self._process is not None
        returncode = self._process.returncode()
        elsewhere = self._workers.failure()
        if returncode is None and elsewhere is None:
            return
        self._published.withdraw()
        if returncode is None:
            assert elsewhere is not None
            raise Died(elsewhere)
        failure = self._process.failure()
        if self._spec.nodes > 1 and failure.retryable:
            # It may have ended of what happened on another node.
            time.sleep(2 * self._timing.poll_s)
            elsewhere = self._workers.failure()
            if elsewhere is not None:
                failure = replace(elsewhere, reason=f"{failure.reason}; {elsewhere.reason}")
        raise Died(failure)

    def end(self, reason: str, drain_s: float = 0.0, comes_back: bool = False) -> None:
        """Ends the engine, if it lives, and records the engine run.

        Requests under way may end within `drain_s`. `comes_back`: lessees are to wait for the next engine
        run, and not to lease another server. Safe to call again.
        """
        process, engine_run = self._process, self.engine_run
        self._published.withdraw()
        if process is not None:
            running = process.returncode() is None
            if running and drain_s > 0 and engine_run is not None and engine_run.ready is not None:
                status = ServerStatus.RESTARTING if comes_back else ServerStatus.DRAINING
                self._published.change(status, reason)
                self._drain(drain_s)
            self._workers.stop()
            if running:
                busy = engine_run is not None and engine_run.figures.requests_running > 0
                process.end(self._timing.grace_s if busy and drain_s > 0 else self._timing.idle_grace_s)
            else:
                process.kill()  # workers that outlived it
        if engine_run is not None:
            self._published.end(engine_run, reason)
        self._process = self.engine_run = None

    def stop_workers(self) -> None:
        """The other ranks end: this one does."""
        self._workers.stop(over=True)

    def abandon(self) -> None:
        """Kills the engine and writes nothing: the server is another supervisor's."""
        if self._process is not None:
            self._process.kill()
        self._process = self.engine_run = None

    def _drain(self, drain_s: float) -> None:
        """Lets requests under way end. The endpoint is withdrawn: none are added."""
        deadline = time.monotonic() + drain_s
        while time.monotonic() < deadline:
            try:
                if self.sample().figures.requests_running == 0:
                    return
            except NotReady:
                return
            self._published.heartbeat(self._timing.heartbeat_s)
            self.wait(min(0.2, self._timing.poll_s))
