"""What a judge has said: grades, or which answer is better. What cannot be read is unscored, never wrong."""

from __future__ import annotations

import re
from typing import Literal

from slurmeval.config.judging import RubricDimension

Winner = Literal["A", "B", "tie"]

_THOUGHTS_END = "</think>"
_AROUND = r"[\s*_`\"'\[\](){}<>«»“”|]*"
_VERDICT = re.compile(
    rf"(?:verdict|winner|better answer){_AROUND}(?:[:=：]|\bis\b){_AROUND}(?:answer\s+)?"
    r"(a tie|tie|equal|both|neither|a|b)(?![\w'’])|\[\[\s*(a|b|c|tie)\s*\]\]",
    re.IGNORECASE,
)
_NUMBER = r"(-?\d{1,9}(?:[.,]\d{1,9})?)(?![\w.]*\w)"
"""With bounds: of a long run of digits each part would be tried before what follows it."""
_ALTERNATIVES = r"(?!\s*(?:,|-|–|/\s*\d+\s*/|\bor\b|\bto\b)\s*\d)"
"""After a grade: not one of several, as where a judge repeats the question."""


def spoken(text: str) -> str:
    """Returns what a judge says once it has thought."""
    return text.rpartition(_THOUGHTS_END)[2]


def grade(text: str, name: str, dimension: RubricDimension, alone: bool = False) -> int | None:
    """Returns the last grade that a verdict gives for a dimension; None: none that the rubric has.

    Args:
        text: The whole verdict.
        name: The dimension's name.
        dimension: What grades there are.
        alone: Whether it is the only dimension: `grade: 3` and `[[3]]` will then do, too.
    """
    words = [re.escape(name).replace("_", r"[\s_]").replace(r"\-", r"[\s-]")]
    if alone:
        words += ["grade", "score", "rating"]
    named = rf"(?<![\w-])(?:{'|'.join(words)}){_AROUND}[:=：]{_AROUND}{_NUMBER}{_ALTERNATIVES}"
    bracketed = rf"|\[\[\s*{_NUMBER}\s*\]\]" if alone else ""
    found = list(re.finditer(named + bracketed, spoken(text), re.IGNORECASE))
    if not found:
        return None
    said = next(group for group in found[-1].groups() if group is not None)
    value = float(said.replace(",", "."))
    return int(value) if value in dimension.meanings else None


def winner(text: str) -> Winner | None:
    """Returns the last verdict on two answers; None: there is none."""
    found = _VERDICT.findall(spoken(text))
    if not found:
        return None
    said = "".join(found[-1]).upper()
    if said == "A":
        return "A"
    return "B" if said == "B" else "tie"


def won(first: Winner | None, second: Winner | None) -> float | None:
    """Returns whether the judged answer won, from the verdicts in both orders: 1, 0, or 0.5 for a tie.

    It was A in the first and B in the second. Verdicts that disagree are a tie; with an unreadable one there
    is none.
    """
    if first is None or second is None:
        return None
    if (first, second) == ("A", "B"):
        return 1.0
    return 0.0 if (first, second) == ("B", "A") else 0.5
