"""`slurmeval samples`: what a model answered, question by question."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmeval.cli.lean import lean
from slurmeval.cli.naming import about_results
from slurmeval.cli.scores import printable
from slurmeval.cli.suites import benchmark_options, wanted
from slurmeval.errors import UserError

if TYPE_CHECKING:
    from slurmeval.results.browsing import AnswerTo

TEXT_LENGTH = 2000
"""Characters of a text in the terminal; of a longer one beginning and end are shown."""


@click.command()
@click.option("--model", required=True, help="The model whose answers are shown.")
@benchmark_options
@click.option("--wrong", is_flag=True, help="Only answers that are not right.")
@click.option("--different-from", metavar="MODEL", help="Only answers scored otherwise than this model's.")
@click.option("--search", metavar="TEXT", help="Only samples that hold this text, in any case.")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="Most samples to show.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "jsonl", "pairs"]),
    default="text",
    show_default=True,
    help="jsonl: one JSON object a line, texts whole. pairs: minimal pairs for activation patching, of what "
    "this model has right and --different-from wrong.",
)
@about_results
def samples(
    model: str,
    benchmarks: tuple[str, ...],
    suites: tuple[str, ...],
    wrong: bool,
    different_from: str | None,
    search: str | None,
    limit: int,
    form: str,
    results: Path,
) -> None:
    """Shows questions, a model's answers, references and scores.

    Scores are each benchmark's primary metric. --search looks in questions, references, answers and
    reasoning. With --different-from the other model's answer stands below; --wrong with it finds what the
    other has right.
    """
    lean()
    from slurmeval.results.browsing import answers, beside

    named = wanted(results, benchmarks, suites)
    if form == "pairs":
        if different_from is None or wrong or search is not None:
            raise UserError("--format pairs needs --different-from, and takes neither --wrong nor --search")
        _pairs(results, model, different_from, named, limit)
        return
    found = list(itertools.islice(answers(results, model, named, wrong, different_from, search), limit + 1))
    shown = found[:limit]
    for answer in shown if different_from is None else beside(results, shown, different_from):
        if form == "jsonl":
            click.echo(json.dumps(asdict(answer)))
        else:
            for line in lines(answer):
                click.echo(line)
    if not found:
        click.echo(f"no such answer of {model}", err=True)
    if len(found) > limit:
        click.echo(f"… and more: --limit {10 * limit}", err=True)


def _pairs(results: Path, right: str, wrong: str, benchmarks: Sequence[str], limit: int) -> None:
    from slurmeval.results.minimal_pairs import minimal_pairs

    count = 0
    for pair in itertools.islice(minimal_pairs(results, right, wrong, benchmarks), limit):
        click.echo(json.dumps(pair))
        count += 1
    if not count:
        said = "no two questions of as many words with different answers"
        raise UserError(f"no minimal pair: {said} that {right} has right and {wrong} has one of them wrong")


def lines(answer: AnswerTo) -> Iterator[str]:
    """Yields an answer as lines for a terminal."""
    question = f"question {answer.native_id or answer.sample_uid[:12]}"
    repeat = f", answer {answer.repeat_idx + 1}" if answer.repeat_idx else ""
    part = f" ({answer.category})" if answer.category else ""
    yield printable(f"── {answer.benchmark}, {question}{part}{repeat}")
    yield from _text("question", answer.input)
    for number, choice in enumerate(answer.choices or ()):
        yield from _text(f"choice {number}", choice)
    yield from _text("reference", answer.reference)
    for each in (answer, answer.other):
        if each is not None:
            yield printable(f"{each.model}: {_score(each)}")
            yield from _text("reasoning", each.reasoning)
            yield from _text("answer", each.output)
            yield from _text("read as", None if each.read_as == each.output else each.read_as)
    yield ""


def _score(answer: AnswerTo) -> str:
    said = {True: "wrong", False: "right", None: "no score"}[answer.wrong]
    value = "" if answer.value is None else f" ({answer.metric} {answer.value:g})"
    status = {"error": ", nobody answered", "unparsed": ", could not be read"}.get(answer.status, "")
    cut = ", cut off at the token limit" if answer.finish_reason == "length" else ""
    return f"{said}{value}{status}{cut}"


def _text(name: str, text: str | None) -> Iterator[str]:
    """Yields a text under its name, without what a terminal would take for a command."""
    if text is None:
        return
    if len(text) > TEXT_LENGTH:
        half = TEXT_LENGTH // 2
        text = f"{text[:half]}\n[… {len(text) - 2 * half:,} characters …]\n{text[-half:]}"
    for index, line in enumerate(text.split("\n")):
        yield f"  {name if not index else '':>9} │ {printable(line.expandtabs(4))}".rstrip()
