"""Slurm's programs: querying the queue and the accounting, submitting, cancelling. Nobody else calls them.

Queries ask for delimited fields, because `--json` differs between versions. `parsing` reads the answers. A
query that failed raises `SlurmAway`: it says nothing of any job.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from slurmeval.errors import SlurmevalError
from slurmeval.slurm import parsing, states
from slurmeval.slurm.parsing import JobRun, Partition, QueuedJob

__all__ = [
    "PROGRAMS",
    "JobRun",
    "Partition",
    "QueuedJob",
    "SlurmAway",
    "SubmissionRefused",
    "SubmissionUnsure",
    "cancel",
    "cancel_aloud",
    "end_of",
    "is_here",
    "job_runs",
    "limits_of_jobs",
    "partitions",
    "queue",
    "submit",
    "version",
    "would_start",
]

PROGRAMS = ("sbatch", "squeue", "sacct", "scancel")
"""The programs that submit and watch jobs."""

TIMEOUT_S = 60.0
"""After this long without an answer a daemon counts as away."""

LIMITS_TIMEOUT_S = 10.0
"""… the accounting's, which is asked for a warning only."""

RETRY_S = 1.0
"""Before a query is asked again; doubled for each further time."""

IDS_AT_ONCE = 500
"""Job ids in one call: command lines and the database's queries have their limits."""

_OTHERS_FORMATS = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_")

_AWAY = re.compile(
    r"Unable to contact slurm controller|Connection (refused|reset|timed out)|[Ss]ocket timed out"
    r"|Zero Bytes were transmitted|Unable to connect to (slurm )?database|Problem talking to the database"
    r"|slurmdbd|No route to host|Network is unreachable|Name or service not known"
    r"|[Uu]nable to resolve|Protocol authentication error|Munge|munge|Invalid authentication credential"
    r"|temporarily unable|Transport endpoint|accounting storage is disabled|in standby mode"
    r"|Unable to establish (configuration source|controller machine)|Message (send|receive) failure"
    r"|Slurm backup controller|Resource temporarily unavailable"
)
"""What Slurm's programs say when it is not the request that is wrong."""

_DISABLED = "accounting storage is disabled"

_UNSURE = re.compile(
    r"[Ss]ocket timed out|Zero Bytes were transmitted|Message receive failure|Connection reset"
    r"|Unexpected message received"
)
"""What sbatch says when the answer got lost: the job may be in the queue."""

_LIMIT = re.compile(
    r"(Max|Grp)\w*Submit\w*|MaxJobCount|temporarily unable to accept job|too many jobs",
    re.IGNORECASE,
)
"""Too many jobs are queued. Slurm's sentence "Job violates accounting/QOS policy (job submit limit, user's
size and/or time limits)" stands for every limit: only the name before it tells which."""

_PASSING = re.compile(r"inactive or drain|Required partition not available|I/O error writing script")
"""What passes without anyone changing the request."""


class SlurmAway(SlurmevalError):
    """Program of Slurm that is missing, or daemon that does not answer. Nothing is known of any job."""

    def __init__(self, words: str, for_good: bool = False) -> None:
        """Takes Slurm's words, and whether another query would be of no use."""
        super().__init__(words)
        self.for_good = for_good or _DISABLED in words
        """Whether there is none here: asking again will not help."""


class SubmissionUnsure(SlurmAway):
    """Submission whose answer got lost: look in the queue before submitting again."""


class SubmissionRefused(SlurmevalError):
    """Submission that Slurm refuses. The text is sbatch's own, in one line."""

    def __init__(self, words: str) -> None:
        """Takes sbatch's words."""
        super().__init__(words)
        self.for_now = names_limit(words) or _PASSING.search(words) is not None
        """Whether it may be accepted later: too many jobs are queued, or the partition is closed."""


def is_here(program: str = "sbatch") -> bool:
    """Returns whether this machine has a program of Slurm; with sbatch, jobs can be submitted from it."""
    return shutil.which(program) is not None


def version() -> str | None:
    """Returns what sbatch calls itself; None where it does not say."""
    try:
        return _answer(["sbatch", "--version"]).stdout.strip() or None
    except SlurmAway:
        return None


def job_name(results: Path, role: str) -> str:
    """Returns `slurmeval-<8 hex digits for the project's results>-<role>`."""
    return f"slurmeval-{hashlib.sha256(str(results).encode()).hexdigest()[:8]}-{role}"


def names_limit(words: str) -> bool:
    """Returns whether sbatch refuses a job because too many are queued."""
    return _LIMIT.search(words) is not None


