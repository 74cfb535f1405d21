"""`slurmeval tasks`: what can be evaluated."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from slurmeval.catalog.entries import NEEDS, Catalog, HarnessEntry, Task, catalog
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.wording import counted

ENDPOINTS = ("chat", "completions", "embedding")
NOTHING = "nothing"
IMAGE = "image"
LOCKS = Path("containers/locks")
COLUMN_GAP = "  "
"""Space between columns."""


@click.command()
@click.argument("search", nargs=-1)
@click.option("--harness", help="Only tasks of this harness.")
@click.option("--endpoint", type=click.Choice(ENDPOINTS), help="Only tasks that ask in this way.")
@click.option("--group", help="Only tasks of this group, such as maths or tool_use.")
@click.option("--needs", type=click.Choice((*NEEDS, IMAGE, NOTHING)), help="Only tasks that need this.")
@click.option(
    "--code/--no-code", default=None, help="Only tasks that run what the model wrote, or that do not."
)
@click.option("--json", "as_json", is_flag=True, help="All that is known, as JSON.")
def tasks(
    search: tuple[str, ...],
    harness: str | None,
    endpoint: str | None,
    group: str | None,
    needs: str | None,
    code: bool | None,
    as_json: bool,
) -> None:
    """Lists what can be evaluated. Every task of NeMo Evaluator's harnesses.

    Tasks that fit all words of SEARCH, in any of their names, their group or their description; of one that
    is named exactly, all that is known, and how it stands in a config. The name of a harness: its tasks.

    Needs: log-probabilities of the prompt, a judge (another model), a token of the Hugging Face hub (the
    dataset's terms must be accepted). Code: it runs programs that the model wrote; calls: function calls.
    Image: it runs in its harness's image only, which takes Apptainer; all others run here in environments.
    """
    known = catalog()
    words = list(search)
    if len(words) == 1 and words[0] in known.harnesses and harness is None:
        harness = words.pop()
    if harness is not None and harness not in known.harnesses:
        raise UserError(f"--harness: unknown harness '{harness}'; {_nearest(harness, known.harnesses)}")
    choice = Choice(harness, endpoint, _group(known, group), needs, code)
    found = [
        task
        for task in known.tasks.values()
        if choice.fits(task)
        and all(word.lower() in _text(task, known.harnesses[task.harness]) for word in words)
    ]
    if not found:
        raise SlurmevalError(f"no task fits{_hint(known, words)} 'slurmeval tasks' lists all")
    exact = [task for task in found if words in ([task.full_name], [task.name])]
    if as_json:
        shown = exact if len(exact) == 1 else found
        click.echo(json.dumps([_as_json(task, known) for task in shown], indent=1, ensure_ascii=False))
    elif len(exact) == 1:
        _print_one(exact[0], known.harnesses[exact[0].harness])
    else:
        _print_all(found)


@dataclass(frozen=True)
class Choice:
    """Options that choose tasks; None: any."""

    harness: str | None
    endpoint: str | None
    group: str | None
    needs: str | None
    code: bool | None

    def fits(self, task: Task) -> bool:
        """Returns whether a task is chosen."""
        return (
            self.harness in (None, task.harness)
            and self.endpoint in (None, *task.endpoints)
            and self.group in (None, task.group)
            and self.needs in (None, *(task.needs or (NOTHING,)), runs_in(task))
            and self.code in (None, task.executes_code or task.evaluates_calls)
        )


def _text(task: Task, harness: HarnessEntry) -> str:
    """Returns the text of a task that is searched, in lower case."""
    names = (task.full_name, task.native or "", task.group, task.group.replace("_", " "), task.about)
    return "\n".join((*names, harness.full_name)).lower()


def _group(known: Catalog, group: str | None) -> str | None:
    """Returns the group as the catalog writes it. Raises UserError where there is none of this name."""
    if group is None:
        return None
    groups = sorted({task.group for task in known.tasks.values()})
    written = group.strip().lower().replace(" ", "_").replace("-", "_")
    if written not in groups:
        raise UserError(f"--group: unknown group '{group}'; there are {', '.join(groups)}")
    return written


def _nearest(given: str, allowed: Mapping[str, object] | Sequence[str]) -> str:
    from slurmeval.config.messages import nearest  # takes long to load

    return nearest(given, allowed)


def _hint(known: Catalog, search: Sequence[str]) -> str:
    """Returns what was searched for, and what is near a single word."""
    if len(search) != 1:
        return ";"
    near = _nearest(
        search[0], [*known.harnesses, *(task.name for task in known.tasks.values()), *known.tasks]
    )
    return f" '{search[0]}';{f' {near}' if near.startswith('did you mean') else ''}"


def _as_json(task: Task, known: Catalog) -> dict[str, Any]:
    harness = known.harnesses[task.harness]
    image = {"reference": harness.reference, "digest": harness.digest, "architectures": harness.architectures}
    derived = {"full_name": task.full_name, "needs": task.needs, "package": harness.package, "image": image}
    derived["runs_in"] = runs_in(task)
    return {**asdict(task), **derived}


def _print_all(found: Sequence[Task]) -> None:
    if sys.stdout.isatty():
        lines = table(found, shutil.get_terminal_size().columns)
    else:  # for grep and the like: full names, a line each
        lines = columns([(task.full_name, *_traits(task)) for task in found], 10**6)
    click.echo("\n".join(lines))
    harnesses = len({task.harness for task in found})
    click.echo(f"{counted(len(found), 'task')} of {counted(harnesses, 'harness')}")


def table(found: Sequence[Task], width: int) -> list[str]:
    """Returns the tasks under their harnesses, for a terminal. rich would take longer than all else here."""
    head = ("task", "endpoint", "group", "needs")
    rows: list[tuple[str, ...]] = [(click.style(head[0], bold=True), *head[1:])]
    for task, before in zip(found, (None, *found), strict=False):
        if before is None or task.harness != before.harness:
            rows += [("",), (click.style(f"{task.harness}.", bold=True),)]
        rows.append((f"  {task.name}", *_traits(task)))
    return columns(rows, width)


def columns(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Returns rows of cells as lines; a row of one cell is a heading.

    Where `width` does not hold a row, its last two cells take several lines. Names stay whole: they are to
    be copied.
    """
    cells = [row for row in rows if len(row) > 1]
    widths = [max(len(click.unstyle(row[column])) for row in cells) for column in range(4)]
    for column in (2, 3):
        longest_word = max(len(word) for row in cells for word in row[column].split() or [""])
        excess = sum(widths) + len(COLUMN_GAP) * 3 - width
        widths[column] = max(longest_word, widths[column] - max(excess, 0))
    lines = []
    for row in rows:
        folded = [
            textwrap.wrap(cell, limit) if len(click.unstyle(cell)) > limit else [cell]
            for cell, limit in zip(row, widths, strict=False)
        ]
        for parts in itertools.zip_longest(*folded if len(row) > 1 else [[row[0]]], fillvalue=""):
            padded = (
                part + " " * (limit - len(click.unstyle(part)))
                for part, limit in zip(parts, widths, strict=False)
            )
            lines.append(COLUMN_GAP.join(padded).rstrip())
    return lines


def _traits(task: Task) -> tuple[str, str, str]:
    return "/".join(task.endpoints), task.group.replace("_", " "), needed(task)


def runs_in(task: Task) -> str:
    """Returns where a task runs in this project without more: a locked environment, else an image."""
    locked = (LOCKS / f"nemo-{task.harness}.lock").is_file()
    return "environment" if locked and not task.image_only else IMAGE


def needed(task: Task) -> str:
    """Returns what a task needs and runs, in the words of `slurmeval tasks`, separated by commas."""
    marks = {"code": task.executes_code, "calls": task.evaluates_calls, IMAGE: runs_in(task) == IMAGE}
    return ", ".join([*task.needs, *(mark for mark, given in marks.items() if given)])


def _print_one(task: Task, harness: HarnessEntry) -> None:
    rows = {
        "about": task.about,
        "harness": harness.full_name,
        "its own name": task.native or "",
        "asks through": " or ".join(task.endpoints),
        "group": task.group.replace("_", " "),
        "needs": ", ".join(_need(need, task) for need in task.needs) or "nothing but the model",
        "keys": ", ".join(task.env),
        "runs code": _runs(task),
        "runs in": "its locked environment, or its image" if runs_in(task) == "environment" else "its image",
        "image": f"{harness.reference} ({', '.join(harness.architectures)})",
        "digest": harness.digest,
        "package": harness.package or "none",
    }
    click.echo(task.full_name)
    width = max(map(len, rows))
    for key, value in rows.items():
        if value:
            click.echo(f"  {key.ljust(width)}  {value}")
    if lines := snippet(task):
        click.echo("\nIn a config:\n\n" + "\n".join(lines))


def _runs(task: Task) -> str:
    if task.executes_code:
        return "programs that the model writes"
    return "function calls of the model go through Python's eval" if task.evaluates_calls else ""


def _need(need: str, task: Task) -> str:
    match need:
        case "logprobs":
            return "log-probabilities of the prompt"
        case "judge":
            return "another model, as a judge or a user"
    return f"access to https://huggingface.co/datasets/{task.gated}" if task.gated else "a token (HF_TOKEN)"


def snippet(task: Task) -> list[str]:
    """Returns the task's entry in a config; nothing where slurmeval cannot serve what it asks for."""
    from slurmeval.harnesses.nemo_traits import NOT_DEFINED

    endpoint = next((each for each in task.endpoints if each != "embedding"), None)
    if endpoint is None:
        return []
    lines = [
        "benchmarks:",
        f"  {task.name}:",
        "    harness: nemo",
        f"    task: {task.full_name}",
        f"    endpoint: {endpoint}",
        f"    runtime: {runs_in(task)}",
    ]
    if task.full_name in NOT_DEFINED:
        key, value = NOT_DEFINED[task.full_name]
        lines.append(f"    extra: {{{key}: {value}}}")
    if task.asks_judge and not task.executes_code:  # what runs programs has no network
        lines += [
            "    # `extra` says which model judges, and where it is: docs/tasks.md",
            "    network: true",
        ]
        if task.env:
            lines += [
                f"    secrets: [{', '.join(task.env)}]",
                "secrets:",
                *(f"  {key}: {{}}" for key in task.env),
            ]
    return lines
