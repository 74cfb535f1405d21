"""What a plan says beside its figures: a run under way, finished work, what the cluster answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.models import Config
from slurmeval.config.site import Site
from slurmeval.files import write_json
from slurmeval.planning.dry_run import text
from slurmeval.planning.plan import Plan
from slurmeval.processes import identity
from slurmeval.scheduling import finished
from slurmeval.slurm import commands
from slurmeval.slurm.commands import QueuedJob, SlurmAway
from slurmeval.slurm.parsing import Partition
from slurmeval.staging import access
from slurmeval.staging.access import Access

ROOT = Path(__file__).parents[3]
GPU = Partition("gpu", None, 4, 256_000, 64, 2, True, "UP")


def words(found: list[str]) -> str:
    """The text, however its lines are broken."""
    return " ".join(" ".join(found).split())


@pytest.fixture
def make_plan(tmp_path: Path) -> Callable[..., Plan]:
    (tmp_path / "containers").symlink_to(ROOT / "containers")

    def make(site: Site | None = None, gpus: int = 0) -> Plan:
        config = {
            "version": 1,
            "models": {
                name: {"weights": {"repo": "org/model", "revision": "0" * 40}, "server": "s"}
                for name in ("small", "large")
            },
            "servers": {"s": {"gpus": gpus}},
            "benchmarks": {
                name: {"harness": "lm-eval", "task": "t", "limit": 4} for name in ("first", "second")
            },
            "suites": {"all": ["first", "second"]},
            "evaluate": {"suites": ["all"]},
        }
        return Plan(Config.model_validate(config), tmp_path, tmp_path / "hf", site)

    return make


MakePlan = Callable[..., Plan]


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> Access:
    """A hub that gives all, unless a test says otherwise."""
    says = Access([], [])
    monkeypatch.setattr(access, "check", lambda *_: says)
    monkeypatch.setattr(commands, "limits_of_jobs", dict)
    return says


def test_models_are_told_in_the_order_of_the_config(make_plan: MakePlan) -> None:
    plan = make_plan()
    found = text(plan, reversed(plan.evaluations), ask=False)
    assert found[0] == "Will start 2 servers and 4 evaluations on this machine."
    assert [line.split()[0] for line in found[3:5]] == ["small", "large"]


def test_what_an_earlier_run_left_finished_needs_no_server(make_plan: MakePlan) -> None:
    plan = make_plan()
    model, benchmark = plan.evaluations[0]
    work = plan.absolute.work(model, benchmark, plan.answers_key(model))
    key = plan.document.benchmarks[benchmark].results_key
    for name in ("metrics", "samples", "requests", "evaluation"):
        (work / finished.FOLDER).mkdir(parents=True, exist_ok=True)
        (work / finished.FOLDER / f"{name}.parquet").touch()
    write_json(work / finished.MARK, {"results_key": key})
    found = text(plan, [(model, benchmark)], ask=False)
    assert found == [
        "Will start no server and no evaluation on this machine.",
        "Of 4 evaluations, 3 are done.",
        "An earlier run has left 1 evaluation finished.",
    ]
    write_json(work / finished.MARK, {"results_key": "that of another config"})
    assert "1 server and 1 evaluation" in text(plan, [(model, benchmark)], ask=False)[0]


def test_an_evaluation_with_stored_answers_needs_no_server(make_plan: MakePlan) -> None:
    plan = make_plan()
    model, benchmark = plan.evaluations[0]
    work = plan.absolute.work(model, benchmark, plan.answers_key(model))
    (work / "gateway").mkdir(parents=True)
    (work / "gateway" / "0001.jsonl").touch()
    write_json(work / finished.ANSWERED, {"results_key": plan.document.benchmarks[benchmark].results_key})
    found = text(plan, plan.evaluations[:2], ask=False)
    assert found[0] == "Will start 1 server and 2 evaluations on this machine."
    assert found[2] == "Without a server, from stored answers: 1 evaluation."
    write_json(work / finished.ANSWERED, {"results_key": "that of another limit"})
    assert "from stored answers" not in "".join(text(plan, plan.evaluations[:2], ask=False))


def test_jobs_are_told_their_time_limit(make_plan: MakePlan) -> None:
    assert make_plan().document.benchmarks["first"].time_limit_min == 70


def test_a_run_under_way_is_told(make_plan: MakePlan) -> None:
    plan = make_plan()
    write_json(plan.absolute.controller, asdict(identity()))
    assert "A run is under way in this folder" in words(text(plan, [], ask=False))


def test_without_slurm_a_plan_says_what_it_could_not_ask(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> Any:
        raise SlurmAway("scontrol: there is no such program here")

    monkeypatch.setattr(commands, "partitions", away)
    plan = make_plan(Site(version=1))
    found = text(plan, plan.evaluations, ask=True)
    assert found[0] == "Will submit 2 servers and 4 evaluations: 6 Slurm jobs."
    assert "Slurm does not answer here (scontrol: there is no such program here)" in words(found)
    asked = words(found).partition("What Slurm is asked for: ")[2]
    assert asked.startswith("servers of small, large: sbatch --")
    asked_whole = [line for line in found if ": sbatch --" in line]
    assert len(asked_whole) == 2 and all(line.count(" --") > 3 for line in asked_whole)  # whole, to be copied
    assert " evaluations on first, second: sbatch --" in asked


def test_what_the_cluster_answers(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def would_start(flags: tuple[str, ...], script: str) -> str:
        asked.append(" ".join(flags))
        return "Job 7 to start at once"

    job = QueuedJob("1", "n", "RUNNING", "", "", "", "n1", None, None, "", 0)
    monkeypatch.setattr(commands, "partitions", lambda: {"gpu": GPU})
    monkeypatch.setattr(commands, "queue", lambda: [job])
    monkeypatch.setattr(commands, "would_start", would_start)
    plan = make_plan(Site(version=1), gpus=8)
    found = words(text(plan, plan.evaluations, ask=True))
    assert "Will not fit: servers of small, large: partition gpu: 4 GPUs a node (8 asked for)." in found
    assert "Queue: 1 job of yours, 1 running." in found
    assert "servers of small, large: Job 7 to start at once" in found
    assert "evaluations on first, second: Job 7 to start at once" in found
    assert len(asked) == 2 and "--gpus-per-node=8" in asked[0]
    assert "servers of small, large: sbatch " in found and "--gpus-per-node=8" in found
    assert re.search(r"At most \d+ GPU-hours, if each server ran to its time limit once\.", found)

    plan = make_plan(Site(version=1), gpus=1)
    assert "All jobs fit the limits of their partitions." in words(text(plan, plan.evaluations, ask=True))


def test_a_dry_run_asks_nobody(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any) -> Any:
        raise AssertionError("somebody was asked")

    for module, name in (
        (commands, "partitions"),
        (commands, "queue"),
        (commands, "would_start"),
        (commands, "limits_of_jobs"),
        (access, "check"),
    ):
        monkeypatch.setattr(module, name, asked)
    plan = make_plan(Site(version=1), gpus=1)
    found = words(text(plan, plan.evaluations, ask=False))
    assert found.endswith("`slurmeval plan`, with the same options, also asks Slurm and the hub.")
    plan = make_plan()
    found = words(text(plan, plan.evaluations, ask=False))
    assert found.endswith("`slurmeval plan`, with the same options, also asks the hub.")


def test_what_the_hub_refuses_is_said_before_a_run(make_plan: MakePlan, hub: Access) -> None:
    plan = make_plan()
    hub.refused.append("org/model is gated: see https://huggingface.co/org/model")
    hub.warnings.append("The hub cannot be reached.")
    found = words(text(plan, plan.evaluations, ask=True))
    assert "Will not begin: org/model is gated: see https://huggingface.co/org/model." in found
    assert found.endswith("The hub cannot be reached.")
    assert "gated" not in words(text(plan, [], ask=True))


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, None),
        ({"account p1": 3}, None),
        ({"qos other": 1}, None),
        (
            {"account p1": 2},
            "account p1 runs 2 jobs at once, and 2 servers would leave no place for evaluations",
        ),
        (
            {"qos normal": 2},
            "server_jobs.max_at_once: 1 (config) does, or evaluations.where: server (site file)",
        ),
        ({"account p1": 1}, "account p1 runs one job at once, so no evaluation beside its server"),
    ],
)
def test_servers_that_would_take_all_places_are_warned_of(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], said: str | None
) -> None:
    monkeypatch.setattr(commands, "partitions", lambda: {"gpu": GPU})
    monkeypatch.setattr(commands, "limits_of_jobs", lambda: limits)
    plan = make_plan(Site(version=1), gpus=1)
    found = words(text(plan, plan.evaluations, ask=True))
    assert ("Warning" in found) is (said is not None)
    assert said is None or said in found
