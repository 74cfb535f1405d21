"""A reasoning model's thoughts in the tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slurmeval.harnesses.base import HarnessOutput, Sample, Score
from slurmeval.results import partitions, schema
from slurmeval.results.partitions import write
from slurmeval.results.reasoning import warning
from tests.report import example

PAIR = ("m", "b")
TAGS = {"reasoning": {"tags": ["<think>", "</think>"]}}


def written(
    folder: Path, output: str | None, served: dict[str, Any], body: Any, **more: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows of the one sample and of its evaluation."""
    paths = example.paths_in(folder)
    sample = Sample("0", "t", "2 + 2?", output, scores=[Score("acc", 0.0, correct=False)])
    sample.status = "error" if output is None else "ok"
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    record = example.record(1, "2 + 2?", "", response_body=raw, **more)
    found = HarnessOutput([], [sample], 1, "1", None)
    write(paths, *PAIR, example.evaluation(served=served), found, [record])
    (row,) = partitions.read_rows(paths.samples(*PAIR), schema.SAMPLES).to_pylist()
    (evaluation,) = partitions.read_rows(paths.evaluation(*PAIR), schema.EVALUATIONS).to_pylist()
    return row, evaluation


def message(**parts: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": parts, "finish_reason": "stop"}]}


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_thoughts_that_vllm_split_off_are_kept(tmp_path: Path, key: str) -> None:
    row, evaluation = written(tmp_path, "4", {}, message(content="4", **{key: "5? No."}))
    assert (row["reasoning"], row["output"], row["status"]) == ("5? No.", "4", "ok")
    assert evaluation["n_think_tags"] == 0


def test_thoughts_that_the_gateway_split_off_are_kept(tmp_path: Path) -> None:
    row, evaluation = written(tmp_path, "4", TAGS, message(content="<think>5? No.</think>4"))
    assert (row["reasoning"], row["status"]) == ("5? No.", "ok")
    assert evaluation["n_think_tags"] == 0


@pytest.mark.parametrize("output", [None, "", "\n"])
def test_thoughts_without_an_answer_are_unparsed(tmp_path: Path, output: str | None) -> None:
    row, evaluation = written(tmp_path, output, {}, message(content=None, reasoning="5? Or"))
    assert (row["reasoning"], row["status"]) == ("5? Or", "unparsed")
    assert (evaluation["n_unparsed"], evaluation["n_errored"]) == (1, 0)


def test_a_streams_thoughts_are_put_together(tmp_path: Path) -> None:
    deltas = [{"reasoning": "5? "}, {"reasoning": "No."}, {"content": "4"}]
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    row, _ = written(tmp_path, "4", {}, body + b"data: [DONE]\n\n", content_type="text/event-stream")
    assert row["reasoning"] == "5? No."


@pytest.mark.parametrize("text", ["<think>5? No.</think>4", "5? No.</think>4", "<think>5? Or"])
def test_answers_scored_with_their_thoughts_are_counted_and_named(tmp_path: Path, text: str) -> None:
    row, evaluation = written(tmp_path, text, {}, message(content=text))
    assert (row["reasoning"], row["output"]) == (None, text)
    assert evaluation["n_think_tags"] == 1
    assert warning(evaluation) == (
        "m on b: 1 answer holds <think> or </think>, scored as they are: "
        "say in models.m.reasoning how thoughts end"
    )


def test_marks_in_a_prompt_or_in_scored_tokens_are_no_thoughts(tmp_path: Path) -> None:
    body = {"choices": [{"index": 0, "text": "a</think>", "logprobs": {"tokens": []}}]}
    _, evaluation = written(tmp_path, "4", {}, body)
    assert evaluation["n_think_tags"] == 0
    assert warning(evaluation) is None


def test_thoughts_of_a_judge_are_the_judges() -> None:
    judged = {"model": "tiny", "benchmark": "judged", "n_think_tags": 1}
    said = warning(judged | {"parameters_json": '{"judging": {"judge": "wise"}}'})
    assert said is not None and said.endswith("say in models.wise.reasoning how thoughts end")
