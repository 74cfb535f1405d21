"""Single answers of a model: those that were wrong, that differ from another model's, that hold a text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmeval.errors import UserError
from slurmeval.results import frames
from slurmeval.results.comparison import ended_well, primary_metrics
from slurmeval.results.questions import Row

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = (
    *("sample_uid", "repeat_idx", "native_id", "task", "category", "input", "choices", "reference"),
    *("output", "reasoning", "status", "finish_reason", "completion_tokens"),
)
_SEARCHED = ("input", "reference", "output", "reasoning")
_Key = tuple[str, int]
"""`sample_uid` and `repeat_idx`."""


@dataclass(frozen=True)
class AnswerTo:
    """One answer to one question. Its fields are columns of `samples`, where they have their names."""

    model: str
    benchmark: str
    sample_uid: str
    repeat_idx: int
    native_id: str | None
    task: str | None
    category: str | None
    input: str | None
    choices: list[str] | None
    reference: str | None
    output: str | None
    reasoning: str | None
    status: str
    finish_reason: str | None
    completion_tokens: int | None
    metric: str | None = None
    """The benchmark's primary metric; None: it has none."""
    value: float | None = None
    """Its score; None: there is none."""
    wrong: bool | None = None
    """Whether it is less than right; None: there is no score."""
    read_as: str | None = None
    """What the harness read in the answer."""
    other: AnswerTo | None = None
    """The other model's answer to the question."""

    @property
    def key(self) -> _Key:
        """What tells it from the benchmark's other answers, for every model."""
        return self.sample_uid, self.repeat_idx


def answers(
    results: Path,
    model: str,
    benchmarks: Sequence[str] = (),
    wrong: bool = False,
    different_from: str | None = None,
    search: str | None = None,
) -> Iterator[AnswerTo]:
    """Yields a model's answers in the order of the tables. One row group is in memory at a time.

    Args:
        results: The results folder, or the project folder that holds it as `results`.
        model: The model's id in the config.
        benchmarks: Benchmarks' ids; none: all that it ended well in.
        wrong: Only answers whose score is less than that of a right one.
        different_from: Only answers to which this model's to the same question is scored otherwise.
        search: Only samples with this text in question, reference, answer or reasoning, in any case.

    Raises:
        UserError: A model or benchmark is unknown, or has no results.
        SchemaDrift: The results are of another version.
    """
    results = frames.results_folder(results)
    primary = primary_metrics(results)
    for benchmark in _benchmarks(results, model, benchmarks, different_from):
        others: dict[_Key, float | None] = {}
        if different_from is not None:
            others = _values(results, different_from, benchmark, primary.get((different_from, benchmark)))
        for answer in _answers(results, model, benchmark, primary.get((model, benchmark)), search):
            if wrong and answer.wrong is not True:
                continue
            if different_from is None or others.get(answer.key, answer.value) != answer.value:
                yield answer


def beside(results: Path, found: Sequence[AnswerTo], other: str) -> list[AnswerTo]:
    """Returns answers with those of another model to the same questions."""
    results = frames.results_folder(results)
    primary = primary_metrics(results)
    theirs: dict[tuple[str, _Key], AnswerTo] = {}
    for benchmark in dict.fromkeys(each.benchmark for each in found):
        keys = {each.key for each in found if each.benchmark == benchmark}
        for each in _answers(results, other, benchmark, primary.get((other, benchmark)), None):
            if each.key in keys:
                theirs[benchmark, each.key] = each
    return [replace(each, other=theirs.get((each.benchmark, each.key))) for each in found]


def _benchmarks(
    results: Path, model: str, benchmarks: Sequence[str], different_from: str | None
) -> list[str]:
    """Returns the benchmarks to look at. Raises UserError on unknown names, and where nothing ended well."""
    ended = ended_well(results)
    known = list(dict.fromkeys(name for name, _ in ended))
    for name in filter(None, (model, different_from)):
        if name not in known:
            raise UserError(
                f"unknown model '{name}'; with results in {results}: {', '.join(known) or 'none'}"
            )
    if model == different_from:
        raise UserError(f"'{model}' does not differ from itself; name another model of {', '.join(known)}")
    needed = [name for name in (model, different_from) if name is not None]
    both = [benchmark for name, benchmark in ended if name == model]
    both = [benchmark for benchmark in both if all((name, benchmark) in ended for name in needed)]
    for benchmark in benchmarks:
        if benchmark not in both:
            of, there = " and ".join(needed), ", ".join(both) or "none"
            raise UserError(f"no results of {of} on '{benchmark}'; there are: {there}")
    return [benchmark for benchmark in both if not benchmarks or benchmark in benchmarks]


def _answers(
    results: Path, model: str, benchmark: str, metric: Row | None, search: str | None
) -> Iterator[AnswerTo]:
    path = results / "samples" / model / f"{benchmark}.parquet"
    for rows in frames.sample_groups(path, [*_COLUMNS, "scores"]):
        for row in (rows if search is None else _holding(rows, search)).to_pylist():
            scores = row.pop("scores") or []
            yield AnswerTo(model, benchmark, **row, **_scored(scores, metric))


def _values(results: Path, model: str, benchmark: str, metric: Row | None) -> dict[_Key, float | None]:
    path = results / "samples" / model / f"{benchmark}.parquet"
    return {
        (row["sample_uid"], row["repeat_idx"]): _scored(row["scores"] or [], metric).get("value")
        for rows in frames.sample_groups(path, ["sample_uid", "repeat_idx", "scores"])
        for row in rows.to_pylist()
    }


def _holding(rows: pa.Table, text: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pa.array([False] * len(rows))
    for name in _SEARCHED:
        held = pc.match_substring(rows[name], text, ignore_case=True)
        found = pc.or_(found, pc.fill_null(held, False))
    return rows.filter(found)


def _scored(scores: Sequence[dict[str, Any]], metric: Row | None) -> dict[str, Any]:
    """Returns the fields that say what the primary metric gave an answer."""
    if metric is None:
        return {}
    key = metric["metric"], metric["filter"]
    score = next((each for each in scores if (each["metric"], each["filter"]) == key), None)
    if score is None:
        return {"metric": metric["metric"]}
    value, wrong = score["value"], None
    if value is not None and not math.isfinite(value):
        value = None
    if score["correct"] is not None:
        wrong = not score["correct"]
    elif value is not None:
        wrong = value > 0 if metric["higher_is_better"] is False else value < 1
    return {"metric": metric["metric"], "value": value, "wrong": wrong, "read_as": score["answer"]}
