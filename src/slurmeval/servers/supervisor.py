"""The supervisor: the job that keeps one server answering while it is leased.

It waits for a slot, starts vLLM, proves that it answers, publishes its endpoint, beats, starts vLLM again
when it dies, and ends when no lease is left, when told to stop, or when vLLM cannot be made to serve. It
leaves no process behind."""

from __future__ import annotations

import logging
import secrets
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from slurmeval.errors import ErrorClass
from slurmeval.files import read_json
from slurmeval.processes import BEAT_S, identity
from slurmeval.servers.accounting import Life, append_life
from slurmeval.servers.failures import Failure, classify
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.leases import close_if_unused, is_leased
from slurmeval.servers.readiness import Nonsense, NotReady, check_health, check_ready, read_figures
from slurmeval.servers.slots import Slot, someone_waits, stand_in_line, take_slot
from slurmeval.servers.spec import ServerSpec
from slurmeval.servers.state import Published, address
from slurmeval.servers.vllm import Vllm, free_port

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """The supervisor's times, in seconds. The defaults are for real servers; tests shorten them."""

    poll_s: float = 1.0
    """Between two looks at vLLM, at the leases and at the `stop` file."""
    beat_s: float = BEAT_S
    linger_s: float = 3.0
    """How long a server without leases waits for another."""
    unhealthy_s: float = 30.0
    """How long /health may fail before vLLM counts as dead."""
    backoff_s: float = 1.0
    """Before the first restart; doubled for each further one."""
    sound_s: float = 600.0
    """A life that served this long forgives the restarts before it."""
    give_way_s: float = 60.0
    """How long a leased server may be idle while another waits for its slot."""
    grace_s: float = 10.0
    """Between SIGTERM and SIGKILL."""


NONSENSE_TRIES = 3
"""Wrong answers in a row until a server that starts counts as wrong for good."""

PORT_TRIES = 5


class Supervisor:
    """What submitit runs: supervises the server of a folder, and can be requeued."""

    def __init__(self, path: Path, timing: Timing | None = None) -> None:
        self.path = path
        self.timing = timing or Timing()
        self._supervision: Supervision | None = None

    def __call__(self) -> str:
        """Runs the server to its end, and returns its last status."""
        self._supervision = Supervision(ServerFolder(self.path), self.timing)
        return self._supervision.run()

    def checkpoint(self) -> Any:
        """submitit calls this, in a signal handler, before the job's time ends or when it is preempted: the
        server drains, and the job is requeued under its id."""
        import submitit

        if self._supervision is not None:
            self._supervision.suspend()
        return submitit.helpers.DelayedSubmission(Supervisor(self.path, self.timing))


class _Stop(Exception):
    """The server is to end; the text says why. `drain`: requests may be under way."""

    def __init__(self, reason: str, drain: bool) -> None:
        super().__init__(reason)
        self.drain = drain


