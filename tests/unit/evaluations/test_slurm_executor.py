"""The executor: whatever goes wrong is one evaluation's failure, never the run's end."""

from __future__ import annotations

import asyncio
import errno
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from slurmeval.evaluations import finished, leasing
from slurmeval.evaluations.leasing import claim_of, lease_files
from slurmeval.evaluations.slurm_executor import SlurmExecutor
from slurmeval.files import read_json, write_json
from slurmeval.servers.folder import ServerFolder
from tests.unit.evaluations.conftest import BENCHMARKS, Run, StandInSlurm


class Snakemake:
    """What the executor needs of Snakemake, and what it tells it."""

    def __init__(self, run: Run) -> None:
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
        executor.report_job_submission = self.submitted.append
        executor.report_job_success = lambda info: self._end(info, "ok")
        executor.report_job_error = lambda info, msg: self._end(info, msg)
        executor.__post_init__()
        executor._jobs.clock = executor._keeper.clock = run.clock
        self.executor = executor

    def _end(self, info: SubmittedJobInfo, how: str) -> None:
        self.ended[info.job.rule.name, info.job.wildcards.benchmark] = how
        self.submitted = [other for other in self.submitted if other.job is not info.job]

    def run(self, rule: str, *benchmarks: str) -> None:
        for benchmark in benchmarks:
            job = SimpleNamespace(
                rule=SimpleNamespace(name=rule),
                wildcards=SimpleNamespace(model="tiny", benchmark=benchmark),
                shellcmd="true",
                attempt=1,
                restart_times=2,
            )
            self.executor.run_job(job)

    def look(self) -> None:
        async def looked() -> None:
            async for _ in self.executor.check_active_jobs(list(self.submitted)):
                pass

        asyncio.run(looked())


@pytest.fixture
def snakemake(run: Run) -> Snakemake:
    return Snakemake(run)


def finish(run: Run, benchmark: str) -> None:
    """As an evaluation that has ended well leaves it."""
    for kind in ("metrics", "samples", "requests", "evaluation"):
        partition = getattr(run.paths, kind)("tiny", benchmark)
        partition.parent.mkdir(parents=True, exist_ok=True)
        partition.write_bytes(kind.encode())
    claim_of(run.document, "tiny", benchmark).parent.mkdir(parents=True, exist_ok=True)
    finished.keep(run.document, "tiny", benchmark)


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
