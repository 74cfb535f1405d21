"""Slurm's programs, played by their recorded answers. `record.py` makes these on a real cluster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slurmeval.slurm import commands, parsing
from slurmeval.slurm.commands import JobRun, SlurmAway, SubmissionRefused, SubmissionUnsure

RECORDED = Path(__file__).with_name("recorded")
JOBS: dict[str, str] = json.loads((RECORDED / "jobs.json").read_text())
COMMENT = '{"id": "a|b, c"}\n%s \x1f \'é\' <&>\\'
Play = Callable[..., list[dict[str, Any]]]


def recorded(name: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return answer


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """`play(*answers)`: the programs answer so, one after the other; gives the calls that were made. An
    answer is the name of a recorded one, one itself, or an exception."""

    def play(*answers: str | dict[str, Any] | Exception) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []
        left = list(answers)

        def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
            calls.append({"argv": argv, **options})
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer
            value = recorded(answer) if isinstance(answer, str) else answer
            return subprocess.CompletedProcess(argv, value["status"], value["stdout"], value["stderr"])

        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(commands, "RETRY_S", 0.0)
        return calls

    return play


def answer(stdout: str = "", stderr: str = "", status: int = 0) -> dict[str, Any]:
    return {"status": status, "stdout": stdout, "stderr": stderr}


# The queue


def test_queue_is_asked_as_it_was_when_it_was_recorded(play: Play) -> None:
    calls = play("squeue")
    jobs = commands.queue()
    assert calls[0]["argv"] == recorded("squeue")["argv"]
    assert len({job.job_id for job in jobs}) == len(jobs) > 10


def test_a_comment_may_hold_any_character(play: Play) -> None:
    play("squeue")
    (job,) = [job for job in commands.queue() if job.name == "running"]
    assert job.comment == COMMENT
    assert (job.state, job.nodes, job.workdir, job.reason) == ("RUNNING", "cpu1", "/", "")
    assert job.start is not None and job.end == job.start + timedelta(minutes=30)
    assert job.start.tzinfo is UTC


def test_a_job_that_waits_for_another(play: Play) -> None:
    play("squeue")
    (job,) = [job for job in commands.queue() if job.name == "dependent"]
    assert (job.state, job.reason) == ("PENDING", "Dependency")
    assert job.dependency == f"after:{JOBS['held']}(unfulfilled)"
    assert (job.nodes, job.comment, job.start) == ("", "", None)


def test_elements_of_an_array_are_jobs(play: Play) -> None:
    play("squeue")
    array = JOBS["array"]
    assert {job.job_id for job in commands.queue() if job.name == "array"} == {
        f"{array}_{index}" for index in (1, 2, 5)
    }


def test_a_requeued_job_counts_its_restarts(play: Play) -> None:
    play("squeue-requeued")
    jobs = {job.name: job for job in commands.queue()}
    assert (jobs["requeued"].state, jobs["requeued"].restarts) == ("PENDING", 1)
    assert (jobs["running"].state, jobs["running"].restarts) == ("RUNNING", 0)


def test_only_jobs_with_the_names(play: Play) -> None:
    calls = play("squeue")
    commands.queue(["a", "b"])
    assert calls[0]["argv"][-1] == "--name=a,b"
    assert commands.queue([]) == []
    assert len(calls) == 1


def test_a_separator_in_a_strangers_job_name_hides_no_other_job() -> None:
    fields = ["1", "RUNNING", "N/A", "N/A", "0", "None", "n", "(null)", "na\x1fme\x1e", "/", "c"]
    ours = ["2", "PENDING", "N/A", "N/A", "x", "None", "", "(null)", "ours", "/", "c"]
    text = "\x1f".join(fields) + "\x1e\n" + "\x1f".join(ours) + "\x1e\n"
    assert [(job.job_id, job.restarts) for job in parsing.queue(text)][-1] == ("2", None)


# The accounting


@pytest.fixture
def known(play: Play) -> dict[str, list[JobRun]]:
    play("sacct")
    found = commands.job_runs(list(JOBS.values()))
    return {name: found[job_id] for name, job_id in JOBS.items() if job_id in found}


def test_accounting_is_asked_as_it_was_when_it_was_recorded(play: Play) -> None:
    calls = play("sacct")
    commands.job_runs(list(JOBS.values()))
    assert calls[0]["argv"] == recorded("sacct")["argv"]


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("completed", ["COMPLETED"]),
        ("failed", ["FAILED"]),
        ("held", ["CANCELLED"]),
        ("cancelled", ["CANCELLED"]),
        ("timeout", ["TIMEOUT"]),
        ("out-of-memory", ["OUT_OF_MEMORY"]),
        ("node-fail", ["NODE_FAIL"]),
        ("node-fail-requeued", ["NODE_FAIL", "CANCELLED"]),
        ("requeued", ["REQUEUED", "CANCELLED"]),
        ("requeued-held", ["REQUEUED", "CANCELLED"]),
        ("preempted", ["PREEMPTED", "CANCELLED"]),
    ],
)
def test_every_run_of_a_job(known: dict[str, list[JobRun]], name: str, states: list[str]) -> None:
    job_runs = known[name]
    assert [job_run.state for job_run in job_runs] == states
    assert [job_run.restart for job_run in job_runs] == list(range(len(states)))
    assert all(job_run.is_over for job_run in job_runs)
    for job_run in job_runs:
        if job_run.started is not None and job_run.ended is not None:
            assert (job_run.ended - job_run.started).total_seconds() == job_run.elapsed_s
            assert job_run.submitted <= job_run.started


def test_what_a_job_had_and_took(known: dict[str, list[JobRun]]) -> None:
    (job_run,) = known["completed"]
    assert (job_run.gpus, job_run.nodes, job_run.exit_code, job_run.reason) == (4, "gpu[1-2]", "0:0", "")
    assert job_run.max_rss_mb is not None and 1 < job_run.max_rss_mb < 50
    assert job_run.cpu_s is not None and 0 < job_run.cpu_s < 1
    assert known["out-of-memory"][0].exit_code == "0:125"
    assert known["failed"][0].exit_code == "3:0"
    assert [job_run.gpus for job_run in known["preempted"]] == [8, 8]


def test_who_cancelled_it(known: dict[str, list[JobRun]]) -> None:
    (job_run,) = known["cancelled"]
    assert job_run.reason == "cancelled by user 0"


def test_a_job_that_never_started_has_no_start(known: dict[str, list[JobRun]]) -> None:
    (job_run,) = known["held"]
    assert (job_run.started, job_run.elapsed_s, job_run.nodes, job_run.gpus) == (None, 0, "", 0)
    assert job_run.ended is not None


def test_a_running_job_is_not_over(play: Play) -> None:
    play("sacct-requeued")
    found = commands.job_runs(list(JOBS.values()))
    last = found[JOBS["requeued"]][-1]
    assert (last.state, last.restart, last.ended, last.is_over) == ("RUNNING", 1, None, False)


def test_a_job_that_has_just_started_is_still_pending_in_accounting(play: Play) -> None:
    """Seen on a real cluster: the step runs, and the job's own line says PENDING."""
    play("sacct-early")
    (job_run,) = commands.job_runs(list(JOBS.values()))[JOBS["running"]]
    assert (job_run.state, job_run.is_over, job_run.ended) == ("PENDING", False, None)


