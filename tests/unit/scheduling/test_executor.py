"""The executor: whatever goes wrong is one evaluation's failure, never the run's end."""

from __future__ import annotations

import asyncio
import errno
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from slurmeval.files import read_json, write_json
from slurmeval.scheduling import finished, leasing
from slurmeval.scheduling.executor import SlurmExecutor
from slurmeval.scheduling.leasing import lease_files
from slurmeval.scheduling.pending_jobs import HOPELESS_S
from slurmeval.scheduling.postponed import GIVE_UP_S, RETRY_S
from slurmeval.scheduling.reconciler import FAILED_RETRY_S, GONE_S
from slurmeval.scheduling.yielding import IDLE_S
from slurmeval.servers import leases
from slurmeval.servers.folder import ServerFolder
from slurmeval.slurm import commands
from slurmeval.state.external import ExternalServer
from tests.run_documents import model_entry
from tests.unit.scheduling.conftest import BENCHMARKS, POLICY, Run, StandInSlurm


class Snakemake:
    """What the executor needs of Snakemake, and what it tells it."""

    def __init__(self, run: Run) -> None:
        self.resources: dict[str, Any] = {}
        """Of --set-resources."""
        self.submitted: list[SubmittedJobInfo] = []
        self.ended: dict[tuple[str, str], str] = {}
        """By rule and benchmark: `ok`, or what was reported."""
        executor: Any = SlurmExecutor.__new__(SlurmExecutor)
        plan = SimpleNamespace(document=run.document)
        executor.workflow = SimpleNamespace(
            globals={"RUN": SimpleNamespace(plan=plan, command_prefix="")},
            scheduler=SimpleNamespace(_user_kill=False),
        )
        executor.logger = logging.getLogger("executor")
        executor.report_job_submission = lambda info: self.submitted.append(info)
        executor.report_job_success = lambda info: self._end(info, "ok")
        executor.report_job_error = lambda info, msg: self._end(info, msg)
        executor.__post_init__()
        executor._pending.clock = executor._giving_way.clock = run.clock
        executor._jobs.clock = executor._reconciler.clock = executor._waiting.clock = run.clock
        self.executor = executor

    def _end(self, info: SubmittedJobInfo, how: str) -> None:
        self.ended[info.job.rule.name, info.job.wildcards.benchmark] = how
        self.submitted = [other for other in self.submitted if other.job is not info.job]

    def job(self, rule: str, benchmark: str, model: str = "tiny") -> Any:
        return SimpleNamespace(
            rule=SimpleNamespace(name=rule),
            wildcards=SimpleNamespace(model=model, benchmark=benchmark),
            shellcmd="true",
            threads=2,
            resources={"mem_mb": 4096, "runtime": 70, **self.resources},
            attempt=1,
            restart_times=2,
        )

    def run(self, rule: str, *benchmarks: str, model: str = "tiny") -> None:
        for benchmark in benchmarks:
            self.executor.run_job(self.job(rule, benchmark, model))

    def look(self) -> None:
        async def looked(active: list[SubmittedJobInfo]) -> list[SubmittedJobInfo]:
            return [info async for info in self.executor.check_active_jobs(active)]

        active, self.submitted = self.submitted, []
        self.submitted = asyncio.run(looked(active)) + self.submitted


@pytest.fixture
def snakemake(run: Run) -> Snakemake:
    return Snakemake(run)


def finish(run: Run, benchmark: str) -> None:
    """As an evaluation that has ended well leaves it."""
    for kind in ("metrics", "samples", "requests", "evaluation"):
        partition = getattr(run.paths, kind)("tiny", benchmark)
        partition.parent.mkdir(parents=True, exist_ok=True)
        partition.write_bytes(kind.encode())
    run.document.lock_file("tiny", benchmark).parent.mkdir(parents=True, exist_ok=True)
    finished.keep(run.document, "tiny", benchmark)


def test_jobs_are_submitted_in_the_order_of_the_run(snakemake: Snakemake) -> None:
    executor = snakemake.executor
    executor._run.precedence = SimpleNamespace(
        longest_first=lambda jobs: sorted(jobs, key=lambda job: job.wildcards.benchmark, reverse=True)
    )
    executor.run_job_pre = lambda job: None
    executor.run_jobs([snakemake.job("evaluate", name) for name in sorted(BENCHMARKS)])
    submitted = [info.job.wildcards.benchmark for info in snakemake.submitted]
    assert submitted == sorted(BENCHMARKS, reverse=True)


