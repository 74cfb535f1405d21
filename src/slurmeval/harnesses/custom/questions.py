"""CustomQuestions from a file, as they are asked."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from slurmeval.config.questions import LIKELIHOOD_KINDS, CustomQuestions, Perturbations, QuestionExamples
from slurmeval.errors import UserError
from slurmeval.files import lines
from slurmeval.harnesses.custom import perturbing

SUFFIXES = (".jsonl", ".csv", ".parquet")
MAX_CHOICES = 26
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_COLUMN = re.compile(r"\s*\{\{\s*([A-Za-z_]\w*)\s*\}\}\s*")
"""A template that is a column and nothing else."""


@dataclass(frozen=True)
class Question:
    """A question as it is asked, and what is right."""

    id: str
    prompt: str
    system: str | None
    references: list[str]
    """Texts of which any is right; of a question with choices, the letter."""
    choices: list[str] | None
    category: str | None
    examples: list[list[str]] = field(default_factory=list)
    """Prompts and right answers that come before it."""
    rotation_of: str | None = None
    """The question that it is a rotation of."""
    perturbation: str | None = None
    """How it was altered, where it is another question in other words."""
    perturbation_of: str | None = None
    """The question that it is then."""

    @property
    def text(self) -> str:
        """Returns prompt and examples as plain text."""
        return "".join(f"{prompt} {answer}\n\n" for prompt, answer in self.examples) + self.prompt


def continuations(question: Question) -> list[str]:
    """Returns the prompt with each choice after it, a space between."""
    gap = "" if question.text[-1:].isspace() else " "
    return [f"{question.text}{gap}{choice}" for choice in question.choices or ()]


def file_of(asked: CustomQuestions, folder: Path) -> Path:
    """Returns the file with the questions in a data set's folder.

    Raises:
        UserError: There is none, or there are several and the config names none.
    """
    return named_file(asked.file, folder, "questions.file")


def named_file(name: str | None, folder: Path, key: str) -> Path:
    """Returns the file of a name, or the only one of a folder. Raises UserError as `file_of` does."""
    if name is not None:
        if not (folder / name).is_file():
            raise UserError(f"{key}: {name} is not in {folder}, which holds {_held(folder)}")
        return folder / name
    found = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    suffixes = ", ".join(SUFFIXES)
    if not found:
        raise UserError(f"{key}: no file of {suffixes} is in {folder}, which holds {_held(folder)}")
    if len(found) != 1:
        named = ", ".join(str(path.relative_to(folder)) for path in found[:5])
        raise UserError(f"{key}: name one file of {suffixes} in {folder}: {named}")
    return found[0]


def _held(folder: Path) -> str:
    """Returns the first names in a folder, for a message."""
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") or "nothing"


def read(asked: CustomQuestions, file: Path, limit: int | None = None) -> list[Question]:
    """Returns the first `limit` questions of a file.

    Raises:
        UserError: The file or a line will not do; the text names both.
    """
    made = _Making(asked)
    found: list[Question] = []
    seen: dict[str, str] = {}
    rows_of: list[Mapping[str, Any]] = []
    for place, row in rows(file):
        try:
            question = made.question(row, len(found) + 1)
        except UserError as error:
            raise UserError(f"{file.name}, {place}: {error}") from None
        if question.id in seen:
            raise UserError(
                f"{file.name}, {place}: the id {question.id!r} is that of {seen[question.id]} too"
            )
        seen[question.id] = place
        found.append(question)
        rows_of.append(row)
        if len(found) == limit:
            break
    if not found:
        raise UserError(f"{file.name}: holds no questions")
    if asked.examples is not None:
        found = _with_examples(asked, asked.examples, file, found)
    if asked.rotate:
        return [
            turned
            for question, row in zip(found, rows_of, strict=True)
            for turned in made.rotations(question, row)
        ]
    if asked.perturb is not None:
        pairs = zip(found, rows_of, strict=True)
        altered = [each for question, row in pairs for each in made.perturbed(question, row, asked.perturb)]
        return [*found, *altered]
    return found


def _with_examples(
    asked: CustomQuestions, wanted: QuestionExamples, file: Path, found: list[Question]
) -> list[Question]:
    """Returns questions with examples before them. One more is drawn, for a question that is an example."""
    source = named_file(wanted.file, file.parent, "questions.examples.file")
    plain = asked.model_copy(update={"examples": None, "rotate": False, "perturb": None, "id": None})
    known = read(plain, source)
    if len(known) <= wanted.count:
        raise UserError(
            f"questions.examples.count: {wanted.count} of {len(known)} questions in {wanted.file}; "
            "expected fewer than there are"
        )
    drawn = Random(wanted.seed).sample(known, wanted.count + 1)
    by_text = any((scorer.kind or name) in LIKELIHOOD_KINDS for name, scorer in asked.scorers.items())
    shown = [(each.prompt, _answer_of(each, by_text)) for each in drawn]
    return [
        replace(
            question,
            examples=[list(pair) for pair in shown if pair[0] != question.prompt][: wanted.count],
        )
        for question in found
    ]


def _answer_of(question: Question, by_text: bool) -> str:
    """Returns the right answer to show: of a choice its letter, or its text."""
    right = question.references[0]
    return question.choices[LETTERS.index(right)] if by_text and question.choices else right


def rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each row with its place in the file, in words.

    Raises:
        UserError: The file cannot be read, or a row of it.
    """
    reader = {".jsonl": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}.get(file.suffix)
    if reader is None:
        raise UserError(f"{file.name}: expected one of {', '.join(SUFFIXES)}")
    try:
        yield from reader(file)
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start}"
        raise UserError(f"{file.name}: is no UTF-8 ({reason}); save it so (in Excel: CSV UTF-8)") from None
    except OSError as error:
        raise UserError(f"{file.name}: cannot be read: {error.strerror or error}") from None