def test_a_job_that_accounting_does_not_know_is_not_in_the_answer(play: Play) -> None:
    play("sacct-unknown")
    assert commands.job_runs(["99999"]) == {}


def test_many_jobs_are_asked_for_in_several_calls(play: Play) -> None:
    calls = play(*[answer()] * 3)
    commands.job_runs([str(number) for number in range(1200)] * 2)
    assert [call["argv"][-1].count(",") + 1 for call in calls] == [500, 500, 200]


@pytest.mark.parametrize(
    ("tres", "gpus"),
    [
        ("billing=4,cpu=4,gres/gpu:h100=2,gres/gpu=2,mem=8G,node=1", 2),
        ("cpu=4,gres/gpu:a100_1g.5gb=1,gres/gpu:a100=2", 3),
        ("cpu=4,gres/shard=4,mem=8G", 0),
        ("", 0),
    ],
)
def test_gpus_of_a_job_in_other_versions_words(tres: str, gpus: int) -> None:
    times = "2026-01-01T00:00:00|Unknown|2026-01-01T00:00:01|2026-01-01T00:00:02"
    line = f"7|COMPLETED|0:0|{times}|1|n|{tres}|||None"
    assert parsing.job_runs(line)["7"][0].gpus == gpus


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:01.234", 1.234), ("01:02:03", 3723.0), ("1-00:00:01", 86401.0), ("", None), ("INVALID", None)],
)
def test_cpu_time(text: str, seconds: float | None) -> None:
    line = f"7|COMPLETED|0:0|2026-01-01T00:00:00|Unknown|None|Unknown|1|n||1.5G|{text}|None"
    (job_run,) = parsing.job_runs(line)["7"]
    assert (job_run.cpu_s, job_run.max_rss_mb) == (seconds, 1536.0)


