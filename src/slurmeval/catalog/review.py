"""What a new version of the launcher changes, and where own.yaml no longer fits."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any

from slurmeval.catalog.entries import OTHER, build

DIGEST = len("sha256:") + 12
"""Characters of a digest that are printed."""


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines for what came (+), went (-) or changed (~); none where nothing did. Tasks of one harness that
    changed in one way share a line."""
    lines = [*_harnesses(old["harnesses"], new["harnesses"])]
    for name in [*new["harnesses"], *(name for name in old["harnesses"] if name not in new["harnesses"])]:
        before, now = (data["harnesses"].get(name, {}).get("tasks", {}) for data in (old, new))
        lines += [f"+ {name}.{task}" for task in now if task not in before]
        lines += [f"- {name}.{task}" for task in before if task not in now]
        alike: dict[str, list[str]] = {}
        for task in now:
            if task in before and (changed := _changes(before[task], now[task])):
                alike.setdefault(changed, []).append(f"{name}.{task}")
        lines += [f"~ {', '.join(tasks)}: {changed}" for changed, tasks in alike.items()]
    versions = [str(data["launcher"]["version"]) for data in (old, new)]
    if lines or versions[0] != versions[1]:
        counts = [sum(len(each["tasks"]) for each in data["harnesses"].values()) for data in (old, new)]
        sizes = [len(data["harnesses"]) for data in (old, new)]
        head = f"launcher {versions[0]} -> {versions[1]}"
        lines.insert(0, f"{head}: {counts[0]} -> {counts[1]} tasks, {sizes[0]} -> {sizes[1]} harnesses")
    return lines


def _harnesses(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    yield from (
        f"+ harness {name}: {new[name]['image']}:{new[name]['tag']}" for name in new if name not in old
    )
    yield from (f"- harness {name}" for name in old if name not in new)
    for name in new:
        if name in old and (changed := _changes(_without_tasks(old[name]), _without_tasks(new[name]))):
            yield f"~ harness {name}: {changed}"


def _without_tasks(harness: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in harness.items() if key != "tasks"}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {_shown(key, old.get(key))} -> {_shown(key, new.get(key))}" for key in keys)


def _shown(key: str, value: Any) -> str:
    if key == "digest" and isinstance(value, str):
        return value[:DIGEST]
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return "none" if value is None else repr(value) if key == "about" else str(value)


def stale(launcher: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """One line (?) for each task without a group, and each name in own.yaml that fits nothing."""
    catalog = build(launcher, own)
    lines = [f"? {name}: no group in own.yaml" for name, task in catalog.tasks.items() if task.group == OTHER]
    patterns = [*own["executes_code"], *own["evaluates_calls"], *own["asks_judge"], *own["image_only"]]
    for section in ("groups", "gated"):
        patterns += [pattern for listed in own[section].values() for pattern in listed]
    lines += [
        f"? own.yaml: '{pattern}' names no task"
        for pattern in dict.fromkeys(patterns)
        if not any(fnmatch.fnmatchcase(name, pattern) for name in catalog.tasks)
    ]
    lines += [
        f"? own.yaml: packages: no harness {name}"
        for name in own["packages"]
        if name not in catalog.harnesses
    ]
    return lines
