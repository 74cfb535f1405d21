"""Parsers of what Slurm's programs print. Nothing here calls a program.

Written for Slurm 20.11 and later. Recorded answers of a real one lie beside the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from slurmeval.errors import ErrorClass
from slurmeval.slurm import states

_FIELD, _RECORD = "\x1f", "\x1e"
"""Unit and record separator: comments and names may hold any character that can be typed, line ends too."""

_QUEUE_FIELDS = (
    *("JobArrayID", "State", "StartTime", "EndTime", "RestartCnt", "Reason"),
    *("NodeList", "Dependency", "Name", "WorkDir", "Comment"),
)
QUEUE_FORMAT = ",".join(f"{name}:{_FIELD}" for name in _QUEUE_FIELDS[:-1]) + f",{_QUEUE_FIELDS[-1]}:{_RECORD}"
"""For squeue --Format. A colon without a size is: as long as it is."""

_JOB_RUNS_FIELDS = (
    *("JobID", "State", "ExitCode", "Submit", "Eligible", "Start", "End", "ElapsedRaw"),
    *("NodeList", "AllocTRES", "MaxRSS", "TotalCPU", "Reason"),
)
JOB_RUNS_FORMAT = ",".join(_JOB_RUNS_FIELDS)
"""For sacct --format."""

NODES_FORMAT = _FIELD.join(("%R", "%D", "%c", "%m", "%G"))
"""For sinfo --format: partition, nodes of one kind, their CPUs, memory in MB and generic resources."""


@dataclass(frozen=True)
class QueuedJob:
    """Job in the queue. Times are UTC; a pending job's are what Slurm expects."""

    job_id: str
    """`n`, or `n_m` for an element of an array."""
    name: str
    state: str
    reason: str
    comment: str
    workdir: str
    nodes: str
    start: datetime | None
    end: datetime | None
    dependency: str
    restarts: int | None

    @property
    def waits(self) -> bool:
        """Whether it is to begin, or to begin again."""
        return self.state in states.WAITING

    @property
    def is_pending(self) -> bool:
        """Whether it has not begun, and was not put back."""
        return self.state == states.PENDING

    @property
    def runs(self) -> bool:
        """Whether it runs at this moment."""
        return self.state == states.RUNNING

    @property
    def is_ending(self) -> bool:
        """Whether it is over but for what Slurm has to tidy up."""
        return self.state == states.COMPLETING


@dataclass(frozen=True)
class JobRun:
    """One run of a job, from its submission or requeue to its end. Times are UTC."""

    job_id: str
    state: str
    """In one word: `CANCELLED` of "CANCELLED by 1000"."""
    exit_code: str
    """Status and signal, such as `0:9`."""
    submitted: datetime
    """Of a later job run: when the job was requeued."""
    eligible: datetime | None
    started: datetime | None
    """None: it was never started."""
    ended: datetime | None
    elapsed_s: int
    nodes: str
    gpus: int
    """On all nodes; 0 also where accounting does not count GPUs."""
    max_rss_mb: float | None
    """Of the step that took most, as it was sampled."""
    cpu_s: float | None
    restart: int
    """0 in the first job run."""
    reason: str
    """What Slurm adds to the state, such as who cancelled it; may be empty."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in states.ENDED

    @property
    def is_last(self) -> bool:
        """Whether it has ended and the job with it: a run that was requeued is followed by another."""
        return self.is_over and self.state != states.REQUEUED

    @property
    def error_class(self) -> ErrorClass | None:
        """Why Slurm ended it; None: its program ended by itself."""
        return states.ERROR_CLASSES.get(self.state)

    @property
    def failed(self) -> bool:
        """Whether its program ended by itself, and not well."""
        return self.state == states.FAILED

    @property
    def explained(self) -> str:
        """Slurm's state with what it adds to it."""
        return f"{self.state} ({self.reason})" if self.reason else self.state


@dataclass(frozen=True)
class Partition:
    """Partition, and the most that one node of it has."""

    name: str
    max_time_min: int | None
    """None: no limit."""
    gpus_per_node: int
    memory_mb: int
    cpus: int
    nodes: int
    default: bool
    state: str
    """UP, DOWN, DRAIN or INACTIVE."""


def queue(text: str) -> list[QueuedJob]:
    """Returns the jobs that squeue printed in QUEUE_FORMAT."""
    return list(_queued(text))


