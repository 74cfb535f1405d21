"""What is known of a run from its files. Only reads; what is missing or half-written counts as unknown."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from slurmeval.cli.queued import queued, why_it_waits
from slurmeval.errors import ErrorClass, UserError
from slurmeval.ownership import live_owner
from slurmeval.paths import Paths
from slurmeval.processes import is_alive
from slurmeval.servers.folder import ServerFolder
from slurmeval.state.evaluation import EvaluationProgress, FailureRecord, GatewayProgress
from slurmeval.state.owner import Owner
from slurmeval.state.records import find, load
from slurmeval.state.run_document import RunDocument
from slurmeval.state.server import ServerJob, ServerState, ServerStatus, read_gone

if TYPE_CHECKING:
    from slurmeval.slurm.commands import QueuedJob

T = TypeVar("T")
V = TypeVar("V")

State = Literal["ok", "running", "waiting", "failed", "stopped", "not run"]


@dataclass(frozen=True)
class ShownServer:
    """Newest server of a model."""

    model: str
    server_id: str
    status: ServerStatus
    reason: str | None = None
    engine_run: int | None = None
    tokens_per_s: float | None = None
    requests_running: int | None = None
    since: str | None = None
    """When it came to this status, ISO UTC."""
    node: str | None = None
    job_id: str | None = None
    starting_s: float | None = None
    """Of the engine run under way, and what of it went into what, as far as the engine tells."""
    weights_s: float | None = None
    compile_s: float | None = None
    first_answer_s: float | None = None


@dataclass(frozen=True)
class ShownScore:
    """The score by which a benchmark is known, with its 95 % interval."""

    metric: str
    value: float
    ci_lo: float | None
    ci_hi: float | None
    n_items: int | None

    @property
    def interval(self) -> str:
        """Returns the interval, such as `0.181–0.567`; empty where there is none."""
        return "" if self.ci_lo is None else f"{self.ci_lo:.3f}–{self.ci_hi:.3f}"

    @property
    def words(self) -> str:
        """Returns value and interval, such as `0.350 [0.181–0.567]`."""
        return f"{self.value:.3f}{f' [{self.interval}]' if self.interval else ''}"


@dataclass(frozen=True)
class ShownEvaluation:
    """One benchmark on one model."""

    model: str
    benchmark: str
    state: State
    phase: str | None = None
    samples: int | None = None
    """Scored samples; known once it is done."""
    unanswered: int | None = None
    """Of these, those that nobody answered."""
    samples_expected: int | None = None
    requests: int | None = None
    """Requests answered, in this try or an earlier one."""
    requests_expected: int | None = None
    error_class: str | None = None
    reason: str | None = None
    score: ShownScore | None = None
    """Its primary score; known once it is done."""


@dataclass(frozen=True)
class RunState:
    """A project folder at one moment."""

    controller: Owner | None
    """The process that runs Snakemake here; None: no run is under way."""
    servers: list[ShownServer] = field(default_factory=list)
    evaluations: list[ShownEvaluation] = field(default_factory=list)


def read_run(results: Path) -> RunState:
    """Returns what `status` shows."""
    results = results.absolute()
    paths = Paths.of_results(results)
    run = next((run for file in _run_files(paths) if (run := find(file, RunDocument))), None)
    controller = owner_of(paths.controller)
    jobs = queued(paths)
    pairs = [] if run is None else [(run.answers_key(m, b), m, b) for m, b in run.evaluations]
    evaluations = [_evaluation(paths, *pair, controller is not None) for pair in pairs]
    return RunState(
        controller=controller,
        servers=[server for folder in _newest_servers(paths) if (server := read_server(folder, jobs))],
        evaluations=[
            replace(each, reason=why_it_waits(paths, each.model, each.benchmark, jobs))
            if each.state == "waiting"
            else each
            for each in evaluations
        ],
    )


def read_server(folder: Path, jobs: Mapping[str, QueuedJob] = MappingProxyType({})) -> ShownServer | None:
    """Returns the server in `folder`; None where nothing is written yet. `jobs`: Slurm's queue, by job id."""
    files = ServerFolder(folder)
    state, job = find(files.state, ServerState), find(files.job, ServerJob)
    if state is None and job is None and not files.spec.exists():
        return None
    said = state or ServerState(ServerStatus.PENDING)
    status, reason = said.status, said.reason
    if (gone := read_gone(files.gone)) is not None:
        status, reason = ServerStatus.GONE, gone.reason
    elif not status.is_final:
        status, reason = _surviving(files, said, submitted=state is not None or job is not None)
        status, reason = _in_queue(None if job is None else jobs.get(job.job_id), status, reason)
    told = None if state is None else state.under_way
    parts = ("starting_s", "weights_s", "compile_s", "first_answer_s")
    return ShownServer(
        model=folder.parent.name,
        server_id=files.server_id,
        status=status,
        reason=reason,
        engine_run=None if state is None else state.engine_run,
        tokens_per_s=None if state is None else state.tokens_per_s,
        requests_running=None if state is None else state.requests_running,
        since=said.changed_at or (None if job is None else job.submitted_at),
        node=None if said.owner is None else said.owner.host,
        job_id=None if job is None else job.job_id,
        **({} if told is None else {name: getattr(told, name) for name in parts}),
    )


Said = tuple[ServerStatus, str | None]
"""A status with its reason."""


