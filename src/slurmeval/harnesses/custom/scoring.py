"""Whether an answer is right, or how near it is."""

from __future__ import annotations

import json
import re
import signal
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from slurmeval.config.questions import TEXT_KINDS, Scorer
from slurmeval.harnesses.custom.questions import LETTERS, Question
from slurmeval.texts.scoring import MetricName, of_answer

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+]?\.\d+")
_NAMED = re.compile(r"(?:answer|choice|option)\W{0,30}(?:is|:)?\W{0,30}([A-Z])\b(?![a-z'’])", re.IGNORECASE)
"""Without bounds, two runs of signs beside one another are tried in every division of a long one."""
_ALONE = re.compile(r"(?<![\w'’])\(?([A-Z])\)?(?=[.:,)\s]|$)")
_WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
"""Thai, Lao, Burmese and Khmer."""
AROUND = " .,;:!?\"'`*_()[]{}<>«»“”„‘’…¡¿。、，！？：；「」『』（）"
"""What may stand around an answer. No sign of a number is among it."""
PATTERN_TIMEOUT_S = 5.0
"""Processor time that a pattern may take on one answer. Some take time that doubles with each character."""


@dataclass(frozen=True)
class Scored:
    """What a scorer says of an answer."""

    value: float
    """1 if it is right, 0 if not; of json and texts how near it is, which for `ter` may be above 1."""
    read: str | None
    """What was compared; None: the answer could not be read."""


def score(scorer: Scorer, kind: str, question: Question, answer: str) -> Scored:
    """Returns whether an answer is right by a scorer of this kind. To be called in the main thread.

    Raises:
        TimeoutError: The scorer's pattern takes longer than PATTERN_TIMEOUT_S.
    """
    part = answer if scorer.pattern is None else _last_match(scorer.pattern, answer)
    if part is None:
        return Scored(0.0, None)
    if kind == "choice":
        letter = _letter(part, len(question.choices or LETTERS))
        return Scored(float(letter in question.references), letter)
    if kind == "number":
        return _number(scorer, question, part)
    if kind == "json":
        return _fields(scorer, question, part)
    if kind in TEXT_KINDS:
        return Scored(of_answer(cast(MetricName, kind), part, question.references) / 100, part.strip())
    read, wanted = _plain(part, scorer), [_plain(each, scorer) for each in question.references]
    if kind == "exact":
        return Scored(float(read in wanted), part.strip())
    return Scored(float(any(_holds(read, each) for each in wanted)), part.strip())


def by_likelihood(kind: str, question: Question, likelihoods: Sequence[float]) -> Scored:
    """Returns whether the likeliest choice is right: in all, or per byte of the choice."""
    choices = question.choices or []
    per_byte = kind == "likelihood_norm"
    lengths = [max(1, len(choice.encode())) if per_byte else 1 for choice in choices]
    values = [value / length for value, length in zip(likelihoods, lengths, strict=True)]
    letter = LETTERS[values.index(max(values))]
    return Scored(float(letter in question.references), letter)


def _last_match(pattern: str, answer: str) -> str | None:
    with _bounded():
        found = list(re.finditer(pattern, answer, re.MULTILINE))
    if not found:
        return None
    return found[-1].group(1 if found[-1].re.groups else 0)


@contextmanager
def _bounded() -> Iterator[None]:
    """Ends what takes too long: while it matches, `re` looks for signals."""

    def expire(number: int, frame: object) -> NoReturn:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, expire)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATTERN_TIMEOUT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def holds_number(text: str) -> bool:
    """Returns whether scorers of the kind number find one in a text."""
    return _NUMBER.search(text) is not None


def _number(scorer: Scorer, question: Question, part: str) -> Scored:
    found = _NUMBER.findall(part)
    if not found:
        return Scored(0.0, None)
    value = float(found[-1].replace(",", ""))
    wanted = (_NUMBER.findall(each) for each in question.references)
    right = (float(each[-1].replace(",", "")) for each in wanted if each)
    return Scored(float(any(abs(value - each) <= scorer.tolerance for each in right)), found[-1])


def _fields(scorer: Scorer, question: Question, part: str) -> Scored:
    """Returns the share of the fields that the answer's first JSON object has as a reference has them."""
    found = _json_object(part)
    if found is None:
        return Scored(0.0, None)
    try:
        read = json.dumps(found, ensure_ascii=False, sort_keys=True)
    except RecursionError:  # what can be read may be nested too deeply to be written
        return Scored(0.0, None)
    values = []
    for reference in question.references:
        wanted = _json_object(reference) or {}
        names = scorer.fields or list(wanted)
        same = [name in found and _is_same(found[name], wanted.get(name), scorer) for name in names]
        values.append(sum(same) / max(1, len(same)))
    return Scored(max(values), read)


def _json_object(text: str) -> dict[str, Any] | None:
    """Returns the first JSON object in a text, whatever stands around it."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
            return found if isinstance(found, dict) else None
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
    return None


def _is_same(value: Any, wanted: Any, scorer: Scorer) -> bool:
    """Returns whether two JSON values are the same: texts as elsewhere, numbers up to `tolerance`."""
    if isinstance(value, str) and isinstance(wanted, str):
        return _plain(value, scorer) == _plain(wanted, scorer)
    numbers = [
        each for each in (value, wanted) if isinstance(each, int | float) and not isinstance(each, bool)
    ]
    if len(numbers) == 2:
        try:
            return bool(abs(value - wanted) <= scorer.tolerance)
        except OverflowError:  # an integer beyond all floats
            return False
    return type(value) is type(wanted) and bool(value == wanted)


def _letter(answer: str, count: int) -> str | None:
    """Returns the letter that an answer names: after "answer is", else the first that stands alone."""
    letters = LETTERS[:count]
    named = [letter.upper() for letter in _NAMED.findall(answer) if letter.upper() in letters]
    alone = [letter for letter in _ALONE.findall(answer) if letter in letters]
    # "A" may be the article, and "I" a pronoun, unless nothing else is there
    sure = [letter for letter in alone if letter not in "AI"] or alone
    return named[-1] if named else alone[0] if len(answer.strip()) < 4 and alone else next(iter(sure), None)


def _plain(text: str, scorer: Scorer) -> str:
    """Returns a text without what a scorer leaves out of sight."""
    text = unicodedata.normalize("NFKC", text)
    if scorer.ignore_case:
        text = text.casefold()
    text = " ".join(text.split())
    return text.strip(AROUND) if scorer.ignore_punctuation else text


def _holds(text: str, part: str) -> bool:
    """Returns whether a text holds a part: as whole words, in scripts that write spaces between words."""
    before = r"(?<!\w)" if _is_spaced(part[:1]) else ""
    after = r"(?!\w)" if _is_spaced(part[-1:]) else ""
    return bool(part) and re.search(f"{before}{re.escape(part)}{after}", text) is not None


def _is_spaced(character: str) -> bool:
    """Returns whether a character belongs to words with spaces around them."""
    wide = unicodedata.east_asian_width(character or " ") in "WF"
    return character.isalnum() and not wide and _WITHOUT_SPACES.match(character) is None
