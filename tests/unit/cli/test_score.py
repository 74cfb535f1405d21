"""Stored answers against references, from the tables of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slurmeval.cli import main
from slurmeval.results.text_scores import read
from slurmeval.statistics.families import holm
from tests.unit.results.test_comparison import Results

RIGHT = [f"The cat number {number} sat quietly on the mat." for number in range(20)]
NEAR = [f"A cat with number {number} sat on a mat." for number in range(20)]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    made = Results(tmp_path / "results")
    made.add("exact", "tales", [1.0] * 20, output=RIGHT, reference=RIGHT)
    near = [*NEAR[:18], None, "an answer without reference"]
    status = ["ok"] * 18 + ["error", "ok"]
    made.add("near", "tales", [0.0] * 20, output=near, reference=[*RIGHT[:19], " "], status=status)
    return made


def run(results: Results, *options: str) -> int:
    return main.run(["score", "--results", str(results.folder), *options])


def test_models_are_scored_and_compared_on_what_both_answered(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(results, "--benchmark", "tales", "--metric", "bleu", "--metric", "rougeL") == 0
    out = capsys.readouterr().out
    assert "near: 2 samples without an answer or a reference are left out" in out
    assert "bleu: nrefs:1|" in out and "rougeL: tok:unicode" in out
    (found,) = read(results.folder)
    values = {(model.model, each.metric): each for model in found.models for each in model.scores}
    assert values["exact", "bleu"].value == pytest.approx(100)
    assert values["near", "rougeL"].n == 18
    bleu, rouge = found.compared
    assert (bleu.n, bleu.a, bleu.b) == (18, "exact", "near")
    assert bleu.scores.difference > 50 and bleu.p_holm is not None and bleu.p_holm < 0.01
    assert bleu.scores.people == pytest.approx(88.3, abs=0.1)
    p_values = [each.scores.p_value for each in found.compared if each.scores.p_value is not None]
    assert [bleu.p_holm, rouge.p_holm] == holm(p_values) != p_values
    assert rouge.scores.difference > 10 and rouge.scores.test == "sign_flip"


def test_several_references_of_own_questions_count(results: Results) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = results.folder / "samples" / "near" / "tales.parquet"
    rows = pq.read_table(path)
    told = [json.dumps({"references": [right, near]}) for right, near in zip(RIGHT, NEAR, strict=True)]
    place = rows.schema.get_field_index("metadata_json")
    rows = rows.set_column(place, rows.schema.field(place), pa.array(told))
    pq.write_table(rows, path)
    assert run(results, "--benchmark", "tales", "--model", "near") == 0
    assert read(results.folder)[0].models[0].scores[0].value > 90


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--benchmark", "none"], "unknown benchmark 'none'; with results: tales"),
        (["--benchmark", "tales", "--model", "x"], "no results of 'x' on 'tales'; of: exact, near"),
        (["--benchmark", "empty"], "model has no answer to a question with a reference"),
        (["--benchmark", "tales", "--metric", "bleurt"], "'bleurt' is not one of"),
    ],
)
def test_bad_input_is_one_line(
    results: Results, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    results.add("model", "empty", [0.0], output=["x"], reference=[None])
    assert run(results, *options) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1
