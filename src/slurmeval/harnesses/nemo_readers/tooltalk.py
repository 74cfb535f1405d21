"""ToolTalk (nvidia-tooltalk 26.3): conversations in which the model calls tools that are simulated.

`<conversation>.json` has the conversation with the calls that were expected (`apis`), those that the model
made (`predictions`), and `metrics`; `metrics.json` the sums over all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.nemo_readers import within
from slurmeval.harnesses.nemo_readers.reading import conversation, json_value, laid_out_by
from slurmeval.harnesses.sample_checks import each_once
from slurmeval.harnesses.scores import bad_result, number

_PRIMARY = "success_rate"
_OF_SAMPLES = {"success_rate": "success"}
"""The rate over conversations, and what each conversation has of it; the others are over calls."""
_LOWER_IS_BETTER = ("bad_action_rate",)


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each conversation.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    samples = []
    for path in sorted(output.glob("*.json")):
        content = json_value(path)
        if not isinstance(content, dict) or "conversation_id" not in content:
            continue
        with laid_out_by("ToolTalk", path):
            samples.append(_sample(content))
    totals = json_value(output / "metrics.json")
    counted = totals.get("num_conversations") if isinstance(totals, dict) else None
    if counted != len(samples):
        raise bad_result(f"metrics.json: counts {counted} conversations, there are files of {len(samples)}")
    within(job, len(samples), "ToolTalk")
    return each_once(samples, output / "metrics.json")


def _sample(content: dict[str, Any]) -> Sample:
    turns = content["conversation"]
    expected = [_call(call) for turn in turns for call in turn.get("apis", [])]
    made = [_prediction(prediction) for turn in turns for prediction in turn.get("predictions", [])]
    scores = content["metrics"]
    return Sample(
        native_id=content["name"],
        task="tooltalk",
        category=", ".join(content["suites_used"]),
        input=conversation([(turn["role"], turn["text"]) for turn in turns]),
        output="\n".join(made) or None,
        reference="\n".join(expected),
        scores=[
            Score(metric=rate, value=number(float(scores[key])), correct=bool(scores[key]))
            for rate, key in _OF_SAMPLES.items()
        ],
        status="ok" if made else "error",
        metadata={
            "expected_calls": scores["ground_truths"],
            "calls": scores["predictions"],
            "right_calls": scores["matches"],
            "bad_actions": scores["bad_actions"],
        },
    )


def _call(call: dict[str, Any]) -> str:
    """Returns a call as `Name({"parameter": value})`."""
    request = call["request"]
    return f"{request['api_name']}({json.dumps(request['parameters'], ensure_ascii=False)})"


def _prediction(prediction: dict[str, Any]) -> str:
    if prediction["role"] == "api":
        return _call(prediction)
    return f"assistant: {prediction['text'] or ''}"


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores: the rate of successful conversations leads.

    Precision and recall are over calls. NeMo gives the number of conversations as their count, which it is
    not.
    """
    for row in rows:
        row.is_primary = row.metric == _PRIMARY
        row.higher_is_better = row.metric not in _LOWER_IS_BETTER
        row.n_items = _n_items(row.metric, samples)
    return rows


def _n_items(metric: str, samples: list[Sample]) -> int | None:
    if metric in _OF_SAMPLES:
        return len(samples)
    key = {"precision": "calls", "recall": "expected_calls"}.get(metric)
    return None if key is None else sum(sample.metadata[key] for sample in samples)
