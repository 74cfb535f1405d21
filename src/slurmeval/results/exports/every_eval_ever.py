"""Every Eval Ever 0.3: a JSON record of each evaluation, and its samples as JSON lines beside it.

The format: https://github.com/evaleval/every_eval_ever. Files lie as in its data store, so that they can be
sent there.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slurmeval.results.exporting import hub_dataset, is_external, listed, number_of, repository, served

if TYPE_CHECKING:
    from pathlib import Path

    from slurmeval.results.exporting import Row, Run

VERSION = "0.3.0"
UNKNOWN = "unknown"


def export(run: Run, folder: Path) -> Iterator[str]:
    """Writes `data/<benchmark>/<developer>/<model>/<uuid>.json`, and `<uuid>_samples.jsonl`."""
    scoreless, other, nameless = [], [], list[str]()
    for row in run.ended:
        record = _Record(run, row)
        pair = f"{row['model']} on {row['benchmark']}"
        if not record.numbers:
            scoreless.append(pair)
            continue
        if n_other := record.write(folder):
            other.append(f"{pair} ({n_other:,})")
        if record.developer == UNKNOWN:
            nameless.append(row["model"])
    if scoreless:
        yield f"left out, no score: {listed(scoreless)}"
    if other:
        yield f"scores of samples left out, not of right or wrong: {listed(other)}"
    if nameless:
        yield f"weights of no repository, so the developer is unknown: {listed([*dict.fromkeys(nameless)])}"
    yield "who evaluated is not in the results: fill in source_organization_name and evaluator_relationship"


@dataclass(frozen=True)
class _Record:
    """One evaluation in the terms of the format."""

    run: Run
    row: Row

    @cached_property
    def numbers(self) -> list[tuple[Row, float]]:
        """The metrics that have a number, with it."""
        found = self.run.metrics_of.get((self.row["model"], self.row["benchmark"]), ())
        return [(metric, number) for metric in found if (number := number_of(metric)) is not None]

    @cached_property
    def model_id(self) -> str:
        """The repository of the weights; where they have none, the model's id in the config."""
        return repository(self.row) or str(self.row["model"])

    @property
    def developer(self) -> str:
        return self.model_id.split("/")[0] if "/" in self.model_id else UNKNOWN

    @cached_property
    def id(self) -> str:
        """The record's id. Exporting again gives the same one: the time is that of the evaluation's end."""
        return f"{self.row['benchmark']}/{self.model_id.replace('/', '_')}/{self._ended}"

    @cached_property
    def _ended(self) -> str:
        return str(self.row["ended_at"].timestamp())

    def write(self, folder: Path) -> int:
        """Writes both files. Returns how many scores of samples are no line of theirs."""
        name = uuid.UUID(bytes=hashlib.sha256(self.id.encode()).digest()[:16], version=4)
        model = self.model_id.split("/")[-1]
        place = f"data/{self.row['benchmark']}/{self.developer}/{model}"
        (folder / place).mkdir(parents=True)
        samples = folder / place / f"{name}_samples.jsonl"
        digest, n_rows, n_other = hashlib.sha256(), 0, 0
        with samples.open("wb") as stream:
            for line in self._lines():
                if line is None:
                    n_other += 1
                    continue
                # ASCII alone: the format's own reader splits lines at U+2028 and others
                data = json.dumps(line, allow_nan=False).encode() + b"\n"
                digest.update(data)
                stream.write(data)
                n_rows += 1
        record = self._record()
        if n_rows:
            record["detailed_evaluation_results"] = {
                "format": "jsonl",
                "file_path": f"{place}/{samples.name}",
                "hash_algorithm": "sha256",
                "checksum": digest.hexdigest(),
                "total_rows": n_rows,
            }
        else:
            samples.unlink()
        text = json.dumps(record, indent=1, allow_nan=False)
        (folder / place / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        return n_other

    def _record(self) -> dict[str, Any]:
        row = self.row
        return {
            "schema_version": VERSION,
            "evaluation_id": self.id,
            "evaluation_timestamp": (row["started_at"] or row["ended_at"]).isoformat(),
            "retrieved_timestamp": self._ended,
            "source_metadata": {
                "source_name": "slurmeval",
                "source_type": "evaluation_run",
                "source_organization_name": UNKNOWN,
                "evaluator_relationship": "other",
            },
            "model_info": self._model_info(),
            "eval_library": {
                "name": row["harness"],
                "version": row["harness_version"] or UNKNOWN,
                "additional_details": _texts(
                    row, "versions_json", "environment_sha256", "slurmeval_version", "workflow_commit"
                ),
            },
            "evaluation_results": [self._result(metric, number) for metric, number in self.numbers],
        }

    def _model_info(self) -> dict[str, Any]:
        row = self.row
        details = _texts(row, "model_revision", "model_sha256")
        details["served"] = json.dumps(served(row))
        staged = UNKNOWN if row["model_source"] is None else "self_deployed"
        details["deployment_type"] = "externally_managed" if is_external(row) else staged
        details["model_availability"] = UNKNOWN if self.developer == UNKNOWN else "open_weights"
        known: dict[str, Any] = {"name": row["model"], "id": self.model_id, "additional_details": details}
        if self.developer != UNKNOWN:
            known["developer"] = self.developer
        engine = served(row)["engine"]
        name = engine.get("name", "vllm")
        if name in engine:
            known["inference_engine"] = {"name": name, "version": engine[name]}
        return known

    def _result(self, metric: Row, number: float) -> dict[str, Any]:
        row = self.row
        sampling = {name: row[name] for name in ("temperature", "top_p", "max_tokens")}
        result: dict[str, Any] = {
            "evaluation_result_id": self._result_id(metric),
            "evaluation_name": _name(metric),
            "source_data": self._source_data | {"dataset_name": metric["task"]},
            "metric_config": _metric_config(metric),
            "score_details": {
                "score": number,
                "details": _texts(
                    metric,
                    "harness_value",
                    "recomputed_value",
                    "n_unanswered",
                    "bound_lo",
                    "bound_hi",
                    "chance",
                ),
            },
            "generation_config": {
                "generation_args": {name: value for name, value in sampling.items() if value is not None},
                "additional_details": _texts(
                    row, "endpoint", "few_shot", "limit", "n_repeats", "parameters_json"
                ),
            },
        }
        if uncertainty := _uncertainty(metric):
            result["score_details"]["uncertainty"] = uncertainty
        return result

    @cached_property
    def _source_data(self) -> dict[str, Any]:
        details = _texts(self.row, "datasets_json", "task_version", "task_sha256")
        data, _ = hub_dataset(self.run, self.row)
        kind = {"source_type": "other"} if data is None else {"source_type": "hf_dataset", "hf_repo": data}
        return {**kind, "additional_details": details}

    def _result_id(self, metric: Row) -> str:
        parts = (metric["task"], metric["subset"], metric["metric"], metric["filter"])
        return "#".join([self.id, *(part or "" for part in parts)])

    def _lines(self) -> Iterator[dict[str, Any] | None]:
        """Yields a line for each score of a sample; None for one that is not of right or wrong."""
        shares = [metric for metric, _ in self.numbers if metric["value"] is not None]
        of_whole = {(metric["metric"], metric["filter"]): metric for metric in shares if metric["is_primary"]}
        of_task = {(m["task"], m["metric"], m["filter"]): m for m in shares if m["subset"] is None}
        for sample in self.run.samples(self.row["model"], self.row["benchmark"]):
            for score in sample["scores"] or ():
                read = (score["metric"], score["filter"])
                metric = of_task.get((sample["task"], *read)) or of_whole.get(read)
                if metric is None or score["value"] is None or not math.isfinite(score["value"]):
                    yield None
                else:
                    yield self._line(sample, score, metric)

    def _line(self, sample: Row, score: Row, metric: Row) -> dict[str, Any]:
        names = ("sample_uid", "repeat_idx", "task", "category", "status", "finish_reason", "cut")
        reference = [] if sample["reference"] is None else [sample["reference"]]
        hashed = json.dumps({"raw": sample["input"], "reference": sample["reference"] or ""}, sort_keys=True)
        line: dict[str, Any] = {
            "schema_version": VERSION,
            "evaluation_id": self.id,
            "model_id": self.model_id,
            "evaluation_name": _name(metric),
            "evaluation_result_id": self._result_id(metric),
            "sample_id": sample["native_id"] or sample["sample_uid"],
            "sample_hash": hashlib.sha256(hashed.encode()).hexdigest(),
            "interaction_type": "single_turn",
            "input": {"raw": sample["input"] or "", "reference": reference, "choices": sample["choices"]},
            "output": {"raw": [] if sample["output"] is None else [sample["output"]]},
            "answer_attribution": [] if score["answer"] is None else [_attribution(score)],
            "evaluation": {
                "score": score["value"],
                "is_correct": score["value"] >= 1 if score["correct"] is None else score["correct"],
            },
            "error": "no answer" if sample["status"] == "error" else None,
            "metadata": _texts(sample, *names),
        }
        if sample["reasoning"] is not None:
            line["output"]["reasoning_trace"] = [sample["reasoning"]]
        tokens = sample["prompt_tokens"], sample["completion_tokens"]
        if None not in tokens:
            kinds = ("input_tokens", "output_tokens", "total_tokens")
            line["token_usage"] = dict(zip(kinds, (*tokens, sum(tokens)), strict=True))
        if sample["latency_ms"] is not None:
            line["performance"] = {"latency_ms": sample["latency_ms"]}
        return line


def _metric_config(metric: Row) -> dict[str, Any]:
    config: dict[str, Any] = {
        "metric_id": metric["metric"],
        "metric_name": metric["metric"],
        "lower_is_better": metric["higher_is_better"] is False,
        "metric_parameters": {"filter": metric["filter"]} if metric["filter"] else {},
        "additional_details": _texts(metric, "is_primary", "is_group", "mean_of", "mismatch"),
    }
    if metric["value"] is not None:
        config |= {"metric_unit": "proportion", "score_type": "continuous", "min_score": 0, "max_score": 1}
    return config


def _uncertainty(metric: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if metric["value"] is None:
        return found
    if metric["se"] is not None:
        found["standard_error"] = {"value": metric["se"], "method": metric["se_method"] or UNKNOWN}
    if metric["ci_lo"] is not None:
        found["confidence_interval"] = {
            "lower": metric["ci_lo"],
            "upper": metric["ci_hi"],
            "confidence_level": metric["ci_level"],
            "method": metric["ci_method"],
        }
    if metric["n_items"] is not None:
        found["num_samples"] = metric["n_items"]
    return found


def _attribution(score: Row) -> dict[str, Any]:
    return {
        "turn_idx": 0,
        "source": "output.raw",
        "extracted_value": score["answer"],
        "extraction_method": score["filter"] or score["metric"],
        "is_terminal": True,
    }


def _name(metric: Row) -> str:
    return "/".join(part for part in (metric["task"], metric["subset"]) if part)


def _texts(row: Mapping[str, Any], *names: str) -> dict[str, str]:
    """Returns columns as the format wants details: texts, and only what is known."""
    return {name: str(row[name]) for name in names if row[name] is not None}
