"""The config's section on a benchmark of one's own: how questions are asked, and how answers are scored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slurmeval.config.sources import Identifier, Section

Kind = Literal[
    "exact", "includes", "number", "choice", "likelihood", "likelihood_norm", "json", "code",
    "bleu", "chrf", "ter", "rouge1", "rouge2", "rougeL",
]  # fmt: skip
LIKELIHOOD_KINDS = ("likelihood", "likelihood_norm")
"""Kinds that ask which choice the model finds likeliest, in all or per byte. Nothing is generated."""
TEXT_KINDS = ("bleu", "chrf", "ter", "rouge1", "rouge2", "rougeL")
"""Kinds that say how near an answer is to a text, not whether it is right."""


class Scorer(Section):
    """How an answer is compared with the reference."""

    kind: Kind | None = None
    """exact: the same text. includes: the answer holds it. number: its last number is it. choice: the letter
    that it names. likelihood, likelihood_norm: the likeliest choice, in all or per byte (with endpoint:
    completions). code: its program and then the reference, which tests it, run without an error. json: share
    of the reference's fields that it has. bleu, chrf, ter, rouge1, rouge2, rougeL: how near the texts are.
    null: the scorer's name is its kind."""
    pattern: str | None = None
    """A regular expression; what its first group (or all of it) finds last is compared. An answer in which it
    finds nothing is `unparsed`. One that takes more than 5 s on an answer ends the evaluation."""
    ignore_case: bool = True
    """Whether upper and lower case are the same (exact, includes)."""
    ignore_punctuation: bool = True
    """Whether punctuation around the text is left out (exact, includes)."""
    tolerance: Annotated[float, Field(ge=0)] = 0
    """How far a number may be off (number, json)."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10
    """Longest run of a program with its tests (code)."""
    fields: list[Annotated[str, Field(min_length=1)]] = []
    """The fields that count (json); empty: all that the reference has."""


class QuestionExamples(Section):
    """Questions with their right answers, before each question: earlier turns of a chat, or text."""

    file: Annotated[str, Field(min_length=1)]
    """The file with them, in the same data set and with the same columns."""
    count: Annotated[int, Field(ge=1, le=100)]
    """How many, drawn at random; the same for all questions, but for one that is an example itself."""
    seed: int = 0
    """Another one draws others."""


class Perturbations(Section):
    """Each question asked again in other words, so that it shows how much its score hangs on them."""

    kinds: Annotated[
        list[Literal["typos", "upper", "lower", "distractor", "options", "paraphrase"]], Field(min_length=1)
    ]
    """typos: letters in the wrong order. upper, lower: case. distractor: a sentence before it that has
    nothing to do with it. options: the choices in another order. paraphrase: the text of the column
    `paraphrase`."""
    column: Identifier = "question"
    """The column that is altered."""
    paraphrase: Identifier | None = None
    """The column with the question in other words."""


class CustomQuestions(Section):
    """CustomQuestions of one's own, for the harness `custom`.

    They are in the data set that the benchmark names: JSON lines (`.jsonl`), CSV with a header, or Parquet.
    `{{ name }}` in a text is the column of that name (Jinja).
    """

    file: str | None = None
    """The file, where the data set has several."""
    prompt: Annotated[str, Field(min_length=1)]
    """What is asked. `{{ choices }}` are a question's choices with letters, a line each."""
    system: str | None = None
    """The system prompt of a chat; null: as the chat template has it."""
    reference: str = "{{ answer }}"
    """The right answer. A column that holds a list of texts: any of them is right."""
    choices: Identifier | None = None
    """The column with a question's choices, a list of texts; the reference is one of them, its letter, or its
    number from 0."""
    rotate: bool = False
    """Whether each question is asked with its choices in every rotation (circular evaluation)."""
    perturb: Perturbations | None = None
    """Ask each question again with typing errors and the like; null: no."""
    examples: QuestionExamples | None = None
    """Examples in the prompt (few-shot); null: none."""
    id: Identifier | None = None
    """The column that names a question; null: its number, from 1."""
    category: Identifier | None = None
    """The column of its passage, subject or template: such questions stand and fall together."""
    scorers: Annotated[dict[Identifier, Scorer], Field(min_length=1)]
    """Ways of scoring, by the name of their metric. The first is the primary one."""
