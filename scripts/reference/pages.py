"""The pages of `docs/` and the schemas that are generated from code; `scripts/update-schema` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from scripts.reference import config, server_states, tables

from slurmeval.catalog.entries import HarnessEntry, Task, catalog
from slurmeval.cli import main
from slurmeval.cli.tasks import needed
from slurmeval.files import write_atomically

COMMANDS = Path("docs/commands.md")
TASKS = Path("docs/task-list.md")
HELP_WIDTH = 100
"""Columns of the commands' help."""

_COMMANDS_INTRODUCTION = f"""# Commands

Generated from `src/slurmeval/cli` by `{config.COMMAND}`; do not edit.

Run them in the project folder, with `.venv` active. The exit status is 0, 1 where something failed, 2 for bad
input, and 130 after Ctrl-C. The reason of a failure is the last line on stderr.
"""
_TASKS_INTRODUCTION = f"""# NeMo Evaluator's tasks

Generated from `src/slurmeval/catalog` by `{config.COMMAND}`; do not edit.

{{tasks}} tasks of {{harnesses}} harnesses, from nemo-evaluator-launcher {{launcher}}. A config names a task
as `harness.task`. [tasks.md](tasks.md) explains what a task may need; `slurmeval tasks` searches this list.
"""


def generated_files() -> dict[Path, str]:
    """Returns the text of each generated file by its path in the project, which is the working folder."""
    files = {COMMANDS: commands_page(), TASKS: tasks_page(), tables.REFERENCE: tables.page()}
    files[server_states.PAGE] = server_states.page(config.COMMAND)
    for each in config.ALL:
        files |= {each.schema: each.schema_text(), each.reference: each.reference_text()}
    return files


def update(project: Path) -> None:
    """Writes all generated files."""
    for path, text in generated_files().items():
        write_atomically(project / path, text)


def commands_page() -> str:
    """Returns a page with the `--help` of every command."""
    parts = [_COMMANDS_INTRODUCTION, *_help_sections("slurmeval", main.commands, None, 2)]
    return "\n".join(parts)


def tasks_page() -> str:
    """Returns a page with every task of the catalog, by harness."""
    known = catalog()
    tasks, harnesses = len(known.tasks), len(known.harnesses)
    parts = [_TASKS_INTRODUCTION.format(tasks=tasks, harnesses=harnesses, launcher=known.launcher)]
    for name, harness in known.harnesses.items():
        parts += [*_harness_heading(harness), *map(_task_row, known.of_harness(name)), ""]
    return "\n".join(parts)


def _help_sections(
    name: str, command: click.Command, parent: click.Context | None, level: int
) -> Iterator[str]:
    settings = {**command.context_settings, "terminal_width": HELP_WIDTH, "max_content_width": HELP_WIDTH}
    context = click.Context(command, parent=parent, info_name=name, **settings)
    yield f"{'#' * level} `{context.command_path}`\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            assert below is not None
            yield from _help_sections(each, below, context, level + 1 if parent else level)


def _harness_heading(harness: HarnessEntry) -> list[str]:
    package = f"package `{harness.package}`" if harness.package else "no package"
    return [
        f"## {harness.name}\n",
        f"{harness.full_name}. Image `{harness.reference}`; {package}.\n",
        "| task | endpoint | group | needs | what it is |\n|---|---|---|---|---|",
    ]


def _task_row(task: Task) -> str:
    cells = [
        f"`{task.name}`",
        ", ".join(task.endpoints),
        task.group.replace("_", " "),
        needed(task),
        " ".join(task.about.split()),
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|').replace('<', '&lt;') for cell in cells)} |"