class _Died(Exception):
    """A life of vLLM has ended by itself."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Supervision:
    """One run of the supervisor."""

    def __init__(self, folder: ServerFolder, timing: Timing) -> None:
        self._folder = folder
        self._timing = timing
        self._spec = ServerSpec.from_json(read_json(folder.spec))
        self._leases, self._controller = Path(self._spec.leases), Path(self._spec.controller)
        self._published = Published(folder)
        self._vllm: Vllm | None = None
        self._life: Life | None = None
        self._slot: Slot | None = None
        self._url = self._api_key = ""
        self._terminated = False
        self._leased_at = time.monotonic()
        self._look_again = self._busy_at = 0.0
        self._busy_tokens = 0

    def run(self) -> str:
        """The server's whole life; returns its last status."""
        handler = logging.FileHandler(self._folder.supervisor_log)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        package = logging.getLogger("slurmeval")
        package.addHandler(handler)
        package.setLevel(logging.INFO)
        # submitit's local executor ends its jobs with SIGINT.
        before = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self._supervise()
        finally:
            for number, handler_before in before.items():
                signal.signal(number, handler_before)
            package.removeHandler(handler)
            handler.close()
        return self._published.status

    def suspend(self) -> None:
        """Drains and ends vLLM, so that the job can be requeued. Called in a signal handler: what it
        interrupted never goes on, since submitit then leaves by SystemExit."""
        self._end_life("requeued", drain=True)
        self._published.disown()
        self._published.change("pending", "the job is requeued")

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._terminated = True

    def _supervise(self) -> None:
        if self._folder.closed.exists():
            return
        self._published.withdraw()  # the endpoint of a job that was killed, then requeued
        self._published.change("pending")
        try:
            self._wait_for_slot()
            self._fail(self._serve())
        except _Stop as stop:
            self._stop(stop)
        except Exception as error:
            log.exception("the supervisor broke")
            reason = f"the supervisor broke: {type(error).__name__}: {error}"
            self._fail(Failure(reason, ErrorClass.SERVER_LOST, retryable=False))
            raise
        finally:
            if self._slot is not None:
                self._slot.release()

    def _stop(self, stop: _Stop) -> None:
        log.info("stops: %s", stop)
        self._folder.closed.touch()
        self._end_life(str(stop), drain=stop.drain)
        self._published.change("stopped", str(stop))

    def _fail(self, failure: Failure) -> None:
        log.error("failed: %s", failure.reason)
        self._end_life(failure.reason, drain=False)
        # The status first: a lessee that saw only `closed` would start a server that fails the same way.
        self._published.change("failed", failure.reason, failure.error_class)
        self._folder.closed.touch()

    def _wait_for_slot(self) -> None:
        slots, owner, beat = Path(self._spec.slots), identity(), self._folder.state
        self._slot = take_slot(slots, self._spec.max_at_once, owner, beat)
        if self._slot is not None:
            return
        place = stand_in_line(slots, owner, beat)
        try:
            while self._slot is None:
                self._published.beat(self._timing.beat_s)
                self._pause(self._timing.poll_s)
                self._slot = take_slot(slots, self._spec.max_at_once, owner, beat)
        finally:
            place.unlink(missing_ok=True)

    def _serve(self) -> Failure:
        """Lives of vLLM, one after another, until one ends in a failure that is final."""
        restarts = ports = 0
        while True:
            try:
                self._start()
                self._await_ready()
                self._keep()
            except _Died as died:
                failure = died.failure
            life = self._life
            assert life is not None
            served_s = 0.0 if life.ready is None else time.time() - life.ready
            self._end_life(failure.reason, drain=False)
            if failure.port_taken and life.ready is None and ports < PORT_TRIES:
                ports += 1
                continue
            if served_s > self._timing.sound_s:
                restarts = 0
            # What served once will serve again, whatever it died of.
            if not failure.retryable and life.ready is None:
                return failure
            if restarts >= self._spec.max_restarts:
                times = f"after {restarts} restart{'s' if restarts != 1 else ''}"
                return Failure(f"{failure.reason} ({times})", failure.error_class, retryable=False)
            restarts += 1
            log.warning("vLLM is started again: %s", failure.reason)
            self._published.change("restarting", failure.reason, failure.error_class)
            self._pause(self._timing.backoff_s * 2 ** (restarts - 1))

    def _start(self) -> None:
        life = Life(self._published.lives + 1, time.time())
        self._life = life
        self._published.begin(life)
        self._published.change("starting")
        port = free_port(self._spec.host)
        self._url = f"http://{address(self._spec.host)}:{port}"
        self._api_key = secrets.token_urlsafe(32)
        try:
            self._vllm = Vllm(self._spec, port, self._api_key, self._folder.vllm_log)
        except OSError as error:
            reason = f"the environment's interpreter cannot be run: {error}"
            raise _Died(Failure(reason, ErrorClass.SERVER_LOST, retryable=False)) from error
        log.info("life %d: process %d, %s", life.number, self._vllm.pid, self._url)

    def _await_ready(self) -> None:
        """Returns when vLLM has completed a prompt, and publishes it. Raises _Died."""
        deadline = time.monotonic() + self._spec.ready_timeout_s
        nonsense, seen = 0, "nothing"
        while True:
            self._check_process()
            try:
                check_ready(self._url, self._api_key, self._spec.served_name)
                break
            except Nonsense as error:
                nonsense += 1
                if nonsense == NONSENSE_TRIES:
                    raise _Died(Failure(str(error), ErrorClass.BAD_RESULT, retryable=False)) from error
                seen = str(error)
            except NotReady as error:
                nonsense, seen = 0, str(error)
            if time.monotonic() > deadline:
                reason = f"vLLM was not ready within {self._spec.ready_timeout_s:g} s; seen last: {seen}"
                raise _Died(Failure(reason, ErrorClass.TIME_LIMIT, retryable=False))
            self._published.beat(self._timing.beat_s)
            self._pause(min(0.5, self._timing.poll_s))
        assert self._life is not None
        self._life.ready = time.time()
        self._published.announce(self._url, self._api_key, self._spec.served_name, self._life.number)
        self._published.change("ready")
        log.info("life %d: ready after %.1f s", self._life.number, self._life.ready - self._life.started)

    def _keep(self) -> None:
        """Watches vLLM while it serves. Raises _Died, or _Stop."""
        failing_since: float | None = None
        self._busy_at, self._busy_tokens = time.monotonic(), 0
        while True:
            self._check_process()
            try:
                check_health(self._url, self._api_key)
                self._sample()
                self._give_way()
                failing_since = None
            except NotReady as error:
                # From the first failure on, not from the last success: a machine may have slept.
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > self._timing.unhealthy_s:
                    reason = f"vLLM hangs: no good answer for {self._timing.unhealthy_s:g} s ({error})"
                    raise _Died(Failure(reason, ErrorClass.SERVER_LOST, retryable=True)) from error
            self._published.beat(self._timing.beat_s)
            self._pause(self._timing.poll_s)

    def _sample(self) -> None:
        assert self._life is not None
        self._life.sample(read_figures(self._url, self._api_key), time.time())
        self._published.take_in(self._life)

    def _give_way(self) -> None:
        """Evaluations that wait for another server may hold the cores that this one's evaluations wait for.
        So a server that is idle while another waits for its slot ends; who leases it leases the next."""
        assert self._life is not None
        figures, now = self._life.figures, time.monotonic()
        if figures.requests_running > 0 or figures.generated_tokens > self._busy_tokens:
            self._busy_at, self._busy_tokens = now, figures.generated_tokens
        elif now - self._busy_at > self._timing.give_way_s and someone_waits(Path(self._spec.slots)):
            raise _Stop("it was idle, and another server waited for its place", drain=True)

    def _check_process(self) -> None:
        assert self._vllm is not None
        returncode = self._vllm.returncode()
        if returncode is not None:
            raise _Died(classify(self._vllm.log_tail(), returncode))

    def _end_life(self, reason: str, drain: bool) -> None:
        """Ends vLLM, if it lives, and books the life. Safe to call again."""
        vllm, life = self._vllm, self._life
        self._published.withdraw()
        if vllm is not None:
            running = vllm.returncode() is None
            if running and drain and life is not None and life.ready is not None:
                self._drain(reason)
            if running:
                vllm.end(self._timing.grace_s)
            else:
                vllm.kill()  # workers that outlived it
        if life is not None:
            append_life(self._folder.lives, life.ended(reason, time.time()))
            self._published.end(life)
        self._vllm = self._life = None

    def _drain(self, reason: str) -> None:
        """Lets requests under way end, for `drain_s` at most. The endpoint is withdrawn: none are added."""
        self._published.change("draining", reason)
        deadline = time.monotonic() + self._spec.drain_s
        while time.monotonic() < deadline:
            try:
                self._sample()
            except NotReady:
                return
            if self._life is None or self._life.figures.requests_running == 0:
                return
            self._published.beat(self._timing.beat_s)
            time.sleep(min(0.2, self._timing.poll_s))

    def _pause(self, seconds: float) -> None:
        """Waits. Raises _Stop as soon as the server is to end."""
        deadline = time.monotonic() + seconds
        while True:
            self._check_stop()
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, 0.2))

    def _check_stop(self) -> None:
        if self._terminated:
            raise _Stop("told to stop by a signal", drain=True)
        if self._folder.stop.exists():
            raise _Stop("told to stop", drain=True)
        now = time.monotonic()
        if now < self._look_again:
            return
        self._look_again = now + self._timing.poll_s
        if is_leased(self._folder.path, self._leases, self._controller):
            self._leased_at = time.monotonic()
        elif time.monotonic() - self._leased_at > self._timing.linger_s:
            if close_if_unused(self._folder.path, self._leases, self._controller):
                raise _Stop("no lease is left", drain=False)
            self._leased_at = time.monotonic()
