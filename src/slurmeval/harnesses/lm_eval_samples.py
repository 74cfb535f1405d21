"""Files that lm-eval writes (0.4.8 and 0.4.13), and its samples.

`<output>/<model>/results_<time>.json` has the scores (`lm_eval_metrics`), `samples_<task>_<time>.jsonl` one
line for each question and filter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, StrictBool, StrictInt, ValidationError

from slurmeval.harnesses import cuts
from slurmeval.harnesses.base import Sample
from slurmeval.harnesses.lm_eval_lines import QuestionLines
from slurmeval.harnesses.lm_eval_questions import sample
from slurmeval.harnesses.nemo_readers.reading import json_value
from slurmeval.harnesses.scores import bad_result

_Whole = Annotated[StrictInt, Field(ge=0, lt=2**53)]


class _Task(BaseModel):
    output_type: str | None = None
    repeats: _Whole | None = None


class _Count(BaseModel):
    original: _Whole
    effective: _Whole


class _Results(BaseModel):
    """Parts of results_*.json that are read."""

    results: dict[str, dict[str, Any]]
    groups: dict[str, dict[str, Any]] | None = None
    group_subtasks: dict[str, list[str]] | None = None
    configs: dict[str, _Task] | None = None
    versions: dict[str, Any] | None = None
    higher_is_better: dict[str, dict[str, StrictBool | None]] | None = None
    counts: dict[str, _Count] | None = Field(None, alias="n-samples")


class LmEvalFiles:
    """Newest results under a folder, with the files of samples that belong to them."""

    def __init__(self, output: Path) -> None:
        """Reads the results and finds the samples.

        Raises:
            EvaluationFailed: There are no results, or they are malformed (bad_result).
        """
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
        self.cut = cuts.read(output.parent)


def _parsed(path: Path) -> dict[str, Any]:
    value = json_value(path)
    if not isinstance(value, dict) or not isinstance(value.get("results"), dict):
        raise bad_result(f"{path.name}: has no results")
    try:
        layout = _Results.model_validate(value)
        TopologicalSorter(layout.group_subtasks or {}).prepare()
        for task, scores in layout.results.items():
            "".join((task, *scores)).encode()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])).encode(errors="replace").decode()
        raise bad_result(f"{path.name}: not laid out as lm-eval does: {where}: {first['msg']}") from error
    except UnicodeEncodeError as error:
        raise bad_result(f"{path.name}: not laid out as lm-eval does: {task!r}: a name is no text") from error
    except CycleError as error:
        names = ", ".join(error.args[1])
        raise bad_result(f"{path.name}: not laid out as lm-eval does: group_subtasks: {names}") from error
    return value


class LmEvalSamples:
    """Samples of all questions, one for each, with the scores of all filters.

    They are made anew at each pass. Where a line is malformed, the pass ends in a bad result.
    """

    def __init__(self, files: LmEvalFiles) -> None:
        """Finds the lines of all questions.

        Raises:
            EvaluationFailed: A file does not have those of each question and filter (bad_result).
        """
        configs: dict[str, Any] = files.results.get("configs") or {}
        self._cut = files.cut
        self._kinds = {task: configs.get(task, {}).get("output_type") for task in files.samples}
        self._lines = {task: QuestionLines(path) for task, path in files.samples.items()}
        for task, lines in self._lines.items():
            _check_filters(files.results["results"].get(task, {}), lines)

    def n_asked(self) -> int:
        """Returns the number of requests: one for each choice, or for each repeat of a generation.

        Raises:
            EvaluationFailed: A line is malformed (bad_result).
        """
        return sum(sum(lines.each(_n_asked)) for lines in self._lines.values())

    def n_of(self, task: str) -> int:
        """Returns the number of samples of a task."""
        return len(self._lines.get(task, ()))

    def __len__(self) -> int:
        """Returns the number of samples."""
        return sum(len(lines) for lines in self._lines.values())

    def __iter__(self) -> Iterator[Sample]:
        """Yields the samples of one task after another, read anew."""
        for task, lines in self._lines.items():
            yield from lines.each(self._maker(task))

    def _maker(self, task: str) -> Callable[[list[dict[str, Any]]], Sample]:
        cut = None if self._cut is None else frozenset(self._cut.get(task, ()))
        return functools.partial(sample, task, self._kinds[task], cut)


def _n_asked(lines: list[dict[str, Any]]) -> int:
    return sum(map(len, lines[0]["resps"]))


def _check_filters(scores: dict[str, Any], lines: QuestionLines) -> None:
    """Checks that a filter with a score has lines.

    Raises:
        EvaluationFailed: It has none (bad_result).
    """
    scored = {key.partition(",")[2] for key in scores if "," in key and "_stderr," not in key}
    for name in sorted(scored - set(lines.filters)) if len(lines) else ():
        raise bad_result(f"{lines.path.name}: has no line of the filter {name}, of which there is a score")


def n_available(files: LmEvalFiles) -> int:
    """Returns how many questions the tasks have, whatever the limit; `check_counts` first."""
    return sum(count["original"] for count in files.results["n-samples"].values())


def check_counts(files: LmEvalFiles, samples: LmEvalSamples, limit: int | None) -> int:
    """Returns how many questions were to be asked.

    Raises:
        EvaluationFailed: lm-eval's own count does not fit the limit and the dataset, or the samples do not
            fit lm-eval's count (bad_result).
    """
    counts: dict[str, dict[str, int]] = files.results.get("n-samples") or {}
    if not counts:
        raise bad_result(f"{files.path.name}: has no n-samples")
    for task, count in counts.items():
        wanted = count["original"] if limit is None else min(limit, count["original"])
        found = samples.n_of(task)
        if not wanted == count["effective"] == found:
            raise bad_result(
                f"{files.path.name}: {task}: {wanted} questions were asked for, "
                f"lm-eval counts {count['effective']}, and there are samples of {found}"
            )
    return sum(count["effective"] for count in counts.values())
