"""The catalog against the definitions in the harnesses' own packages."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
import yaml

from slurmeval import catalog
from slurmeval.config.models import Benchmark
from slurmeval.environments.environments import ensure
from slurmeval.errors import SlurmevalError
from slurmeval.harnesses import harness
from slurmeval.harnesses.base import Job
from slurmeval.harnesses.nemo_traits import NOT_DEFINED, UNQUALIFIED
from slurmeval.harnesses.runtimes import EnvironmentRuntime
from tests.lacking import lacking

PROJECT = Path(__file__).parents[2]
N_TASKS = 10
NOT_LOCKED = ("codec", "helm", "mteb", "nemo_skills")
"""Harnesses that the lock lacks; it says why."""

pytestmark = [pytest.mark.serving, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def nemo_evaluator() -> EnvironmentRuntime:
    """NeMo Evaluator with the definitions of 19 harnesses."""
    lock = Path(__file__).with_name("nemo-definitions.lock")
    try:
        return EnvironmentRuntime(ensure(lock, PROJECT / ".environments").folder)
    except SlurmevalError as error:
        lacking(str(error))


def missing(task: str) -> dict[str, str]:
    """What the check of a config demands of this task's `extra`."""
    return dict([NOT_DEFINED[task]]) if task in NOT_DEFINED else {}


def test_nemo_takes_the_run_configs_of_any_tasks(nemo_evaluator: EnvironmentRuntime, tmp_path: Path) -> None:
    """Ten at random: NeMo Evaluator itself reads what slurmeval writes for them."""
    known = [task for task in catalog.tasks().values() if task.harness not in NOT_LOCKED]
    assert len({task.harness for task in known}) == 19
    (tmp_path / "model").mkdir()
    for task in random.sample(known, N_TASKS):
        endpoint = "chat" if "chat" in task.endpoints else "completions"
        job = Job(
            model="m",
            benchmark_id="b",
            benchmark=Benchmark(
                harness="nemo", task=task.full_name, endpoint=endpoint, limit=3, extra=missing(task.full_name)
            ),
            runtime=nemo_evaluator,
            folder=tmp_path / task.full_name,
            base_url="http://127.0.0.1:1",
            api_key="key",
            served_name="m",
            tokenizer=tmp_path / "model",
        )
        prepared = harness("nemo").prepare(job)
        ran = subprocess.run(
            [*prepared.argv, "--dry_run"],
            env=prepared.env,
            cwd=prepared.cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{task.full_name}: {ran.stdout[-1500:]}{ran.stderr[-1500:]}"
        written = yaml.safe_load((prepared.cwd / "run_config.yaml").read_text())
        assert written["config"]["type"] == (task.name if task.full_name in UNQUALIFIED else task.full_name)
