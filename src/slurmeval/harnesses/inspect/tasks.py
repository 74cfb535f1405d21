"""The tasks of inspect_evals, and what each needs: `tasks.yaml`, by `scripts/update-inspect-catalog`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from slurmeval.config.models import Benchmark

FILE = Path(__file__).with_name("tasks.yaml")


@cache
def known() -> dict[str, dict[str, Any]]:
    """Returns the needs of each task by its name."""
    content: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return content


def problems(benchmark: Benchmark) -> Iterator[str]:
    """Yields what a benchmark lacks of what its task needs; each line begins with the key."""
    task, extra = benchmark.task, benchmark.extra
    needs = known().get(task)
    if needs is None:
        yield f"task: {_unknown(task)}"
        return
    if needs.get("sandbox") and not extra.get("sandbox"):
        who = " and ".join(needs["sandbox"])
        yield (
            f"extra.sandbox: is missing; the {who} of '{task}' runs programs in Docker, which clusters lack: "
            "local runs them in the harness's own containment (docs/inspect.md#sandboxes)"
        )
    if needs.get("internet") and not benchmark.network:
        yield f"network: '{task}' needs the internet while it runs"
    if lacks := needs.get("lacks"):
        names = ", ".join(lacks)
        yield f"task: '{task}' needs packages that containers/locks/inspect.in does not name: {names}"
    roles = extra.get("model_roles", {})
    if "grader" in needs.get("roles", ()) and isinstance(roles, dict) and "grader" not in roles:
        yield (
            f"extra.model_roles: '{task}' has answers judged: name its judge, as in "
            "{grader: openai/gpt-4o}, or {grader: self} for the evaluated model"
        )


def file_problems(file: Path, task: str) -> Iterator[str]:
    """Yields why a Python file has no such task, to be read after the file's name. Nothing in it is run."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, ValueError) as error:
        yield f": {error}"
        return
    except SyntaxError as error:
        yield f":{error.lineno}: {error.msg}"
        return
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    named = {node.name for node in functions if any(_is_task(each) for each in node.decorator_list)}
    named |= {
        str(each.value.value)
        for node in functions
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        for each in decorator.keywords
        if each.arg == "name" and isinstance(each.value, ast.Constant)
    }
    if task not in named:
        yield f": has no task '{task}'; it has {', '.join(sorted(named)) or 'none (functions under @task)'}"


def _is_task(decorator: ast.expr) -> bool:
    """Returns whether a decorator makes a function a task of the function's own name."""
    called = isinstance(decorator, ast.Call)
    if called and any(each.arg == "name" for each in decorator.keywords):  # type: ignore[attr-defined]
        return False
    return ast.unparse(decorator.func if called else decorator).split(".")[-1] == "task"  # type: ignore[attr-defined]


def _unknown(task: str) -> str:
    from slurmeval.config.messages import nearest  # takes long to load, and is for messages only

    near = nearest(task, sorted(known()))
    hint = f"; {near}" if near.startswith("did you mean") else ""
    return f"inspect_evals has no task '{task}'{hint} (a task of your own needs task_file)"