def _json_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines(file), 1):
        if line.isspace():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = (
                f"{error.msg} at character {error.pos + 1}"
                if isinstance(error, json.JSONDecodeError)
                else error
            )
            listed = line.lstrip().startswith(b"[") or line.rstrip().endswith(b",")
            form = "; expected an object a line, no list around them, no commas between" if listed else ""
            raise UserError(f"{file.name}, line {number}: is no JSON: {reason}{form}") from None
        if not isinstance(content, dict):
            raise UserError(f"{file.name}, line {number}: expected a JSON object")
        yield f"line {number}", content


def _csv_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        try:
            separator = _separator(stream.readline())
            stream.seek(0)
            reader = csv.DictReader(stream, strict=True, delimiter=separator)
            names = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise UserError(f"{file.name}, line 1: two columns are called {twice}")
            for row in reader:
                place = f"line {reader.line_num}"
                if None in row or None in row.values():
                    raise UserError(f"{file.name}, {place}: expected {len(names)} values, as the header has")
                yield place, row
        except csv.Error as error:
            raise UserError(f"{file.name}, after line {reader.line_num}: {error}") from None


def _separator(header: str) -> str:
    """Returns what stands between values: a comma; some spreadsheets write semicolons or tabs."""
    return "," if len(next(csv.reader([header]), [])) > 1 else max(",;\t", key=header.count)


def _parquet_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            number = 0
            for batch in parquet.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except pa.ArrowException as error:
        raise UserError(f"{file.name}: is no Parquet file: {str(error).splitlines()[0]}") from None


