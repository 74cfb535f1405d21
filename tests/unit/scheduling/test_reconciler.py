"""The reconciler: servers that are gone are replaced, those that failed fail their evaluations, successors
take over."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slurmeval.errors import ServerFailed
from slurmeval.files import read_json, write_json
from slurmeval.processes import identity
from slurmeval.scheduling.leasing import lease, lease_files
from slurmeval.scheduling.reconciler import GONE_S, MAX_REPLACED, MAX_UNUSED, RENEWAL, SILENT_S, Reconciler
from slurmeval.servers.leases import UNUSED
from slurmeval.slurm import commands
from slurmeval.slurm.commands import SlurmAway
from slurmeval.state.external import ExternalServer
from slurmeval.state.records import load, write
from slurmeval.state.server_spec import ServerSpec
from tests.unit.scheduling.conftest import BENCHMARKS, Run, StandInSlurm

PAIRS = [("tiny", benchmark) for benchmark in BENCHMARKS]


@pytest.fixture
def reconciler(run: Run) -> Reconciler:
    for pair in PAIRS:
        lease(run.document, *pair)
    return Reconciler(run.document, clock=run.clock)


def leased(run: Run) -> set[str]:
    """The numbers of the servers that the evaluations hold leases of."""
    return {Path(read_json(lease_files(run.document, *pair)[0])["server"]).name for pair in PAIRS}


def gone(run: Run, slurm: StandInSlurm, state: str, number: int = 1) -> None:
    slurm.end(read_json(run.server(number).job)["job_id"], state)


def test_a_server_that_waits_or_runs_is_left_alone(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    for status in (None, "starting", "ready"):
        if status is not None:
            run.state(status)
        assert reconciler.look(PAIRS, slurm.jobs) == {}
        assert leased(run) == {"0001"}


@pytest.mark.parametrize("state", ["CANCELLED", "NODE_FAIL", "PREEMPTED", "FAILED"])
def test_a_server_whose_job_is_gone_is_replaced_once(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm, state: str
) -> None:
    run.state("ready")
    gone(run, slurm, state)
    assert reconciler.look(PAIRS, slurm.jobs) == {}
    assert leased(run) == {"0001"}  # squeue may be younger than sbatch
    run.now += GONE_S
    assert reconciler.look(PAIRS, slurm.jobs) == {}
    assert leased(run) == {"0002"}
    assert state in read_json(run.server().gone)["reason"]
    reconciler.look(PAIRS, slurm.jobs)
    assert not run.server(3).path.exists()


def test_a_job_that_fails_before_its_server_starts_fails_the_evaluations(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    run.server().submitit.mkdir()
    (run.server().submitit / "100_0_log.err").write_text("module: CUDA/99 not found\n")
    gone(run, slurm, "FAILED")
    reconciler.look(PAIRS, slurm.jobs)
    run.now += GONE_S
    failed = reconciler.look(PAIRS, slurm.jobs)
    assert set(failed) == set(PAIRS)
    assert "CUDA/99 not found" in str(failed[PAIRS[0]])


def test_a_job_that_left_nothing_asks_whether_nodes_see_the_project(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    gone(run, slurm, "FAILED")
    reconciler.look(PAIRS, slurm.jobs)
    run.now += GONE_S
    said = str(reconciler.look(PAIRS, slurm.jobs)[PAIRS[0]])
    assert f"is {run.document.project} there, under this name, for jobs" in said


def test_a_server_that_failed_fails_its_evaluations(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    run.state("failed", reason="no memory")
    assert {str(error) for error in reconciler.look(PAIRS, slurm.jobs).values()} == {"no memory"}


def test_servers_that_close_themselves_though_they_are_leased_are_given_up(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    failed: dict[tuple[str, str], ServerFailed] = {}
    for number in range(1, MAX_UNUSED + 2):
        assert failed == {}
        run.state("stopped", number, reason=UNUSED)
        run.server(number).closed.touch()
        failed = reconciler.look(PAIRS, slurm.jobs)
    assert not run.server(MAX_UNUSED + 2).path.exists()
    assert set(failed) == set(PAIRS)
    assert "closed themselves" in str(failed[PAIRS[0]])


def test_servers_that_go_again_and_again_are_given_up(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    for number in range(1, MAX_REPLACED + 2):
        run.state("ready", number)
        gone(run, slurm, "CANCELLED", number)
        reconciler.look(PAIRS, slurm.jobs)
        run.now += GONE_S
        failed = reconciler.look(PAIRS, slurm.jobs)
    assert set(failed) == set(PAIRS)


def test_accounting_that_is_silent_delays_the_verdict(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    run.state("ready")
    del slurm.jobs[read_json(run.server().job)["job_id"]]
    reconciler.look(PAIRS, slurm.jobs)
    run.now += GONE_S
    reconciler.look(PAIRS, slurm.jobs)
    assert leased(run) == {"0001"}
    run.now += SILENT_S
    reconciler.look(PAIRS, slurm.jobs)
    assert leased(run) == {"0002"}


def test_a_successor_takes_over_once_it_answers(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    def ends_in(minutes: float) -> str:
        return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()

    run.state("ready", ends_at=ends_in(31))
    reconciler.look(PAIRS, slurm.jobs)
    assert not run.server(2).path.exists()
    run.state("ready", ends_at=ends_in(29))
    reconciler.look(PAIRS, slurm.jobs)
    assert leased(run) == {"0001"}
    run.state("starting", 2)
    reconciler.look(PAIRS, slurm.jobs)
    assert leased(run) == {"0001"}
    run.state("ready", 2, ends_at=ends_in(120))
    assert reconciler.look(PAIRS, slurm.jobs) == {}
    assert leased(run) == {"0002"}
    assert read_json(run.paths.leases / "tiny" / f"{RENEWAL}.json")["released"]
    assert not run.server(3).path.exists()


def test_a_successor_comes_before_slurms_signal_and_not_at_all_in_too_short_a_job(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    run.limit(renew_before_min=1)
    reconciler.run = run.document
    for limit_min, has_successor in ((3, False), (5, True)):
        serving = run.document.models["tiny"].serving
        run.alter("tiny", serving=replace(serving, time_limit_min=limit_min))
        for pair in PAIRS:
            lease(run.document, *pair)
        number = max(int(folder.name) for folder in run.paths.servers_of("tiny").iterdir())
        ends_at = datetime.now(UTC) + timedelta(seconds=170)
        run.state("ready", number, ends_at=ends_at.isoformat())
        reconciler.look(PAIRS, slurm.jobs)
        assert run.server(number + 1).path.exists() is has_successor


def test_no_successor_where_the_config_wants_none(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    run.limit(renew_before_min=None)
    reconciler.run = run.document
    run.state("ready", ends_at=datetime.now(UTC).isoformat())
    reconciler.look(PAIRS, slurm.jobs)
    assert not run.server(2).path.exists()


def test_one_replica_that_failed_fails_no_evaluation(run: Run, slurm: StandInSlurm) -> None:
    run.alter("tiny", replicas=2, job_names=["serve-tiny", "serve-tiny"])
    for pair in PAIRS:
        lease(run.document, *pair)
    run.state("failed", reason="no memory")
    assert Reconciler(run.document, clock=run.clock).look(PAIRS, slurm.jobs) == {}


def test_leases_that_someone_removed_are_taken_anew(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    run.state("ready")
    shutil.rmtree(run.paths.leases)
    assert reconciler.look(PAIRS, slurm.jobs) == {}
    assert leased(run) == {"0001"}
    # The server may have gone meanwhile
    shutil.rmtree(run.paths.leases)
    run.state("stopped")
    run.server().closed.touch()
    assert reconciler.look(PAIRS, slurm.jobs) == {}
    assert leased(run) == {"0002"}


def test_an_evaluation_that_scores_gets_no_lease_anew(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    lock_file = run.document.lock_file(*PAIRS[0])
    write_json(lock_file, asdict(identity()))
    write_json(lock_file.with_name("progress.json"), {"phase": "scoring"})
    lease_file = lease_files(run.document, *PAIRS[0])[0]
    lease_file.unlink()
    reconciler.look(PAIRS, slurm.jobs)
    assert not lease_file.exists()


def test_files_of_one_model_that_cannot_be_read_keep_no_other_from_being_looked_at(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    run.document.models["broken"] = replace(run.document.models["tiny"], manifest=Path("/nowhere"))
    run.state("failed", reason="no memory")
    for _ in range(2):
        failed = reconciler.look([("broken", "first"), *PAIRS], slurm.jobs)
    assert set(failed) == set(PAIRS)
    assert capsys.readouterr().out.count("files of broken's servers cannot be read") == 1


def test_where_there_is_no_accounting_a_server_is_replaced_as_soon(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disabled(*_: object, **__: object) -> None:
        raise SlurmAway("sacct: Slurm accounting storage is disabled")

    monkeypatch.setattr(commands, "job_runs", disabled)
    run.state("ready")
    del slurm.jobs[read_json(run.server().job)["job_id"]]
    reconciler.look(PAIRS, slurm.jobs)
    run.now += GONE_S
    reconciler.look(PAIRS, slurm.jobs)
    assert leased(run) == {"0002"}


def test_what_passes_requests_on_to_another_server_is_no_job(
    run: Run, reconciler: Reconciler, slurm: StandInSlurm
) -> None:
    there = ExternalServer(url="http://x/v1", model="x", max_in_flight=1, spent_file="/x")
    run.alter("tiny", serving=replace(run.document.models["tiny"].serving, external=there))
    write(run.server().spec, replace(load(run.server().spec, ServerSpec), external=there))
    run.state("ready")
    gone(run, slurm, "CANCELLED")
    for _ in range(3):
        reconciler.look(PAIRS, slurm.jobs)
        run.now += GONE_S
    assert leased(run) == {"0001"}
    assert not run.server().gone.exists()
