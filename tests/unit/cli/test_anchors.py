"""Anchors and signal from results: what is told, what is written, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from slurmeval.cli import main
from slurmeval.errors import UserError
from slurmeval.results.anchors import estimate, find
from slurmeval.results.signal import signals
from tests.lacking import lacking
from tests.unit.results.test_comparison import SOLUTIONS, Results
from tests.unit.results.test_leaderboard import add
from tests.unit.statistics.test_irt import answers_of


@pytest.fixture
def results(tmp_path: Path) -> Results:
    made = Results(tmp_path / "results")
    for number, row in enumerate(answers_of(6, 200)[0]):
        made.add(f"m{number}", "sums", row.tolist())
    return made


def run(results: Results, *arguments: str) -> int:
    return main.run([*arguments, "--results", str(results.folder)])


def test_command_tells_the_error_and_writes_what_gives_a_score(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(results, "anchors", "--size", "40", "--to", str(tmp_path / "anchors")) == 0
    said = capsys.readouterr().out
    assert said.startswith("40 of 200 questions tell sums (exact_match) to ± ")
    assert "leaving each of 6 models out" in said
    path = tmp_path / "anchors" / "sums.json"
    content = json.loads(path.read_text())
    chosen = [question["sample_uid"] for question in content["questions"] if question["weight"]]
    assert len(chosen) == 40
    answers = answers_of(6, 200)[0][2]
    scores = {f"q{number:05d}": float(value) for number, value in enumerate(answers)}
    told = estimate(path, {uid: scores[uid] for uid in chosen})
    assert told == pytest.approx(float(answers.mean()), abs=0.1)
    with pytest.raises(UserError, match="1 of 40 anchors have no score"):
        estimate(path, {uid: scores[uid] for uid in chosen[1:]})
    with pytest.raises(UserError, match="expected anchors as"):
        estimate(tmp_path / "none.json", {})


def test_models_of_other_folders_count_too(results: Results, tmp_path: Path) -> None:
    other = Results(tmp_path / "other")
    other.add("m0", "sums", answers_of(6, 200)[0][0].tolist())
    found = find([results.folder, other.folder], "sums", 40)
    assert len(found.models) == 7
    assert found.models[-1] == f"m0 ({other.folder})"


def test_models_that_answered_few_of_the_questions_are_left_out(results: Results) -> None:
    results.add("half", "sums", [1.0] * 100)
    found = find([results.folder], "sums", 40)
    assert (found.others, len(found.questions)) == (("half",), 200)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--benchmark", "summs"], "unknown benchmark 'summs'; with scores there are: sums"),
        (["--benchmark", "sums", "--size", "200"], "expected fewer anchors, not 200"),
    ],
)
def test_what_cannot_be_found_is_one_line(
    results: Results, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert run(results, "anchors", *arguments) == 2
    assert reason in capsys.readouterr().err


def test_three_models_and_scores_off_the_scale_are_refused(tmp_path: Path) -> None:
    few = Results(tmp_path / "results")
    for number in range(3):
        few.add(f"m{number}", "sums", [1.0, 0.0] * 30)
    with pytest.raises(
        UserError, match="sums: 3 models answered the same questions; anchors need at least 4"
    ):
        find([few.folder], "sums", 10)
    for number in range(4):
        few.add(f"m{number}", "perplexity", [7.0, 3.0] * 30)
    with pytest.raises(UserError, match="its exact_match is not between 0 and 1"):
        find([few.folder], "perplexity", 10)


def test_a_hundred_questions_tell_gsm8k_better_than_random_ones(tmp_path: Path) -> None:
    if not SOLUTIONS.exists():
        lacking("GSM8K's example_model_solutions.jsonl is not beside the project")
    rows = [json.loads(line) for line in SOLUTIONS.read_text(encoding="utf-8").strip().split("\n")]
    gsm8k = Results(tmp_path / "results")
    for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
        gsm8k.add(model, "gsm8k", [float(row[model]["is_correct"]) for row in rows])
    found = find([gsm8k.folder], "gsm8k", 100)
    assert found.error < found.random_error
    assert found.random_error == pytest.approx(0.045, abs=0.001)
    assert len({question.native_id for question in found.anchors}) <= 100


def test_benchmarks_are_ordered_by_signal_to_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Results(tmp_path / "results")
    for model, clear, vague in (("a", 30, 50), ("b", 45, 52), ("c", 60, 51)):
        add(made, model, "clear", clear)
        add(made, model, "vague", vague)
    for number, right in enumerate((44, 46, 45, 47, 43)):
        add(made, f"ckpt{number}", "clear", right)
        add(made, f"ckpt{number}", "vague", right)
    add(made, "a", "alone", 20)
    checkpoints = [f"ckpt{number}" for number in range(5)]
    options = [word for name in checkpoints for word in ("--checkpoint", name)]
    assert run(made, "signal", *options) == 0
    head, first, second, last = capsys.readouterr().out.splitlines()
    assert "signal to noise" in head
    assert " ".join(first.split()) == "clear exact_match 0.300–0.600 0.430–0.470 21.2"
    assert second.split()[0] == "vague"
    assert last.startswith("alone: 1 models and 0 checkpoints have a score")
    assert run(made, "signal", "--checkpoint", "ckpt0") == 2
    with pytest.raises(UserError, match="'a' is named as a checkpoint and as a model"):
        signals(made.folder, ["a", "b"], ["a"])
    with pytest.raises(UserError, match="unknown model 'z'"):
        signals(made.folder, ["a", "z"])


def test_names_that_a_terminal_would_obey_are_shown_harmless(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    results.add("\x1b[2Jm", "\x1b[2Jodd", np.ones(20).tolist())
    assert run(results, "anchors") == 0
    assert "\x1b" not in "".join(capsys.readouterr())
