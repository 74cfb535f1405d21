"""The config's section on a benchmark that a judge makes of stored answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from slurmeval.config.sources import Identifier, Location, Section

Anchor = Annotated[str, StringConstraints(min_length=1)]


class RubricDimension(Section):
    """One dimension of a rubric: what is asked, and what each grade means."""

    asks: Annotated[str, Field(min_length=1)]
    """What is graded, as a question on the answer."""
    grades: Annotated[list[Anchor], Field(min_length=2, max_length=11)]
    """What each grade means, from the worst to the best. The worst counts as 0, the best as 1."""
    lowest: Annotated[int, Field(ge=0)] = 1
    """The number of the worst grade; the others count on from it."""
    right_from: int | None = None
    """The lowest grade that counts as right where labels are compared as right or wrong; null: the best."""

    @property
    def meanings(self) -> dict[int, str]:
        """Returns what each grade means, by its number."""
        return dict(enumerate(self.grades, self.lowest))

    def value(self, grade: float) -> float:
        """Returns a grade as a proportion of the way from the worst to the best."""
        return (grade - self.lowest) / (len(self.grades) - 1)


class Labels(Section):
    """People's grades of some answers, by which the judge is checked and its score corrected."""

    study: Location | None = None
    """A study's file (docs/people.md): what its raters said, once `slurmeval humans read` has read it. Before
    that the judge's score stands uncorrected."""
    file: Location | None = None
    """In the place of `study`: CSV, JSON lines or Parquet with a row for each grade: `model`, `sample_uid`
    (of the judged benchmark), `value`, and where they are given `benchmark`, `repeat_idx`, `dimension`,
    `against`, `random`. Relative to the project folder."""
    random: bool | None = None
    """Whether labelled answers whose row has no `random` are a random sample; false: none are. Only then is
    the score corrected."""


class Judging(Section):
    """What is judged by whom, for the harness `judge` (docs/judges.md). Its `labels` alter no verdict."""

    of: Identifier | None = None
    """The benchmark whose stored answers are judged. It is evaluated too."""
    judge: Identifier | None = None
    """The model that judges: an entry of `models`, evaluated itself or not."""
    mode: Literal["direct", "pairwise"] = "direct"
    """direct: an answer is graded by the rubric. pairwise: it is compared with that of `against`, in both
    orders; a win in one order only is a tie."""
    against: Identifier | None = None
    """With pairwise: the model whose answers the others are compared with."""
    rubric: dict[Identifier, RubricDimension | None] = {}
    """Dimensions by name; the first is the primary one. null: the built-in one of that name: accuracy,
    helpfulness, relevance, coherence, conciseness, creativity, harmlessness."""
    rubric_file: Location | None = None
    """A YAML file with the rubric, relative to the project folder."""
    reference: bool = False
    """Show the judge the reference. Answers to questions without one are then not judged, and counted."""
    instructions: str | None = None
    """What else the judge is told, as of the readers for whom answers are meant."""
    jury: list[Identifier] = []
    """In the place of `of` and `judge`: benchmarks with a judge each, whose verdicts are put together. A jury
    asks nobody anything."""
    allow_self_judging: bool = False
    """Let the judge grade its own answers. Otherwise the judge's own evaluation is left out."""
    labels: Labels | None = None
    """People's grades."""
