"""Probes' jobs: what is asked for, what is waited for, and that none is left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.models import Config
from slurmeval.config.site import Site
from slurmeval.site_check import jobs
from slurmeval.site_check.facts import Listening, NodeFacts, Place, Reached
from slurmeval.site_check.jobs import Probes, kinds
from slurmeval.site_check.probe import facts_file, listening_file, reached_file
from slurmeval.slurm.commands import JobRun, QueuedJob, SubmissionRefused
from slurmeval.state.records import write

SITE = Site.model_validate(
    {
        "version": 1,
        "servers": {"partition": "gpu", "pools": {"a100": {"gpus": "--gpus-per-node=A100:{gpus}"}}},
        "evaluations": {"partition": "cpu"},
    }
)
FACTS = NodeFacts(
    node="gpu1",
    began=0.0,
    machine="x86_64",
    cores=2,
    python="3.11.2",
    places={"results": Place("/r", True, True, 10**12)},
    ahead_s=0.0,
    internet=None,
    containers="",
    containment=None,
)
RUNNING = QueuedJob("", "", "RUNNING", "None", "", "", "gpu1", None, None, "", 0)


def config(**servers: dict[str, Any]) -> Config:
    return Config.model_validate(
        {
            "version": 1,
            "models": {name: {"weights": {"folder": "m"}, "server": name} for name in servers},
            "servers": servers,
            "benchmarks": {"b": {"harness": "lm-eval", "task": "gsm8k"}},
            "evaluate": {"benchmarks": ["b"]},
        }
    )


class Slurm:
    """A stand-in for Slurm: what becomes of each job is a function of its number, called at each look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, look: Callable[[str], QueuedJob | None]) -> None:
        self.submitted: list[tuple[list[str], str]] = []
        self.cancelled: list[str] = []
        self.now = 0.0
        self.look = look
        monkeypatch.setattr(jobs.commands, "submit", self.submit)
        monkeypatch.setattr(jobs.commands, "queue", self.queue)
        monkeypatch.setattr(jobs.commands, "cancel", lambda ids, tries: self.cancelled.extend(ids))
        monkeypatch.setattr(jobs.time, "sleep", self.sleep)

    def submit(self, flags: Sequence[str], script: str, cwd: Path) -> str:
        self.submitted.append((list(flags), script))
        return str(len(self.submitted))

    def queue(self, tries: int) -> list[QueuedJob]:
        found = {str(n): self.look(str(n)) for n in range(1, len(self.submitted) + 1)}
        return [replace(job, job_id=job_id) for job_id, job in found.items() if job is not None]

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def probes(tmp_path: Path, slurm: Slurm, site: Site = SITE) -> Probes:
    places = {"results": tmp_path}
    return Probes(site, tmp_path, tmp_path, tmp_path, places, "mark", clock=lambda: slurm.now)


def test_the_pools_that_the_config_uses_are_asked() -> None:
    found = kinds(SITE, config(small={"gpus": 1}, large={"gpus": 4, "pool": "a100"}), every_pool=False)
    assert [(kind.title, kind.gpus) for kind in found] == [
        ("servers", 1),
        ("servers (pool a100)", 1),
        ("evaluations", 0),
    ]
    assert "--gpus-per-node=A100:1" in found[1].flags
    only_cores = kinds(SITE, config(cores={}), every_pool=False)
    assert [(kind.title, kind.gpus) for kind in only_cores] == [("servers", 0), ("evaluations", 0)]


def test_every_pool_can_be_asked() -> None:
    for found in (kinds(SITE, None, every_pool=False), kinds(SITE, config(s={}), every_pool=True)):
        assert [kind.title for kind in found] == ["servers", "servers (pool a100)", "evaluations"]


def test_nodes_given_whole_are_asked_for_whole() -> None:
    site = Site.model_validate({"version": 1, "servers": {"gpus_per_job": 4, "extra": ["--exclusive"]}})
    assert kinds(site, None, every_pool=False)[0].gpus == 4