# Away, or refused


@pytest.mark.parametrize(
    ("name", "question", "words"),
    [
        ("squeue-away", commands.queue, "Unable to contact slurm controller"),
        (
            "sacct-away",
            lambda: commands.job_runs(["1"]),
            "Problem talking to the database: Connection refused",
        ),
        ("scancel-away", lambda: commands.cancel(["1"]), "Unable to contact slurm controller"),
        ("would-start-away", lambda: commands.would_start([], ""), "Unable to contact slurm controller"),
        ("sbatch-away", lambda: commands.submit([], "", Path("/")), "Unable to contact slurm controller"),
    ],
)
def test_a_daemon_that_does_not_answer(play: Play, name: str, question: Any, words: str) -> None:
    play(name)
    with pytest.raises(SlurmAway, match=words) as caught:
        question()
    assert not isinstance(caught.value, SubmissionUnsure)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "question",
    [commands.queue, lambda: commands.job_runs(["1"]), commands.partitions, lambda: commands.cancel(["1"])],
)
def test_a_machine_without_slurm(monkeypatch: pytest.MonkeyPatch, question: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmAway, match="there is no such program here"):
        question()


def test_a_folder_of_path_that_may_not_be_read_hides_no_lack_of_slurm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the system says of a program that is in no folder which it may look into."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "squeue")

    monkeypatch.setattr(subprocess, "run", denied)
    with pytest.raises(SlurmAway, match="squeue: there is no such program here") as caught:
        commands.queue("slurmeval-0")
    assert caught.value.for_good


def test_a_query_that_failed_in_any_way_says_nothing(play: Play) -> None:
    play(answer(status=1, stderr="squeue: error: something new\n"), subprocess.TimeoutExpired("squeue", 60))
    with pytest.raises(SlurmAway, match="squeue: something new"):
        commands.queue()
    with pytest.raises(SlurmAway, match="no answer for 60 s"):
        commands.queue()


def test_a_database_that_is_away_is_no_empty_answer(play: Play) -> None:
    play(answer(stderr="sacct: error: Problem talking to the database: Connection timed out\n"))
    with pytest.raises(SlurmAway):
        commands.job_runs(["1"])


def test_a_query_is_tried_again_where_asked(play: Play) -> None:
    calls = play("squeue-away", "squeue-away", "squeue")
    assert commands.queue(tries=3)
    assert len(calls) == 3
    calls = play("scancel-away", "scancel-unknown")
    commands.cancel(["1"], tries=2)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "partition",
            "invalid partition specified: nope; Batch job submission failed: Invalid partition name",
        ),
        ("account", "Invalid account or account/partition combination specified"),
        ("nodes", "Requested node configuration is not available"),
        ("time", "Requested time limit is invalid"),
        ("flag", "unrecognized option '--nope'"),
        ("dependency", "Job dependency problem"),
    ],
)
def test_a_refused_job(play: Play, name: str, words: str) -> None:
    play(f"sbatch-bad-{name}")
    with pytest.raises(SubmissionRefused, match=words) as caught:
        commands.submit([], "", Path("/"))
    assert not caught.value.for_now
    assert not str(caught.value).startswith("sbatch")


