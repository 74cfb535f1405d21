"""Inspect: a log of each evaluation, which `inspect view` and `inspect_ai.log.read_eval_log` open.

A log is a ZIP archive of JSON files, version 2 of the format:
https://inspect.aisi.org.uk/eval-logs.html. It is written here as a stream, without the package inspect_ai.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from slurmeval.results.exporting import listed, number_of, repository, served

if TYPE_CHECKING:
    from pathlib import Path

    from slurmeval.results.exporting import Row, Run

VERSION = 2
ID_LENGTH = 16
"""Digits of a question's hash in Inspect's id of it: enough to tell the questions of a benchmark apart."""
SUMMARY_LENGTH = 1000
"""Characters of a text in the list of samples, which a viewer reads as a whole."""
STOP_REASONS = {
    "stop": "stop",
    "length": "max_tokens",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}
"""Inspect's word for the server's; any other is `unknown`."""


def export(run: Run, folder: Path) -> Iterator[str]:
    """Writes `<model>/<time>_<benchmark>_<id>.eval`."""
    without = []
    for row in run.ended:
        (folder / row["model"]).mkdir(exist_ok=True)
        key = json.dumps([row["model"], row["benchmark"], row["answers_key"], str(row["ended_at"])])
        log_id = hashlib.sha256(key.encode()).hexdigest()[:ID_LENGTH]
        started = (row["started_at"] or row["ended_at"]).strftime("%Y-%m-%dT%H-%M-%S-00-00")
        name = f"{started}_{row['benchmark'].replace('_', '-')}_{log_id}.eval"
        if n_without := _write(run, row, log_id, folder / row["model"] / name):
            without.append(f"{row['model']} on {row['benchmark']} ({n_without:,})")
    if without:
        yield f"answers without tokens, since none of the requests is known to be theirs: {listed(without)}"


def _write(run: Run, row: Row, log_id: str, path: Path) -> int:
    """Writes a log. Returns how many of its samples have no tokens."""
    summaries, without = [], 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:

        def write(name: str, value: Any) -> None:
            archive.writestr(name, json.dumps(value, allow_nan=False))

        for sample in run.samples(row["model"], row["benchmark"]):
            made = _sample(sample)
            write(f"samples/{made['id']}_epoch_{made['epoch']}.json", made)
            summaries.append(_summary(made))
            without += "usage" not in made["output"]
        write("summaries.json", summaries)
        write("header.json", _header(run, row, log_id))
    return without


def _header(run: Run, row: Row, log_id: str) -> dict[str, Any]:
    started, ended = (row["started_at"] or row["ended_at"]).isoformat(), row["ended_at"].isoformat()
    n_samples = row["n_samples"] or 0
    usage = _usage(row["prompt_tokens"], row["completion_tokens"])
    return {
        "version": VERSION,
        "status": "success",
        "eval": {
            "eval_id": log_id,
            "run_id": log_id,
            "task_id": log_id,
            "created": started,
            "task": row["benchmark"],
            "task_version": row["task_version"] or 0,
            "task_args": json.loads(row["parameters_json"] or "{}"),
            "dataset": {"name": row["task"], "samples": n_samples // (row["n_repeats"] or 1)},
            "model": row["model"],
            "model_args": served(row),
            "model_generate_config": _known(row, "temperature", "top_p", "max_tokens"),
            "config": _known(row, "limit") | {"epochs": row["n_repeats"] or 1},
            "packages": json.loads(row["versions_json"] or "{}"),
            "metadata": _known(
                row,
                *("harness", "harness_version", "endpoint", "few_shot", "model_revision", "model_sha256"),
                *("slurmeval_version", "workflow_commit", "config_sha256", "answers_key"),
            )
            | {"model_repository": repository(row)},
        },
        "results": {
            "total_samples": n_samples,
            "completed_samples": n_samples - (row["n_errored"] or 0),
            "scores": [*_scores(run, row)],
        },
        "stats": {
            "started_at": started,
            "completed_at": ended,
            "model_usage": {row["model"]: usage} if usage else {},
        },
    }


def _scores(run: Run, row: Row) -> Iterator[dict[str, Any]]:
    """Yields a score for each metric and filter: the whole with its error, then the parts."""
    found: dict[str, list[tuple[Row, float]]] = {}
    for metric in run.metrics_of.get((row["model"], row["benchmark"]), ()):
        if (number := number_of(metric)) is not None:
            found.setdefault(_scorer(metric), []).append((metric, number))
    for scorer, rows in found.items():
        rows.sort(key=lambda each: not each[0]["is_primary"])
        (whole, number), *parts = rows
        numbers = {whole["metric"]: number, "stderr": whole["se"]}
        numbers |= {"ci_lower": whole["ci_lo"], "ci_upper": whole["ci_hi"]}
        for part, value in parts:
            numbers["/".join(each for each in (part["task"], part["subset"]) if each)] = value
        metrics = {
            name: {"name": name, "value": value} for name, value in numbers.items() if value is not None
        }
        yield {"name": scorer, "scorer": scorer, "metrics": metrics}


def _sample(sample: Row) -> dict[str, Any]:
    answer = sample["output"] or ""
    content: Any = answer
    if sample["reasoning"] is not None:
        thoughts = {"type": "reasoning", "reasoning": sample["reasoning"]}
        content = [thoughts, {"type": "text", "text": answer}]
    message = {"role": "assistant", "content": content, "source": "generate"}
    stop_reason = STOP_REASONS.get(sample["finish_reason"] or "", "unknown")
    output: dict[str, Any] = {
        "model": sample["model"],
        "choices": [{"message": message, "stop_reason": stop_reason}],
        "completion": answer,
    }
    made: dict[str, Any] = {
        "id": sample["sample_uid"][:ID_LENGTH],
        "epoch": sample["repeat_idx"] + 1,
        "input": sample["input"] or "",
        "choices": sample["choices"],
        "target": sample["reference"] or "",
        "messages": [{"role": "user", "content": sample["input"] or "", "source": "input"}, message],
        "output": output,
        "scores": dict(_sample_scores(sample)),
        "metadata": _known(
            sample, "sample_uid", "native_id", "task", "category", "status", "cut", "metadata_json"
        ),
    }
    if sample["latency_ms"] is not None:
        made["total_time"] = output["time"] = sample["latency_ms"] / 1000
    if usage := _usage(sample["prompt_tokens"], sample["completion_tokens"]):
        output["usage"] = usage
        made["model_usage"] = {sample["model"]: usage}
    if sample["status"] == "error":
        made["error"] = {"message": "no answer", "traceback": "", "traceback_ansi": ""}
    return made


def _sample_scores(sample: Row) -> Iterator[tuple[str, dict[str, Any]]]:
    for score in sample["scores"] or ():
        if score["value"] is not None and math.isfinite(score["value"]):
            yield _scorer(score), _known(score, "value", "answer", "explanation")


def _summary(made: dict[str, Any]) -> dict[str, Any]:
    """Returns what a viewer's list of samples has of one."""
    same = ("id", "epoch", "choices", "scores", "model_usage", "total_time")
    return {
        **{name: made[name] for name in same if name in made},
        "input": made["input"][:SUMMARY_LENGTH],
        "target": made["target"][:SUMMARY_LENGTH],
        "metadata": {name: value for name, value in made["metadata"].items() if name != "metadata_json"},
        "error": made["error"]["message"] if "error" in made else None,
        "completed": True,
        "message_count": len(made["messages"]),
    }


def _scorer(row: Row) -> str:
    return "/".join(part for part in (row["metric"], row["filter"]) if part)


def _usage(prompt_tokens: int | None, completion_tokens: int | None) -> dict[str, int]:
    """Returns tokens in Inspect's words; nothing unless both are known."""
    if prompt_tokens is None or completion_tokens is None:
        return {}
    total = prompt_tokens + completion_tokens
    return {"input_tokens": prompt_tokens, "output_tokens": completion_tokens, "total_tokens": total}


def _known(row: Row, *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names if row[name] is not None}
