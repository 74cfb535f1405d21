"""The reconciler: in a run on a cluster, every evaluation has a server that is there or on its way.

Jobs on nodes may not submit jobs everywhere, so only the controller does. It replaces
servers whose jobs are gone, has successors started before a server's time ends, and moves leases to them.

It looks at each server once, whatever the number of evaluations.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurmeval.config.of_run import config_of
from slurmeval.errors import NotYet, ServerFailed, ServerStopped
from slurmeval.ownership import live_owner
from slurmeval.scheduling.failures import last_words
from slurmeval.scheduling.job_ends import Ends
from slurmeval.scheduling.pending_jobs import Pending
from slurmeval.scheduling.replicas import controller_of, replica_specs
from slurmeval.scheduling.server_submission import acquire
from slurmeval.servers import leases
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.timing import MARGIN_S
from slurmeval.slurm import commands
from slurmeval.slurm.commands import QueuedJob
from slurmeval.slurm.reasons import launch_failed
from slurmeval.slurm.states import BY_OTHERS, LAUNCH_FAILED, UNKNOWN
from slurmeval.state.evaluation import EvaluationProgress
from slurmeval.state.lease import Lease
from slurmeval.state.records import read, write
from slurmeval.state.run_document import RunDocument
from slurmeval.state.server import Gone, ServerJob, ServerState, ServerStatus, failed
from slurmeval.state.server_spec import ServerSpec

GONE_S = 15.0
"""How long a job may be out of sight before it counts as gone: sbatch's answer is older than squeue's."""

SILENT_S = 120.0
"""… where accounting does not say how it ended."""

MAX_REPLACED = 5
"""Servers of a replica that end without a word until it counts as failed."""

MAX_UNUSED = 2
"""Servers of a replica that close themselves while they are leased until it counts as failed."""

SIGNAL_EARLY_S = 60.0
"""So much earlier than asked for Slurm may send a signal before a job's end."""

STARTING_S = 30.0
"""A server takes at least so long to start."""

RETRY_S = 30.0
"""Between two tries to submit a server that Slurm does not take for now."""

FAILED_RETRY_S = 300.0
"""… whose successor did not come up."""

RENEWAL = "~renewal"
"""The lease of a successor while it warms up. No benchmark has this name."""

Pair = tuple[str, str]