def _queued(text: str) -> Iterator[QueuedJob]:
    last = len(_QUEUE_FIELDS) - 1
    for record in text.split(_RECORD):
        values = [_given(value) for value in record.removeprefix("\n").split(_FIELD, last)]
        # A separator within someone's job name shifts the fields after it: no job of ours has one.
        if len(values) != len(_QUEUE_FIELDS):
            continue
        job_id, state, start, end, restarts, reason, nodes, dependency, name, workdir, comment = values
        yield QueuedJob(
            job_id=job_id,
            name=name,
            state=state,
            reason="" if reason == "None" else reason,
            comment=comment,
            workdir=workdir,
            nodes=nodes,
            start=_time(start),
            end=_time(end),
            dependency=dependency,
            restarts=int(restarts) if restarts.isdecimal() else None,
        )


def job_runs(text: str) -> dict[str, list[JobRun]]:
    """Returns the job runs that sacct printed in JOB_RUNS_FORMAT: a job run's line, then its steps' lines."""
    found: dict[str, list[JobRun]] = {}
    for line in text.splitlines():
        values = dict(zip(_JOB_RUNS_FIELDS, line.split("|", len(_JOB_RUNS_FIELDS) - 1), strict=False))
        if len(values) < len(_JOB_RUNS_FIELDS):
            continue
        job_id, _, step = values["JobID"].partition(".")
        of_job = found.setdefault(job_id, [])
        if step:
            if of_job:
                of_job[-1] = _with_step(of_job[-1], values)
        elif (job_run := _job_run(job_id, values)) is not None:
            of_job.append(job_run)
    for job_id, of_job in found.items():
        of_job.sort(
            key=lambda job_run: (job_run.submitted, job_run.started or datetime.max.replace(tzinfo=UTC))
        )
        found[job_id] = [replace(job_run, restart=number) for number, job_run in enumerate(of_job)]
    return {job_id: of_job for job_id, of_job in found.items() if of_job}


def _job_run(job_id: str, values: dict[str, str]) -> JobRun | None:
    submitted = _time(values["Submit"])
    state, _, by = values["State"].partition(" ")
    if submitted is None or not state:
        return None
    reason = _given(values["Reason"])
    cancelled = f"cancelled by user {by.removeprefix('by ')}" if by.startswith("by ") else ""
    elapsed = values["ElapsedRaw"]
    nodes = "" if values["NodeList"].startswith("None") else _given(values["NodeList"])
    # A job that was cancelled while it waited has a start, but no nodes.
    started = _time(values["Start"]) if nodes else None
    return JobRun(
        job_id=job_id,
        state=state.rstrip("+"),
        exit_code=values["ExitCode"],
        submitted=submitted,
        eligible=_time(values["Eligible"]),
        started=started,
        ended=_time(values["End"]),
        elapsed_s=int(elapsed) if elapsed.isdecimal() else 0,
        nodes=nodes,
        gpus=_gpus_of_tres(values["AllocTRES"]),
        max_rss_mb=_megabytes(values["MaxRSS"]),
        cpu_s=_seconds(values["TotalCPU"]),
        restart=0,
        # Of a job run that was started, Slurm keeps why it waited before: that says nothing any more.
        reason=cancelled or ("" if started or reason == "None" else reason),
    )


def shown_job(text: str) -> JobRun | None:
    """Returns the job of `scontrol show job --oneliner`, or None if it knows none."""
    values = dict(re.findall(r"(?:^| )(\w+)=(\S*)", text))
    submitted = _time(values.get("SubmitTime", ""))
    if "JobState" not in values or submitted is None:
        return None
    started, ended = _time(values.get("StartTime", "")), _time(values.get("EndTime", ""))
    return JobRun(
        job_id=values.get("JobId", ""),
        state=values["JobState"],
        exit_code=values.get("ExitCode", ""),
        submitted=submitted,
        eligible=_time(values.get("EligibleTime", "")),
        started=started,
        ended=ended,
        elapsed_s=int((ended - started).total_seconds()) if started and ended and ended > started else 0,
        nodes=_given(values.get("NodeList", "")),
        gpus=0,
        max_rss_mb=None,
        cpu_s=None,
        restart=int(values.get("Restarts") or 0),
        reason="",
    )


ASSOCIATION_FORMAT = "Account,Partition,MaxJobs,GrpJobs,QOS"
QOS_FORMAT = "Name,MaxJobsPU,MaxJobsPA,GrpJobs"
"""For sacctmgr show."""


