"""Engines that refuse, or answer with what is no answer: what tables, status and exit status say."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import zipfile
from collections import Counter
from typing import Any

import pytest

from slurmeval.results import exporting
from tests.workflow.conftest import N_PROBLEMS, Project


def fault(project: Project, **fault: Any) -> None:
    """Sets what goes wrong in the engine, for the evaluation `first` alone."""
    project.config["suites"] = {"all": ["first"]}
    project.config["servers"]["stand-in"]["env"]["STAND_IN_FAULT"] = json.dumps(fault)


def status(project: Project) -> str:
    command = [sys.executable, "-m", "slurmeval", "status"]
    done = subprocess.run(command, cwd=project.folder, text=True, capture_output=True, check=True)
    return " ".join(done.stdout.split())


def evaluation(project: Project) -> dict[str, Any]:
    (row,) = project.table("evaluations.parquet")
    return row


def exported_samples(project: Project) -> Counter[str]:
    """Exports the results in every format that needs no package; why the answers in Inspect's log ended."""
    for name in ("csv", "every-eval-ever", "hf", "inspect", "latex", "parquet"):
        assert exporting.export(name, project.results).files
    (log,) = (project.results / "exports" / "inspect").rglob("*.eval")
    with zipfile.ZipFile(log) as archive:
        names = [name for name in archive.namelist() if name.startswith("samples/")]
        samples = [json.loads(archive.read(name)) for name in names]
    answered = [sample for sample in samples if "error" not in sample]
    assert all(sample["output"]["usage"]["input_tokens"] > 0 for sample in answered)
    ends = Counter(sample["output"]["choices"][0]["stop_reason"] for sample in answered)
    return ends + Counter(sample["error"]["message"] for sample in samples if "error" in sample)


def test_an_engine_that_refuses_everything_has_no_score_and_is_asked_again(project: Project) -> None:
    fault(project, status=400)
    done = project.run()
    assert done.returncode != 0
    row = evaluation(project)
    assert (row["status"], row["error_class"]) == ("failed", "bad_result")
    reason = f"none of {N_PROBLEMS} samples was answered; the last: the server answered 400: made to fail"
    assert row["reason"] == reason
    assert reason in status(project)
    assert project.table("metrics.parquet") == []
    fault(project)
    assert project.run().returncode == 0
    assert (evaluation(project)["status"], evaluation(project)["n_unanswered"]) == ("ok", 0)


def test_one_refused_prompt_stands_beside_the_score_and_is_asked_again_on_demand(project: Project) -> None:
    fault(project, status=400, text="add_3")
    project.config["benchmarks"]["first"]["max_unanswered"] = 0.25
    done = project.run()
    assert done.returncode == 0
    assert "1 unanswered: 0.000–0.250" in done.stdout
    row = evaluation(project)
    assert (row["status"], row["n_samples"], row["n_unanswered"]) == ("ok", N_PROBLEMS, 1)
    (metric,) = project.table("metrics.parquet")
    assert (metric["value"], metric["bound_lo"], metric["bound_hi"]) == (0.0, 0.0, 0.25)
    assert (metric["value_left_out"], metric["n_unanswered"]) == (0.0, 1)
    assert "1 unanswered" in status(project)
    page = (project.results / "report" / "index.html").read_text()
    assert "1&#160;unanswered: 0.000–0.250" in page
    assert "1 unanswered" in (project.results / "report" / "scores.tex").read_text()
    assert exported_samples(project) == {"no answer": 1, "stop": N_PROBLEMS - 1}
    assert not project.planned()

    fault(project)
    (project.results / "evaluations" / "tiny" / "first.parquet").unlink()
    assert project.run().returncode == 0
    row = evaluation(project)
    assert (row["n_unanswered"], row["n_replayed"]) == (0, N_PROBLEMS - 1)


def test_a_passing_refusal_costs_no_sample(project: Project) -> None:
    fault(project, times=1, status=429)
    done = project.run()
    assert done.returncode == 0, done.stdout
    assert (evaluation(project)["n_unanswered"], evaluation(project)["n_errored"]) == (0, 0)
    rows = project.table("requests/tiny/first.parquet")
    assert [(row["http_status"], row["attempt"]) for row in rows] == [(200, 2)] * N_PROBLEMS
    assert all(row["waited_ms"] >= 500 for row in rows)