class _Making:
    """Makes questions of rows."""

    def __init__(self, asked: CustomQuestions) -> None:
        """Raises UserError where a template cannot be read."""
        from jinja2 import StrictUndefined, TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self._asked = asked
        self._errors = (TemplateError, TypeError, ValueError, ArithmeticError)
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, keep_trailing_newline=True, finalize=_shown
        )
        texts = {"prompt": asked.prompt, "system": asked.system, "reference": asked.reference}
        self._templates = {}
        for name, text in texts.items():
            try:
                template = None if text is None else environment.from_string(text)
            except TemplateError as error:
                raise UserError(f"questions.{name}: {error}") from None
            if template is not None:
                # Jinja chains the template's names with all templates', which it copies for each question
                template.globals = dict(template.globals)
            self._templates[name] = template
        column = _COLUMN.fullmatch(asked.reference)
        self._answer = None if column is None else column[1]

    def question(self, row: Mapping[str, Any], number: int) -> Question:
        """Returns the question that a row holds. Raises UserError with the reason why it holds none."""
        asked = self._asked
        choices = None if asked.choices is None else _texts(row, asked.choices)
        if choices is not None and not 2 <= len(choices) <= MAX_CHOICES:
            raise UserError(f"{asked.choices} has {len(choices)} texts; expected 2 to {MAX_CHOICES}")
        shown = dict(row)
        if choices is not None:
            shown["choices"] = _lettered(choices)
        references = self._references(row)
        return Question(
            id=str(number) if asked.id is None else text_of(row, asked.id),
            prompt=self._rendered("prompt", shown) or "",
            system=self._rendered("system", shown),
            references=references if choices is None else [_letter(references, choices)],
            choices=choices,
            category=None if asked.category is None else text_of(row, asked.category),
        )

    def rotations(self, question: Question, row: Mapping[str, Any]) -> Iterator[Question]:
        """Yields a question with its choices in every rotation. They stand and fall together."""
        choices = question.choices or []
        right = LETTERS.index(question.references[0])
        for shift in range(len(choices)):
            turned = choices[shift:] + choices[:shift]
            letter = LETTERS[(right - shift) % len(choices)]
            yield replace(
                question,
                id=f"{question.id}~{shift}",
                prompt=self._rendered("prompt", {**row, "choices": _lettered(turned)}) or "",
                references=[letter],
                choices=turned,
                category=question.category or question.id,
                rotation_of=question.id,
            )

    def perturbed(
        self, question: Question, row: Mapping[str, Any], wanted: Perturbations
    ) -> Iterator[Question]:
        """Yields a question in other words, once for each kind that alters it."""
        for kind in wanted.kinds:
            choices, references, altered = question.choices, question.references, dict(row)
            if kind == perturbing.OPTIONS:
                assert choices is not None, "checked with the config"
                references = [LETTERS[(LETTERS.index(references[0]) - 1) % len(choices)]]
                choices = choices[1:] + choices[:1]
            elif kind == perturbing.PARAPHRASE:
                altered[wanted.column] = text_of(row, wanted.paraphrase or "")
            else:
                random = Random(f"{question.id} {kind}")
                altered[wanted.column] = perturbing.OF_TEXTS[kind](text_of(row, wanted.column), random)
            shown = {**altered, "choices": _lettered(choices)} if choices is not None else altered
            prompt = self._rendered("prompt", shown) or ""
            if prompt != question.prompt:
                yield replace(
                    question,
                    id=f"{question.id}~{kind}",
                    prompt=prompt,
                    references=references,
                    choices=choices,
                    perturbation=kind,
                    perturbation_of=question.id,
                )

    def _rendered(self, name: str, row: Mapping[str, Any]) -> str | None:
        template = self._templates[name]
        if template is None:
            return None
        try:
            return template.render(row)
        except self._errors as error:
            raise UserError(f"questions.{name}: {error} (columns: {', '.join(map(str, row))})") from None

    def _references(self, row: Mapping[str, Any]) -> list[str]:
        """Returns what is right: the texts of a column that is a list, or what the template says."""
        name = self._asked.reference.strip().removeprefix("{{").removesuffix("}}").strip()
        if isinstance(row.get(name), list):
            texts = _texts(row, name)
            if not all(text.strip() for text in texts):  # an empty one would be in every answer
                raise UserError("one of the references is empty")
            return texts
        if isinstance(row.get(name), dict):  # what scorers of the kind json compare with
            return [json.dumps(row[name], ensure_ascii=False)]
        value = row.get(self._answer) if self._answer is not None else None
        # as the template would, in a fifth of the time
        found = value if isinstance(value, str) else self._rendered("reference", row) or ""
        if not found.strip():
            raise UserError("the reference is empty")
        return [found]


def _shown(value: object) -> object:
    """Returns what a template shows. Raises ValueError for null, whose text would be `None` or `nan`."""
    if value is None or (isinstance(value, float) and value != value):
        raise ValueError("a value is null; {{ column or '' }} shows nothing in its place")
    return value


def _lettered(choices: list[str]) -> str:
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def _letter(references: list[str], choices: list[str]) -> str:
    """Returns the letter of the right choice."""
    (right, *more) = references
    letters = LETTERS[: len(choices)]
    if not more and choices.count(right) == 1:
        return letters[choices.index(right)]
    if not more and len(right) == 1 and right.upper() in letters:
        return right.upper()
    if not more and right.isdecimal() and int(right) < len(choices):
        return letters[int(right)]
    given, hint = ", ".join(references), "; a number counts from 0" if right.isdecimal() else ""
    raise UserError(f"the reference {given!r:.80} is none of the {len(choices)} choices{hint}")


def text_of(row: Mapping[str, Any], name: str) -> str:
    """Returns a column as text. Raises UserError where it is missing or empty."""
    if row.get(name) in (None, ""):
        raise UserError(f"the column {name} is missing or empty")
    return str(row[name])


def _texts(row: Mapping[str, Any], name: str) -> list[str]:
    value = row.get(name)
    if isinstance(value, str):  # CSV has no lists
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(each, str | int | float) for each in value)
    ):
        raise UserError(f'the column {name} is missing or no list of texts, such as ["a", "b"]')
    return [str(each) for each in value]
