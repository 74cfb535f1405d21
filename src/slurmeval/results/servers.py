"""The table of servers: engine runs laid over the runs of their jobs, so that the seconds add up.

A job's run is cut where an engine run begins; each piece is a row, and the pieces together are the time
that accounting counts. Where there is none (one machine), an engine run is a row by its own clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from slurmeval.results.job_runs import ended_at, job_of_server, queued_s
from slurmeval.results.records import time_of
from slurmeval.servers.folder import ServerFolder
from slurmeval.slurm.commands import JobRun
from slurmeval.state.engine_run import EngineRunRecord, read_engine_runs
from slurmeval.state.records import read
from slurmeval.state.server import ServerJob, ServerState, ServerStatus, read_gone

Row = dict[str, Any]

START_PARTS = ("weights_s", "compile_s", "first_answer_s")


@dataclass(frozen=True)
class _Served:
    """What the table has of `spec.json`."""

    dtype: str | None = None
    quantization: str | None = None
    max_model_len: int | None = None
    gpus: int = 0
    nodes: int = 1


@dataclass(frozen=True)
class _EngineRun:
    """One engine run, as its supervisor recorded it, or told it last, with its times."""

    told: EngineRunRecord
    started: datetime | None
    ready: datetime | None
    ended: datetime | None
    seen: datetime | None
    """When it was last heard of: its end, or the last heartbeat."""

    @property
    def restart(self) -> int:
        """How often its job had been started again, as it says itself."""
        return self.told.restart or 0


@dataclass(frozen=True)
class Gpus:
    """Which GPUs of its job are a server's."""

    asked: int
    others: int | None = 0
    """Asked for by others that share its job; None: what is left over belongs to the first of those."""

    def of(self, job_run: JobRun) -> int:
        """All that the job has and nobody else asked for.

        Where accounting does not count GPUs, what was asked for was given.
        """
        if job_run.started is None:
            return 0
        return self.asked if self.others is None else max(job_run.gpus - self.others, self.asked)


def gpus_of(folders: Iterable[ServerFolder]) -> dict[Path, Gpus]:
    """By folder. Small servers may share a job: together they have all of its GPUs."""
    asked: dict[Path, int] = {}
    sharing: dict[str, list[Path]] = {}
    for folder in folders:
        spec, job = read(folder.spec, _Served), job_of_server(folder)
        asked[folder.path] = 0 if spec is None else spec.gpus * spec.nodes
        sharing.setdefault(str(folder.path) if job is None else job.job_id, []).append(folder.path)
    found = {}
    for first, *rest in sharing.values():
        found[first] = Gpus(asked[first], sum(asked[path] for path in rest))
        found |= {path: Gpus(asked[path], None) for path in rest}
    return found


def server_rows(
    model: str,
    folders: Sequence[ServerFolder],
    accounts: Mapping[str, Sequence[JobRun]],
    gpus: Mapping[Path, Gpus],
) -> Iterator[Row]:
    """The rows of a model's servers.

    `accounts`: the runs of their jobs, by id, as far as they are known; `gpus`: from `gpus_of` all
    servers.
    """
    for folder in folders:
        spec, job = read(folder.spec, _Served), job_of_server(folder)
        common = _common(model, folder, spec)
        engine_runs = _engine_runs(folder)
        of_job = [] if job is None else accounts.get(job.job_id, ())
        if of_job:
            rows = _rows_of_job(engine_runs, of_job, gpus[folder.path])
        else:
            rows = _rows_by_own_clock(engine_runs, common["submitted_at"], gpus[folder.path].asked)
        yield from (common | row for row in rows)


def _common(model: str, folder: ServerFolder, spec: _Served | None) -> Row:
    """What all rows of a server have."""
    state = read(folder.state, ServerState) or ServerState(ServerStatus.PENDING)
    job = read(folder.job, ServerJob)
    row = {
        "model": model,
        "server_id": folder.server_id,
        "status": state.status.value,
        "error_class": state.error_class and state.error_class.value,
        "reason": state.reason,
        "job_id": job and job.job_id,
        "cluster": job and job.cluster,
        "submitted_at": job and time_of(job.submitted_at),
        "dtype": spec and spec.dtype,
        "quantization": spec and spec.quantization,
        "max_model_len": spec and spec.max_model_len,
    }
    gone = read_gone(folder.gone)
    if gone is not None and not state.status.is_final:
        row |= {"status": ServerStatus.GONE.value, "reason": gone.reason or gone.state}
    return row


def _engine_runs(folder: ServerFolder) -> list[_EngineRun]:
    """Those that ended, and the one under way or cut off in which it last told of itself."""
    told = read_engine_runs(folder.engine_runs)
    state = read(folder.state, ServerState)
    last = None if state is None else state.under_way
    if last is not None and all(each.engine_run != last.engine_run for each in told):
        told.append(last)
    return [_with_times(each) for each in sorted(told, key=lambda each: each.engine_run)]


def _with_times(told: EngineRunRecord) -> _EngineRun:
    times = (told.started_at, told.ready_at, told.ended_at, told.seen_at)
    started, ready, ended, seen = map(time_of, times)
    return _EngineRun(told, started, ready, ended, ended or seen)


