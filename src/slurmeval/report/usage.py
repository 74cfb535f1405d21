"""The servers' time by model, and their busy time by benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field

from slurmeval.report.tables import Row, Tables

PARTS = ("busy_s", "starting_s", "idle_s", "ending_s")


@dataclass
class Time:
    """Time of one model's servers, or of all; in GPU-seconds where they have GPUs, else in their own."""

    gpus: str = ""
    """GPUs of a job, such as `4` or `2–4`; empty: none."""
    whole_s: float = 0.0
    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    queued_s: float = 0.0

    def add(self, row: Row, weight: int) -> None:
        """Adds a row of `servers`, `weight` times."""
        self.whole_s += (row["elapsed_s"] or 0.0) * weight
        self.queued_s += row["queued_s"] or 0.0
        for name in PARTS:
            self.parts[name] += (row[name] or 0.0) * weight


@dataclass(frozen=True)
class Usage:
    """Figures of the section on time."""

    total: Time
    models: dict[str, Time]
    evaluations: dict[tuple[str, str], float]
    """Busy time by model and benchmark."""
    benchmarks: dict[str, float]
    """Busy time by benchmark, all models together."""
    others_s: float
    """Busy time of evaluations that are not in this run, or that nobody wrote down."""
    has_gpus: bool
    all_gpus: bool
    """Whether every model's servers have GPUs; else those that have none count as if they had one."""
    unknown_jobs: int
    """Jobs of Slurm's of which accounting told nothing."""


def usage(run: Tables) -> Usage:
    """Sums over the tables of servers and evaluations."""
    kinds: dict[str, set[int]] = {}
    for row in run.servers:
        kinds.setdefault(row["model"], set()).update({row["gpus"] or 0} - {0})
    gpus = {model: sorted(found) for model, found in kinds.items()}
    total = Time()
    models: dict[str, Time] = {}
    for row in run.servers:
        own = gpus[row["model"]]
        weight = (row["gpus"] or 0) if own else 1
        shown = "" if not own else str(own[0]) if len(own) == 1 else f"{own[0]}–{own[-1]}"
        models.setdefault(row["model"], Time(shown)).add(row, weight)
        total.add(row, weight)
    evaluations: dict[tuple[str, str], float] = {}
    benchmarks: dict[str, float] = {}
    for row in run.evaluations:
        seconds = row["gpu_s"] if gpus.get(row["model"]) else row["server_s"]
        if seconds:
            evaluations[row["model"], row["benchmark"]] = seconds
            benchmarks[row["benchmark"]] = benchmarks.get(row["benchmark"], 0.0) + seconds
    return Usage(
        total,
        models,
        evaluations,
        dict(sorted(benchmarks.items(), key=lambda item: -item[1])),
        max(0.0, total.parts["busy_s"] - sum(benchmarks.values())),
        any(gpus.values()),
        all(gpus.values()),
        _unknown_jobs(run),
    )


def _unknown_jobs(run: Tables) -> int:
    servers = {row["job_id"] for row in run.servers if row["cluster"] == "slurm" and not row["slurm_state"]}
    evaluations = {row["job_id"] for row in run.evaluations if row["job_id"] and not row["slurm_state"]}
    return len((servers | evaluations) - {None})


def job_words(row: Row) -> str:
    """What Slurm says of an evaluation's job: its state, where, and how often it was started."""
    if not row["slurm_state"]:
        return ""
    where = f" on {row['node']}" if row["node"] else ""
    times = f", {row['job_runs']} runs" if (row["job_runs"] or 0) > 1 else ""
    return f"{row['slurm_state']}{where}{times}"
