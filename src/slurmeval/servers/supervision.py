"""One run of a supervisor.

It waits for a slot, keeps the engine answering while the server is leased, and ends.
"""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path
from types import FrameType

from slurmeval.engines.failures import Failure
from slurmeval.errors import ErrorClass
from slurmeval.processes import identity
from slurmeval.servers.accounting import EngineRun
from slurmeval.servers.colocated import ColocatedEvaluations
from slurmeval.servers.engine_runs import Died, EngineRuns
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.job import BatchJob, SigtermCause
from slurmeval.servers.leases import UNUSED, close_if_unused, is_leased, running
from slurmeval.servers.local_copies import LocalCopies
from slurmeval.servers.slots import Slot, someone_waits, stand_in_line, take_slot
from slurmeval.servers.state import FencedOff, Published
from slurmeval.servers.timing import Timing
from slurmeval.state.server import ServerStatus
from slurmeval.state.server_spec import ServerSpec

log = logging.getLogger(__name__)

PORT_TRIES = 5

LAST_S = 4.0
"""Of the seconds that a preempted job has left: for ending the engine and for going back into the queue."""


class _Stop(Exception):
    """The server is to end; the text says why. `drain_s`: for requests that are under way."""

    def __init__(self, reason: str, drain_s: float = 0.0) -> None:
        super().__init__(reason)
        self.drain_s = drain_s


