"""`slurmeval benchmark`: benchmarks of one's own, from a file of questions to their prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurmeval.cli.check import DEFAULT_CONFIG
from slurmeval.cli.naming import configfile_option
from slurmeval.cli.scores import printable
from slurmeval.errors import UserError
from slurmeval.wording import counted

if TYPE_CHECKING:
    from slurmeval.config.models import Benchmark
    from slurmeval.harnesses.custom.questions import Question

_QUESTION = ("question", "prompt", "input", "instruction", "query", "problem", "text", "source", "document")
_CHOICES = ("choices", "options", "answers")
_ANSWER = (
    *("answer", "answers", "reference", "references", "target", "label", "output", "solution", "gold"),
    *("ground_truth", "summary", "translation", "correct"),
)
_CATEGORY = ("category", "subject", "topic", "passage_id")
LONG_ANSWER = 60
"""Characters; longer references are texts, which answers are near to and do not hold."""


@click.group()
def benchmark() -> None:
    """Writes, checks and shows benchmarks of one's own (docs/own-benchmark.md)."""


@benchmark.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="The benchmark's id.  [default: the file's name]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The config file to write.  [default: NAME.yaml beside FILE]",
)
def new(file: Path, name: str | None, out: Path | None) -> None:
    """Writes the config of a benchmark from a file of questions.

    Which columns hold the question, the choices and the right answer is guessed from their names; what was
    guessed stands in the file, to be changed. All questions are read first, and a line that will not do is
    named. The file is laid over a config with `--configfile`, or included by it.
    """
    import re

    import yaml
    from pydantic import TypeAdapter, ValidationError

    from slurmeval.config.questions import CustomQuestions
    from slurmeval.config.sources import Identifier
    from slurmeval.files import create_exclusively
    from slurmeval.harnesses.custom.questions import read, rows

    name = name or re.sub(r"[^A-Za-z0-9_-]+", "-", file.stem).strip("-_") or "mine"
    try:
        TypeAdapter(Identifier).validate_python(name)
    except ValidationError:
        raise UserError(f"--name: {name!r} is no id: letters, digits, '-' and '_'") from None
    first = next((row for _, row in rows(file)), None)
    if first is None:
        raise UserError(f"{file.name}: holds no questions")
    asked = guessed(first) | {"file": file.name}
    questions = read(CustomQuestions.model_validate(asked), file)
    entry = {"harness": "custom", "datasets": [name], "questions": asked}
    folder = file.parent if file.parent.is_absolute() else Path(file.parent)
    content = {
        "version": 1,
        "datasets": {name: {"folder": str(folder), "files": [file.name]}},
        "benchmarks": {name: entry},
        "suites": {name: [name]},
        "evaluate": {"suites": [name]},
    }
    path = out or file.with_name(f"{name}.yaml")
    if not create_exclusively(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True)):
        raise UserError(f"{path}: is there already; --out names another file")
    click.echo(f"{path}: {counted(len(questions), 'question')}")
    _show(questions[:1])
    click.echo(f"next: slurmeval benchmark preview {name} --configfile {DEFAULT_CONFIG} {path}")


def guessed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how questions with the columns of this row may be asked and scored.

    Raises:
        UserError: No column is called as a question or an answer is.
    """
    names = {str(name).lower(): str(name) for name in row}
    question = _named(names, _QUESTION, "question")
    choices = next((names[each] for each in _CHOICES if each in names and _is_list(row[names[each]])), None)
    answer = _named({low: name for low, name in names.items() if name != choices}, _ANSWER, "right answer")
    asked: dict[str, Any] = {"prompt": f"{{{{ {question} }}}}"}
    if choices is not None:
        asked["prompt"] += "\n{{ choices }}\nAnswer with the letter."
        asked |= {"choices": choices, "scorers": {"choice": {}}}
    else:
        asked["scorers"] = {_scorer(row[answer]): {}}
    asked["reference"] = f"{{{{ {answer} }}}}"
    if category := next((names[each] for each in _CATEGORY if each in names), None):
        asked["category"] = category
    return asked


def _named(names: Mapping[str, str], wanted: Sequence[str], what: str) -> str:
    found = next((names[each] for each in wanted if each in names), None)
    if found is None:
        raise UserError(
            f"no column is the {what}; expected one of {', '.join(wanted)}, found {', '.join(names.values())}"
        )
    return found


def _is_list(value: object) -> bool:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return False
    return isinstance(value, list) and len(value) > 1


def _scorer(answer: object) -> str:
    """Returns how answers like this one are scored."""
    if isinstance(answer, dict):
        return "json"
    text = str(answer[0] if isinstance(answer, list) and answer else answer).strip()
    try:
        float(text.replace(",", ""))
    except ValueError:
        return "rougeL" if len(text) > LONG_ANSWER else "includes"
    return "number"


@benchmark.command()
@click.argument("name", metavar="BENCHMARK")
@configfile_option
def check(name: str, configfiles: tuple[Path, ...]) -> None:
    """Reads all questions of a benchmark, and names the first line that will not do."""
    entry, questions = _read(name, configfiles)
    assert entry.questions is not None
    click.echo(f"{counted(len(questions), 'question')}; scored by {', '.join(entry.questions.scorers)}")


@benchmark.command()
@click.argument("name", metavar="BENCHMARK")
@configfile_option
@click.option("--limit", type=click.IntRange(1), default=5, show_default=True, help="Most questions to show.")
def preview(name: str, configfiles: tuple[Path, ...], limit: int) -> None:
    """Shows the prompts of a benchmark of one's own.

    All questions are read first, so a line that will not do is named. Below each prompt stands what is right.
    """
    entry, questions = _read(name, configfiles)
    assert entry.questions is not None
    _show(questions[:limit])
    click.echo(f"{counted(len(questions), 'question')}; scored by {', '.join(entry.questions.scorers)}")


def _read(name: str, configfiles: Sequence[Path]) -> tuple[Benchmark, list[Question]]:
    """Returns a benchmark of one's own with its questions. Raises UserError."""
    from slurmeval.cli.check import checked
    from slurmeval.config.messages import nearest
    from slurmeval.harnesses.custom.harness import questions_of

    config = checked(configfiles or (DEFAULT_CONFIG,), data=False)
    entry = config.benchmarks.get(name)
    if entry is None:
        raise UserError(f"unknown benchmark '{name}'; {nearest(name, config.benchmarks)}")
    if entry.questions is None:
        raise UserError(f"{name}: is of the harness {entry.harness}; only those of custom are shown")
    folder = config.datasets[entry.datasets[0]].folder
    if folder is None:
        raise UserError(f"datasets.{entry.datasets[0]}: only questions in a folder are shown before a run")
    return entry, questions_of(entry, Path(folder))


def _show(questions: Sequence[Question]) -> None:
    for question in questions:
        category = "" if question.category is None else f", {printable(question.category)}"
        click.echo(f"── {printable(question.id)}{category}")
        shown = [("system", question.system)]
        shown += [
            (title, text)
            for pair in question.examples
            for title, text in zip(("example", ""), pair, strict=True)
        ]
        for title, text in (*shown, ("prompt", question.prompt)):
            for place, line in enumerate(() if text is None else text.splitlines() or [""]):
                click.echo(f"{title if not place else '':>9} │ {printable(line)}")
        click.echo(f"{'right':>9} │ {printable(' | '.join(question.references))}")
