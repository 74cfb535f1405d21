"""What lm-eval writes (0.4.8 and 0.4.13), as metrics and samples.

`<output>/<model>/results_<time>.json` has the scores, `samples_<task>_<time>.jsonl` one line for each
question and filter. Keys of scores are `<metric>,<filter>` and `<metric>_stderr,<filter>`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Metric, Sample, Score
from slurmeval.harnesses.json_lines import numbered_objects
from slurmeval.harnesses.scores import bad_result, number, proportion

_NO_FILTER = "none"
_NOT_MEASURED = "bypass"
"""lm-eval's metric for "nothing was scored"; its value, 999, means nothing."""
_PERCENT = ("bleu", "chrf", "ter")
_BINARY = ("acc", "exact_match", "em", "pass@")
_INVALID = "[invalid]"
"""What a filter returns that found no answer."""


class LmEvalFiles:
    """The newest results under a folder, and the samples that belong to them."""

    def __init__(self, output: Path) -> None:
        found = sorted(output.rglob("results_*.json"), key=lambda path: path.name)
        if not found:
            raise bad_result("lm-eval wrote no results_*.json")
        self.path = found[-1]
        self.results: dict[str, Any] = _parsed(self.path)
        stamp = self.path.stem.removeprefix("results")
        self.samples: dict[str, Path] = {
            path.stem.removeprefix("samples_").removesuffix(stamp): path
            for path in sorted(self.path.parent.glob(f"samples_*{stamp}.jsonl"))
        }


