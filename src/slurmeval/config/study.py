"""A study with people: which stored answers are rated, by whom and how, as a file says it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from slurmeval.config.sources import Identifier, Section

STUDY_VERSION = 1
SCALE = (1, 2, 3, 4, 5)
"""Grades of a dimension, and of confidence."""
PREFERENCE = "preference"
CONFIDENCE = "confidence"
CHOICES = ("A", "B", "tie")
_Text = Annotated[str, Field(min_length=1)]
_Grade = Annotated[int, Field(ge=SCALE[0], le=SCALE[-1])]


class Dimension(Section):
    """What is rated from 1 to 5."""

    question: _Text
    """What raters are asked."""
    grades: Annotated[list[str], Field(min_length=5, max_length=5)] = ["", "", "", "", ""]
    """What the grades from 1 to 5 mean."""


class RatedExample(Section):
    """An answer, or two, with what a good rater says of it: shown with the guidelines, or planted as gold."""

    question: _Text
    """What the model was asked."""
    answer: _Text | None = None
    """Its answer (direct)."""
    answers: Annotated[list[_Text], Field(min_length=2, max_length=2)] | None = None
    """The answers A and B (pairwise)."""
    ratings: dict[Identifier, _Grade] = {}
    """The right grades, by dimension (direct)."""
    preference: Literal["A", "B", "tie"] | None = None
    """The right preference (pairwise)."""
    why: str = ""
    """Shown with an example; of gold, never."""

    @property
    def texts(self) -> list[str]:
        """Returns its answers in the order shown."""
        return self.answers or ([] if self.answer is None else [self.answer])


class HumanStudy(Section):
    """Which stored answers people rate, and how."""

    version: Literal[1] = 1
    """The file's format; this is version 1."""
    name: Identifier
    """Names the study's folder in the results."""
    title: str = ""
    """The heading that raters see; empty: the name."""
    kind: Literal["direct", "pairwise"] = "direct"
    """direct: each answer is rated from 1 to 5. pairwise: of two models' answers the better one is chosen."""
    raters: Annotated[list[Identifier], Field(min_length=1)]
    """Names of the raters, or pseudonyms; each gets a file."""
    models: list[Identifier] = []
    """Whose answers; empty: all with results. Questions are drawn that all of them answered."""
    benchmarks: list[Identifier] = []
    """Which benchmarks; empty: all that these models ended well in."""
    questions: Annotated[int, Field(ge=1)] | None = None
    """How many questions are drawn, spread evenly over the benchmarks; else `half_width` says it."""
    half_width: Annotated[float, Field(gt=0)] | None = None
    """Wanted half width of the 95 % interval on each benchmark: of a mean grade, in grades (direct), or of
    the share of wins (pairwise)."""
    raters_per_answer: Annotated[int, Field(ge=1)] | None = None
    """How many raters see an answer; null: two, or one where there is one only."""
    dimensions: dict[Identifier, Dimension] = {
        "quality": Dimension(
            question="How good is the answer?",
            grades=["useless", "poor", "acceptable", "good", "excellent"],
        )
    }
    """What is rated (direct), by name."""
    flags: dict[Identifier, _Text] = {"broken": "cut off, empty or garbled"}
    """What may be ticked beside, by name."""
    guidelines: str = ""
    """What raters are told before they begin."""
    show_reference: bool = False
    """Whether raters see the benchmark's reference."""
    examples: list[RatedExample] = []
    """Shown with the guidelines."""
    gold: list[RatedExample] = []
    """Mixed in, to see whether raters follow the guidelines."""
    gold_tolerance: Annotated[int, Field(ge=0)] = 1
    """How far a grade may be off the gold one."""
    duplicates: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of a rater's answers that come a second time, to see whether the rater agrees with himself."""
    unsure_of: Identifier | None = None
    """A benchmark of the harness `judge`: people also rate the answers that it is unsure of (hybrid)."""
    unsure_limit: Annotated[int, Field(ge=1)] = 50
    """At most so many questions with such answers."""
    seed: int = 0
    """Another one draws other questions."""

    @property
    def names(self) -> list[str]:
        """Returns what is rated: dimensions, or the preference and how sure it is."""
        return list(self.dimensions) if self.kind == "direct" else [PREFERENCE, CONFIDENCE]

    @property
    def per_answer(self) -> int:
        """Returns how many raters see an answer."""
        return self.raters_per_answer or min(2, len(self.raters))


def study_contradictions(study: HumanStudy) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yields keys that cannot be meant, and why."""
    if (study.questions is None) == (study.half_width is None):
        yield ("questions",), "either questions or half_width says how many are rated"
    if study.half_width is not None and study.kind == "pairwise" and study.half_width >= 0.5:
        yield ("half_width",), "of a share of wins is below 0.5"
    for key in ("raters", "models", "benchmarks"):
        if len(set(getattr(study, key))) < len(getattr(study, key)):
            yield (key,), "names one twice"
    if study.raters_per_answer is not None and study.raters_per_answer > len(study.raters):
        yield ("raters_per_answer",), f"is more than there are raters ({len(study.raters)})"
    if study.kind == "direct" and not study.dimensions:
        yield ("dimensions",), "is empty; name at least one"
    for key, entries in (("examples", study.examples), ("gold", study.gold)):
        for number, entry in enumerate(entries):
            if problem := _problem(study, entry):
                yield (key, number), problem


def _problem(study: HumanStudy, entry: RatedExample) -> str | None:
    """Returns why an example does not fit the study; None: it does."""
    if study.kind == "pairwise":
        fits = entry.answers is not None and entry.answer is None and not entry.ratings
        told = entry.preference is not None
        return None if fits and told else "of a pairwise study has answers (two) and preference"
    if entry.answer is None or entry.answers is not None or entry.preference is not None or not entry.ratings:
        return "of a direct study has answer and ratings"
    unknown = [name for name in entry.ratings if name not in study.dimensions]
    return f"rates {unknown[0]}, which is no dimension" if unknown else None