def limits_of_jobs(associations: str, qos: str) -> dict[str, int]:
    """Returns the limits on how many jobs of the user run at once, by what sets them.

    Reads sacctmgr's tables of the user's associations and of all QOS.
    """
    found: dict[str, int] = {}
    usable: set[str] = set()
    for account, _partition, *limits, names in _rows(associations, 5):
        usable.update(names.split(","))
        if least := [int(limit) for limit in limits if limit.isdecimal()]:
            found[f"account {account}"] = min(*least, found.get(f"account {account}", least[0]))
    for name, *limits in _rows(qos, 4):
        if name in usable and (least := [int(limit) for limit in limits if limit.isdecimal()]):
            found[f"qos {name}"] = min(least)
    return found


def _rows(text: str, fields: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        if len(values := line.split("|")) == fields:
            yield values


def _with_step(job_run: JobRun, step: dict[str, str]) -> JobRun:
    sizes = [size for size in (job_run.max_rss_mb, _megabytes(step["MaxRSS"])) if size is not None]
    return replace(job_run, max_rss_mb=max(sizes, default=None))


def submitted(stdout: str) -> str | None:
    """Returns the job's id from `sbatch --parsable` (`id` or `id;cluster`)."""
    match = re.search(r"^(\d+)(;.*)?$", stdout, re.MULTILINE)
    return match[1] if match else None


def is_slurms(line: str) -> bool:
    """Returns whether a line of a job's output is of Slurm's programs, and not the job's own."""
    return line.startswith(("srun: ", "slurmstepd: "))


def one_line(text: str) -> str:
    """Returns a program's complaints in one line, each once, without the program's name."""
    lines = (re.sub(r"^(\w+: )?((error|fatal): )?", "", line.strip()) for line in text.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line))


def partitions(limits: str, nodes: str) -> dict[str, Partition]:
    """From `scontrol show partition --oneliner` and sinfo in NODES_FORMAT."""
    found: dict[str, Partition] = {}
    for line in limits.splitlines():
        values = dict(word.partition("=")[::2] for word in line.split())
        if name := values.get("PartitionName"):
            found[name] = Partition(
                name=name,
                max_time_min=_minutes(values.get("MaxTime", "")),
                gpus_per_node=0,
                memory_mb=0,
                cpus=0,
                nodes=0,
                default=values.get("Default") == "YES",
                state=values.get("State", ""),
            )
    for line in nodes.splitlines():
        name, *rest = line.split(_FIELD)
        if name in found and len(rest) == 4:
            partition, (count, cpus, memory, gres) = found[name], rest
            found[name] = replace(
                partition,
                nodes=partition.nodes + int(count),
                cpus=max(partition.cpus, int(cpus.rstrip("+"))),
                memory_mb=max(partition.memory_mb, int(memory.rstrip("+"))),
                gpus_per_node=max(partition.gpus_per_node, _gpus_of_gres(gres)),
            )
    return found


def _given(text: str) -> str:
    text = text.strip()
    return "" if text in ("(null)", "N/A") else text


def _time(text: str) -> datetime | None:
    """`2026-11-22T18:12:54`, asked for in UTC; None for Unknown, None and N/A."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def _seconds(text: str) -> float | None:
    """`1-02:03:04`, `02:03:04` or `03:04.567`."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", text)
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _minutes(text: str) -> int | None:
    """`1-00:00:00`; None for UNLIMITED."""
    seconds = _seconds(text)
    return None if seconds is None else int(seconds // 60)


def _megabytes(text: str) -> float | None:
    """`12.50M`, asked for in MB; a bare 0 has no unit."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    if match is None:
        return None
    return float(match[1]) * {"": 2.0**-20, "K": 2.0**-10, "M": 1.0, "G": 2.0**10, "T": 2.0**20}[match[2]]


def _gpus_of_tres(text: str) -> int:
    """`billing=4,gres/gpu:h100=2,gres/gpu=2`: 2. Some clusters count only the kinds."""
    counts = {name: value for name, _, value in (part.partition("=") for part in text.split(","))}
    if (total := counts.get("gres/gpu", "")).isdecimal():
        return int(total)
    kinds = (value for name, value in counts.items() if name.startswith("gres/gpu:"))
    return sum(int(value) for value in kinds if value.isdecimal())


def _gpus_of_gres(text: str) -> int:
    """`gpu:h100:4(S:0-1),gpu:a100:2,shard:8`: 6."""
    return sum(int(match[1]) for match in re.finditer(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)(?=[(,]|$)", text))