def _parsed(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise bad_result(f"{path.name}: not JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("results"), dict):
        raise bad_result(f"{path.name}: has no results")
    return value


def read_metrics(results: dict[str, Any]) -> list[Metric]:
    """All scores, each task once, in lm-eval's order."""
    groups: dict[str, Any] = results.get("groups") or {}
    metrics = []
    for task, scores in (groups | results["results"]).items():
        for key, raw in scores.items():
            metric, comma, filter_name = key.partition(",")
            value = number(raw)
            if not comma or metric.endswith("_stderr") or metric == _NOT_MEASURED or value is None:
                continue
            scale = 100 if metric.startswith(_PERCENT) else 1
            error = number(scores.get(f"{metric}_stderr,{filter_name}"))
            metrics.append(
                Metric(
                    task=task,
                    metric=metric,
                    filter=None if filter_name == _NO_FILTER else filter_name,
                    value=proportion(value, scale),
                    harness_value=value,
                    harness_scale=scale,
                    se=None if error is None else error / scale,
                    n_items=_n_effective(results, task),
                    n_repeats=int((results.get("configs") or {}).get(task, {}).get("repeats") or 1),
                    higher_is_better=(results.get("higher_is_better") or {}).get(task, {}).get(metric),
                    is_group=task in groups,
                )
            )
    return metrics


def _subtasks(results: dict[str, Any], task: str) -> list[str]:
    """The tasks with questions under a task or group."""
    counted = results.get("n-samples") or {}
    below = (results.get("group_subtasks") or {}).get(task) or []
    return [task] if task in counted else [leaf for name in below for leaf in _subtasks(results, name)]


def _n_effective(results: dict[str, Any], task: str) -> int | None:
    counts = results.get("n-samples") or {}
    leaves = _subtasks(results, task)
    return sum(counts[leaf]["effective"] for leaf in leaves) if leaves else None


def read_samples(files: LmEvalFiles) -> list[Sample]:
    """All questions; one sample for a question, with the scores of all filters."""
    samples = []
    for task, path in files.samples.items():
        lines: dict[Any, list[dict[str, Any]]] = {}
        for number_of_line, line in numbered_objects(path):
            try:
                lines.setdefault(line["doc_id"], []).append(line)
            except (KeyError, TypeError) as error:
                raise bad_result(f"{path.name}:{number_of_line}: no sample: {error}") from error
        kind = (files.results.get("configs") or {}).get(task, {}).get("output_type")
        try:
            samples += [_sample(task, kind, of_filters) for of_filters in lines.values()]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise bad_result(f"{path.name}: not laid out as lm-eval does: {error!r}") from error
    return samples


def n_asked(files: LmEvalFiles) -> int:
    """How many requests these samples took: one for each choice, or for each repeat of a generation."""
    total = 0
    for path in files.samples.values():
        seen = set()
        for _, line in numbered_objects(path):
            if line["doc_id"] not in seen:
                seen.add(line["doc_id"])
                total += sum(len(repeats) for repeats in line["resps"])
    return total


def check_counts(files: LmEvalFiles, samples: list[Sample], limit: int | None) -> int:
    """How many questions were to be asked. Raises EvaluationFailed (bad_result) where lm-eval's own count
    does not fit the limit and the dataset, or the samples do not fit lm-eval's count."""
    counts: dict[str, dict[str, int]] = files.results.get("n-samples") or {}
    if not counts:
        raise bad_result(f"{files.path.name}: has no n-samples")
    for task, count in counts.items():
        wanted = count["original"] if limit is None else min(limit, count["original"])
        found = sum(sample.task == task for sample in samples)
        if not wanted == count["effective"] == found:
            raise bad_result(
                f"{task}: {wanted} questions were asked for, lm-eval counts {count['effective']}, "
                f"and there are samples of {found}"
            )
    return sum(count["effective"] for count in counts.values())


def _sample(task: str, kind: str | None, lines: list[dict[str, Any]]) -> Sample:
    first = lines[0]
    requests = [first["arguments"][key] for key in sorted(first["arguments"], key=_index)]
    sample = Sample(
        native_id=str(first["doc_id"]),
        task=task,
        input=_prompt(requests[0]["arg_0"]),
        output=None,
        reference=_text(first.get("target")),
        scores=[score for line in lines for score in _scores(line)],
        metadata={"doc": first["doc"], "doc_hash": first.get("doc_hash")},
    )
    if kind == "multiple_choice":
        _fill_choice(sample, requests, first)
        return sample
    responses = [_text(answer) for repeats in first["resps"] for answer in repeats]
    sample.output = responses[0] if responses else None
    if len(responses) > 1:
        sample.metadata["responses"] = responses
    answers = [score.answer for score in sample.scores]
    if sample.output is None:
        sample.status = "error"
    elif answers and all(answer == _INVALID for answer in answers):
        sample.status = "unparsed"
    return sample


def _index(key: str) -> int:
    return int(key.rpartition("_")[2])


def _fill_choice(sample: Sample, requests: list[dict[str, Any]], line: dict[str, Any]) -> None:
    """Of several choices: their texts, the likeliest as the output, the right one as the reference."""
    choices = [str(one["arg_1"]).strip() for one in requests if one["arg_0"] == requests[0]["arg_0"]]
    likelihoods = [float(repeats[0][0]) for repeats in line["resps"][: len(choices)]]
    sample.choices = choices
    sample.output = choices[likelihoods.index(max(likelihoods))]
    sample.metadata["loglikelihoods"] = likelihoods
    target = str(line["target"])
    if target.isdigit() and int(target) < len(choices):
        sample.reference = choices[int(target)]
    for score in sample.scores:
        # Normalised metrics may choose another answer than the likeliest.
        score.answer = sample.output if score.metric == "acc" else None


def _scores(line: dict[str, Any]) -> list[Score]:
    filter_name = line.get("filter", _NO_FILTER)
    filtered = line.get("filtered_resps") or [None]
    answer = filtered[0] if isinstance(filtered[0], str) else None
    scores = []
    for metric in line.get("metrics", []):
        if metric == _NOT_MEASURED:
            continue
        value = number(line.get(metric))
        binary = metric.startswith(_BINARY) and value in (0.0, 1.0)
        scores.append(
            Score(
                metric=metric,
                filter=None if filter_name == _NO_FILTER else filter_name,
                value=value,
                correct=bool(value) if binary else None,
                answer=answer,
            )
        )
    return scores


def _prompt(argument: Any) -> str:
    """What was asked, as a person reads it: lm-eval wraps chats as JSON in a list."""
    text = argument[0] if isinstance(argument, list) and argument else argument
    if not isinstance(text, str):
        return json.dumps(text, ensure_ascii=False)
    try:
        messages = json.loads(text)
    except ValueError:
        return text
    if not (
        isinstance(messages, list) and messages and all(isinstance(m, dict) and "role" in m for m in messages)
    ):
        return text
    if len(messages) == 1:
        return str(messages[0].get("content"))
    return "\n\n".join(f"{message['role']}: {message.get('content')}" for message in messages)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