def test_answers_are_gathered_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(job_id: str) -> QueuedJob | None:
        if slurm.now > 4:
            write(facts_file(tmp_path, "server-"), FACTS)
            write(facts_file(tmp_path, "evaluations"), FACTS)
            write(listening_file(tmp_path, "server-"), Listening("gpu1", 1234))
        if slurm.now > 8:
            write(reached_file(tmp_path, "server-"), Reached(None, "cpu1"))
        return RUNNING

    slurm = Slurm(monkeypatch, look)
    server, evaluations = probes(tmp_path, slurm).ask(kinds(SITE, config(s={}), False), 600, lambda _: None)
    assert (server.facts, evaluations.facts) == (FACTS, FACTS)
    assert server.reached == Reached(None, "cpu1")
    assert slurm.now < 20, "it waits on although all have answered"
    assert slurm.cancelled == ["1", "2"]
    flags, script = slurm.submitted[0]
    assert "--output=/dev/null" in flags
    assert f"cd {tmp_path} || exit 71" in script


def test_waiting_has_an_end_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = datetime(2026, 3, 1, 14, 5, tzinfo=UTC)
    waiting = replace(RUNNING, state="PENDING", reason="QOSMaxGRESPerUser", start=start)
    slurm, said = Slurm(monkeypatch, lambda _: waiting), list[str]()
    server, _ = probes(tmp_path, slurm).ask(kinds(SITE, config(s={}), False), 150, said.append)
    assert server.facts is None and server.fault is None
    assert server.waiting == "waits (QOSMaxGRESPerUser, expected to begin at 2026-03-01 14:05 UTC)"
    assert 150 <= slurm.now < 160
    assert len([line for line in said if line.startswith("servers: job 1 waits")]) == 3, said
    assert slurm.cancelled == ["1", "2"]


def test_interrupted_it_leaves_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(_: str) -> QueuedJob | None:
        raise KeyboardInterrupt

    slurm = Slurm(monkeypatch, look)
    with pytest.raises(KeyboardInterrupt):
        probes(tmp_path, slurm).ask(kinds(SITE, config(s={}), False), 150, lambda _: None)
    assert slurm.cancelled == ["1", "2"]


@pytest.mark.parametrize(
    ("exit_code", "log", "said"),
    [
        ("71:0", "", "gpu1 does not see"),
        ("72:0", "", "gpu1 has no "),
        ("1:0", "ModuleNotFoundError: No module named 'pydantic'\n", "No module named 'pydantic'"),
        ("0:9", "", "Slurm says FAILED"),
    ],
)
def test_a_job_that_ends_without_an_answer_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exit_code: str, log: str, said: str
) -> None:
    now = datetime.now(UTC)
    found = JobRun("1", "FAILED", exit_code, now, now, now, now, 1, "gpu1", 1, None, None, 0, "")
    monkeypatch.setattr(jobs.commands, "end_of", lambda _: found)
    if log:
        for name in ("server-", "evaluations"):
            (tmp_path / f"{name}.log").write_text(log)
    slurm = Slurm(monkeypatch, lambda _: None)
    for answer in probes(tmp_path, slurm).ask(kinds(SITE, config(s={}), False), 600, lambda _: None):
        assert answer.fault is not None and said in answer.fault
    assert slurm.now < 100


def test_what_slurm_refuses_is_said_and_the_rest_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_: str) -> QueuedJob | None:
        write(facts_file(tmp_path, "evaluations"), FACTS)
        return RUNNING

    def submit(flags: Sequence[str], script: str, cwd: Path) -> str:
        if "--partition=gpu" in flags:
            raise SubmissionRefused("Invalid qos specification")
        return slurm_submit(flags, script, cwd)

    slurm = Slurm(monkeypatch, look)
    slurm_submit = slurm.submit
    monkeypatch.setattr(jobs.commands, "submit", submit)
    server, evaluations = probes(tmp_path, slurm).ask(kinds(SITE, config(s={}), False), 600, lambda _: None)
    assert server.fault is not None and "Invalid qos specification" in server.fault
    assert evaluations.facts == FACTS


def test_a_job_that_can_never_start_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = Slurm(monkeypatch, lambda _: replace(RUNNING, state="PENDING", reason="BadConstraints"))
    server, _ = probes(tmp_path, slurm).ask(kinds(SITE, config(s={}), False), 600, lambda _: None)
    assert server.fault is not None and "will not start: BadConstraints" in server.fault
    assert slurm.now < 10