@pytest.mark.parametrize("rule", ["lease", "evaluate"])
def test_an_error_that_nobody_foresaw_fails_its_evaluation_alone(
    run: Run, snakemake: Snakemake, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    whole = leasing.acquire

    def broken(run: Any, model: str, spec: Any, name: str, *more: Any, **keys: Any) -> Any:
        if name == "first":
            raise TypeError("'NoneType' object is not subscriptable")
        return whole(run, model, spec, name, *more, **keys)

    monkeypatch.setattr(leasing, "acquire", broken)
    snakemake.run(rule, "first", "second")
    assert "harness_error: TypeError: 'NoneType' object" in snakemake.ended[rule, "first"]
    assert read_json(run.paths.failure("tiny", "first"))["reason"].startswith("TypeError")
    assert snakemake.ended.get((rule, "second"), "ok") == "ok"


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EBUSY, errno.ENOTEMPTY])
def test_what_cannot_be_forgotten_now_ends_no_run(
    run: Run, snakemake: Snakemake, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    snakemake.run("evaluate", "first")
    finish(run, "first")

    def fails(*_: object, **__: object) -> None:
        raise OSError(number, "made to fail")

    monkeypatch.setattr(finished, "forget", fails)
    snakemake.look()
    assert snakemake.ended == {("evaluate", "first"): "ok"}


def test_a_file_system_that_is_away_delays_a_submission(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = leasing.acquire, []

    def stale(*arguments: Any, **keys: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, "Stale file handle")
        return whole(*arguments, **keys)

    monkeypatch.setattr(leasing, "acquire", stale)
    snakemake.run("evaluate", "first")
    assert not snakemake.ended
    snakemake.look()
    assert [info.job.wildcards.benchmark for info in snakemake.submitted] == ["first"]


def test_unreadable_files_of_one_evaluation_delay_no_other(
    run: Run, snakemake: Snakemake, monkeypatch: pytest.MonkeyPatch
) -> None:
    snakemake.run("evaluate", *BENCHMARKS)
    finish(run, "second")
    run.paths.failure("tiny", "first").parent.mkdir(parents=True)
    run.paths.failure("tiny", "first").write_text('{"attempt": ')
    whole = finished.is_there

    def is_there(document: Any, model: str, benchmark: str) -> bool:
        if benchmark == "third":
            raise OSError(errno.EIO, "made to fail")
        return whole(document, model, benchmark)

    monkeypatch.setattr(finished, "is_there", is_there)
    snakemake.look()
    assert snakemake.ended == {("evaluate", "second"): "ok"}


def test_a_folder_that_holds_only_what_a_server_wrote_later_is_no_server(run: Run) -> None:
    left = run.server(1)
    write_json(left.state, {"status": "stopped", "reason": "no lease is left", "owner": None})
    for file in (left.closing, left.closed):
        file.touch()
    leasing.lease(run.document, "tiny", "first")
    server = ServerFolder(read_json(lease_files(run.document, "tiny", "first")[0])["server"])
    assert server.path == Path(run.server(2).path)
    assert server.submitter.exists()


# What Slurm takes later


def others(slurm: StandInSlurm, number: int) -> list[str]:
    """Jobs of the user's that are none of ours."""
    return [slurm.add(["--job-name=other"], Path("/")) for _ in range(number)]


def test_a_server_waits_for_room_in_the_queue(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    slurm.most = 3
    full = others(slurm, 3)
    snakemake.run("lease", *BENCHMARKS)
    for _ in range(10):
        run.now += RETRY_S + 1
        snakemake.look()
    assert not snakemake.ended
    assert not [*run.paths.servers_of("tiny").glob("*")]  # no failed folder, and none for each try
    assert not [*run.paths.leases.glob("*/*.json")]
    assert caplog.text.count("AssocMaxSubmitJobLimit") == 1
    for job in full:
        slurm.end(job, "COMPLETED")
    run.now += RETRY_S + 1
    snakemake.look()
    assert snakemake.ended == {("lease", benchmark): "ok" for benchmark in BENCHMARKS}
    assert run.server(1).job.exists()


def test_a_successor_that_is_refused_for_now_harms_nobody_and_gets_room(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    snakemake.run("evaluate", *BENCHMARKS)
    slurm.start(snakemake.submitted[0].external_jobid)
    slurm.most = 4  # the server and three evaluations
    ends_at = (datetime.now(UTC) + timedelta(minutes=20)).isoformat()
    run.state("ready", ends_at=ends_at)
    for _ in range(3):
        snakemake.look()
        run.now += 10
    assert not snakemake.ended
    assert capsys.readouterr().out.count("no further server of tiny yet") == 1
    # One that waits has left its place, and none has taken it
    assert [info.job.wildcards.benchmark for info in snakemake.submitted] == ["first", "second"]
    assert not run.server(2).path.exists()
    run.now += RETRY_S
    snakemake.look()
    assert run.server(2).job.exists()
    run.state("ready", 2, ends_at=(datetime.now(UTC) + timedelta(minutes=120)).isoformat())
    finish(run, "first")
    slurm.end(snakemake.submitted[0].external_jobid, "COMPLETED")
    for _ in range(8):
        run.now += 10
        snakemake.look()
    assert snakemake.ended == {("evaluate", "first"): "ok"}
    assert [info.job.wildcards.benchmark for info in snakemake.submitted] == ["second", "third"]


@pytest.mark.parametrize("how", ["refused", "failed"])
def test_a_successor_that_is_not_to_be_had_fails_no_lessee_of_the_present_server(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm, how: str
) -> None:
    snakemake.run("evaluate", "first", "second")
    run.state("ready", ends_at=(datetime.now(UTC) + timedelta(minutes=20)).isoformat())
    if how == "refused":
        slurm.refuses = "Invalid account"
    snakemake.look()
    if how == "failed":
        run.state("failed", 2, reason="no memory")
        run.now += FAILED_RETRY_S
        snakemake.look()
    assert not snakemake.ended and len(snakemake.submitted) == 2
    slurm.refuses = None
    snakemake.run("evaluate", "third")  # and new lessees have the present one
    assert len(snakemake.submitted) == 3
    server = read_json(lease_files(run.document, "tiny", "third")[0])["server"]
    assert server == str(run.server(1).path)


def test_an_evaluation_that_waits_for_room_holds_no_lease(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    slurm.most = 3
    full = others(slurm, 1)
    snakemake.run("evaluate", *BENCHMARKS)
    assert len(snakemake.submitted) == 1
    assert read_json(lease_files(run.document, "tiny", "second")[0])["released"]
    for _ in range(5):
        run.now += RETRY_S + 1
        snakemake.look()
    assert not snakemake.ended
    assert caplog.text.count("AssocMaxSubmitJobLimit") == 1
    slurm.end(full[0], "COMPLETED")
    run.now += RETRY_S + 1
    snakemake.look()
    assert [info.job.wildcards.benchmark for info in snakemake.submitted] == ["first", "second"]
    assert not read_json(lease_files(run.document, "tiny", "second")[0])["released"]
    run.now += GIVE_UP_S
    snakemake.look()
    assert not snakemake.ended  # others are in the queue: there will be room
    for benchmark in ("first", "second"):
        finish(run, benchmark)
    slurm.refuses = f"AssocMaxSubmitJobLimit; {POLICY}"
    for _ in range(3):
        run.now += GIVE_UP_S
        snakemake.look()
    assert "Slurm has taken no further job for 24 h: AssocMax" in snakemake.ended["evaluate", "third"]


@pytest.mark.parametrize("rule", ["lease", "evaluate"])
def test_a_refusal_for_good_is_a_failure_with_slurms_words(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm, rule: str
) -> None:
    slurm.refuses = f"QOSMaxWallDurationPerJobLimit; {POLICY}"
    snakemake.run(rule, "first")
    assert "QOSMaxWallDurationPerJobLimit" in snakemake.ended[rule, "first"]
    assert "QOSMaxWallDurationPerJobLimit" in read_json(run.paths.failure("tiny", "first"))["reason"]


def test_a_partition_that_is_closed_is_waited_for(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm
) -> None:
    slurm.refuses = "Batch job submission failed: Required partition not available (inactive or drain)"
    snakemake.run("lease", "first")
    assert not snakemake.ended
    slurm.refuses = None
    run.now += RETRY_S + 1
    snakemake.look()
    assert snakemake.ended == {("lease", "first"): "ok"}


# What waits in the queue


def pend(snakemake: Snakemake, slurm: StandInSlurm, reason: str) -> None:
    """All evaluations in the queue wait for this."""
    for info in snakemake.submitted:
        slurm.start(str(info.external_jobid), reason, state="PENDING")


@pytest.mark.parametrize(
    "reason",
    [
        "QOSMaxWallDurationPerJobLimit",
        "BadConstraints",
        "JobHeldAdmin",
        "DependencyNeverSatisfied",
        "QOSMinGRES",
    ],
)
def test_a_job_that_will_not_start_fails_after_some_minutes_with_slurms_reason(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    caplog.set_level(logging.INFO)
    snakemake.run("evaluate", *BENCHMARKS)
    pend(snakemake, slurm, reason)
    snakemake.look()
    run.now += HOPELESS_S - 1
    snakemake.look()
    assert not snakemake.ended
    assert caplog.text.count(f"waits in the queue: {reason} (3 jobs)") == 1
    run.now += 1
    snakemake.look()
    assert len(snakemake.ended) == 3
    assert f"will not start: {reason}" in read_json(run.paths.failure("tiny", "first"))["reason"]
    assert list(slurm.jobs) == [read_json(run.server().job)["job_id"]]


@pytest.mark.parametrize(
    "reason", ["Priority", "Resources", "JobHeldUser", "PartitionDown", "AssocMaxJobsLimit"]
)
def test_a_job_that_may_start_yet_is_waited_for(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm, reason: str
) -> None:
    snakemake.run("evaluate", *BENCHMARKS)
    for _ in range(3):
        pend(snakemake, slurm, reason)
        run.now += 2 * HOPELESS_S
        snakemake.look()
    assert not snakemake.ended


def test_a_server_that_will_not_start_fails_its_evaluations_with_slurms_reason(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm
) -> None:
    snakemake.run("evaluate", *BENCHMARKS)
    slurm.start(read_json(run.server().job)["job_id"], "QOSMaxGRESPerJob", state="PENDING")
    for _ in range(3):
        snakemake.look()
        run.now += HOPELESS_S
    assert "will not start: QOSMaxGRESPerJob" in snakemake.ended["evaluate", "first"]
    assert not slurm.jobs


def test_a_job_that_a_node_could_not_start_is_replaced(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm
) -> None:
    snakemake.run("evaluate", "first")
    for job_id in list(slurm.jobs):
        slurm.start(job_id, "launch failed requeued held", state="PENDING")
    for _ in range(2):
        snakemake.look()
        run.now += HOPELESS_S
    assert "node_failure" in snakemake.ended["evaluate", "first"]
    snakemake.run("evaluate", "second")
    snakemake.look()
    assert run.server(2).job.exists()


def two_models(run: Run, slurm: StandInSlurm) -> list[str]:
    """A second model, `small`; returns the order of both."""
    tiny, small = run.document.models["tiny"], model_entry(run.paths, "small")
    run.document.models["small"] = replace(tiny, serving=small.serving, job_names=small.job_names)
    run.document.order.append("small")
    run.document.evaluations.extend(("small", benchmark) for benchmark in BENCHMARKS)
    return ["tiny", "small"]


def test_of_two_servers_that_fill_the_limit_of_jobs_one_gives_way(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for model in two_models(run, slurm):
        snakemake.run("evaluate", *BENCHMARKS, model=model)
        server = ServerFolder(run.paths.servers_of(model) / "0001")
        write_json(server.state, {"status": "ready", "reason": None, "owner": None})
        slurm.start(read_json(server.job)["job_id"])
    small = read_json(ServerFolder(run.paths.servers_of("small") / "0001").job)["job_id"]
    for _ in range(2):
        pend(snakemake, slurm, "AssocMaxJobsLimit")
        snakemake.look()
        run.now += IDLE_S
    snakemake.look()
    assert "the server of small gives way: its evaluations wait for AssocMaxJobsLimit" in caplog.text
    assert "server_jobs.max_at_once (config)" in caplog.text
    assert {info.job.wildcards.model for info in snakemake.submitted} == {"tiny"}
    assert not leases.is_leased(
        run.paths.servers_of("small") / "0001", run.paths.leases / "small", run.paths.controller
    )
    slurm.end(small, "COMPLETED")
    slurm.start(str(snakemake.submitted[0].external_jobid))
    run.now += 10 * IDLE_S
    snakemake.look()
    assert not snakemake.ended and len(snakemake.submitted) == 3  # those of the other may now run
    tiny = read_json(run.server().job)["job_id"]
    for benchmark in BENCHMARKS:
        finish(run, benchmark)
    snakemake.look()
    slurm.end(tiny, "COMPLETED")
    ServerFolder(run.paths.servers_of("small") / "0001").closed.touch()
    for _ in range(2):
        snakemake.look()
    assert {info.job.wildcards.model for info in snakemake.submitted} == {"small"}
    assert (run.paths.servers_of("small") / "0002").exists()


def test_evaluations_that_can_never_run_beside_their_server_fail_and_free_it(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm
) -> None:
    snakemake.run("evaluate", "first", "second")
    run.state("ready")
    slurm.start(read_json(run.server().job)["job_id"])
    for _ in range(3):
        pend(snakemake, slurm, "AssocMaxJobsLimit")
        snakemake.look()
        run.now += IDLE_S
    assert "(AssocMaxJobsLimit): server_jobs.max_at_once" in snakemake.ended["evaluate", "first"]
    assert not leases.is_leased(run.server().path, run.paths.leases / "tiny", run.paths.controller)
    snakemake.run("evaluate", "third")
    assert "evaluations.where: server (site file)" in snakemake.ended["evaluate", "third"]


def test_a_server_that_is_there_already_gives_way_to_nobody(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm
) -> None:
    there = ExternalServer(url="http://x/v1", model="x", max_in_flight=1, spent_file="/x")
    run.alter("tiny", serving=replace(run.document.models["tiny"].serving, external=there))
    snakemake.run("evaluate", "first", "second")
    run.state("ready")
    for _ in range(3):
        pend(snakemake, slurm, "AssocMaxJobsLimit")
        snakemake.look()
        run.now += IDLE_S
    assert not snakemake.ended


def test_the_resources_of_a_job_are_what_slurm_is_asked_for(
    run: Run, slurm: StandInSlurm, snakemake: Snakemake, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    submit = commands.submit

    def noted(flags: Any, *rest: Any) -> str:
        asked.extend(flags)
        return submit(flags, *rest)

    monkeypatch.setattr(commands, "submit", noted)
    snakemake.resources = {"mem_mb": 9000, "runtime": 33, "slurm_partition": "other", "disk_mb": 1000}
    snakemake.run("evaluate", "first")
    assert {"--mem=9000M", "--time=33", "--partition=other", "--cpus-per-task=2"} <= {*asked}


def test_a_judge_is_leased_for_the_model_that_it_judges(
    run: Run, snakemake: Snakemake, slurm: StandInSlurm
) -> None:
    run.document.models["base"] = model_entry(run.paths, "base")
    run.document.benchmarks["third"] = replace(run.document.benchmarks["third"], judge="tiny")
    snakemake.run("evaluate", "first")
    snakemake.run("lease_judge", "third", model="base")
    assert snakemake.ended == {("lease_judge", "third"): "ok"}
    snakemake.run("evaluate", "third", model="base")
    assert len(snakemake.submitted) == 2
    leased = run.paths.leases / "tiny" / "third~base.json"
    assert read_json(leased)["server"] == read_json(lease_files(run.document, "tiny", "first")[0])["server"]
    assert not run.server(2).path.exists()

    # Its server goes, and with the others' lease the judge's moves to the next one
    run.state("ready")
    slurm.end(read_json(run.server().job)["job_id"], "NODE_FAIL")
    snakemake.look()
    run.now += GONE_S
    snakemake.look()
    assert Path(read_json(leased)["server"]).name == "0002"
