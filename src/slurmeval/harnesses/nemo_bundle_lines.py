"""Samples of a bundle of NeMo Evaluator 0.3 and later (`results.jsonl`), read as they are needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slurmeval.config.yaml_files import shown
from slurmeval.errors import EvaluationFailed
from slurmeval.harnesses.base import Sample, Score
from slurmeval.harnesses.nemo_readers.reading import text_of
from slurmeval.harnesses.scores import bad_result, number

_NO_ANSWER = ("infra_error", "system")
"""Errors after which there is no answer, whatever text is left; after others there may be one."""
_LARGEST = 2**31
_KEPT = ("tokens", "latency_ms", "scoring_details", "metadata")
"""What else is kept of an answer. Trajectories are not: they may be megabytes each."""


def parsed(where: str, text: bytes) -> Any:
    """Returns a JSON value; what JSON does not know (NaN) is None.

    Raises:
        EvaluationFailed: The text is no JSON (bad_result).
    """
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise bad_result(f"{where}: not JSON: {error}") from error


def clean(text: str) -> str:
    """Returns the text without lone surrogates, which Parquet cannot hold."""
    return text.encode("utf-8", "replace").decode()


class Mapped:
    """Mapping of a file. A value of another kind than expected is a bad result that names file and key."""

    def __init__(self, where: str, values: Any, key: str = "") -> None:
        """Takes a mapping from the place `where`."""
        self.where, self.key = where, key
        if not isinstance(values, dict):
            raise bad_result(f"{where}: {key.rstrip('.')}{': ' if key else ''}expected a mapping")
        self.values: dict[str, Any] = values

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the value of a key, or `default` where it is not there."""
        return self.values.get(key, default)

    def wrong(self, key: str, wanted: str) -> EvaluationFailed:
        """Returns the failure that says what was found and what was expected."""
        found = shown(self.values[key]) if key in self.values else "is missing"
        return bad_result(f"{self.where}: {self.key}{shown(key)[1:-1]}: {found}; expected {wanted}")

    def part(self, key: str) -> Mapped:
        """Returns the mapping under a key.

        Raises:
            EvaluationFailed: There is none (bad_result).
        """
        return Mapped(self.where, self.get(key), f"{self.key}{shown(key)[1:-1]}.")

    def text(self, key: str) -> str:
        """Returns the text under a key.

        Raises:
            EvaluationFailed: There is none (bad_result).
        """
        value = self.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "text")
        return value

    def count(self, key: str, least: int = 0, default: int | None = None) -> int:
        """Returns the whole number under a key.

        Raises:
            EvaluationFailed: There is none (bad_result).
        """
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _LARGEST:
            raise self.wrong(key, f"a whole number from {least}")
        return value

    def real(self, key: str) -> float:
        """Returns the number under a key.

        Raises:
            EvaluationFailed: There is none (bad_result).
        """
        value = number(self.get(key))
        if value is None:
            raise self.wrong(key, "a finite number")
        return value

    def maybe(self, key: str, whole: bool = False) -> Any:
        """Returns the number under a key that may be missing.

        Raises:
            EvaluationFailed: There is something else (bad_result).
        """
        return None if self.get(key) is None else self.count(key) if whole else self.real(key)


class BundleSamples:
    """Samples of `results.jsonl`, in the order in which they ended.

    Each pass reads the file anew, since it may be larger than memory. Kept are a number for each answer, and
    the names of categories.
    """

    def __init__(self, path: Path, task: str, carried: Sequence[str], contained: bool) -> None:
        """Takes the file, which is read at each pass."""
        self.path, self.task, self.carried, self.contained = path, task, carried, contained
        self.rewards: dict[str, dict[int, float]] = {}
        """By problem and repeat."""
        self.scorers: dict[str, set[str]] = {}
        """The problems that each further scorer scored."""
        self.categories: dict[str, set[str]] = {}
        """The problems of each category."""
        self.length = 0

    def tally(self) -> None:
        """Reads the file once.

        Raises:
            EvaluationFailed: A line is no answer, or an answer is there twice (bad_result).
        """
        for row in self._rows():
            sample = self._sample(row)
            answers = self.rewards.setdefault(sample.native_id, {})
            if sample.repeat_idx in answers:
                reason = f"problem_idx {sample.native_id}, repeat {sample.repeat_idx} is there twice"
                raise bad_result(f"{row.where}: {reason}")
            answers[sample.repeat_idx] = number(row.get("reward")) or 0.0
            for score in sample.scores:
                self.scorers.setdefault(score.metric, set()).add(sample.native_id)
            if sample.category:
                self.categories.setdefault(sample.category, set()).add(sample.native_id)
            self.length += 1

    def __len__(self) -> int:
        """Returns the number of answers."""
        return self.length

    def __iter__(self) -> Iterator[Sample]:
        """Yields the samples, read anew."""
        return map(self._sample, self._rows()) if self.length else iter(())

    def _rows(self) -> Iterator[Mapped]:
        seen: dict[str, int] = {}
        try:
            stream = self.path.open("rb")
        except FileNotFoundError as error:
            raise bad_result(f"{self.path}: is missing; bundles have it beside them") from error
        with stream:
            for position, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                where = f"{self.path}:{position}"
                row = Mapped(where, parsed(where, line))
                if self.contained and "id" in row.values:
                    # `nel` gives every answer of NeMo Skills a number of its own, those to one question too
                    native = str(row.values["id"])
                    row.values |= {"problem_idx": native, "repeat": seen.get(native, 0)}
                    seen[native] = seen.get(native, 0) + 1
                yield row

    def _sample(self, row: Mapped) -> Sample:
        index = row.get("problem_idx")
        if isinstance(index, bool) or not isinstance(index, int | str):
            raise row.wrong("problem_idx", "a whole number")
        # A container's answer may have no verdict of its own
        reward = None if self.contained and row.get("reward") is None else row.real("reward")
        details, metadata = _mapping(row, "scoring_details"), _mapping(row, "metadata")
        output, error = text_of(row.get("model_response")), details.get("error_category")
        lost = bool(error) and (not output or error in _NO_ANSWER)
        category = text_of(metadata.get("category", details.get("category")))
        answer = text_of(row.get("extracted_answer"))
        correct = bool(reward) if reward in (0.0, 1.0) and not lost else None
        scores = (
            [] if reward is None else [Score(name, reward, None, correct, answer) for name in self.carried]
        )
        for name, value in _mapping(row, "scorer_rewards").items():
            scores.append(Score(clean(name), number(value)))
        return Sample(
            native_id=clean(str(index)),
            task=self.task,
            # What has no text is told from others by its number, which is the same for every model
            input=text_of(row.get("prompt")) or f"(no text is given) problem_idx {index}",
            output=None if lost else output,
            repeat_idx=row.count("repeat", default=0),
            category=clean(category) if category else None,
            reference=text_of(row.get("expected_answer")),
            scores=scores,
            status="error" if lost or output is None else "ok",
            # The joining of requests looks for names of its own in metadata: a bundle's lie one deeper
            metadata={name: row.get(name) for name in _KEPT if row.get(name)},
        )


def _mapping(row: Mapped, key: str) -> dict[str, Any]:
    value = row.get(key) or {}
    if not isinstance(value, dict):
        raise row.wrong(key, "a mapping")
    return value