@dataclass
class Reconciler:
    """Looks after the servers of one run."""

    run: RunDocument
    clock: Any = time.monotonic
    _missing: dict[Path, float] = field(default_factory=dict)
    """When a server's job was first seen to be out of the queue."""
    _ends: Ends = field(default_factory=Ends)
    _pending: dict[Path, Pending] = field(default_factory=dict)
    _replaced: dict[str, int] = field(default_factory=dict)
    _not_before: dict[str, float] = field(default_factory=dict)
    """By replica: when a server that was refused for now is tried again."""
    _said: dict[str, str] = field(default_factory=dict)
    """By replica or model: what was said last."""
    _too_many: dict[str, float] = field(default_factory=dict)
    """By replica: when a server was last refused because too many jobs are queued."""
    was_refused: bool = False
    """Whether one was in the last look."""
    _unused: dict[str, int] = field(default_factory=dict)
    """Servers of a replica that closed themselves while they were leased."""

    def look(self, pairs: Iterable[Pair], queue: Mapping[str, QueuedJob]) -> dict[Pair, ServerFailed]:
        """Keeps the leases of these evaluations on servers that will do.

        Returns those for which there is none to be had in any replica. `queue` is what Slurm has, by job id.
        """
        self.was_refused = False
        by_server: dict[str, list[Pair]] = {}
        for pair in pairs:
            by_server.setdefault(self.run.server_of(*pair), []).append(pair)
        failed = {}
        for model, lessees in by_server.items():
            try:
                specs = replica_specs(self.run, model)
                answers = [self._look_at(spec, model, lessees, queue) for spec in specs]
            except (OSError, ValueError) as error:  # other models' servers are looked at all the same
                self._tell(model, f"files of {model}'s servers cannot be read, trying again: {error}")
                continue
            for pair in lessees:
                failures = [answer[pair] for answer in answers if pair in answer]
                if len(failures) == len(specs):
                    failed[pair] = failures[0]
        return failed

    @property
    def wants_room(self) -> bool:
        """Whether a server is to be submitted and too many jobs are queued: evaluations leave it room."""
        return any(self.clock() < refused + 2 * RETRY_S for refused in self._too_many.values())

    def _look_at(
        self, spec: ServerSpec, model: str, pairs: list[Pair], queue: Mapping[str, QueuedJob]
    ) -> dict[Pair, ServerFailed]:
        """One replica of a model. Returns the evaluations that it fails, with the reason."""
        leased: dict[Path | None, list[Pair]] = {}
        for pair in pairs:
            lease = read(Path(spec.leases) / f"{self.run.lease_name(*pair)}.json", Lease)
            if lease is None and self._needs_server(*pair):  # someone removed the file
                leased.setdefault(None, []).append(pair)
            elif lease is not None and lease.holds_server:
                leased.setdefault(lease.server, []).append(pair)
        failed: dict[Pair, ServerFailed] = {}
        replica = Path(spec.servers).name
        for server, lessees in leased.items():
            if server is not None and spec.external is None:
                self._bury(ServerFolder(server), queue)
                self._give_up(ServerFolder(server), queue)
            try:
                if server is not None and leases.holds(
                    spec, self.run.lease_name(*lessees[0]), controller_of(self.run)
                ):
                    self._renew(spec, model, server, lessees)
                elif self.clock() >= self._not_before.get(replica, 0.0):
                    if server is not None:
                        self._count_unused(ServerFolder(server), model)
                    self._move(spec, model, lessees)
            except ServerFailed as error:
                failed |= dict.fromkeys(lessees, error)
            except NotYet as error:
                self._put_off(replica, error)
        return failed

    def _needs_server(self, model: str, benchmark: str) -> bool:
        """Whether an evaluation still has something to ask: it may be scoring, or waits to be looked at."""
        lock_file = self.run.lock_file(model, benchmark)
        progress = read(lock_file.with_name("progress.json"), EvaluationProgress)
        asks = progress is None or progress.phase not in ("scoring", "done", "failed")
        return asks or live_owner(lock_file) is None

    def _move(self, spec: ServerSpec, model: str, pairs: list[Pair]) -> None:
        """Takes the leases anew, on the current server or a new one. Raises ServerFailed, NotYet."""
        for pair in pairs:
            acquire(self.run, model, spec, self.run.lease_name(*pair), self.run.lock_file(*pair))
        self._submitted(Path(spec.servers).name)

    def _submitted(self, replica: str) -> None:
        self._not_before.pop(replica, None)
        self._too_many.pop(replica, None)

    def _put_off(self, replica: str, why: Exception, seconds: float = RETRY_S) -> None:
        """Nothing is submitted for this replica for a while. Said once."""
        self._not_before[replica] = self.clock() + seconds
        if commands.names_limit(str(why)):
            self._too_many[replica] = self.clock()
            self.was_refused = True
        self._tell(replica, f"no further server of {replica} yet, trying again: {why}")

    def _tell(self, of: str, words: str) -> None:
        """Prints something once."""
        if self._said.get(of) != words:
            self._said[of] = words
            _say(words)

    def _count_unused(self, server: ServerFolder, model: str) -> None:
        """Raises ServerFailed where server after server closes itself although evaluations hold leases.

        On its node no lease is seen to live then: the next would load the model for nothing too.
        """
        state = read(server.state, ServerState)
        if state is None or state.reason != leases.UNUSED:
            return
        replica = server.path.parent.name
        self._unused[replica] = self._unused.get(replica, 0) + 1
        if self._unused[replica] > MAX_UNUSED:
            raise ServerFailed(
                f"{self._unused[replica]} servers of {model} in a row closed themselves ({leases.UNUSED}), "
                f"though evaluations lease them: {state.node} does not see the controller's heartbeats "
                "in the project's folder (docs/servers.md)"
            )

    # Servers that are gone

    def _bury(self, server: ServerFolder, queue: Mapping[str, QueuedJob]) -> None:
        """Marks a server as gone whose job has left the queue without the supervisor having said why."""
        job, state = read(server.job, ServerJob), read(server.state, ServerState)
        if job is None or job.job_id in queue or (state is not None and state.status.is_final):
            self._missing.pop(server.path, None)
            return
        if server.gone.exists() or server.closed.exists():
            return
        missing_s = self.clock() - self._missing.setdefault(server.path, self.clock())
        if missing_s < GONE_S:
            return
        job_run = self._ends.of([job.job_id]).get(job.job_id)
        known = job_run is not None and job_run.ended is not None
        if not known and missing_s < SILENT_S and not self._ends.no_accounting:
            return
        self._mark(server, job.job_id, job_run.state if job_run else UNKNOWN, started=state is not None)

    def _give_up(self, server: ServerFolder, queue: Mapping[str, QueuedJob]) -> None:
        """Fails a server whose job will not start; one that a node could not start is replaced."""
        job = read(server.job, ServerJob)
        job_id = "none" if job is None else job.job_id
        pending = self._pending.setdefault(server.path, Pending(f"the server {server.server_id}", _say))
        pending.clock = self.clock
        reason = pending.look([job_id], queue).get(job_id)
        if reason is None:
            return
        commands.cancel([job_id], only_pending=True)
        if launch_failed(reason):
            self._mark(server, job_id, LAUNCH_FAILED, started=False)
            return
        reason = f"its job {job_id} will not start: {reason}"
        _say(f"server {server.server_id}: {reason}")
        _fail(server, reason)

    def _mark(self, server: ServerFolder, job_id: str, slurm_state: str, started: bool) -> None:
        replica = server.path.parent.name
        self._replaced[replica] = self._replaced.get(replica, 0) + 1
        reason = f"its job {job_id} ended without a word; Slurm says {slurm_state}"
        _say(f"server {server.server_id}: {reason}")
        failed_to_start = not started and slurm_state not in BY_OTHERS
        if failed_to_start or self._replaced[replica] > MAX_REPLACED:
            if failed_to_start and (words := _last_words(server)):
                reason = f"{reason}; its last words: {words}"
            elif failed_to_start:
                reason = f"{reason}: is {self.run.project} there, under this name, for jobs (docs/sites.md)?"
            _fail(server, reason)
        write(server.gone, Gone(slurm_state, reason))

    # Successors

    def _renew(self, spec: ServerSpec, model: str, server: Path, lessees: list[Pair]) -> None:
        """Has the lessees move to a successor where there is one.

        That there is none to be had harms nobody: the present server serves on, and its job is
        requeued when its time ends.
        """
        replica = server.parent.name
        if self.clock() < self._not_before.get(replica, 0.0):
            return
        try:
            successor = self._successor(spec, model, server)
        except ServerFailed as error:
            if not isinstance(error, ServerStopped):
                _set_aside(server.parent, int(server.name))
            self._put_off(replica, error, FAILED_RETRY_S)
            return
        if successor is not None:
            self._move(spec, model, lessees)
            leases.release(Path(spec.leases) / f"{RENEWAL}.json")
            _say(f"{successor} takes over from {server.name} of {model}")

    def _successor(self, spec: ServerSpec, model: str, server: Path) -> str | None:
        """Has a successor started where the server's time ends soon; its name once it answers.

        Raises ServerFailed, NotYet.
        """
        limits = config_of(self.run).server_jobs
        before_min = limits.renew_before_min
        if before_min is None or limits.max_at_once is not None or spec.colocated is not None:
            # Beside its predecessor a successor would be one too many, or would run what that one runs
            return None
        state = read(server / ServerFolder.STATE, ServerState)
        if state is None or state.status is not ServerStatus.READY or state.ends_at is None:
            return None
        left_s = (datetime.fromisoformat(state.ends_at) - datetime.now(UTC)).total_seconds()
        if left_s > _renewal_s(spec, before_min * 60):
            return None
        lease = acquire(self.run, model, spec, RENEWAL, above=int(server.name))
        self._submitted(server.parent.name)
        assert lease.server is not None
        successor = read(lease.server / ServerFolder.STATE, ServerState)
        is_ready = successor is not None and successor.status is ServerStatus.READY
        return lease.server.name if is_ready else None


