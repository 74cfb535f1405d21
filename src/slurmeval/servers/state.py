"""What a supervisor tells the world: `state.json`, its heartbeat, and `endpoint.json`.

One supervisor at a time writes. A node that is cut off runs on while Slurm starts the job again elsewhere;
then the older supervisor finds that a younger one writes, and is fenced off.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

from slurmeval.engines.base import Figures
from slurmeval.errors import ErrorClass
from slurmeval.processes import identity
from slurmeval.servers.accounting import EngineRun, append_engine_run, cut_off, timestamp
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.job import BatchJob
from slurmeval.state.engine_run import EngineRunRecord, read_engine_runs
from slurmeval.state.owner import Owner
from slurmeval.state.records import read, write
from slurmeval.state.server import Endpoint, ServerState, ServerStatus

log = logging.getLogger(__name__)

FencingToken = tuple[float, float]
"""Which supervisor of a server this is: how often Slurm has started the job again, and when the supervisor
began. The greatest is the one that counts."""


class FencedOff(BaseException):
    """A younger supervisor runs this server.

    Not an Exception: whatever is under way, nothing more may be written.
    """


class Published:
    """The state of one server, on disk.

    Only its youngest supervisor writes it; in any other every writing raises FencedOff.
    """

    def __init__(self, folder: ServerFolder, job: BatchJob, gpus: int) -> None:
        self._folder, self._job = folder, job
        self._engine_run: EngineRun | None = None
        self._endpoint: Endpoint | None = None
        self._made_by = read(folder.submitter, Owner)
        before = read(folder.state, ServerState)
        self.fencing_token = _next_token(None if before is None else before.fencing_token, job.restart)
        engine_runs = _all_engine_runs(folder, before)
        self._before = Figures(
            generated_tokens=sum(each.generated_tokens for each in engine_runs),
            prompt_tokens=sum(each.prompt_tokens or 0 for each in engine_runs),
        )
        self.engine_runs = max((each.engine_run for each in engine_runs), default=0)
        """How many there were: a job that was requeued counts on."""
        now = timestamp(time.time())
        self._state = ServerState(
            ServerStatus.PENDING,
            engine_run=self.engine_runs,
            server_id=folder.server_id,
            fencing_token=self.fencing_token,
            owner=identity(),
            job_id=job.job_id,
            restart=job.restart,
            node=job.node,
            gpus=gpus,
            ends_at=timestamp(job.ends_at),
            started_at=now if before is None else before.started_at or now,
            changed_at=now,
            generated_tokens=self._before.generated_tokens,
            prompt_tokens=self._before.prompt_tokens,
        )
        self._heartbeat_at = 0.0

    @property
    def status(self) -> ServerStatus:
        """The status that was published last."""
        return self._state.status

    def guard(self) -> None:
        """Raises FencedOff where this supervisor is no longer the server's.

        A younger one has taken over, or the server's folder was removed: one of this name is another server's
        then. A file system that is away says nothing.
        """
        try:
            state = read(self._folder.state, ServerState)
            made_by = read(self._folder.submitter, Owner)
        except OSError:
            return
        if made_by != self._made_by:
            raise FencedOff("the server's folder has been removed")
        found = None if state is None else state.fencing_token
        if found is not None and found > self.fencing_token:
            raise FencedOff(f"another supervisor has taken over: {found} comes after {self.fencing_token}")

    def change(
        self, status: ServerStatus, reason: str | None = None, error_class: ErrorClass | None = None
    ) -> None:
        """Publishes a new status at once."""
        if not self.status.may_become(status):
            log.error("unexpected status: %s after %s", status, self.status)
        now = timestamp(time.time())
        self._set(status=status, reason=reason, error_class=error_class, changed_at=now)
        if status is ServerStatus.READY:
            self._set(ready_at=now)
        else:
            self._set(tokens_per_s=0.0, requests_running=0)
        self._write()

    def _set(self, **changed: Any) -> None:
        self._state = replace(self._state, **changed)

    def seen(self, what: str) -> None:
        """Shows with the next heartbeat what a server that starts answers, or does not."""
        self._set(reason=f"seen last: {what}")

    def disown(self) -> None:
        """Before a requeue: nobody runs this server until its job starts again."""
        self._set(owner=None)

    def tell_running(self, evaluations: int) -> None:
        """Publishes how many evaluations run on the server: their gateways share its seats."""
        if evaluations != self._state.evaluations:
            self._set(evaluations=evaluations)
            self._write()

    def begin(self, engine_run: EngineRun) -> None:
        """Tells of this engine run from now on."""
        self._engine_run = engine_run
        self.engine_runs = engine_run.number
        self._set(engine_run=engine_run.number)

    def take_in(self, engine_run: EngineRun) -> None:
        """Shows an engine run's figures with the next heartbeat."""
        self._set(
            generated_tokens=self._before.generated_tokens + engine_run.figures.generated_tokens,
            prompt_tokens=self._before.prompt_tokens + engine_run.figures.prompt_tokens,
            tokens_per_s=engine_run.tokens_per_s,
            requests_running=engine_run.figures.requests_running,
        )

    def end(self, engine_run: EngineRun, reason: str) -> None:
        """Records an engine run, and counts its figures for good."""
        self.guard()
        append_engine_run(self._folder.engine_runs, engine_run.ended(reason, time.time(), self._job))
        self._engine_run = None
        self._before = Figures(
            generated_tokens=self._before.generated_tokens + engine_run.figures.generated_tokens,
            prompt_tokens=self._before.prompt_tokens + engine_run.figures.prompt_tokens,
        )

    def heartbeat(self, every_s: float) -> None:
        """Rewrites the state where the last writing is older than `every_s`.

        A file system that is full or away for a while does not end the server.
        """
        if time.monotonic() - self._heartbeat_at < every_s:
            return
        try:
            self._write()
            # An older supervisor may have written in the moment before it was fenced off.
            if self._endpoint is not None and read(self._folder.endpoint, Endpoint) != self._endpoint:
                write(self._folder.endpoint, self._endpoint, mode=0o600)
        except OSError:
            self._heartbeat_at = time.monotonic()

    def _write(self) -> None:
        self.guard()
        so_far = None if self._engine_run is None else self._engine_run.so_far(time.time(), self._job)
        self._set(under_way=so_far)
        write(self._folder.state, self._state)
        self._heartbeat_at = time.monotonic()

    def announce(self, url: str, api_key: str, model: str, engine_run: int) -> None:
        """Publishes where the server answers, for its owner's eyes only."""
        self.guard()
        self._endpoint = Endpoint(url, api_key, model, engine_run)
        write(self._folder.endpoint, self._endpoint, mode=0o600)

    def withdraw(self) -> None:
        """Takes the endpoint back: gateways hold their requests."""
        self.guard()
        self._endpoint = None
        self._folder.endpoint.unlink(missing_ok=True)

    def close(self) -> None:
        """The server is closed for good."""
        self.guard()
        self._folder.closed.touch()


def _next_token(before: FencingToken | None, restart: int) -> FencingToken:
    """Returns the fencing token of a supervisor that starts now.

    Raises FencedOff where the job has been started again.
    """
    if before is None:
        return (restart, time.time())
    if before[0] > restart:
        raise FencedOff(f"the job has been started again since: {before[0]} times, this is start {restart}")
    # Two nodes' clocks may differ: who comes later is younger all the same.
    later = before[1] + 0.001 if before[0] == restart else 0.0
    return (restart, max(time.time(), later))


def _all_engine_runs(folder: ServerFolder, state: ServerState | None) -> list[EngineRunRecord]:
    """Returns the engine runs so far.

    One whose supervisor was killed is recorded by the next one, as far as it was told.
    """
    engine_runs = read_engine_runs(folder.engine_runs)
    so_far = None if state is None else state.under_way
    if so_far is not None and all(each.engine_run != so_far.engine_run for each in engine_runs):
        engine_runs.append(cut_off(so_far))
        append_engine_run(folder.engine_runs, engine_runs[-1])
    return engine_runs