def _surviving(files: ServerFolder, state: ServerState, submitted: bool) -> Said:
    """Returns status and reason of a server that has not said that it ended."""
    if state.owner is not None and _alive(state.owner, files.state):
        return state.status, state.reason
    if files.closed.exists():
        return ServerStatus.STOPPED, state.reason
    if state.owner is not None:
        return ServerStatus.GONE, "its process ended without a word"
    submitter = None if submitted else find(files.submitter, Owner)
    if not submitted and (submitter is None or not _alive(submitter, files.submitter)):
        return ServerStatus.GONE, "it was never submitted"
    return state.status, state.reason


def _in_queue(job: QueuedJob | None, status: ServerStatus, reason: str | None) -> Said:
    """Returns the same where the queue knows better."""
    from slurmeval.slurm.reasons import is_worth_saying

    if job is None or status is ServerStatus.STOPPED:
        return status, reason
    if status is ServerStatus.GONE:
        why = f"its supervisor is silent, and its job {job.job_id} is {job.state}"
        return ServerStatus.SILENT, why
    if status is ServerStatus.PENDING and job.waits and is_worth_saying(job.reason):
        return status, f"{job.reason} (job {job.job_id})"
    return status, reason


def live_servers(paths: Paths) -> list[Path]:
    """Returns the folders of the servers that run, or will."""
    jobs = queued(paths)
    folders = (folder for folder in sorted(paths.servers.glob("*/*")) if folder.name.isdecimal())
    return [
        folder for folder in folders if (server := read_server(folder, jobs)) and not server.status.is_final
    ]


def last_run(results: Path) -> RunDocument:
    """Returns the document of the latest run in a results folder.

    Raises UserError where nothing has run, Unreadable where it is another version's.
    """
    for file in _run_files(Paths.of_results(results)):
        return load(file, RunDocument)
    raise UserError(f"nothing has run in {results}")


def _run_files(paths: Paths) -> list[Path]:
    """Returns the run documents of a results folder, the latest first."""
    return sorted((paths.state / "runs").glob("*.json"), key=_modified, reverse=True)


def _newest_servers(paths: Paths) -> list[Path]:
    newest = []
    for model in sorted(paths.servers.glob("*")):
        numbered = [folder for folder in model.glob("*") if folder.name.isdecimal() and folder.is_dir()]
        if numbered:
            newest.append(max(numbered, key=lambda folder: int(folder.name)))
    return newest


def _evaluation(paths: Paths, answers_key: str, model: str, benchmark: str, runs: bool) -> ShownEvaluation:
    if paths.evaluation(model, benchmark).exists():
        samples = _row_count(paths.samples(model, benchmark))
        return ShownEvaluation(
            model,
            benchmark,
            "ok",
            samples=samples,
            samples_expected=samples,
            unanswered=_unanswered(paths.evaluation(model, benchmark)),
            score=score_of(paths, model, benchmark),
        )
    work = paths.work(model, benchmark, answers_key)
    if owner_of(work / "owner.json") is not None:
        return _under_way(model, benchmark, work)
    if (failure := find(paths.failure(model, benchmark), FailureRecord)) is not None:
        state: State = "stopped" if failure.error_class is ErrorClass.STOPPED else "failed"
        return ShownEvaluation(
            model, benchmark, state, error_class=failure.error_class, reason=failure.reason
        )
    return ShownEvaluation(model, benchmark, "waiting" if runs else "not run")


def _under_way(model: str, benchmark: str, work: Path) -> ShownEvaluation:
    progress = find(work / "progress.json", EvaluationProgress)
    gateway = find(work / "gateway" / "progress.json", GatewayProgress)
    return ShownEvaluation(
        model,
        benchmark,
        "waiting" if progress is None or progress.phase.startswith("waiting") else "running",
        phase=progress.phase if progress else None,
        samples_expected=progress.samples_expected if progress else None,
        requests=gateway.answered if gateway else None,
        requests_expected=progress.requests_expected if progress else None,
    )


def _until_changed(read_file: Callable[[Path], V | None]) -> Callable[[Path], V | None]:
    """Returns a reader of a Parquet file that reads it again only when it has changed.

    It returns None where the file cannot be read.
    """

    @functools.lru_cache(maxsize=100_000)
    def remembered(path: Path, modified_ns: int, size: int) -> V | None:
        import pyarrow as pa

        try:
            return read_file(path)
        except (OSError, KeyError, pa.ArrowException):
            return None

    def look(path: Path) -> V | None:
        try:
            stat = path.stat()
        except OSError:
            return None
        return remembered(path, stat.st_mtime_ns, stat.st_size)

    return look


@_until_changed
def _score(path: Path) -> ShownScore | None:
    names = ["metric", "value", "ci_lo", "ci_hi", "n_items"]
    rows = _columns(path, [*names, "is_primary"])
    primary = (row for row in rows if row["is_primary"] and row["value"] is not None)
    return next((ShownScore(*(row[name] for name in names)) for row in primary), None)


@_until_changed
def _row_count(path: Path) -> int | None:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


@_until_changed
def _unanswered(path: Path) -> int | None:
    rows = _columns(path, ["n_unanswered"])
    return rows[0].get("n_unanswered") if rows else None


def _columns(path: Path, names: list[str]) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return list(file.read(names, use_threads=False).to_pylist())


def score_of(paths: Paths, model: str, benchmark: str) -> ShownScore | None:
    """Returns the primary score of an evaluation that has ended well; None where it has none."""
    return _score(paths.metrics(model, benchmark))


def owner_of(path: Path) -> Owner | None:
    """Returns the live owner of a lock file; None where there is none, or files are away."""
    try:
        return live_owner(path)
    except OSError:
        return None


def _alive(owner: Owner, heartbeat: Path) -> bool:
    try:
        return is_alive(owner, heartbeat)
    except OSError:
        return False


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