@pytest.mark.parametrize(
    "words",
    [
        "AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS "
        "policy (job submit limit, user's size and/or time limits)",
        "QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates accounting",
        "Batch job submission failed: Slurm temporarily unable to accept job, sleeping and retrying",
        "Batch job submission failed: Required partition not available (inactive or drain)",
    ],
)
def test_too_many_jobs_are_refused_for_now(play: Play, words: str) -> None:
    play(answer(status=1, stderr=f"sbatch: error: {words}\n"))
    with pytest.raises(SubmissionRefused) as caught:
        commands.submit([], "", Path("/"))
    assert caught.value.for_now


@pytest.mark.parametrize("limit", ["QOSMaxWallDurationPerJobLimit", "AssocMaxCpuPerJobLimit", "QOSMinGRES"])
def test_a_broken_policy_is_refused_for_good(play: Play, limit: str) -> None:
    policy = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    play(answer(status=1, stderr=f"sbatch: error: {limit}\nsbatch: error: {policy}\n"))
    with pytest.raises(SubmissionRefused, match=limit) as caught:
        commands.submit([], "", Path("/"))
    assert not caught.value.for_now


@pytest.mark.parametrize(
    "lost",
    [
        subprocess.TimeoutExpired("sbatch", 60),
        answer(status=1, stderr="sbatch: error: Batch job submission failed: Socket timed out on send/recv"),
        answer(status=1, stderr="sbatch: error: Batch job submission failed: Zero Bytes were transmitted or"),
        answer(status=1, stderr="sbatch: error: Batch job submission failed: Unexpected message received"),
        answer("odd\n"),
    ],
)
def test_a_lost_answer_is_not_taken_for_a_refusal(play: Play, lost: Any) -> None:
    calls = play(lost)
    with pytest.raises(SubmissionUnsure):
        commands.submit([], "", Path("/"))
    assert len(calls) == 1


# Submitting


def test_submitting(play: Play, tmp_path: Path) -> None:
    calls = play("sbatch", answer("41;cluster\n"), answer("a site's greeting\n42\n"))
    assert commands.submit(["--hold"], "#!/bin/sh\n", tmp_path) == recorded("sbatch")["stdout"].strip()
    assert commands.submit([], "", tmp_path) == "41"
    assert commands.submit([], "", tmp_path) == "42"
    assert calls[0]["argv"] == ["sbatch", "--parsable", "--hold"]
    assert (calls[0]["input"], calls[0]["cwd"]) == ("#!/bin/sh\n", tmp_path)


