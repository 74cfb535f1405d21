"""Checks whether a benchmark's task exists, and whether it and its models can be asked as the config says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slurmeval.catalog.entries import Catalog, Task

SERVED_ENDPOINTS = ("chat", "completions")
"""Endpoints that slurmeval's servers have."""
NAMED_TASKS_LIMIT = 6
"""Tasks that a message names at most."""


def problems(catalog: Catalog, task: str, endpoint: str) -> list[str]:
    """Returns what is wrong with a benchmark's `task` and `endpoint`; each line begins with the key."""
    known = catalog.tasks.get(task)
    if known is None:
        return [f"task: {_unknown(catalog, task)}"]
    asks = f"'{task}' asks through {_either(known.endpoints)}"
    if not any(each in SERVED_ENDPOINTS for each in known.endpoints):
        return [f"task: {asks}; slurmeval serves {_either(SERVED_ENDPOINTS)}"]
    if endpoint not in known.endpoints:
        return [f"endpoint: {asks}, not {endpoint}"]
    return []


def model_problems(
    catalog: Catalog, task: str, endpoint: str, endpoints: Sequence[str], logprobs: bool
) -> list[str]:
    """Returns why a model cannot run a benchmark; each line begins with the model's key."""
    found = []
    if endpoint not in endpoints:
        found.append(
            f"endpoints: '{task}' asks through {endpoint}, but the model takes only {_either(endpoints)}"
        )
    known = catalog.tasks.get(task)
    if known is not None and known.needs_logprobs and not logprobs:
        found.append(
            f"logprobs: '{task}' needs log-probabilities of its prompts, which the model does not give"
        )
    return found


def _unknown(catalog: Catalog, task: str) -> str:
    from slurmeval.config.messages import nearest  # takes long to load, and is for messages only

    if since := catalog.removed.get(task):
        harness = task.partition(".")[0]
        rest = f"; {_lists(harness)}" if harness in catalog.harnesses else f"; so was its harness {harness}"
        return f"'{task}' was removed in launcher {since}{rest}"
    harness, dot, bare = task.partition(".")
    if not dot:
        return _bare(catalog, task)
    if harness not in catalog.harnesses:
        elsewhere = catalog.candidates(bare)
        instead = _named(elsewhere) if elsewhere else nearest(harness, catalog.harnesses)
        return f"unknown harness '{harness}' in '{task}'; {instead}"
    if elsewhere := catalog.candidates(bare):
        return f"{harness} has no task '{bare}'; {_named(elsewhere)}"
    names = [each.name for each in catalog.of_harness(harness)]
    near = nearest(bare, names)
    # without a near name `nearest` lists the first ones, which here are no help
    hint = near.replace("'", f"'{harness}.", 1) if near.startswith("did you mean") else ""
    text = f"{harness} has no task '{bare}' (launcher {catalog.launcher}; it may have been removed)"
    return f"{text}; {hint + ' ' if hint else ''}{_lists(harness)}"


def _bare(catalog: Catalog, name: str) -> str:
    """Returns what is said of a name without its harness."""
    from slurmeval.config.messages import nearest

    found = catalog.candidates(name)
    if len(found) > 1:
        return f"'{name}' is ambiguous; write one of {_names(found)}"
    if found:
        return f"write '{found[0].full_name}' instead of '{name}'"
    if name in catalog.harnesses:
        return f"'{name}' is a harness, not a task; write '{name}.<task>', {_lists(name)}"
    bare = {task.name: task.full_name for task in catalog.tasks.values()}
    near = nearest(name, bare)
    if near.startswith("did you mean"):
        return f"unknown task '{name}'; did you mean {_names(catalog.candidates(near.split(chr(39))[1]))}?"
    return f"unknown task '{name}'; write 'harness.task' ('slurmeval tasks' lists all)"


def _named(tasks: Sequence[Task]) -> str:
    return f"did you mean {_names(tasks)}?"


def _names(tasks: Sequence[Task]) -> str:
    names = [f"'{task.full_name}'" for task in tasks[:NAMED_TASKS_LIMIT]]
    return f"{', '.join(names)}, …" if len(tasks) > NAMED_TASKS_LIMIT else _either(names)


def _lists(harness: str) -> str:
    return f"'slurmeval tasks {harness}' lists its tasks"


def _either(names: Iterable[str]) -> str:
    """Returns names as in `chat or completions`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
