"""Minimal pairs: prompts that differ in a word, with the answers that the difference makes.

`KINDS` are slurmeval's own, from templates whose words are one token in most vocabularies, so that both
prompts have the same tokens but for the words that differ. Of one's own they are JSON lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from slurmeval.errors import UserError
from slurmeval.harnesses.custom.questions import rows

OWN = "pairs"
"""The task that reads one's own pairs."""
KEYS = ("clean", "corrupted", "answer", "wrong")
Line = dict[str, str]

_NAMES = ("Mary", "John", "Tom", "Anna", "Peter", "Sarah", "James", "Kate")
_PLACES = (("store", "drink"), ("park", "book"), ("school", "pen"), ("office", "letter"))
_SUBJECTS = ("weather", "food", "price", "team", "work", "news", "water", "music")
_TIMES = ("week", "month", "year", "summer")
_NOUNS = ("dog", "car", "book", "girl", "boy", "house", "river", "teacher")
_NEAR = ("old tree", "tall man", "small door", "blue lake")
_CAPITALS = (
    *(("France", "Paris"), ("Italy", "Rome"), ("Japan", "Tokyo"), ("Russia", "Moscow"), ("China", "Beijing")),
    *(("England", "London"), ("Spain", "Madrid"), ("Egypt", "Cairo"), ("Germany", "Berlin")),
)
_HABITS = ("late", "angry", "tired", "happy", "hungry", "busy", "quiet", "sick")


def _line(clean: str, corrupted: str, answer: str, wrong: str) -> Line:
    return {"clean": clean, "corrupted": corrupted, "answer": f" {answer}", "wrong": f" {wrong}"}


def _indirect_object() -> Iterator[Line]:
    """Yields Wang et al.'s task (arXiv:2211.00593): who is given something is the one who does not give."""
    pairs = itertools.permutations(_NAMES, 2)
    for number, (first, second) in enumerate(pairs):
        place, thing = _PLACES[number % len(_PLACES)]
        begun = f"When {first} and {second} went to the {place},"
        gave = f"gave a {thing} to"
        yield _line(f"{begun} {second} {gave}", f"{begun} {first} {gave}", first, second)


def _tense() -> Iterator[Line]:
    for time, subject in itertools.product(_TIMES, _SUBJECTS):
        yield _line(f"Last {time}, the {subject}", f"Next {time}, the {subject}", "was", "will")


def _negation() -> Iterator[Line]:
    for habit, (name, _) in itertools.product(_HABITS, zip(_NAMES, _NAMES, strict=True)):
        asked = f"Question: Is {name} often {habit}? Answer:"
        yield _line(f"{name} is always {habit}. {asked}", f"{name} is never {habit}. {asked}", "Yes", "No")


def _agreement() -> Iterator[Line]:
    for noun, near in itertools.product(_NOUNS, _NEAR):
        yield _line(f"The {noun}s near the {near}", f"The {noun} near the {near}", "are", "is")


def _entity() -> Iterator[Line]:
    for (country, capital), (other, other_capital) in itertools.permutations(_CAPITALS, 2):
        asked = "The capital of {} is the city of"
        yield _line(asked.format(country), asked.format(other), capital, other_capital)


KINDS: dict[str, Callable[[], Iterator[Line]]] = {
    "indirect_object": _indirect_object,
    "tense": _tense,
    "negation": _negation,
    "agreement": _agreement,
    "entity": _entity,
}


def of_kind(kind: str, limit: int | None) -> list[dict[str, Any]]:
    """Returns the first pairs of one of slurmeval's own kinds."""
    made = itertools.islice(KINDS[kind](), limit)
    return [{"id": str(number), "category": None, **line} for number, line in enumerate(made, 1)]


def of_folder(folder: Path, limit: int | None) -> list[dict[str, Any]]:
    """Returns the first pairs of a data set's only file of JSON lines.

    Each has `clean`, `corrupted`, `answer` and `wrong`; `id` and `category` may be there. An answer goes on
    from its prompt as it is: it begins with a space where a word does.

    Raises:
        UserError: There is no such file, or a line will not do; the text names it.
    """
    files = sorted(folder.rglob("*.jsonl"))
    if len(files) != 1:
        raise UserError(f"datasets: expected one .jsonl file in {folder}, and there are {len(files)}")
    found: dict[str, dict[str, Any]] = {}
    for number, (place, line) in enumerate(itertools.islice(rows(files[0]), limit), 1):
        where = f"{files[0].name}, {place}"
        for key in KEYS:
            if not isinstance(line.get(key), str) or not line[key]:
                raise UserError(f"{where}: {key} is missing or no text; a pair has {', '.join(KEYS)}")
        name, category = str(line.get("id", number)), line.get("category")
        if name in found:
            raise UserError(f"{where}: the id {name!r} is that of another pair too")
        found[name] = {key: line[key] for key in KEYS} | {
            "id": name,
            "category": None if category is None else str(category),
        }
    if not found:
        raise UserError(f"{files[0].name}: has no pair")
    return list(found.values())
