"""The table of servers: lives of vLLM laid over the lives of their jobs, so that the seconds add up.

A job's life is cut where a life of vLLM begins; each piece is a row, and the pieces together are the time
that accounting counts. Where there is none (one machine), a life of vLLM is a row by its own clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from slurmeval.results.job_lives import ended_at, explained, job_of_server, queued_s
from slurmeval.results.records import read_lines, time_of
from slurmeval.servers.folder import ServerFolder
from slurmeval.slurm.commands import JobLife
from slurmeval.state.records import read
from slurmeval.state.server import ServerJob, ServerState, ServerStatus, read_gone

Row = dict[str, Any]


@dataclass(frozen=True)
class _Served:
    """What the table has of `spec.json`."""

    dtype: str | None = None
    quantization: str | None = None
    max_model_len: int | None = None
    gpus: int = 0
    nodes: int = 1


@dataclass(frozen=True)
class _Life:
    """One life of vLLM, from the line that its supervisor wrote, or from what it told last."""

    number: int
    started: datetime | None
    ready: datetime | None
    ended: datetime | None
    seen: datetime | None
    """When it was last heard of: its end, or the last heartbeat."""
    busy_s: float
    idle_s: float
    line: Row

    @property
    def restart(self) -> int:
        """How often its job had been started again, as it says itself."""
        said = self.line.get("restart")
        return said if isinstance(said, int) else 0


@dataclass(frozen=True)
class Gpus:
    """Which GPUs of its job are a server's."""

    asked: int
    others: int | None = 0
    """Asked for by others that share its job; None: what is left over belongs to the first of those."""

    def of(self, life: JobLife) -> int:
        """All that the job has and nobody else asked for; where accounting does not count GPUs, what was
        asked for was given."""
        if life.started is None:
            return 0
        return self.asked if self.others is None else max(life.gpus - self.others, self.asked)


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
    accounts: Mapping[str, Sequence[JobLife]],
    gpus: Mapping[Path, Gpus],
) -> Iterator[Row]:
    """The rows of a model's servers. `accounts`: the lives of their jobs, by id, as far as they are known;
    `gpus`: from `gpus_of` all servers."""
    for folder in folders:
        spec, job = read(folder.spec, _Served), job_of_server(folder)
        common = _common(model, folder, spec)
        lives = _lives(folder)
        of_job = [] if job is None else accounts.get(job.job_id, ())
        if of_job:
            rows = _rows_of_job(lives, of_job, gpus[folder.path])
        else:
            rows = _rows_by_own_clock(lives, common["submitted_at"], gpus[folder.path].asked)
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


def _lives(folder: ServerFolder) -> list[_Life]:
    """Those that ended, and the one under way or cut off in which it last told of itself."""
    lines = [line for line in read_lines(folder.lives) if isinstance(line.get("life"), int)]
    state = read(folder.state, ServerState)
    last = None if state is None else state.under_way
    if last is not None and all(line["life"] != last.get("life") for line in lines):
        lines.append(last)
    lives = [_life(line) for line in lines]
    return sorted(lives, key=lambda life: life.number)


def _life(line: Row) -> _Life:
    started, ready, ended, seen = (
        time_of(line.get(name)) for name in ("started_at", "ready_at", "ended_at", "seen_at")
    )
    busy_s, idle_s = (float(line.get(name) or 0.0) for name in ("busy_s", "idle_s"))
    return _Life(int(line["life"]), started, ready, ended, ended or seen, busy_s, idle_s, line)


def _own_columns(life: _Life | None) -> Row:
    """What a life of vLLM brings along but for its seconds."""
    if life is None:
        return {"life": 0}
    row: Row = {"life": life.number, "exit_reason": life.line.get("exit_reason")}
    row |= {"started_at": life.started, "ready_at": life.ready, "ended_at": life.ended}
    for name in ("requests", "prompt_tokens", "generated_tokens"):
        row[name] = None if life.line.get(name) is None else int(life.line[name])
    if life.busy_s and row["generated_tokens"] is not None:
        row["tokens_per_s"] = row["generated_tokens"] / life.busy_s
    return row


