"""Evaluations as jobs of Slurm: what is submitted, what counts as ended, and what is tried again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.files import read_json, write_json
from slurmeval.scheduling import finished
from slurmeval.scheduling.evaluation_jobs import FILES_S, UNKNOWN_S, EvaluationJob, SlurmJobs
from slurmeval.scheduling.failures import record
from slurmeval.scheduling.leasing import lease_files
from slurmeval.scheduling.reconciler import Reconciler
from slurmeval.slurm import commands
from slurmeval.slurm.commands import SlurmAway, SubmissionRefused
from tests.unit.scheduling.conftest import Run, StandInSlurm

PAIR = ("tiny", "first")


@pytest.fixture
def jobs(run: Run) -> SlurmJobs:
    return SlurmJobs(run.document, clock=run.clock)


def submitted(jobs: SlurmJobs, benchmark: str = "first") -> EvaluationJob:
    job = jobs.submit("tiny", benchmark, "true")
    assert job is not None
    return job


def finish(run: Run) -> None:
    """As an evaluation that has ended well leaves it."""
    for kind in ("metrics", "samples", "requests", "evaluation"):
        partition = getattr(run.paths, kind)(*PAIR)
        partition.parent.mkdir(parents=True, exist_ok=True)
        partition.write_bytes(kind.encode())
    run.document.lock_file(*PAIR).parent.mkdir(parents=True, exist_ok=True)
    finished.keep(run.document, *PAIR)


def fail(run: Run, error_class: ErrorClass) -> None:
    failure = EvaluationFailed(error_class, "made to fail")
    record(run.paths.failure(*PAIR), failure, *PAIR, datetime.now(UTC), None)


def test_evaluations_depend_on_one_server(run: Run, jobs: SlurmJobs, slurm: StandInSlurm) -> None:
    ids = [submitted(jobs, benchmark).job_id for benchmark in ("first", "second", "third")]
    server = read_json(run.server().job)["job_id"]
    assert len({server, *ids}) == 4
    assert [slurm.jobs[job_id].dependency for job_id in ids] == [f"after:{server}"] * 3
    # the model's loading, the evaluation's own limit, and what its own end takes
    assert "--time=70" in slurm.submitted[0]
    lines = run.paths.evaluation_jobs(*PAIR).read_text().splitlines()
    assert len(lines) == 1 and ids[0] in lines[0]


def test_an_evaluation_with_gpus_of_its_own_waits_for_no_server(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm
) -> None:
    entry = run.document.benchmarks["first"]
    run.document.benchmarks["first"] = replace(entry, asks_nobody=True, own_gpus=2, own_memory_gb=48)
    job = submitted(jobs)
    assert [*slurm.jobs] == [job.job_id]  # no server's
    assert not slurm.jobs[job.job_id].dependency
    (flags,) = slurm.submitted
    assert any("gpu" in flag and "2" in flag for flag in flags), flags
    assert any("48" in flag or "49152" in flag for flag in flags), flags


def test_replicas_are_waited_for_as_a_whole(run: Run, jobs: SlurmJobs, slurm: StandInSlurm) -> None:
    run.alter("tiny", replicas=2, job_names=["serve-tiny", "serve-tiny"])
    job = submitted(jobs)
    servers = [read_json(file)["job_id"] for file in lease_files(run.document, *PAIR)]
    assert slurm.jobs[job.job_id].dependency == "?".join(f"after:{server}" for server in servers)


def test_nothing_is_submitted_before_the_server_runs_where_dependencies_are_forbidden(
    run: Run, slurm: StandInSlurm
) -> None:
    run.document = replace(run.document, site={"version": 1, "dependencies": False})
    jobs = SlurmJobs(run.document, clock=run.clock)
    assert jobs.submit(*PAIR, "true") is None
    run.state("starting")
    assert jobs.submit(*PAIR, "true") is not None
    assert not [flag for flag in slurm.submitted[0] if flag.startswith("--dependency")]


def test_a_job_left_by_an_earlier_run_is_taken_over(run: Run, jobs: SlurmJobs, slurm: StandInSlurm) -> None:
    left = submitted(jobs)
    again = SlurmJobs(run.document, clock=run.clock)
    assert submitted(again).job_id == left.job_id
    assert len(slurm.submitted) == 1


def test_a_job_left_with_other_parameters_is_cancelled(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm
) -> None:
    left = submitted(jobs)
    run.alter_results("first")
    again = SlurmJobs(run.document, clock=run.clock)
    assert submitted(again).job_id != left.job_id
    assert slurm.ended[left.job_id] == "CANCELLED"


def test_a_refused_job_fails_with_slurms_words(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        raise SubmissionRefused("Invalid account")

    monkeypatch.setattr("slurmeval.slurm.commands.submit", refuse)
    with pytest.raises(EvaluationFailed, match="Invalid account"):
        jobs.submit(*PAIR, "true")
    assert read_json(run.paths.failure(*PAIR))["reason"].endswith("Invalid account")
    assert read_json(lease_files(run.document, *PAIR)[0])["released"]


def test_a_finished_evaluation_needs_no_server_and_no_job(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm
) -> None:
    finish(run)
    run.paths.metrics(*PAIR).unlink()  # Snakemake takes what a dead run left for half-made
    pq.write_table(
        pa.table({"row": [1]}), run.document.lock_file(*PAIR).parent / "finished" / "samples.parquet"
    )
    job = submitted(jobs)
    assert not run.server().path.exists()
    assert not slurm.submitted
    assert run.paths.metrics(*PAIR).exists()
    assert jobs.look([job], slurm.jobs)[PAIR].failure is None


def test_success_is_seen_by_its_files_at_once(run: Run, jobs: SlurmJobs, slurm: StandInSlurm) -> None:
    job = submitted(jobs)
    assert jobs.look([job], slurm.jobs) == {}
    finish(run)
    assert jobs.look([job], slurm.jobs)[PAIR].failure is None


@pytest.mark.parametrize(
    ("error_class", "again"),
    [
        (ErrorClass.HARNESS_ERROR, False),
        (ErrorClass.BAD_RESULT, False),
        (ErrorClass.SERVER_LOST, False),
        (ErrorClass.CANCELLED, False),
        (ErrorClass.NODE_FAILURE, True),
        (ErrorClass.OUT_OF_MEMORY, True),
        (ErrorClass.TIME_LIMIT, False),  # nothing was answered meanwhile
    ],
)
def test_what_is_tried_again(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm, error_class: ErrorClass, again: bool
) -> None:
    job = submitted(jobs)
    fail(run, error_class)
    slurm.end(job.job_id, "FAILED")
    ended = jobs.look([job], slurm.jobs)[PAIR]
    assert ended.failure is not None
    assert (ended.failure.error_class, ended.retry) == (error_class, again)


def test_a_harness_that_was_killed_for_its_memory_is_told_from_one_that_broke(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm
) -> None:
    job = submitted(jobs)
    fail(run, ErrorClass.HARNESS_ERROR)
    assert jobs.look([job], slurm.jobs) == {}  # its job has not ended
    slurm.end(job.job_id, "OUT_OF_MEMORY")
    ended = jobs.look([job], slurm.jobs)[PAIR]
    assert ended.failure is not None
    assert (ended.failure.error_class, ended.retry) == (ErrorClass.OUT_OF_MEMORY, True)


def test_time_that_ran_out_is_given_again_where_something_was_answered(run: Run, jobs: SlurmJobs) -> None:
    job = submitted(jobs)
    progress = run.document.lock_file(*PAIR).parent / "gateway" / "progress.json"
    write_json(progress, {"stored": 0, "answered": 7, "replayed": 0})
    fail(run, ErrorClass.TIME_LIMIT)
    assert jobs.look([job], {})[PAIR].retry


def test_more_memory_is_asked_for_after_too_little(run: Run, jobs: SlurmJobs, slurm: StandInSlurm) -> None:
    job = submitted(jobs)
    slurm.end(job.job_id, "OUT_OF_MEMORY")
    ended = jobs.look([job], slurm.jobs)[PAIR]
    assert ended.retry
    submitted(jobs)
    assert "--mem=4096M" in slurm.submitted[0]
    assert "--mem=8192M" in slurm.submitted[1]


@pytest.mark.parametrize(
    ("state", "error_class"),
    [
        ("CANCELLED", ErrorClass.CANCELLED),
        ("TIMEOUT", ErrorClass.TIME_LIMIT),
        ("NODE_FAIL", ErrorClass.NODE_FAILURE),
        ("PREEMPTED", ErrorClass.NODE_FAILURE),
        ("FAILED", ErrorClass.HARNESS_ERROR),
    ],
)
def test_a_job_that_died_without_a_word(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm, state: str, error_class: ErrorClass
) -> None:
    job = submitted(jobs)
    write_json(run.document.lock_file(*PAIR), {"host": "gone", "pid": 1, "started": 1})
    slurm.end(job.job_id, state)
    ended = jobs.look([job], slurm.jobs)[PAIR]
    assert ended.failure is not None
    assert ended.failure.error_class is error_class
    assert state in ended.failure.reason
    assert not run.document.lock_file(*PAIR).exists()
    assert read_json(run.paths.failure(*PAIR))["error_class"] == error_class
    assert read_json(lease_files(run.document, *PAIR)[0])["released"]


def test_a_job_that_a_setup_line_ended_gives_its_last_words(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm
) -> None:
    job = submitted(jobs)
    log = run.paths.log("evaluate", "tiny", f"first-{job.job_id}")
    log.write_text(
        "module: command not found\nslurmeval: a line of setup in site.yaml failed: module load X\n"
        "srun: error: gpu1: task 0: Exited with exit code 1\n"
    )
    slurm.end(job.job_id, "FAILED")
    failure = jobs.look([job], slurm.jobs)[PAIR].failure
    assert failure is not None
    assert failure.reason.endswith(
        "; its last words: slurmeval: a line of setup in site.yaml failed: module load X"
    )


def test_files_may_be_seen_later_than_the_jobs_end(run: Run, jobs: SlurmJobs, slurm: StandInSlurm) -> None:
    job = submitted(jobs)
    slurm.end(job.job_id, "COMPLETED")
    assert jobs.look([job], slurm.jobs) == {}
    run.now += FILES_S - 1
    assert jobs.look([job], slurm.jobs) == {}
    run.now += 2
    assert jobs.look([job], slurm.jobs)[PAIR].failure is not None


def test_nothing_is_concluded_while_accounting_is_away(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm
) -> None:
    job = submitted(jobs)
    slurm.end(job.job_id, "FAILED")
    slurm.away = True
    assert jobs.look([job], slurm.jobs) == {}
    run.now += UNKNOWN_S - 1
    assert jobs.look([job], slurm.jobs) == {}
    slurm.away = False
    assert jobs.look([job], slurm.jobs)[PAIR].failure is not None


def test_an_absent_slurm_is_no_failure(jobs: SlurmJobs, slurm: StandInSlurm) -> None:
    slurm.away = True
    with pytest.raises(SlurmAway):
        jobs.submit(*PAIR, "true")


def test_a_job_left_behind_is_known_though_the_site_overwrites_comments(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm
) -> None:
    ids = [submitted(jobs, benchmark).job_id for benchmark in ("first", "second")]
    for job_id in ids:
        slurm.jobs[job_id] = replace(slurm.jobs[job_id], comment="x")
    run.alter_results("second")
    again = SlurmJobs(run.document, clock=run.clock)
    assert submitted(again, "first").job_id == ids[0]
    assert submitted(again, "second").job_id not in ids
    assert slurm.ended == {ids[1]: "CANCELLED"}


def test_a_cancelled_evaluation_gives_its_server_back_though_accounting_is_silent(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm
) -> None:
    job = submitted(jobs)
    del slurm.jobs[job.job_id]  # and sacct knows nothing
    jobs.look([job], slurm.jobs)
    run.now += FILES_S
    assert jobs.look([job], slurm.jobs) == {}
    assert read_json(lease_files(run.document, *PAIR)[0])["released"]
    run.now += UNKNOWN_S
    ended = jobs.look([job], slurm.jobs)[PAIR]
    assert ended.failure is not None and ended.failure.error_class is ErrorClass.NODE_FAILURE


def test_an_evaluation_that_was_only_out_of_sight_is_leased_for_again(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm
) -> None:
    job = submitted(jobs)
    jobs.look([job], {})
    run.now += FILES_S
    jobs.look([job], {})
    assert jobs.look([job], slurm.jobs) == {}
    assert not lease_files(run.document, *PAIR)[0].exists()
    Reconciler(run.document, clock=run.clock).look([PAIR], slurm.jobs)
    assert not read_json(lease_files(run.document, *PAIR)[0])["released"]


def test_slurms_daemon_knows_what_accounting_does_not(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submitted(jobs)
    slurm.end(job.job_id, "CANCELLED")
    slurm.remembers = True
    asked = []
    monkeypatch.setattr(commands, "job_runs", lambda ids: asked.extend(ids) or {})
    ended = jobs.look([job], slurm.jobs)[PAIR]
    assert ended.failure is not None and ended.failure.error_class is ErrorClass.CANCELLED
    assert not asked


def test_where_there_is_no_accounting_nothing_is_waited_for(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disabled(*_: object, **__: object) -> None:
        raise SlurmAway("sacct: Slurm accounting storage is disabled")

    monkeypatch.setattr(commands, "job_runs", disabled)
    job = submitted(jobs)
    del slurm.jobs[job.job_id]
    jobs.look([job], slurm.jobs)
    run.now += FILES_S
    ended = jobs.look([job], slurm.jobs)[PAIR]
    assert ended.failure is not None and "there is no accounting here" in ended.failure.reason


@pytest.mark.parametrize("state", ["PENDING", "REQUEUE_HOLD"])
def test_a_job_that_is_requeued_after_its_evaluation_has_ended_is_cancelled(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm, state: str
) -> None:
    job = submitted(jobs)
    slurm.start(job.job_id)
    finish(run)
    assert jobs.look([job], slurm.jobs)[PAIR].failure is None
    assert job.job_id in slurm.jobs  # it is about to end by itself
    slurm.start(job.job_id, "launch failed requeued held", state=state)
    jobs.look([], slurm.jobs)
    assert job.job_id not in slurm.jobs


def test_a_job_that_is_about_to_leave_the_queue_is_not_taken_over(
    run: Run, jobs: SlurmJobs, slurm: StandInSlurm
) -> None:
    before, other = submitted(jobs), submitted(jobs, "second")
    for job in (before, other):
        slurm.start(job.job_id)
    fail(run, ErrorClass.NODE_FAILURE)
    assert jobs.look([before, other], slurm.jobs)[PAIR].retry
    jobs.take_back(other)
    assert submitted(jobs).job_id not in (before.job_id, other.job_id)
