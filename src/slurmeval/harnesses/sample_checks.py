"""Checks of every harness's samples before they are put into tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slurmeval.harnesses.base import Sample
from slurmeval.harnesses.scores import bad_result, number

REPEATS_LIMIT = 2**31
"""What `repeat_idx` of a sample stays below."""


def well_formed(samples: list[Sample], harness: str) -> list[Sample]:
    """Returns the samples; scores that are no finite number become None.

    Raises:
        EvaluationFailed: A sample has something else than text for a text, or a list of choices (bad_result).
    """
    for sample in samples:
        texts = {"task": sample.task, "id": sample.native_id, "question": sample.input}
        maybe = {"answer": sample.output, "reference": sample.reference, "category": sample.category}
        texts |= {what: text for what, text in maybe.items() if text is not None}
        if not isinstance(sample.choices, list | None):
            raise bad_result(f"{harness}: choices of {sample.native_id} are {sample.choices!r:.80}, no list")
        texts |= {f"choice {place}": choice for place, choice in enumerate(sample.choices or ())}
        for what, text in texts.items():
            if not isinstance(text, str):
                raise bad_result(f"{harness}: {what} of {sample.native_id} is {text!r:.80}, not text")
        repeat = sample.repeat_idx
        if type(repeat) is not int or not 0 <= repeat < REPEATS_LIMIT:
            raise bad_result(f"{harness}: repeat of {sample.native_id} is {sample.repeat_idx!r:.80}")
        if sample.status not in ("ok", "error", "unparsed"):
            raise bad_result(f"{harness}: status of {sample.native_id} is {sample.status!r:.80}")
        for score in sample.scores:
            score.value = number(score.value)
    return samples


def complete(samples: Sequence[Sample], n_questions: int, repeats: int, harness: str) -> int:
    """Returns the number of samples: of each of so many questions there is each answer, once (`each_once`).

    Raises:
        EvaluationFailed: One is missing, or there is one too many (bad_result).
    """
    for sample in samples:
        if sample.repeat_idx >= repeats:
            reason = f"{sample.native_id} has the repeat {sample.repeat_idx}, of {repeats}"
            raise bad_result(f"{harness}: {reason}")
    wanted, questions = n_questions * repeats, len({sample.native_id for sample in samples})
    if len(samples) != wanted or questions != n_questions:
        raise bad_result(
            f"{harness}: {wanted} answers were asked for, and there are samples of {len(samples)}, "
            f"of {questions} questions"
        )
    return wanted


def each_once(samples: list[Sample], path: Path) -> list[Sample]:
    """Returns the samples. With one twice another one may be missing, though their number is right.

    Raises:
        EvaluationFailed: A sample is there twice (bad_result).
    """
    seen = set()
    for sample in samples:
        key = (sample.task, sample.native_id, sample.repeat_idx)
        if key in seen:
            raise bad_result(f"{path.name}: {sample.native_id}, repeat {sample.repeat_idx}, is there twice")
        seen.add(key)
    return samples