def passes(error: Exception) -> bool:
    """Returns whether a submission that failed in this way may succeed later."""
    if isinstance(error, SlurmAway):
        return not error.for_good
    return isinstance(error, SubmissionRefused) and error.for_now


def queue(
    names: Sequence[str] | None = None, *, tries: int = 1, timeout_s: float = TIMEOUT_S
) -> list[QueuedJob]:
    """Returns the user's jobs that wait, run or end. Elements of arrays are listed one by one.

    Args:
        names: Only jobs with one of these names.
        tries: Attempts while Slurm does not answer.
        timeout_s: Time limit of an attempt.

    Raises:
        SlurmAway: The queue is not known.
    """
    if names is not None and not names:
        return []
    argv = ["squeue", "--me", "--noheader", "--array", f"--Format={parsing.QUEUE_FORMAT}"]
    if names is not None:
        argv.append(f"--name={','.join(names)}")
    return parsing.queue(_ask(argv, tries, timeout_s))


def job_runs(job_ids: Sequence[str], *, tries: int = 1) -> dict[str, list[JobRun]]:
    """Returns every job run of these jobs from accounting, oldest first. A requeue begins a new one.

    A job that is missing in the answer is **not known yet**, because accounting lags behind. Slurm uses job
    ids again after years: compare `submitted` if ids are kept for that long.

    Raises:
        SlurmAway: Accounting does not answer, or the cluster has none.
    """
    found: dict[str, list[JobRun]] = {}
    unique = list(dict.fromkeys(job_ids))
    # The other programs read the variable by themselves; sacct would tell of another cluster's jobs
    clusters = os.environ.get("SLURM_CLUSTERS")
    for first in range(0, len(unique), IDS_AT_ONCE):
        argv = ["sacct", "--duplicates", "--parsable2", "--noheader", "--units=M"]
        argv += [f"--clusters={clusters}"] if clusters else []
        argv += [
            f"--format={parsing.JOB_RUNS_FORMAT}",
            f"--jobs={','.join(unique[first : first + IDS_AT_ONCE])}",
        ]
        found |= parsing.job_runs(_ask(argv, tries))
    return found


def end_of(job_id: str) -> JobRun | None:
    """Returns how a job ended that has just left the queue, as Slurm's daemon remembers for some minutes.

    Returns None if the daemon does not know, or the job goes on.

    Raises:
        SlurmAway: The daemon does not answer.
    """
    done = _answer(["scontrol", "show", "job", "--oneliner", job_id])
    if done.returncode and _AWAY.search(done.stderr):
        raise SlurmAway(f"scontrol: {parsing.one_line(done.stderr)}")
    job_run = parsing.shown_job(done.stdout)
    return job_run if job_run is not None and job_run.is_last else None


def limits_of_jobs() -> dict[str, int]:
    """Returns how many jobs of the user may run at once, by what bounds it: an association or a QOS.

    Raises:
        SlurmAway: Accounting does not answer, or the cluster has none.
    """
    argv = ["sacctmgr", "--parsable2", "--noheader", "--readonly", "show"]
    mine = [*argv, "association", f"user={getpass.getuser()}", f"format={parsing.ASSOCIATION_FORMAT}"]
    of_qos = [*argv, "qos", f"format={parsing.QOS_FORMAT}"]
    return parsing.limits_of_jobs(*(_ask(query, 1, LIMITS_TIMEOUT_S) for query in (mine, of_qos)))


def submit(flags: Sequence[str], script: str, cwd: Path) -> str:
    """Submits `script` once and returns the job's id.

    Raises:
        SubmissionRefused: With sbatch's own words.
        SlurmAway: It was surely not submitted.
        SubmissionUnsure: It may have been submitted.
    """
    try:
        # What a job inherits is sbatch's environment: times and language are the user's
        environment = _environment(flags)
        done = _run(["sbatch", "--parsable", *flags], script, cwd, environment)
    except subprocess.TimeoutExpired:
        raise SubmissionUnsure(f"sbatch gave no answer for {TIMEOUT_S:g} s") from None
    words = parsing.one_line(done.stderr)
    if done.returncode == 0:
        job_id = parsing.submitted(done.stdout)
        if job_id is None:
            raise SubmissionUnsure(f"sbatch named no job: {parsing.one_line(done.stdout + done.stderr)}")
        return job_id
    if _UNSURE.search(done.stderr):
        raise SubmissionUnsure(words)
    if _AWAY.search(done.stderr) and not _LIMIT.search(done.stderr):
        raise SlurmAway(words)
    raise SubmissionRefused(words or f"sbatch ended with status {done.returncode}")


