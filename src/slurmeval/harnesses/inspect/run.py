"""Program that runs an Inspect task and writes what its log holds; it runs in Inspect's environment.

    python run.py order.json

It leaves the log itself in `logs/`, which `inspect view` opens, and beside the order `samples.jsonl`, a
line for each sample, then `results.json`. Both are made with Inspect's own reader. `harness.py` makes the
order.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SAMPLES, RESULTS, LOGS = "samples.jsonl", "results.json", "logs"
SELF = "self"
"""A role that the evaluated model itself takes."""
GRADER = "grader"
"""The role of Inspect's own judges. Where nobody has it, Inspect asks the evaluated model to judge itself."""
MAX_METADATA_CHARS = 4000


def no_grader(models: Any) -> Any:
    """Returns a model that refuses to judge, for benchmarks that name none."""

    @models.modelapi(name="slurmeval-no-grader")  # type: ignore[untyped-decorator]
    def provider() -> type:
        async def generate(self: Any, *arguments: Any, **more: Any) -> Any:
            raise ValueError("the task asks a judge: name one with extra.model_roles.grader")

        return type("NoGrader", (models.ModelAPI,), {"generate": generate})

    return models.get_model("slurmeval-no-grader/none")


def evaluated(order: dict[str, Any]) -> Any:
    """Runs the task. Returns the log's header, with its location."""
    inspect = importlib.import_module("inspect_ai")
    models = importlib.import_module("inspect_ai.model")
    # What tasks shuffle by Python's own generator is the same in each try, so that stored answers fit.
    random.seed(order["seed"])
    model = models.get_model(
        f"openai-api/slurmeval/{order['model']}", base_url=f"{order['url']}/v1", **order["model_args"]
    )
    roles: dict[str, Any] = {GRADER: no_grader(models)}
    roles |= {name: model if who == SELF else who for name, who in order["model_roles"].items()}
    epochs = inspect.Epochs(order["epochs"], order["reducers"])
    (log,) = inspect.eval(
        order["task"],
        model=model,
        model_roles=roles,
        epochs=epochs,
        log_dir=str(Path(LOGS).absolute()),
        log_format="eval",
        log_header_only=True,
        display="plain",
        fail_on_error=False,
        log_realtime=False,
        ctl_server=False,
        **order["arguments"],
    )
    return log


def text_of(message: Any) -> str:
    """Returns a message as it is shown: its role and its text, with the calls of tools."""
    calls = "".join(
        f"\n{call.function}({json.dumps(call.arguments, default=str)})"
        for call in getattr(message, "tool_calls", None) or ()
    )
    return f"{message.role}: {message.text}{calls}"


def input_of(sample: Any) -> str:
    """Returns what a sample asks."""
    if isinstance(sample.input, str):
        return sample.input
    return "\n\n".join(text_of(message) for message in sample.input)


def sample_line(sample: Any, to_float: Any) -> dict[str, Any]:
    """Returns what is kept of a sample."""
    asked = [event for event in sample.events if event.event == "model"]
    target = [sample.target] if isinstance(sample.target, str) else list(sample.target)
    metadata = json.dumps(sample.metadata, default=str)
    return {
        "id": str(sample.id),
        "epoch": sample.epoch,
        "input": input_of(sample),
        "choices": sample.choices,
        "target": target,
        "output": None if sample.output.empty else sample.output.completion,
        "stop_reason": None if sample.output.empty else sample.output.stop_reason,
        "prompts": ["\n\n".join(f"{m.role}: {m.text}" for m in event.input) for event in asked],
        "roles": {f"{event.role}": event.model for event in asked if event.role},
        "n_messages": len(sample.messages),
        "scores": {name: score_line(score, to_float) for name, score in (sample.scores or {}).items()},
        "error": sample.error and sample.error.message,
        "limit": sample.limit and sample.limit.type,
        "metadata": json.loads(metadata) if len(metadata) <= MAX_METADATA_CHARS else {},
    }


def score_line(score: Any, to_float: Any) -> dict[str, Any]:
    """Returns a score: its values by name (`""`: it has one), each a number or None."""
    values = score.value if isinstance(score.value, dict) else {"": score.value}
    return {
        "values": {name: number(value, to_float) for name, value in values.items()},
        "verdicts": [name for name, value in values.items() if isinstance(value, str | bool)],
        "answer": score.answer,
        "explanation": score.explanation,
    }


def number(value: Any, to_float: Any) -> float | None:
    """Returns a score's value as Inspect's own metrics read it; None: it is none, or unscored."""
    if not isinstance(value, str | bool | int | float):
        return None
    found = float(to_float(value))
    return found if found == found else None


def score_rows(log: Any) -> Iterator[dict[str, Any]]:
    """Yields the log's scores of the whole."""
    for score in log.results.scores:
        yield {
            "name": score.name,
            "scorer": score.scorer,
            "reducer": score.reducer,
            "n_scored": score.scored_samples,
            "n_unscored": score.unscored_samples,
            "metrics": [metric_row(key, metric) for key, metric in score.metrics.items()],
        }


def metric_row(key: str, metric: Any) -> dict[str, Any]:
    """Returns a metric; `of_group` is the group of samples that a grouped one is of."""
    grouped: dict[str, Any] = metric.params if metric.group == "grouped" else {}
    name = grouped["metric"]["name"] if grouped else metric.name
    return {
        "key": key,
        "name": name.rpartition("/")[2],
        "value": metric.value,
        "of_group": metric.name if grouped and metric.name != grouped.get("all_label", "all") else None,
        "over_groups": bool(grouped) and grouped.get("all", "samples") != "samples",
    }


def main(path: Path) -> int:
    """Runs an order. Returns 0 with results.json, and 1 where the task failed, with the reason printed."""
    order = json.loads(path.read_text("utf-8"))
    log = evaluated(order)
    if log.status != "success":
        reason = log.error.message.strip().splitlines() if log.error else []
        print(f"TaskError: the task ended as '{log.status}': {next(iter(reason), 'no reason is given')}")
        return 1
    logs = importlib.import_module("inspect_ai.log")
    if log.results is None:
        sample = next(logs.read_eval_log_samples(log.location, all_samples_required=False), None)
        reason = sample.error.message if sample is not None and sample.error else "no sample has a score"
        print(f"TaskError: every sample failed; the first: {reason}")
        return 1
    to_float = importlib.import_module("inspect_ai.scorer").value_to_float()
    with (path.parent / SAMPLES).open("w", encoding="utf-8", newline="\n") as stream:
        for sample in logs.read_eval_log_samples(
            log.location, all_samples_required=False, resolve_attachments=True
        ):
            stream.write(json.dumps(sample_line(sample, to_float), default=str) + "\n")
    results = {
        "scores": list(score_rows(log)),
        "n_samples": log.results.total_samples,
        "dataset": {"name": log.eval.dataset.name, "n_samples": log.eval.dataset.samples},
        "task_version": str(log.eval.task_version),
        "task": log.eval.task,
        "sandbox": log.eval.sandbox and log.eval.sandbox.type,
        "model": log.eval.model,
    }
    written = path.parent / f"{RESULTS}.part"
    written.write_text(json.dumps(results, default=str), "utf-8")
    written.rename(path.parent / RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