def _say(words: str) -> None:
    print(f"slurmeval: {words}", flush=True)


def _fail(server: ServerFolder, reason: str) -> None:
    """Puts the failure of a server on record whose supervisor does not run."""
    write(server.state, failed(reason, read(server.state, ServerState)))


def _renewal_s(spec: ServerSpec, wanted_s: float) -> float:
    """Returns how long before the end of a server's job its successor is submitted, in seconds.

    Half its time at most, but early enough to answer before Slurm's signal makes the server drain. 0 where
    the job is too short for both.
    """
    limit_s = spec.time_limit_min * 60
    least_s = spec.drain_s + MARGIN_S + SIGNAL_EARLY_S + STARTING_S
    return max(min(wanted_s, limit_s / 2), least_s) if least_s < limit_s * 3 / 4 else 0.0


def _set_aside(servers: Path, number: int) -> None:
    """Takes the successors of a server that came to nothing out of the count.

    So its lessees, new ones too, have the server itself. Their files are kept.
    """
    for folder in servers.iterdir():
        if folder.name.isdecimal() and int(folder.name) > number:
            aside = folder.with_name(f"{folder.name}.failed-{time.time_ns()}")
            folder.rename(aside)


def _last_words(server: ServerFolder) -> str:
    return last_words(
        [*sorted(server.submitit.glob("*_log.err")), *sorted(server.submitit.glob("*_log.out"))]
    )
