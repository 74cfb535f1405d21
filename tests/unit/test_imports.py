"""Imports go one way, and modules stay small enough to be read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurmeval.slurm import states

SOURCE = Path(__file__).parents[2] / "src" / "slurmeval"

LAYERS = (
    ("errors", "parent_death", "progress", "wording"),
    ("disk", "files", "paths", "project_files", "retrying"),
    ("state",),
    ("processes",),
    ("ownership", "startup", "subprocesses", "variables"),
    ("build_once",),
    ("engines",),
    ("config",),
    ("secrets",),
    ("environments", "containment"),
    ("containers",),
    ("staging",),
    ("slurm",),
    ("gateway", "servers"),
    ("catalog", "statistics"),
    ("texts",),
    ("harnesses",),
    ("results",),
    ("humans", "judges", "scheduling"),
    ("evaluation", "planning"),
    ("site_check", "workflow"),
    ("report",),
    ("cli",),
    ("__main__",),
)
"""A package or module may import itself and what stands before it; not what stands beside it."""

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
LONGEST_MODULE = 400
LONGEST_FUNCTION = 50

MODULES = sorted(SOURCE.rglob("*.py"))


def part(module: str) -> str:
    """`config` of `slurmeval.config.load`; empty for `slurmeval` itself, which holds the version only."""
    return ([*module.split("."), ""])[1]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each module of slurmeval's that `path` imports, at its top or later."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (
                (node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "slurmeval"
            )
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are written in full"
            if node.module == "slurmeval":
                yield from ((node.lineno, f"slurmeval.{alias.name}") for alias in node.names)
            elif node.module and node.module.startswith("slurmeval."):
                yield node.lineno, node.module


def named(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if own == "__init__":
        assert list(imports(path)) == []
        return
    assert own in LEVEL, f"{own} has no place in LAYERS"
    for line, module in imports(path):
        other = part(module)
        if other in ("", "__version__", own):
            continue
        assert LEVEL[other] < LEVEL[own], f"{path}:{line}: {own} must not import {module}"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{path}:{node.lineno}: {node.name} has {length} lines"


def test_every_part_has_its_place() -> None:
    parts = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in MODULES}
    assert parts - {"__init__"} == set(LEVEL)


def test_a_public_class_has_its_name_alone() -> None:
    homes: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(named(path))
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_words_of_slurm_stand_in_its_package() -> None:
    words = re.compile(r"SLURM(D)?_|(sbatch|squeue|sacct|scancel|srun|scontrol|sinfo|slurmstepd)(: )?$")
    known = {*states.ENDED, *states.WAITING, states.RUNNING, states.COMPLETING}
    others = {named(path): path for path in MODULES if path.relative_to(SOURCE).parts[0] != "slurm"}
    for name, path in others.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                is_one = node.value in known or words.match(node.value)
                assert not is_one or is_asked(node.value, name), f"{path}:{node.lineno}: {node.value!r}"


def is_asked(word: str, module: str) -> bool:
    """Whether a program is named to ask whether it is here."""
    return (word, module) in {("squeue", "cli/queued.py"), ("scancel", "cli/stop.py")}