def _own_columns(engine_run: _EngineRun | None) -> Row:
    """What an engine run brings along but for its seconds."""
    if engine_run is None:
        return {"engine_run": 0}
    told = engine_run.told
    row: Row = {"engine_run": told.engine_run, "exit_reason": told.exit_reason}
    row |= {"started_at": engine_run.started, "ready_at": engine_run.ready, "ended_at": engine_run.ended}
    row |= {name: getattr(told, name) for name in ("requests", "prompt_tokens", "generated_tokens")}
    if told.busy_s:
        row["tokens_per_s"] = told.generated_tokens / told.busy_s
    return row


def _rows_by_own_clock(engine_runs: list[_EngineRun], submitted: datetime | None, gpus: int) -> Iterator[Row]:
    """Without accounting a server's time begins with the first start of vLLM."""
    if not engine_runs:
        yield {"restart": 0, "gpus": gpus, **_own_columns(None)}
    for index, engine_run in enumerate(engine_runs):
        row: Row = {"restart": engine_run.restart, "gpus": gpus, **_own_columns(engine_run)}
        row["nodes"] = engine_run.told.node
        if engine_run.started is not None and engine_run.seen is not None:
            row |= _seconds(engine_run, engine_run.started, engine_run.seen, gpus)
        if index == 0 and submitted is not None and engine_run.started is not None:
            row["queued_s"] = max(0.0, (engine_run.started - submitted).total_seconds())
        yield row


def _rows_of_job(engine_runs: list[_EngineRun], of_job: Sequence[JobRun], gpus: Gpus) -> Iterator[Row]:
    """Each run of the job cut into its engine runs; one without any is one row."""
    inside: dict[int, list[_EngineRun]] = {index: [] for index in range(len(of_job))}
    for engine_run in engine_runs:
        inside[_fitting(engine_run, of_job)].append(engine_run)
    for index, job_run in enumerate(of_job):
        row: Row = {
            "restart": index,
            "slurm_state": job_run.state,
            "nodes": job_run.nodes or None,
            "gpus": gpus.of(job_run),
            "job_started_at": job_run.started,
            "job_ended_at": job_run.ended,
        }
        begin, end = job_run.started or job_run.submitted, ended_at(job_run)
        starts = [_between(begin, engine_run.started or begin, end) for engine_run in inside[index][1:]]
        cuts = [begin, *starts, end]
        pieces: list[_EngineRun | None] = [*inside[index]] or [None]
        for number, inner in enumerate(pieces):
            piece = row | _own_columns(inner) | _seconds(inner, cuts[number], cuts[number + 1], row["gpus"])
            piece["queued_s"] = queued_s(job_run) if number == 0 else None
            if inner is None or inner.ended is None:
                piece |= _end_of_job(job_run)
            yield piece


def _end_of_job(job_run: JobRun) -> Row:
    """Nobody saw the end of vLLM: it came with that of the job."""
    if not job_run.is_over:
        return {}
    return {"ended_at": job_run.ended, "exit_reason": f"the job ended: {job_run.explained}"}


def _fitting(engine_run: _EngineRun, of_job: Sequence[JobRun]) -> int:
    """The run of the job that an engine run was in.

    It is the one it names, if it was in it at all, else that in which most of it was. Clocks may differ,
    and Slurm may count starts that it keeps no account of.
    """

    def common_s(job_run: JobRun) -> float:
        if engine_run.started is None or job_run.started is None:
            return float("-inf")
        end = min(engine_run.seen or engine_run.started, ended_at(job_run))
        return (end - max(engine_run.started, job_run.started)).total_seconds()

    if (
        engine_run.restart < len(of_job)
        and common_s(of_job[engine_run.restart]) > 0
        and engine_run.told.restart is not None
    ):
        return engine_run.restart
    return max(range(len(of_job)), key=lambda index: common_s(of_job[index]))


def _seconds(engine_run: _EngineRun | None, begin: datetime, end: datetime, gpus: int) -> Row:
    """A piece of time in its parts, which add up to it whatever the clocks say."""
    whole = max(0.0, (end - begin).total_seconds())
    ready = None if engine_run is None else engine_run.ready or engine_run.seen
    starting = whole if ready is None else _between(0.0, (ready - begin).total_seconds(), whole)
    busy = min(0.0 if engine_run is None else engine_run.told.busy_s, whole - starting)
    idle = min(0.0 if engine_run is None else engine_run.told.idle_s, whole - starting - busy)
    return {
        "elapsed_s": round(whole, 3),
        "starting_s": round(starting, 3),
        "busy_s": round(busy, 3),
        "idle_s": round(idle, 3),
        "ending_s": round(whole - starting - busy - idle, 3),
        "gpu_s": round(whole * gpus, 3),
        **_start_parts(engine_run, starting),
    }


def _start_parts(engine_run: _EngineRun | None, starting_s: float) -> Row:
    """What a start went into; what is left is the environment's, where all else is known."""
    if engine_run is None or engine_run.ready is None:
        return {}
    row: Row = {name: getattr(engine_run.told, name) for name in START_PARTS}
    if None not in row.values():
        row["environment_s"] = round(max(0.0, starting_s - sum(row.values())), 3)
    return row


def _between(low: Any, value: Any, high: Any) -> Any:
    return max(low, min(value, high))
