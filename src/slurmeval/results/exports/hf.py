"""The Hugging Face Hub: a model card's `model-index`, and the files of `.eval_results` for leaderboards.

The formats: https://huggingface.co/docs/hub/model-cards and https://huggingface.co/docs/hub/eval-results.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import yaml

from slurmeval.results.exporting import hub_dataset, listed, number_of, settings

if TYPE_CHECKING:
    from pathlib import Path

    from slurmeval.results.exporting import Row, Run

TASK_TYPE = "text-generation"
"""The Hub's word for what all these models do."""


def export(run: Run, folder: Path) -> Iterator[str]:
    """Writes `<model>/model-index.yaml` and `<model>/.eval_results/<benchmark>.yaml`."""
    from huggingface_hub import EvalResult, ModelCardData

    no_score, no_dataset, limited = [], [], []
    cards: dict[str, list[Any]] = {}
    for row in run.ended:
        metric = run.primary(row["model"], row["benchmark"])
        number = None if metric is None else number_of(metric)
        pair = f"{row['model']} on {row['benchmark']}"
        if metric is None or number is None:
            no_score.append(pair)
            continue
        data, revision = hub_dataset(run, row)
        result = EvalResult(
            task_type=TASK_TYPE,
            dataset_type=data or row["task"],
            dataset_name=row["benchmark"],
            dataset_revision=revision,
            metric_type=metric["metric"],
            metric_name=_words(metric),
            metric_value=number,
            metric_config=settings(row),
        )
        cards.setdefault(row["model"], []).append(result)
        if data is None:
            no_dataset.append(pair)
        elif row["limit"] is not None:
            limited.append(pair)
        else:
            place = folder / row["model"] / ".eval_results" / f"{row['benchmark']}.yaml"
            _write(place, [_entry(row, metric, number, data, revision)])
    for model, results in cards.items():
        card = ModelCardData(model_name=model, eval_results=results)
        _write(folder / model / "model-index.yaml", card.to_dict())
    if no_score:
        yield f"left out, no score: {listed(no_score)}"
    if no_dataset:
        yield f"not in .eval_results, read no single dataset of the Hub: {listed(no_dataset)}"
    if limited:
        yield f"not in .eval_results, asked the first questions only: {listed(limited)}"


def _entry(row: Row, metric: Row, number: float, data: str, revision: str | None) -> dict[str, Any]:
    notes = f"{_words(metric)}; {settings(row)}; {row['harness']} {row['harness_version'] or ''}".strip()
    dataset = {"id": data, "task_id": row["task"]} | ({"revision": revision} if revision else {})
    return {"dataset": dataset, "value": number, "date": row["ended_at"].isoformat(), "notes": notes}


def _words(metric: Row) -> str:
    """Returns a metric's name with what a number alone does not say."""
    words = f"{metric['metric']} ({metric['filter']})" if metric["filter"] else str(metric["metric"])
    if metric["ci_lo"] is not None:
        words += f", 95 % interval {metric['ci_lo']:.3f}–{metric['ci_hi']:.3f}"
    return words + (f", {metric['n_items']:,} questions" if metric["n_items"] is not None else "")


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")
