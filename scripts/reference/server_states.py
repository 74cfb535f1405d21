"""The page `docs/server-states.md`, made from `ServerStatus`."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path

from slurmeval.state.server import ServerStatus

PAGE = Path("docs/server-states.md")


def page(command: str) -> str:
    """Returns the page; `command` writes it."""
    meanings = _docstrings()
    rows = (
        f"| `{status}` | {meanings[status.name]} | {_yes(status.accepts_lessees)} | {_yes(status.is_final)} |"
        for status in ServerStatus
    )
    parts = [
        "# States of a server",
        "",
        f"Generated from `src/slurmeval/state/server.py` by `{command}`; do not edit.",
        "",
        "```mermaid",
        *diagram(),
        "```",
        "",
        "| status | meaning | takes lessees | final |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    return "\n".join(parts)


def diagram() -> Iterator[str]:
    """Yields the lines of a Mermaid state diagram."""
    yield "stateDiagram-v2"
    yield f"    [*] --> {ServerStatus.PENDING}"
    for status in ServerStatus:
        for successor in ServerStatus:
            if successor in status.successors:
                yield f"    {status} --> {successor}"
        if status.is_final:
            yield f"    {status} --> [*]"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _docstrings() -> dict[str, str]:
    """Returns the docstring of each member, by its name."""
    body = ast.parse(inspect.getsource(ServerStatus)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for member, text in itertools.pairwise(body.body):
        match member, text:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(meaning))):
                found[name] = meaning
    return found
