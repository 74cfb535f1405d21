"""All of GSM8K with lm-eval's own task, five examples in each prompt, through the whole workflow.

One of the examples holds a U+2028, and so does the line of the question that it stands before. The engine is
a stand-in that always gives the same answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from slurmeval.environments.environments import ensure
from slurmeval.environments.locks import read_lock
from slurmeval.errors import SlurmevalError
from slurmeval.planning.runtime_refs import KEY
from tests.lacking import lacking
from tests.workflow.conftest import Project, make_project

__all__ = ["make_project"]

PROJECT = Path(__file__).parents[2]
DATA = PROJECT.parent / "shared" / "data" / "gsm8k"
N_QUESTIONS = 1319
SAYS = "\u2028 The answer is \u0085 #### 18"

pytestmark = [pytest.mark.serving, pytest.mark.timeout(900)]


def write_task(package: Path, file: Path) -> None:
    """lm-eval's own definition, with the data from files."""
    task = yaml.safe_load((package / "tasks" / "gsm8k" / "gsm8k.yaml").read_text("utf-8"))
    del task["dataset_name"], task["tag"]
    files = {split: f"${{dataset:gsm8k}}/{split}.jsonl" for split in ("train", "test")}
    task |= {"task": "gsm8k_here", "dataset_path": "json", "dataset_kwargs": {"data_files": files}}
    file.write_text(yaml.safe_dump(task, sort_keys=False), "utf-8")


def test_gsm8k_ends_well_with_every_question(make_project: Callable[[str], Project]) -> None:
    if not DATA.is_dir():
        lacking(f"{DATA}: no such folder")
    lock = PROJECT / "containers" / "locks" / "lm-eval.lock"
    try:
        made = ensure(lock, PROJECT / ".environments")
    except SlurmevalError as error:
        lacking(str(error))
    project = make_project("gsm8k")
    key = read_lock(lock).sha256[:KEY]
    record = {"folder": str(made.folder), "python": str(made.python)}
    (project.folder / ".environments" / f"lm-eval~{key}.json").write_text(json.dumps(record))
    write_task(next(made.folder.glob("lib/python3*/site-packages/lm_eval")), project.folder / "gsm8k.yaml")
    project.config["models"]["tiny"]["max_model_len"] = 4096
    project.config["servers"]["stand-in"]["env"]["STAND_IN_TEXT"] = SAYS
    project.config["datasets"] = {"gsm8k": {"folder": str(DATA)}}
    project.config["benchmarks"] = {
        "gsm8k": {
            "harness": "lm-eval", "task": "gsm8k_here", "task_file": "gsm8k.yaml", "datasets": ["gsm8k"],
            "parallelism": 16,
        }
    }  # fmt: skip
    project.config["suites"] = {"all": ["gsm8k"]}
    ran = project.run()
    assert ran.returncode == 0, ran.stdout[-5000:]
    (evaluation,) = project.table("evaluations.parquet")
    assert (evaluation["n_samples"], evaluation["n_requested"]) == (N_QUESTIONS, N_QUESTIONS)
    assert (evaluation["n_unanswered"], evaluation["n_unparsed"], evaluation["n_cut"]) == (0, 0, 0)
    answers = [
        json.loads(line)["answer"] for line in (DATA / "test.jsonl").read_text("utf-8").split("\n") if line
    ]
    right = sum(answer.rpartition("#### ")[2].strip() == "18" for answer in answers)
    scores = {row["filter"]: row for row in project.table("metrics.parquet")}
    assert {row["value"] for row in scores.values()} == {right / N_QUESTIONS}
    assert {row["n_items"] for row in scores.values()} == {N_QUESTIONS}
