"""Judges, from stored answers to a score: what is asked of whom, and what is not asked again."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.workflow.conftest import Project

CAPITALS = [
    {"question": "What is the capital of France?", "answer": "Paris"},
    {"question": "What is the capital of Norway?", "answer": "Oslo"},
    {"question": "What is the capital of Peru?", "answer": "Lima"},
]
GRADES = {"lowest": 0, "grades": ["It names another city, or none.", "It names the capital."]}


@pytest.fixture
def judged(project: Project) -> Project:
    """The project with a benchmark of its own, whose answers another model judges."""
    (project.folder / "mine").mkdir()
    text = "".join(json.dumps(question) + "\n" for question in CAPITALS)
    (project.folder / "mine" / "capitals.jsonl").write_text(text)
    config = project.config
    config["datasets"]["capitals"] = {"folder": "mine"}
    asked = {"prompt": "{{ question }}", "scorers": {"includes": {}}}
    judging = {
        "of": "capitals",
        "judge": "wise",
        "rubric": {"right": {"asks": "Is it right?", **GRADES}},
    }
    config["benchmarks"] = {
        "capitals": {"harness": "custom", "datasets": ["capitals"], "questions": asked},
        "judged": {"harness": "judge", "judging": judging},
    }
    config["suites"]["all"] = ["judged"]
    config["models"]["wise"] = {"weights": {"folder": "weights"}, "server": "judges"}
    config["evaluate"]["models"] = ["tiny"]
    servers = config["servers"]
    servers["judges"] = copy.deepcopy(servers["stand-in"])
    servers["stand-in"]["env"]["STAND_IN_TEXT"] = "It is Oslo."
    servers["judges"]["env"] |= {
        "STAND_IN_TEXT": "It might be. right: 0. No:\nright: 1",
        "STAND_IN_SEEN": str(project.folder / "judge-seen"),
    }
    return project


def judge_was_asked(project: Project) -> int:
    """How many requests the judge's servers answered, one of them to see whether a new one is ready."""
    seen = project.folder / "judge-seen"
    return len(seen.read_text().split()) if seen.exists() else 0


def scores(project: Project) -> dict[tuple[str, str], Any]:
    rows = project.table("metrics.parquet")
    return {(row["benchmark"], row["metric"]): row["value"] for row in rows}


@pytest.mark.timeout(600)
def test_a_judge_is_leased_once_answers_wait_and_asked_about_what_is_new(judged: Project) -> None:
    run = judged.run()
    assert run.returncode == 0, run.stdout
    assert scores(judged) == {("capitals", "includes"): 1 / 3, ("judged", "right"): 1.0}
    first, *_ = judged.table("samples/tiny/judged.parquet")
    assert (first["input"], first["status"], first["n_requests"]) == (CAPITALS[0]["question"], "ok", 1)
    assert json.loads(first["metadata_json"])["judged"] == "It is Oslo."
    servers = {row["model"]: row for row in judged.table("servers.parquet")}
    asked = {row["benchmark"]: row for row in judged.table("evaluations.parquet")}
    assert servers["wise"]["started_at"] >= asked["capitals"]["ended_at"]
    assert asked["judged"]["n_unlogged"] == 0
    assert judge_was_asked(judged) == 1 + 3

    # Other scorers of the judged benchmark: its answers are the same, and nobody is asked anything
    before = judged.answered()
    judged.config["benchmarks"]["capitals"]["questions"]["scorers"] = {"exact": {}}
    assert judged.run().returncode == 0
    assert (judged.answered(), judge_was_asked(judged)) == (before, 4)

    # Another rubric: only the judge is asked
    judged.config["benchmarks"]["judged"]["judging"]["rubric"]["right"]["asks"] = "Is it the capital?"
    run = judged.run()
    assert run.returncode == 0, run.stdout
    assert (judged.answered(), judge_was_asked(judged)) == (before, 8)

    # Another answer: the model is asked, and the judge about that
    judged.config["servers"]["stand-in"]["env"]["STAND_IN_TEXT"] = "It is Lima."
    judged.config["models"]["tiny"]["max_model_len"] = 512
    assert judged.run().returncode == 0
    assert judge_was_asked(judged) == 12
    (metadata, *_) = [json.loads(row["metadata_json"]) for row in judged.table("samples/tiny/judged.parquet")]
    assert metadata["judged"] == "It is Lima."