def _rows_by_own_clock(lives: list[_Life], submitted: datetime | None, gpus: int) -> Iterator[Row]:
    """Without accounting a server's time begins with the first start of vLLM."""
    if not lives:
        yield {"restart": 0, "gpus": gpus, **_own_columns(None)}
    for index, life in enumerate(lives):
        row: Row = {"restart": life.restart, "gpus": gpus, **_own_columns(life)}
        row["nodes"] = life.line.get("node")
        if life.started is not None and life.seen is not None:
            row |= _seconds(life, life.started, life.seen, gpus)
        if index == 0 and submitted is not None and life.started is not None:
            row["queued_s"] = max(0.0, (life.started - submitted).total_seconds())
        yield row


def _rows_of_job(lives: list[_Life], of_job: Sequence[JobLife], gpus: Gpus) -> Iterator[Row]:
    """Each life of the job cut into its lives of vLLM; one without any is one row."""
    inside: dict[int, list[_Life]] = {index: [] for index in range(len(of_job))}
    for life in lives:
        inside[_fitting(life, of_job)].append(life)
    for index, job_life in enumerate(of_job):
        row: Row = {
            "restart": index,
            "slurm_state": job_life.state,
            "nodes": job_life.nodes or None,
            "gpus": gpus.of(job_life),
            "job_started_at": job_life.started,
            "job_ended_at": job_life.ended,
        }
        begin, end = job_life.started or job_life.submitted, ended_at(job_life)
        starts = [_between(begin, life.started or begin, end) for life in inside[index][1:]]
        cuts = [begin, *starts, end]
        pieces: list[_Life | None] = [*inside[index]] or [None]
        for number, inner in enumerate(pieces):
            piece = row | _own_columns(inner) | _seconds(inner, cuts[number], cuts[number + 1], row["gpus"])
            piece["queued_s"] = queued_s(job_life) if number == 0 else None
            if inner is None or inner.ended is None:
                piece |= _end_of_job(job_life)
            yield piece


def _end_of_job(job_life: JobLife) -> Row:
    """Nobody saw the end of vLLM: it came with that of the job."""
    if not job_life.is_over:
        return {}
    return {"ended_at": job_life.ended, "exit_reason": f"the job ended: {explained(job_life)}"}


def _fitting(life: _Life, of_job: Sequence[JobLife]) -> int:
    """The life of the job that a life of vLLM was in: the one it names, if it was in it at all, else that in
    which most of it was. Clocks may differ, and Slurm may count starts that it keeps no account of."""

    def common_s(job_life: JobLife) -> float:
        if life.started is None or job_life.started is None:
            return float("-inf")
        end = min(life.seen or life.started, ended_at(job_life))
        return (end - max(life.started, job_life.started)).total_seconds()

    if life.restart < len(of_job) and common_s(of_job[life.restart]) > 0 and "restart" in life.line:
        return life.restart
    return max(range(len(of_job)), key=lambda index: common_s(of_job[index]))


def _seconds(life: _Life | None, begin: datetime, end: datetime, gpus: int) -> Row:
    """A piece of time in its parts, which add up to it whatever the clocks say."""
    whole = max(0.0, (end - begin).total_seconds())
    ready = None if life is None else life.ready or life.seen
    starting = whole if ready is None else _between(0.0, (ready - begin).total_seconds(), whole)
    busy = min(0.0 if life is None else life.busy_s, whole - starting)
    idle = min(0.0 if life is None else life.idle_s, whole - starting - busy)
    return {
        "elapsed_s": round(whole, 3),
        "starting_s": round(starting, 3),
        "busy_s": round(busy, 3),
        "idle_s": round(idle, 3),
        "ending_s": round(whole - starting - busy - idle, 3),
        "gpu_s": round(whole * gpus, 3),
    }


def _between(low: Any, value: Any, high: Any) -> Any:
    return max(low, min(value, high))