def test_a_job_does_not_inherit_the_variables_of_the_job_it_was_submitted_from(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = ("SLURM_CONF", "SBATCH_ACCOUNT", "SBATCH_GRES", "SQUEUE_FORMAT", "TZ")
    for name in ("SLURM_MEM_PER_CPU", *mine):
        monkeypatch.setenv(name, "x")
    calls = play("sbatch", "squeue")
    commands.submit([], "", Path("/"))
    commands.queue()
    sbatch, squeue = (call["env"] for call in calls)
    assert {"SLURM_CONF", "SBATCH_ACCOUNT"} <= set(sbatch)
    assert not {"SLURM_MEM_PER_CPU", "SBATCH_GRES"} & (set(sbatch) | set(squeue))
    assert "SQUEUE_FORMAT" not in squeue
    assert (sbatch["TZ"], squeue["TZ"], squeue["LC_ALL"]) == ("x", "UTC", "C")


def test_cancelling(play: Play) -> None:
    calls = play("scancel-unknown", answer(status=1, stderr="scancel: error: Invalid job id specified\n"))
    commands.cancel(["1", "2_3", "1"], only_pending=True)
    commands.cancel(["99999"])
    assert calls[0]["argv"] == ["scancel", "--state=PENDING", "1", "2_3"]
    commands.cancel([])
    assert len(calls) == 2


# What there is


def test_when_a_job_would_start(play: Play) -> None:
    play("would-start", "would-never-start")
    assert " to start at 20" in commands.would_start([], "")
    assert "Requested node configuration is not available" in commands.would_start([], "")


def test_partitions(play: Play) -> None:
    play("scontrol-partitions", "sinfo")
    found = commands.partitions()
    assert found["gpu"] == parsing.Partition("gpu", 1440, 4, 128000, 16, 2, False, "UP")
    assert found["gpu-short"].max_time_min == 5
    assert [name for name, partition in found.items() if partition.default] == ["cpu"]


def test_nodes_of_several_kinds_in_a_partition() -> None:
    limits = "PartitionName=p MaxTime=UNLIMITED State=DRAIN Nodes=a[1-3]\n\nPartitionName=empty State=UP\n"
    gres = ("(null)", "gpu:a100:4(S:0-1),shard:8", "gpu:a100_1g.5gb:14(S:0),gpu:a100:1,nvme:1", "gpu:2")
    nodes = "\n".join(f"p\x1f2\x1f{8 * n}+\x1f{100 * n}\x1f{one}" for n, one in enumerate(gres, 1))
    found = parsing.partitions(limits, nodes)
    assert found["p"] == parsing.Partition("p", None, 15, 400, 32, 8, False, "DRAIN")
    assert found["empty"].nodes == 0


def test_times_are_utc() -> None:
    text = "1|RUNNING|0:0|2026-06-01T12:00:00|Unknown|2026-06-01T12:00:05|Unknown|9|n|cpu=1|||None"
    assert parsing.job_runs(text)["1"][0].started == datetime(2026, 6, 1, 12, 0, 5, tzinfo=UTC)


# Several clusters, and what the daemon remembers


def test_accounting_is_asked_of_the_cluster_that_the_jobs_are_on(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CLUSTERS", "wice")
    calls = play(answer())
    commands.job_runs(["4242"])
    assert "--clusters=wice" in calls[0]["argv"]


SHOWN = (
    "JobId=12 JobName=slurmeval-1-evaluate UserId=u(1) JobState={state} Reason=None Dependency=(null) "
    "Requeue=1 Restarts=0 ExitCode=0:15 RunTime=00:00:07 SubmitTime=2026-11-29T10:00:00 "
    "EligibleTime=2026-11-29T10:00:00 StartTime=2026-11-29T10:00:01 EndTime=2026-11-29T10:00:08 "
    "Partition=cpu ReqNodeList=(null) NodeList=cpu1 BatchHost=cpu1 Comment=tiny first a b \n"
)


@pytest.mark.parametrize("state", ["CANCELLED", "OUT_OF_MEMORY", "COMPLETED"])
def test_the_daemon_remembers_how_a_job_ended(play: Play, state: str) -> None:
    play(answer(SHOWN.format(state=state)))
    job_run = commands.end_of("12")
    assert job_run is not None
    assert (job_run.job_id, job_run.state, job_run.nodes, job_run.elapsed_s) == ("12", state, "cpu1", 7)
    assert job_run.ended == datetime(2026, 11, 29, 10, 0, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "said",
    [
        answer(SHOWN.format(state="RUNNING")),
        answer(SHOWN.format(state="PENDING")),
        answer(stderr="slurm_load_jobs error: Invalid job id specified\n", status=1),
    ],
)
def test_of_other_jobs_it_tells_no_end(play: Play, said: dict[str, Any]) -> None:
    play(said)
    assert commands.end_of("12") is None


def test_limits_of_jobs_that_run_at_once(play: Play) -> None:
    play(answer("a1||2||normal,long\na2||||normal\n"), answer("normal|||\nlong|5||8\nother|1||\n"))
    assert commands.limits_of_jobs() == {"account a1": 2, "qos long": 5}
