"""What each rater is given, in which order; and the key, which tells whose answers they are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from pydantic import TypeAdapter, ValidationError

from slurmeval.config.study import HumanStudy, RatedExample
from slurmeval.errors import UserError
from slurmeval.files import read_json, sha256_of_json, write_json
from slurmeval.humans.drawing import DrawnQuestion, Stratum
from slurmeval.humans.formats import TAKEN

KEY_FORMAT = 1


@dataclass(frozen=True)
class RatedUnit:
    """An answer, or a pair of answers, that is rated: once or by several raters."""

    benchmark: str | None
    """None: it is gold."""
    sample_uid: str | None
    repeat_idx: int
    probability: float | None
    """With which its question was drawn; None: not at random."""
    models: list[str]
    """Whose answers; two of a pair; empty: it is gold."""
    question: str
    choices: list[str] | None
    reference: str | None
    answers: list[str]
    gold: dict[str, int | str] | None
    """The right ratings; None: it is not gold."""


@dataclass(frozen=True)
class PlacedItem:
    """A unit where it stands in a rater's file."""

    id: str
    unit: str
    swapped: bool
    """Whether the second answer is shown first."""
    again: bool
    """Whether the rater has seen it before."""
    sha256: str
    """Of the texts as they are shown."""


@dataclass(frozen=True)
class Batch:
    """All that raters are given, with the key."""

    format: int
    id: str
    made_at: str
    study: dict[str, Any]
    strata: list[Stratum]
    units: dict[str, RatedUnit]
    raters: dict[str, list[PlacedItem]]
    sha256: str = ""
    """Of all the rest; files of raters carry it."""

    def shown(self, item: PlacedItem) -> dict[str, Any]:
        """Returns the texts of an item as its rater sees them."""
        return _shown(self.units[item.unit], item.swapped, bool(self.study["show_reference"]))

    @property
    def declared(self) -> HumanStudy:
        """Returns the study as its file said it."""
        return HumanStudy.model_validate(self.study)


def make(study: HumanStudy, questions: Sequence[DrawnQuestion], strata: Sequence[Stratum]) -> Batch:
    """Deals questions out to raters, in an order of each one's own, with duplicates and gold.

    Raises:
        UserError: A dimension has a name that means something else in raters' files.
    """
    if taken := sorted(TAKEN & study.dimensions.keys()):
        raise UserError(f"dimensions: '{taken[0]}' means something else in raters' files; name it otherwise")
    rng = Random(f"{study.seed}:{study.name}:order")
    units = {_name(rng): unit for unit in _units(study, questions)}
    gold = {_name(rng): _gold_unit(study, each) for each in study.gold}
    names = list(units)
    rng.shuffle(names)
    turns = itertools.cycle(study.raters)
    dealt: dict[str, list[str]] = {rater: [] for rater in study.raters}
    for name in names:
        for rater in itertools.islice(turns, study.per_answer):
            dealt[rater].append(name)
    units |= gold
    raters = {
        rater: [
            _placed(rng, name, units[name], again, study)
            for name, again in _ordered(rng, dealt[rater], list(gold), study.duplicates)
        ]
        for rater in study.raters
    }
    if study.kind == "pairwise":
        raters = {rater: _turned_duplicates(items, units, study) for rater, items in raters.items()}
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    dumped = study.model_dump(mode="json")
    batch = Batch(KEY_FORMAT, rng.randbytes(8).hex(), made_at, dumped, list(strata), units, raters)
    return Batch(**vars(batch) | {"sha256": _hash(batch)})


def _units(study: HumanStudy, questions: Sequence[DrawnQuestion]) -> Iterator[RatedUnit]:
    for question in questions:
        groups = ([model] for model in question.answers)
        pairs = (list(pair) for pair in itertools.combinations(question.answers, 2))
        for models in groups if study.kind == "direct" else pairs:
            told = (question.benchmark, question.sample_uid, question.repeat_idx, question.probability)
            texts = (question.question, question.choices, question.reference)
            yield RatedUnit(*told, models, *texts, [question.answers[model] for model in models], None)


def _gold_unit(study: HumanStudy, gold: RatedExample) -> RatedUnit:
    right: dict[str, int | str] = dict(gold.ratings)
    if gold.preference is not None:
        right = {"preference": gold.preference}
    return RatedUnit(None, None, 0, None, [], gold.question, None, None, gold.texts, right)


def _name(rng: Random) -> str:
    return rng.randbytes(8).hex()


def _ordered(
    rng: Random, dealt: list[str], gold: Sequence[str], duplicates: float
) -> Iterator[tuple[str, bool]]:
    """Yields a rater's units, and whether each is there for the second time.

    Those of the first half may come again in the second half; gold is anywhere.
    """
    order = list(dealt)
    rng.shuffle(order)
    half = (len(order) + 1) // 2
    again = rng.sample(order[:half], min(half, round(duplicates * len(order))))
    later = [(name, False) for name in order[half:]] + [(name, True) for name in again]
    rng.shuffle(later)
    found = [(name, False) for name in order[:half]] + later
    for name in gold:
        found.insert(rng.randint(0, len(found)), (name, False))
    yield from found


def _placed(rng: Random, name: str, unit: RatedUnit, again: bool, study: HumanStudy) -> PlacedItem:
    swapped = len(unit.answers) == 2 and unit.gold is None and rng.random() < 0.5
    return PlacedItem(_name(rng), name, swapped, again, _content(unit, swapped, study.show_reference))


def _turned_duplicates(
    items: Sequence[PlacedItem], units: Mapping[str, RatedUnit], study: HumanStudy
) -> list[PlacedItem]:
    """Returns items of which a second time of a pair is in the other order than its first."""
    first = {item.unit: item.swapped for item in items if not item.again}
    turned = []
    for item in items:
        swapped = not first[item.unit] if item.again else item.swapped
        content = _content(units[item.unit], swapped, study.show_reference)
        turned.append(PlacedItem(item.id, item.unit, swapped, item.again, content))
    return turned


def _shown(unit: RatedUnit, swapped: bool, with_reference: bool) -> dict[str, Any]:
    return {
        "question": unit.question,
        "choices": unit.choices,
        "reference": unit.reference if with_reference else None,
        "answers": unit.answers[::-1] if swapped else unit.answers,
    }


def _content(unit: RatedUnit, swapped: bool, with_reference: bool) -> str:
    return sha256_of_json(_shown(unit, swapped, with_reference))


def _hash(batch: Batch) -> str:
    return sha256_of_json(asdict(batch) | {"sha256": ""})


def write_key(path: Path, batch: Batch) -> None:
    """Writes the key, which only its owner may read."""
    write_json(path, asdict(batch), mode=0o600)


def read_key(path: Path) -> Batch:
    """Reads a key.

    Raises:
        UserError: It is none, is of another version, or was changed since it was made.
    """
    try:
        content = read_json(path)
    except ValueError as error:
        raise UserError(f"{path}: is no JSON: {error}") from None
    if content is None:
        raise UserError(f"{path}: no such file; `slurmeval humans make` writes it")
    if not isinstance(content, dict) or content.get("format") != KEY_FORMAT:
        raise UserError(f"{path}: is no key of this version; expected format {KEY_FORMAT}")
    try:
        batch = TypeAdapter(Batch).validate_python(content)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{path}: {place}: {error.errors()[0]['msg']}") from None
    if batch.sha256 != _hash(batch):
        raise UserError(f"{path}: was changed after it was made; whose answers were rated cannot be told")
    return batch
