"""A benchmark of one's own, from a file of questions to its scores."""

from __future__ import annotations

import json
import sys

import pytest

from tests.workflow.conftest import Project

CAPITALS = [
    {"question": "What is the capital of France?", "answer": "Paris"},
    {"question": "What is the capital of Norway?", "answer": ["Oslo", "Christiania"]},
    {"question": "What is the capital of Peru?", "answer": "Lima"},
]


@pytest.fixture
def own(project: Project) -> Project:
    """The project with one benchmark, of its user's own."""
    (project.folder / "mine").mkdir()
    write(project, CAPITALS)
    project.config["datasets"]["capitals"] = {"folder": "mine"}
    asked = {"prompt": "{{ question }} The name only.", "scorers": {"includes": {}}}
    project.config["benchmarks"]["capitals"] = {
        "harness": "custom", "datasets": ["capitals"], "questions": asked,
    }  # fmt: skip
    project.config["suites"]["all"] = ["capitals"]
    project.config["servers"]["stand-in"]["env"]["STAND_IN_TEXT"] = "It is Oslo."
    return project


def write(project: Project, questions: list[dict[str, object]]) -> None:
    text = "".join(json.dumps(question) + "\n" for question in questions)
    (project.folder / "mine" / "capitals.jsonl").write_text(text)


def test_it_is_asked_scored_and_asked_no_more_than_is_new(own: Project) -> None:
    own.config["gateway"] = {"noise_audit": 1}
    run = own.run()
    assert run.returncode == 0, run.stdout
    (metric,) = own.table("metrics.parquet")
    assert (metric["metric"], metric["value"], metric["n_items"]) == ("includes", 1 / 3, 3)
    samples = own.table("samples/tiny/capitals.parquet")
    assert [sample["status"] for sample in samples] == ["ok"] * 3
    (evaluation,) = own.table("evaluations.parquet")
    assert evaluation["n_unlogged"] == 0
    assert (evaluation["n_audited"], evaluation["n_audit_differ"]) == (3, 0)
    assert "Nothing to be done" in own.run().stdout

    # Another scorer: the answers are stored, and no server is asked
    before = own.answered()
    own.config["benchmarks"]["capitals"]["questions"]["scorers"] = {"exact": {"pattern": "It is (.+)"}}
    assert own.run().returncode == 0
    assert own.answered() == before
    (metric,) = own.table("metrics.parquet")
    assert (metric["metric"], metric["value"]) == ("exact", 1 / 3)


def test_a_line_that_will_not_do_is_named_before_anything_starts(own: Project) -> None:
    write(own, [*CAPITALS, {"query": "What?", "answer": "that"}])
    run = own.run()
    assert run.returncode != 0
    said = (
        "config.yaml: benchmarks.capitals.questions: capitals.jsonl, line 4: questions.prompt: 'question' is "
        "undefined (columns: query, answer)"
    )
    assert said in run.stdout
    assert not (own.results / "state").exists()


def test_perplexity_of_own_texts_is_measured(project: Project) -> None:
    (project.folder / "texts").mkdir()
    text = " ".join(f"word{number}" for number in range(300))
    (project.folder / "texts" / "one.txt").write_text(text)
    project.config["datasets"]["texts"] = {"folder": "texts"}
    project.config["benchmarks"]["texts"] = {
        "harness": "perplexity", "endpoint": "completions", "datasets": ["texts"],
        "perplexity": {"window": 600, "stride": 300},
    }  # fmt: skip
    project.config["suites"]["all"] = ["texts"]
    run = project.run()
    assert run.returncode == 0, run.stdout
    primary, *others = project.table("metrics.parquet")
    assert (primary["metric"], primary["value"], primary["n_items"]) == ("bits_per_byte", None, 1)
    assert primary["harness_value"] > 0 and not any(metric["mismatch"] for metric in (primary, *others))
    (sample,) = project.table("samples/tiny/texts.parquet")
    assert sample["status"] == "ok" and sample["n_requests"] > 5
    (project.folder / "texts" / "one.txt").write_text(" ")
    assert "benchmarks.texts.perplexity: one.txt: is empty" in project.run().stdout


def test_prompts_are_shown_beforehand(own: Project) -> None:
    own.command()
    program = [
        sys.executable,
        "-m",
        "slurmeval",
        "benchmark",
        "preview",
        "capitals",
        "--configfile",
        "config.yaml",
    ]
    shown = own.run_command([*program, "--limit", "2"])
    assert shown.stdout.splitlines() == [
        "── 1",
        "   prompt │ What is the capital of France? The name only.",
        "    right │ Paris",
        "── 2",
        "   prompt │ What is the capital of Norway? The name only.",
        "    right │ Oslo | Christiania",
        "3 questions; scored by includes",
    ]
