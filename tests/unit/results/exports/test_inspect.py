"""Inspect's logs, as far as can be checked without Inspect; tests/serving has its own reader open them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from slurmeval.paths import Paths
from slurmeval.results import exporting, schema
from slurmeval.results.aggregate import aggregate
from slurmeval.results.exports import inspect
from slurmeval.results.partitions import write
from tests.report import example

SAMPLE: dict[str, Any] = {
    **dict.fromkeys(schema.SAMPLES.schema.names),
    "model": "m",
    "sample_uid": "ab" * 32,
    "repeat_idx": 1,
    "input": "2 + 2?",
    "reference": "4",
}


def sample(**known: Any) -> dict[str, Any]:
    return inspect._sample(SAMPLE | known)


def test_a_log_is_an_archive_with_header_summaries_and_samples(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    made = example.samples("sums", [True, False, True])
    record = example.evaluation(temperature=0.5)
    write(paths, "m", "two_sums", record, example.output(made, "sums"), example.requests_for(made))
    aggregate(paths, [("m", "two_sums")])
    exported = exporting.export("inspect", paths.results)
    (name,) = exported.files
    assert str(name).startswith("m/2026-11-22T09-00-00-00-00_two-sums_") and name.suffix == ".eval"
    with zipfile.ZipFile(exported.folder / name) as archive:
        files = {each: json.loads(archive.read(each)) for each in archive.namelist()}
    header, summaries = files.pop("header.json"), files.pop("summaries.json")
    assert {f"samples/{each['id']}_epoch_1.json" for each in summaries} == files.keys()
    assert len(files) == 3
    assert header["eval"]["model_generate_config"] == {"temperature": 0.5}
    assert header["stats"]["model_usage"] == {
        "m": {"input_tokens": 63, "output_tokens": 21, "total_tokens": 84}
    }
    (score,) = header["results"]["scores"]
    assert score["name"] == "exact_match/strict-match"
    assert score["metrics"]["exact_match"]["value"] == pytest.approx(2 / 3)
    assert exported.remarks == []


def test_tokens_that_are_not_known_are_left_out(every_harness: Paths, tmp_path: Path) -> None:
    exported = exporting.export("inspect", every_harness.results, tmp_path, benchmarks=["nemo_asdiv"])
    assert exported.remarks == [
        "answers without tokens, since none of the requests is known to be theirs: m on nemo_asdiv (4)"
    ]
    made = sample(prompt_tokens=7)
    assert "usage" not in made["output"] and "model_usage" not in made


@pytest.mark.parametrize(
    ("said", "reason"),
    [("stop", "stop"), ("length", "max_tokens"), ("abort", "unknown"), (None, "unknown")],
)
def test_stop_reasons_are_those_of_the_server(said: str | None, reason: str) -> None:
    (choice,) = sample(finish_reason=said)["output"]["choices"]
    assert choice["stop_reason"] == reason


def test_thoughts_stand_before_the_answer() -> None:
    answer = sample(output="4", reasoning="Two and two.")["messages"][1]
    assert answer["content"] == [
        {"type": "reasoning", "reasoning": "Two and two."},
        {"type": "text", "text": "4"},
    ]


def test_a_score_that_is_no_number_is_left_out() -> None:
    values = {"a": 1.0, "b": None, "c": float("nan"), "d": float("inf")}
    scores = [
        {"metric": name, "filter": None, "value": value, "answer": None, "explanation": None}
        for name, value in values.items()
    ]
    assert sample(scores=scores)["scores"] == {"a": {"value": 1.0}}


def test_an_answer_that_never_came_is_an_error() -> None:
    assert sample(status="error")["error"]["message"] == "no answer"
    assert "error" not in sample(status="unparsed")


def test_the_score_of_the_whole_leads_those_of_its_parts() -> None:
    empty = dict.fromkeys(schema.METRICS.schema.names) | {"model": "m", "benchmark": "b", "metric": "acc"}
    parts = [empty | {"task": name, "value": value} for name, value in (("law", 0.25), ("art", 0.75))]
    whole = empty | {"task": "all", "value": 0.5, "se": 0.1, "is_primary": True}
    row = {"model": "m", "benchmark": "b", "status": "ok"}
    run = exporting.Run(Path(), [row], [*parts, whole])
    (score,) = inspect._scores(run, row)
    values = {name: metric["value"] for name, metric in score["metrics"].items()}
    assert values == {"acc": 0.5, "stderr": 0.1, "law": 0.25, "art": 0.75}


def test_long_texts_are_cut_in_the_list_of_samples_alone() -> None:
    made = sample(input="x" * 5000, metadata_json="y" * 5000)
    assert len(made["input"]) == 5000
    assert len(json.dumps(inspect._summary(made))) < 2000