class Supervision:
    """One run of the supervisor."""

    def __init__(self, folder: ServerFolder, spec: ServerSpec, job: BatchJob, timing: Timing) -> None:
        """Raises FencedOff where a younger supervisor runs."""
        self._folder, self._spec, self._job, self._timing = folder, spec, job, timing
        self._leases, self._controller = Path(spec.leases), Path(spec.controller)
        self._published = Published(folder, job, spec.gpus * spec.nodes)
        self._engine = EngineRuns(folder, spec, timing, self._published, self._pause)
        self._colocated = ColocatedEvaluations(spec.colocated)
        self._slot: Slot | None = None
        self._copies = LocalCopies(self._pause_with_heartbeat)
        self._terminated = self._suspended = False
        self._drain_s = spec.drain_s
        self._requeue = "requeued"
        self._leased_at = time.monotonic()
        self._look_again = self._count_again = self._busy_at = 0.0
        self._busy_tokens = 0

    def run(self) -> str:
        """Runs the server from its beginning to its end; returns its last status."""
        # submitit's local executor ends its jobs with SIGINT.
        before = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self._supervise()
        except FencedOff as fenced:
            log.error("leaves: %s", fenced)
            self._engine.abandon()
            self._colocated.kill()
            raise SystemExit(f"fenced off: {fenced}") from fenced
        finally:
            for number, handler_before in before.items():
                signal.signal(number, handler_before)
        return self._published.status

    def suspend(self) -> None:
        """Drains and ends the engine, so that the job can be requeued.

        Called in a signal handler: what it interrupted never goes on, since SystemExit follows.
        """
        self._suspended = True
        if self._folder.closed.exists():
            self._engine.end("its job's time ended")
            self._published.change(ServerStatus.STOPPED, "its job's time ended")
            raise SystemExit(0)
        self._colocated.kill()
        self._engine.end(self._requeue, self._drain_s, comes_back=True)
        self._engine.stop_workers()
        self._published.disown()
        self._published.change(ServerStatus.PENDING, "the job is requeued")

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._terminated = True

    def _supervise(self) -> None:
        if self._folder.closed.exists():
            return
        self._published.withdraw()  # the endpoint of a job that was killed, then requeued
        self._published.change(ServerStatus.PENDING)
        try:
            self._wait_for_slot()
            if self._spec.scratch is not None:
                self._published.change(ServerStatus.PENDING, "copying to the node's disk")
                self._engine.use(self._copies.of(self._spec))
            self._fail(self._serve())
        except _Stop as stop:
            self._stop(stop)
        except Exception as error:
            if self._suspended:  # submitit could not requeue the job
                self._stop(_Stop(f"its job's time ended, and it cannot be requeued: {error}"))
                return
            log.exception("the supervisor broke")
            reason = f"the supervisor broke: {type(error).__name__}: {error}"
            self._fail(Failure(reason, ErrorClass.SERVER_LOST, retryable=False))
            raise
        finally:
            self._copies.release()
            if self._slot is not None:
                self._slot.release()

    def _stop(self, stop: _Stop) -> None:
        log.info("stops: %s", stop)
        self._published.close()
        self._engine.end(str(stop), stop.drain_s)
        self._colocated.finish()
        self._engine.stop_workers()
        self._published.change(ServerStatus.STOPPED, str(stop))

    def _fail(self, failure: Failure) -> None:
        log.error("failed: %s", failure.reason)
        self._engine.end(failure.reason)
        # The status first: a lessee that saw only `closed` would start a server that fails the same way.
        self._published.change(ServerStatus.FAILED, failure.reason, failure.error_class)
        self._published.close()
        self._colocated.finish()
        self._engine.stop_workers()

    def _wait_for_slot(self) -> None:
        if self._spec.max_at_once is None:
            return
        slots, owner, heartbeat = Path(self._spec.slots), identity(), self._folder.state
        self._slot = take_slot(slots, self._spec.max_at_once, owner, heartbeat)
        if self._slot is not None:
            return
        place = stand_in_line(slots, owner, heartbeat)
        try:
            while self._slot is None:
                self._published.heartbeat(self._timing.heartbeat_s)
                self._pause(self._timing.poll_s)
                self._slot = take_slot(slots, self._spec.max_at_once, owner, heartbeat)
        finally:
            place.unlink(missing_ok=True)

    def _serve(self) -> Failure:
        """Lives of the engine, one after another, until one ends in a failure that is final."""
        restarts = ports = 0
        while True:
            try:
                self._engine.start()
                self._engine.await_ready()
                self._busy_at, self._busy_tokens = time.monotonic(), 0
                self._engine.keep(self._give_way)
            except Died as died:
                failure = died.failure
            engine_run = self._engine.engine_run
            assert engine_run is not None
            self._engine.end(failure.reason)
            self._check_stop()  # the engine gets the signals that this process gets
            if failure.port_taken and engine_run.ready is None and ports < PORT_TRIES:
                ports += 1
                continue
            served_s = 0.0 if engine_run.ready is None else time.time() - engine_run.ready
            if served_s > self._timing.sound_s:
                restarts = 0
            # What served once will serve again, whatever else it died of.
            if failure.final or (not failure.retryable and engine_run.ready is None):
                return failure
            if restarts >= self._timing.max_restarts:
                times = f"after {restarts} restart{'s' if restarts != 1 else ''}"
                return Failure(f"{failure.reason} ({times})", failure.error_class, retryable=False)
            restarts += 1
            log.warning("the engine is started again: %s", failure.reason)
            self._published.change(ServerStatus.RESTARTING, failure.reason, failure.error_class)
            self._pause(self._timing.backoff_s * 2 ** (restarts - 1))

    def _give_way(self, engine_run: EngineRun) -> None:
        """Evaluations that wait for another server may hold the cores that this one's evaluations wait for.

        So a server that is idle while another waits for its slot ends; who leases it leases the next.
        """
        figures, now = engine_run.figures, time.monotonic()
        if figures.requests_running > 0 or figures.generated_tokens > self._busy_tokens:
            self._busy_at, self._busy_tokens = now, figures.generated_tokens
        elif self._slot is None or now - self._busy_at <= self._timing.give_way_s:
            return
        elif someone_waits(Path(self._spec.slots)):
            raise _Stop("it was idle, and another server waited for its place", self._spec.drain_s)

    def _pause_with_heartbeat(self, seconds: float) -> None:
        self._published.heartbeat(self._timing.heartbeat_s)
        self._pause(seconds)

    def _pause(self, seconds: float) -> None:
        """Waits, or until the engine ends. Raises _Stop as soon as the server is to end."""
        deadline = time.monotonic() + seconds
        while True:
            self._check_stop()
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self._engine.wait(min(left_s, 0.2)):
                return

    def _check_stop(self) -> None:
        if self._terminated:
            self._terminate()
        if _exists(self._folder.stop):
            raise _Stop("told to stop", self._spec.drain_s)
        now = time.monotonic()
        if now < self._look_again:
            return
        self._look_again = now + self._timing.poll_s
        self._published.guard()
        try:
            self._look_around()
        except OSError as error:  # a network file system may be away for minutes: nothing is concluded
            log.warning("cannot look at the leases: %s", error)
            self._leased_at = time.monotonic()

    def _look_around(self) -> None:
        """Starts evaluations that are asked for. Raises _Stop where no lease is left."""
        self._colocated.look()
        if time.monotonic() >= self._count_again:
            self._count_again = time.monotonic() + self._timing.count_s
            self._published.tell_running(running(self._folder.path, self._leases))
        if is_leased(self._folder.path, self._leases, self._controller):
            self._leased_at = time.monotonic()
        elif time.monotonic() - self._leased_at > self._timing.linger_s:
            if close_if_unused(self._folder.path, self._leases, self._controller):
                # Leases that have moved on may leave requests behind that are under way
                raise _Stop(UNUSED, self._spec.drain_s)
            self._leased_at = time.monotonic()

    def _terminate(self) -> None:
        """After SIGTERM: raises _Stop, or goes back into the queue and raises SystemExit."""
        if not self._spec.is_on_slurm:
            raise _Stop("told to stop by a signal", self._spec.drain_s)
        self._published.withdraw()
        cause, left_s = self._job.sigterm_cause()
        log.info("SIGTERM: %s", cause.value)
        if cause is SigtermCause.STOPPED:
            raise _Stop(cause.value)
        self._terminated = False
        self._drain_s = max(0.0, min(self._spec.drain_s, left_s - LAST_S))
        if cause is SigtermCause.PREEMPTED:
            self._requeue = "preempted, and requeued"
            # As if its time ended: submitit calls `suspend`, requeues the job, and leaves.
            signal.raise_signal(signal.SIGUSR2)
        self.suspend()
        raise SystemExit(0)


def _exists(path: Path) -> bool:
    """Whether a file is there, as far as a network file system can tell at the moment."""
    try:
        return path.exists()
    except OSError:
        return False