def cancel(job_ids: Sequence[str], *, only_pending: bool = False, tries: int = 1) -> None:
    """Cancels jobs. Jobs that have ended, or that Slurm never had, are no error.

    Args:
        job_ids: The jobs.
        only_pending: Only those that have not begun.
        tries: Attempts while Slurm does not answer.

    Raises:
        SlurmAway: Slurm does not answer.
    """
    unique = list(dict.fromkeys(job_ids))
    flags = [f"--state={states.PENDING}"] if only_pending else []
    for first in range(0, len(unique), IDS_AT_ONCE):
        argv = ["scancel", *flags, *unique[first : first + IDS_AT_ONCE]]
        for left in range(tries - 1, -1, -1):
            done = _answer(argv)
            if done.returncode == 0 or not _AWAY.search(done.stderr):
                break
            if not left:
                raise SlurmAway(parsing.one_line(done.stderr))
            time.sleep(RETRY_S * 2 ** (tries - 1 - left))


def cancel_aloud(job_id: str) -> bool:
    """Cancels a job and returns whether Slurm has done it; scancel's complaints go to the terminal."""
    return subprocess.run(["scancel", "--", job_id], check=False).returncode == 0


def would_start(flags: Sequence[str], script: str) -> str:
    """Returns when and where a job would start (UTC), or why never, in Slurm's words. Submits nothing.

    Raises:
        SlurmAway: Slurm does not answer.
    """
    done = _answer(["sbatch", "--test-only", *flags], script)
    words = parsing.one_line(done.stderr or done.stdout)
    if done.returncode and _AWAY.search(done.stderr):
        raise SlurmAway(words)
    return words


def partitions() -> dict[str, Partition]:
    """Returns the partitions that the user sees, by name.

    Raises:
        SlurmAway: Slurm does not answer.
    """
    limits = _ask(["scontrol", "show", "partition", "--oneliner"], 1)
    nodes = _ask(["sinfo", "--noheader", "--exact", f"--format={parsing.NODES_FORMAT}"], 1)
    return parsing.partitions(limits, nodes)


def _ask(argv: list[str], tries: int, timeout_s: float = TIMEOUT_S) -> str:
    """Returns the output of a query.

    Raises:
        SlurmAway: It failed, for whatever reason: that says nothing of any job.
    """
    for left in range(tries - 1, -1, -1):
        try:
            done = _answer(argv, timeout_s=timeout_s)
            # sacct may end with status 0 although the database did not answer
            if done.returncode == 0 and (done.stdout or not _AWAY.search(done.stderr)):
                return done.stdout
            words = parsing.one_line(done.stderr) or f"status {done.returncode}"
            raise SlurmAway(f"{argv[0]}: {words}")
        except SlurmAway:
            if not left:
                raise
            time.sleep(RETRY_S * 2 ** (tries - 1 - left))
    raise ValueError(f"{tries} tries")


def _answer(
    argv: list[str], script: str | None = None, timeout_s: float = TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    try:
        return _run(argv, script, None, _for_queries(), timeout_s)
    except subprocess.TimeoutExpired:
        raise SlurmAway(f"{argv[0]}: no answer for {timeout_s:g} s") from None


def _run(
    argv: list[str],
    script: str | None,
    cwd: Path | None,
    environment: dict[str, str],
    timeout_s: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Runs a program.

    Raises:
        SlurmAway: There is no such program.
        TimeoutExpired: It does not end.
    """
    try:
        return subprocess.run(
            argv,
            input=script or "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            cwd=cwd,
            timeout=timeout_s,
            check=False,
        )
    except (FileNotFoundError, PermissionError) as error:  # the latter: of a folder in PATH
        if cwd is not None and not cwd.is_dir():
            raise
        raise SlurmAway(f"{argv[0]}: there is no such program here", for_good=True) from error


def _environment(flags: Sequence[str]) -> dict[str, str]:
    """Returns this process's environment for sbatch with `flags`."""
    from slurmeval.slurm import request  # brings pydantic, which whoever only reads results can do without

    return request.environment(flags, os.environ)


def _for_queries() -> dict[str, str]:
    """Returns this process's environment for a query: no formats of others, times in UTC."""
    mine = {name: value for name, value in _environment([]).items() if not name.startswith(_OTHERS_FORMATS)}
    return mine | {"LC_ALL": "C", "TZ": "UTC", "SLURM_TIME_FORMAT": "standard"}
