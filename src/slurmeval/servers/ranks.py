"""A server on several nodes: rank 0 supervises and answers; the others run further parts of the same engine.

They speak through the server's folder, as everything here does: rank 0 writes `ranks/order.json`, which names
the engine run that is to be, and each other rank writes `ranks/<n>.json`, its heartbeat and how its part
ended. Where a part ends, the whole engine run has ended. Slurm ends all ranks when one is killed.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

from slurmeval.engines.base import Rank
from slurmeval.engines.failures import Failure
from slurmeval.engines.registry import find_engine
from slurmeval.errors import ErrorClass
from slurmeval.processes import STALE_S, silence_s
from slurmeval.servers.engine_process import EngineProcess
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.job import BatchJob
from slurmeval.servers.launch import launch
from slurmeval.servers.ports import EVERYWHERE, NoAddress, bind_address, free_port
from slurmeval.servers.state import FencingToken
from slurmeval.servers.timing import Timing
from slurmeval.state.records import read, write
from slurmeval.state.server_spec import ServerSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankOrder:
    """`ranks/order.json`: what rank 0 wants of the others."""

    fencing_token: FencingToken
    engine_run: int | None = None
    """The engine run of which they are to run their parts; None: none."""
    master: str = ""
    master_port: int = 0
    over: bool = False
    """Whether they are to end themselves."""


@dataclass(frozen=True)
class RankReport:
    """`ranks/<n>.json`: what another rank does."""

    restart: int
    engine_run: int | None
    failure: Failure | None


class Workers:
    """The other ranks, as rank 0 sees them. None on one node."""

    def __init__(self, folder: ServerFolder, spec: ServerSpec, fencing_token: FencingToken) -> None:
        self._folder, self._spec, self._fencing_token = folder.path / "ranks", spec, fencing_token
        self._engine_run: int | None = None
        self._since = 0.0

    def start(self, engine_run: int) -> Rank | None:
        """Has the other ranks start their parts of this engine run; returns rank 0's own part."""
        if self._spec.nodes == 1:
            return None
        here = bind_address(self._spec.host)
        master = here.host if here.bind in EVERYWHERE else here.bind
        rank = Rank(0, master, free_port(here.bind))
        self._engine_run, self._since = engine_run, time.monotonic()
        self._order(RankOrder(self._fencing_token, engine_run, rank.master, rank.master_port))
        return rank

    def failure(self) -> Failure | None:
        """How a part of this engine run has ended on another rank, if one has."""
        if self._engine_run is None:
            return None
        for number in range(1, self._spec.nodes):
            path = self._folder / f"{number}.json"
            report = read(path, RankReport)
            now = self._fencing_token[0], self._engine_run
            if report is not None and report.failure and (report.restart, report.engine_run) == now:
                reason = f"on node {number + 1} of {self._spec.nodes}: {report.failure.reason}"
                return replace(report.failure, reason=reason)
            if min(silence_s(path), time.monotonic() - self._since) > STALE_S:
                reason = f"node {number + 1} of {self._spec.nodes} has not been heard of for {STALE_S:g} s"
                return Failure(reason, ErrorClass.NODE_FAILURE, retryable=True)
        return None

    def stop(self, over: bool = False) -> None:
        """Has the other ranks end their parts, and with `over` themselves."""
        if self._spec.nodes > 1 and (over or self._engine_run is not None):
            self._engine_run = None
            self._order(RankOrder(self._fencing_token, over=over))

    def _order(self, order: RankOrder) -> None:
        write(self._folder / "order.json", order)


class Worker:
    """What every rank but the first runs."""

    def __init__(self, folder: ServerFolder, spec: ServerSpec, job: BatchJob, timing: Timing) -> None:
        self._folder, self._spec, self._job, self._timing = folder, spec, job, timing
        self._engine = find_engine(spec.engine)
        self._ranks = folder.path / "ranks"
        self._process: EngineProcess | None = None
        self._engine_run: int | None = None
        self._failure: Failure | None = None
        self._began = time.monotonic()
        self._heartbeat_at = 0.0

    def run(self) -> str:
        """Follows rank 0's orders until it is over, and returns why it ended."""
        try:
            while True:
                if reason := self._over():
                    return reason
                self._follow()
                if time.monotonic() - self._heartbeat_at > self._timing.heartbeat_s:
                    self._report()
                if self._process is None or self._failure is not None:
                    time.sleep(self._timing.poll_s / 2)
                else:
                    self._process.wait(self._timing.poll_s / 2)
        finally:
            self._end()

    def _over(self) -> str | None:
        """Why this rank is to end, if it is."""
        if self._folder.closed.exists():
            return "the server is closed"
        order = self._order()
        if order is not None and order.fencing_token[0] > self._job.restart:
            return "the job has been started again since"
        if order is not None and order.over:
            return "rank 0 has ended"
        # Rank 0 starts as this one does; what lies there until then is of the job's run before.
        if min(silence_s(self._folder.state), time.monotonic() - self._began) > STALE_S:
            return f"rank 0 has not been heard of for {STALE_S:g} s"
        return None

    def _order(self) -> RankOrder | None:
        """Rank 0's order; None where it is one of the job's run before."""
        order = read(self._ranks / "order.json", RankOrder)
        return None if order is None or order.fencing_token[0] < self._job.restart else order

    def _follow(self) -> None:
        order = self._order()
        engine_run = None if order is None else order.engine_run
        if engine_run != self._engine_run:
            self._end()
            self._engine_run = engine_run
            if order is not None and engine_run is not None:
                self._start(Rank(self._job.rank, order.master, order.master_port))
        elif self._process is not None and self._failure is None and self._process.returncode() is not None:
            self._failure = self._process.failure()
            log.error(
                "rank %d: its part of engine run %s ended: %s",
                self._job.rank,
                engine_run,
                self._failure.reason,
            )
            self._report()

    def _start(self, rank: Rank) -> None:
        try:
            here = bind_address(self._spec.host)
            self._process = launch(self._engine, self._spec, here, self._log, port=0, api_key="", rank=rank)
            log.info("rank %d: process %d of engine run %s", rank.number, self._process.pid, self._engine_run)
        except NoAddress as error:
            self._failure = Failure(str(error), ErrorClass.SERVER_LOST, retryable=False)
        except OSError as error:
            reason = f"the environment's interpreter cannot be run: {error}"
            self._failure = Failure(reason, ErrorClass.SERVER_LOST, retryable=False)
        self._report()

    @property
    def _log(self) -> Path:
        return self._folder.rank_log(self._job.rank)

    def _end(self) -> None:
        if self._process is not None:
            self._process.end(self._timing.idle_grace_s)
        self._process = self._failure = None

    def _report(self) -> None:
        report = RankReport(self._job.restart, self._engine_run, self._failure)
        write(self._ranks / f"{self._job.rank}.json", report)
        self._heartbeat_at = time.monotonic()
