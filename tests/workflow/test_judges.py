"""Judges, from stored answers to a score: what is asked of whom, and what is not asked again."""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from slurmeval.results import load
from tests.waiting import wait_for
from tests.workflow.conftest import Project, processes_in

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


def engine_of(project: Project, model: str) -> int | None:
    """The process of the stand-in for vLLM that serves a model."""
    for pid in processes_in(project.folder / "weights"):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"tests.stand_ins.stand_in_engine" in command and model.encode() in command:
            return pid
    return None


@pytest.mark.timeout(600)
def test_a_jury_of_a_killed_judge_and_a_reader_of_nonsense_is_whole(judged: Project) -> None:
    config = judged.config
    servers, models, benchmarks = config["servers"], config["models"], config["benchmarks"]
    models["base"] = {"weights": {"folder": "weights"}, "server": "stand-in"}
    models["fool"] = {"weights": {"folder": "weights"}, "server": "fools"}
    servers["fools"] = copy.deepcopy(servers["stand-in"])
    servers["fools"]["env"]["STAND_IN_TEXT"] = "As a language model, I would rather not say."
    servers["judges"]["env"] |= {"STAND_IN_TEXT": "Verdict: A", "STAND_IN_DELAY_S": "0.5"}
    pairwise = {"of": "capitals", "judge": "wise", "mode": "pairwise", "against": "base"}
    benchmarks["judged"] = {"harness": "judge", "parallelism": 1, "judging": pairwise}
    benchmarks["fooled"] = {"harness": "judge", "judging": pairwise | {"judge": "fool"}}
    benchmarks["jury"] = {"harness": "judge", "judging": {"jury": ["judged", "fooled"]}}
    config["suites"]["all"] = ["jury"]
    config["evaluate"]["models"] = ["tiny", "base", "wise"]

    run = judged.start()
    wait_for(lambda: judge_was_asked(judged) >= 3, "verdicts", 300)
    os.kill(wait_for(lambda: engine_of(judged, "wise"), "the judge's engine"), signal.SIGKILL)
    assert run.wait(300) == 0, (judged.folder / "run.log").read_text()

    evaluated = {(row["model"], row["benchmark"]) for row in judged.table("evaluations.parquet")}
    everybody = {(model, "capitals") for model in ("tiny", "base", "wise")}
    # Nobody is compared with itself, and the judge judges no answers of its own; the other judge does
    assert evaluated == everybody | {
        *(("tiny", name) for name in ("judged", "fooled", "jury")),
        *(("wise", name) for name in ("fooled", "jury")),
    }
    asked = [
        row["request_key"]
        for row in judged.table("requests/tiny/judged.parquet")
        if row["http_status"] == 200
    ]
    assert len(asked) == 2 * len(CAPITALS)
    assert scores(judged)["judged", "win_rate"] == 0.5  # always the first: a tie
    rows = {(row["model"], row["benchmark"]): row for row in judged.table("judged.parquet")}
    assert rows["tiny", "fooled"]["value_judge"] is None
    assert (rows["tiny", "fooled"]["n_unreadable"], rows["tiny", "fooled"]["bound_hi"]) == (3, 1.0)
    assert (rows["tiny", "jury"]["value_judge"], rows["tiny", "jury"]["judge"]) == (0.5, None)
    card = {(row["benchmark"], row["measure"]): row["value"] for row in judged.table("judge_card.parquet")}
    assert card["judged", "position_consistency"] == 0.0
    assert card["judged", "prefers_first"] == 1.0
    assert card["fooled", "parse_rate"] == 0.0

    assert len(load("judged", judged.results)) == len(rows)
    shown = judged.run_command([sys.executable, "-m", "slurmeval", "judge", "judged"])
    assert shown.returncode == 0, shown.stdout
    assert "judged: judged by wise, against base" in shown.stdout
    assert "not corrected: nobody labelled any of these answers" in shown.stdout
    report = (judged.results / "report" / "index.html").read_text()
    assert "<h2>Judges</h2>" in report
    # What was sent is found in the log of the judge's answers
    assert (judged.results / "report" / "samples" / "tiny" / "judged~1~sent.js").exists()
    assert judged.server_state()["status"] == "stopped"