def test_a_broken_answer_for_good_ends_as_a_lost_server_and_is_not_replayed(project: Project) -> None:
    fault(project, status=200, body='{"choices": [{"mess', text="add_3")
    assert project.run().returncode != 0
    row = evaluation(project)
    assert (row["status"], row["error_class"]) == ("failed", "server_lost")
    assert "the server answers something that is no JSON" in row["reason"]
    assert row["reason"].endswith('\'{"choices": [{"mess\'')
    fault(project)
    assert project.run().returncode == 0
    assert (evaluation(project)["n_unanswered"], evaluation(project)["n_samples"]) == (0, N_PROBLEMS)


def of_own_programs(project: Project) -> None:
    """Questions, texts and a judge; the model is asked well in `good`, whose answers are judged."""
    folder, config = project.folder, project.config
    for name in ("good", "bad"):
        (folder / name).mkdir()
        lines = (json.dumps({"question": f"{name} {number}?", "answer": "It is"}) for number in range(4))
        (folder / name / "questions.jsonl").write_text("\n".join(lines))
        config["datasets"][name] = {"folder": name}
    (folder / "texts").mkdir()
    (folder / "texts" / "one.txt").write_text("a bad text of a few words")
    config["datasets"]["texts"] = {"folder": "texts"}
    asked = {"prompt": "{{ question }}", "scorers": {"includes": {}}}
    grades = {"asks": "Is it right?", "lowest": 0, "grades": ["No.", "Yes."]}
    judging = {"of": "good", "judge": "wise", "rubric": {"right": grades}}
    config["benchmarks"] = {
        "good": {"harness": "custom", "datasets": ["good"], "questions": asked},
        "bad": {"harness": "custom", "datasets": ["bad"], "questions": asked},
        "texts": {"harness": "perplexity", "endpoint": "completions", "datasets": ["texts"]},
        "judged": {"harness": "judge", "judging": judging},
    }
    config["suites"] = {"all": ["bad", "texts", "judged"]}
    servers = config["servers"]
    servers["stand-in"]["env"]["STAND_IN_TEXT"] = "It is so."
    servers["judges"] = copy.deepcopy(servers["stand-in"])
    servers["judges"]["env"]["STAND_IN_TEXT"] = "right: 1"
    config["models"]["wise"] = {"weights": {"folder": "weights"}, "server": "judges"}
    config["evaluate"]["models"] = ["tiny"]


@pytest.mark.timeout(600)
def test_what_is_refused_of_own_questions_texts_and_judges_has_no_score(project: Project) -> None:
    of_own_programs(project)
    servers = project.config["servers"]
    servers["stand-in"]["env"]["STAND_IN_FAULT"] = json.dumps({"status": 400, "text": "bad"})
    servers["judges"]["env"]["STAND_IN_FAULT"] = json.dumps({"status": 400})
    assert project.run().returncode != 0
    rows = {row["benchmark"]: row for row in project.table("evaluations.parquet")}
    refused = "was answered; the last: the server answered 400: made to fail"
    assert {name: (row["status"], row["error_class"], row["reason"]) for name, row in rows.items()} == {
        "good": ("ok", None, None),
        "bad": ("failed", "bad_result", f"none of 4 samples {refused}"),
        "texts": ("failed", "bad_result", f"none of 1 requests {refused}"),
        "judged": ("failed", "bad_result", f"none of 4 samples {refused}"),
    }
    (metric,) = project.table("metrics.parquet")
    assert (metric["benchmark"], metric["value"], metric["n_unanswered"]) == ("good", 1.0, 0)
    said = status(project)
    assert all(f"tiny on {name} failed (bad_result): none of" in said for name in ("bad", "texts", "judged"))
    page = (project.results / "report" / "index.html").read_text()
    assert f"none of 4 samples {refused}" in page

    # One refused of four, for good; the judge says what nobody answered
    fault = json.dumps({"status": 400, "text": "d 3?"})
    for server in servers.values():
        server["env"]["STAND_IN_FAULT"] = fault
    for name in ("bad", "judged"):
        project.config["benchmarks"][name]["max_unanswered"] = 0.25
    done = project.run()
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("1 unanswered: 0.750–1.000") == 2
    counted = {row["benchmark"]: row["n_unanswered"] for row in project.table("evaluations.parquet")}
    assert counted == {"good": 0, "bad": 1, "texts": 0, "judged": 1}
    assert status(project).count("4 of 4, 1 unanswered") == 2
