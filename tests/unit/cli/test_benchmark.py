"""A benchmark of one's own, written from a file of questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.cli import main
from slurmeval.config.load import load
from slurmeval.config.questions import CustomQuestions
from slurmeval.harnesses.custom import questions


def new(file: Path, row: dict[str, Any], *options: str) -> int:
    file.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    return main.run(["benchmark", "new", str(file), *options])


@pytest.mark.parametrize(
    ("row", "scorer", "prompt"),
    [
        ({"question": "Capital?", "answer": "Oslo"}, "includes", "{{ question }}"),
        ({"Problem": "1+1", "Solution": "2"}, "number", "{{ Problem }}"),
        ({"document": "…", "summary": "A long summary. " * 9}, "rougeL", "{{ document }}"),
        ({"text": "Ada", "target": {"name": "Ada"}}, "json", "{{ text }}"),
        ({"question": "?", "answers": ["Oslo", "Christiania"]}, "choice", None),
        ({"question": "?", "options": ["a", "b"], "label": 1}, "choice", None),
    ],
)
def test_questions_and_answers_are_told_by_the_columns_names(
    row: dict[str, Any], scorer: str, prompt: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "answers" in row:
        row = row | {"answer": "Oslo"}
    assert new(tmp_path / "my questions.jsonl", row) == 0
    out = capsys.readouterr().out
    written = yaml.safe_load((tmp_path / "my-questions.yaml").read_text())
    asked = written["benchmarks"]["my-questions"]["questions"]
    assert list(CustomQuestions.model_validate(asked).scorers) == [scorer]
    assert prompt in (None, asked["prompt"])
    assert "2 questions" in out and "── 1" in out
    assert "--configfile config/config.yaml " in out


@pytest.mark.parametrize("command", ["preview", "check"])
def test_questions_are_read_once(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, times = questions.rows, []
    monkeypatch.setattr(questions, "rows", lambda file: times.append(file) or read(file))
    assert new(tmp_path / "q.jsonl", {"question": "1+1?", "answer": 2}) == 0
    base = tmp_path / "config.yaml"
    base.write_text(f"version: 1\nmodels: {{m: {{weights: {{folder: '{tmp_path}'}}}}}}\n")
    asked = ["benchmark", command, "q", "--configfile", str(base), str(tmp_path / "q.yaml")]
    times.clear()
    assert main.run(asked) == 0
    assert len(times) == 1
    assert "2 questions; scored by number" in capsys.readouterr().out
    (tmp_path / "q.jsonl").write_text('{"question": "Capital of Peru?", "answer": "Lima"}\n')
    assert main.run(asked) == 2
    assert "questions.scorers.number: no right answer holds a number" in capsys.readouterr().err


def test_what_is_written_is_laid_over_a_config(tmp_path: Path) -> None:
    file = tmp_path / "q.csv"
    file.write_text("question,answer,subject\nWhat?,that,x\n")
    assert main.run(["benchmark", "new", str(file), "--name", "mine"]) == 0
    base = tmp_path / "config.yaml"
    content = {
        "version": 1,
        "models": {"m": {"weights": {"folder": str(tmp_path)}}},
        "benchmarks": {"other": {"harness": "lm-eval", "task": "t"}},
        "evaluate": {"benchmarks": ["other"]},
    }
    base.write_text(yaml.safe_dump(content))
    config = load([base, tmp_path / "mine.yaml"])
    assert config.benchmarks["mine"].questions is not None
    assert config.benchmarks["mine"].questions.category == "subject"
    assert config.planned_benchmarks == ["mine", "other"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"q": "x", "answer": "y"}, "no column is the question; expected one of question, prompt"),
        ({"question": "x", "a": "y"}, "no column is the right answer; expected one of answer"),
        ({"question": "x", "answer": ""}, "q.jsonl, line 1: the reference is empty"),
    ],
)
def test_what_cannot_be_told_is_said(
    row: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(tmp_path / "q.jsonl", row) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1
    assert not (tmp_path / "q.yaml").exists()


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"question": "x", "answer": "y"}
    assert new(tmp_path / "q.jsonl", row) == 0
    assert new(tmp_path / "q.jsonl", row) == 2
    assert "is there already" in capsys.readouterr().err
    assert new(tmp_path / "q.jsonl", row, "--name", "a b") == 2
