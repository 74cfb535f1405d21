"""Single answers in the terminal and as JSON lines: what is found, and that nothing in them is obeyed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from slurmeval.cli import main
from slurmeval.harnesses.patching import pairs
from tests.unit.results.test_comparison import Results

QUESTIONS = ["How many Äpfel?", "How many pears?", "How many plums?", "How many figs?"]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    made = Results(tmp_path / "results")
    given = {"input": QUESTIONS, "reference": ["1", "2", "3", "4"]}
    made.add("new", "fruit", [1.0, 0.0, 0.0, 1.0], output=["1", "seven", "nine", "4"], **given)
    made.add("old", "fruit", [1.0, 1.0, 0.0, 0.0], output=["1", "2", "six", "five"], **given)
    made.add("new", "nuts", [0.0], input=["Which nut?"])
    return made


def printed(results: Results, capsys: pytest.CaptureFixture[str], *options: str, model: str = "new") -> str:
    status = main.run(["samples", "--model", model, "--results", str(results.folder), *options])
    assert status == 0, capsys.readouterr().err
    return capsys.readouterr().out


def found(results: Results, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    out = printed(results, capsys, "--format", "jsonl", *options)
    return [json.loads(line) for line in out.splitlines()]


def test_question_reference_answer_and_score_are_shown(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(results, capsys, "--search", "pears")
    assert out.splitlines() == [
        "── fruit, question q00001",
        "   question │ How many pears?",
        "  reference │ 2",
        "new: wrong (exact_match 0)",
        "     answer │ seven",
        "",
    ]


def test_wrong_answers_of_one_benchmark_are_found(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = found(results, capsys, "--wrong", "--benchmark", "fruit")
    assert [(each["sample_uid"], each["value"]) for each in wrong] == [("q00001", 0.0), ("q00002", 0.0)]
    assert [each["benchmark"] for each in found(results, capsys, "--wrong")] == ["fruit", "fruit", "nuts"]


def test_answers_that_another_model_has_otherwise_stand_beside_its_own(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    different = found(results, capsys, "--different-from", "old")
    assert [(each["output"], each["other"]["output"]) for each in different] == [
        ("seven", "2"),
        ("4", "five"),
    ]
    worse = printed(results, capsys, "--different-from", "old", "--wrong")
    assert "new: wrong (exact_match 0)" in worse and "old: right (exact_match 1)" in worse
    assert "figs" not in worse


def test_a_question_that_the_other_model_was_not_asked_is_no_difference(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    results.add("new", "more", [0.0, 0.0], uids=["both", "new only"])
    results.add("old", "more", [1.0], uids=["both"])
    different = found(results, capsys, "--different-from", "old", "--benchmark", "more")
    assert [each["sample_uid"] for each in different] == ["both"]


@pytest.mark.parametrize(
    ("text", "uids"), [("äpfel", ["q00000"]), ("SEVEN", ["q00001"]), (".*", []), ("pears?", ["q00001"])]
)
def test_search_finds_a_text_in_any_case_as_it_is(
    results: Results, capsys: pytest.CaptureFixture[str], text: str, uids: list[str]
) -> None:
    assert [each["sample_uid"] for each in found(results, capsys, "--search", text)] == uids


def test_no_more_than_the_limit_is_shown_and_that_there_is_more_is_said(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", "new", "--results", str(results.folder)]
    assert main.run(["samples", *options, "--limit", "2"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("──") == 2
    assert captured.err == "… and more: --limit 20\n"
    assert main.run(["samples", *options, "--search", "cherries"]) == 0
    assert capsys.readouterr().err == "no such answer of new\n"


def test_answers_of_several_row_groups_are_found(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    results.add("new", "many", [0.0] * 7)
    file = results.folder / "samples" / "new" / "many.parquet"
    pq.write_table(pq.read_table(file, partitioning=None), file, row_group_size=3)
    assert len(found(results, capsys, "--benchmark", "many")) == 7


def test_what_a_terminal_would_obey_is_shown_harmless_and_long_texts_are_cut(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[2J\x07<script>\rok\u202e\n" + "x" * 1_000_000 + "\nthe end"
    results.add("new", "hostile", [0.0], output=[hostile], input=[hostile])
    out = printed(results, capsys, "--benchmark", "hostile")
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(out)
    assert len(out) < 6000
    assert "the end" in out and "998," in out
    (whole,) = found(results, capsys, "--benchmark", "hostile")
    assert whole["output"] == hostile


def test_a_score_is_told_by_the_harness_and_states_are_named(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"status": ["error", "unparsed", "ok"], "finish_reason": ["stop", "stop", "length"]}
    results.add("new", "states", [None, 0.0, 0.5], **given)
    out = printed(results, capsys, "--benchmark", "states")
    assert "new: no score, nobody answered" in out
    assert "new: wrong (exact_match 0), could not be read" in out
    assert "new: wrong (exact_match 0.5), cut off at the token limit" in out


def test_where_less_is_better_more_than_nothing_is_wrong(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    results.add("new", "errors", [0.0, 0.3], metric={"higher_is_better": False})
    assert [each["value"] for each in found(results, capsys, "--benchmark", "errors", "--wrong")] == [0.3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "newer"], "unknown model 'newer'; with results in"),
        (
            ["--model", "new", "--benchmark", "fruits"],
            "no results of new on 'fruits'; there are: fruit, nuts",
        ),
        (["--model", "new", "--different-from", "new"], "'new' does not differ from itself"),
        (
            ["--model", "new", "--different-from", "old", "--benchmark", "nuts"],
            "no results of new and old on 'nuts'; there are: fruit",
        ),
    ],
)
def test_bad_input_is_one_line(
    results: Results, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main.run(["samples", *options, "--results", str(results.folder)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


def test_flips_become_minimal_pairs_that_patching_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results(tmp_path / "results")
    questions = [
        "The capital of France is", "The capital of Italy is", "Name the capital of Peru", "Rome lies in",
        "The old capital of France is",
    ]  # fmt: skip
    given = {"input": questions, "reference": ["Paris", "Rome", "Lima", "Italy", "Paris"]}
    results.add("new", "towns", [1.0, 1.0, 1.0, 1.0, 0.0], **given)
    results.add("old", "towns", [0.0, 1.0, 0.0, 0.0, 1.0], **given)
    options = ("--different-from", "old", "--format", "pairs")
    first, second = printed(results, capsys, *options).splitlines()
    # One word differs, not all; of the question in three words there is no other
    assert json.loads(first) | {"id": ""} == {
        "clean": questions[0], "corrupted": questions[1], "answer": " Paris", "wrong": " Rome",
        "id": "", "category": None,
    }  # fmt: skip
    assert json.loads(second)["clean"] == questions[2]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pairs.jsonl").write_text(f"{first}\n{second}\n")
    assert [line["answer"] for line in pairs.of_folder(tmp_path / "mine", None)] == [" Paris", " Lima"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "pairs"], "--format pairs needs --different-from"),
        (["--format", "pairs", "--different-from", "old", "--wrong"], "takes neither --wrong nor --search"),
        (["--format", "pairs", "--different-from", "old", "--benchmark", "fruit"], "no minimal pair: no two"),
    ],
)
def test_pairs_that_cannot_be_made_are_refused(
    options: list[str], said: str, results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    results.add("lone", "fruit", [1.0], input=["How many?"], reference=["1"])
    results.add("old", "fruit", [0.0], input=["How many?"], reference=["1"])
    assert main.run(["samples", "--model", "lone", "--results", str(results.folder), *options]) == 2
    assert said in capsys.readouterr().err
