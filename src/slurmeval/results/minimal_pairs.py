"""Minimal pairs from questions that one model has right and another wrong, for activation patching."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from slurmeval.results.browsing import AnswerTo, answers


def minimal_pairs(
    results: Path, right: str, wrong: str, benchmarks: Sequence[str] = ()
) -> Iterator[dict[str, str | None]]:
    """Yields a pair for each question that `right` answers right and `wrong` does not, where there is one.

    Its clean prompt is the question. The corrupted one is the question of the same benchmark with another
    answer that has as many words and differs in the fewest; `right` answers that right too. Whether both have
    the same number of tokens, the patched model's tokenizer tells.

    Raises:
        UserError: A model or benchmark is unknown, or has no results.
    """
    known: dict[tuple[str, int], list[AnswerTo]] = {}
    for answer in answers(results, right, benchmarks):
        if _usable(answer):
            known.setdefault(_kind(answer), []).append(answer)
    for answer in answers(results, right, benchmarks, different_from=wrong):
        if not _usable(answer):
            continue
        others = [each for each in known[_kind(answer)] if _first(each) != _first(answer)]
        if others:
            other = min(others, key=lambda each: _differing(answer, each))
            yield {
                "clean": answer.input,
                "corrupted": other.input,
                "answer": f" {_reference(answer)}",
                "wrong": f" {_reference(other)}",
                "id": f"{answer.benchmark} {answer.sample_uid}",
                "category": answer.category,
            }


def _usable(answer: AnswerTo) -> bool:
    return answer.wrong is False and answer.repeat_idx == 0 and bool(answer.input and _reference(answer))


def _reference(answer: AnswerTo) -> str:
    return (answer.reference or "").strip()


def _first(answer: AnswerTo) -> str:
    """Returns the first word of the reference: answers that begin alike are no two answers."""
    return _reference(answer).split()[0].casefold()


def _kind(answer: AnswerTo) -> tuple[str, int]:
    return answer.benchmark, len((answer.input or "").split())


def _differing(a: AnswerTo, b: AnswerTo) -> int:
    words = zip((a.input or "").split(), (b.input or "").split(), strict=True)
    return sum(one != other for one, other in words)
