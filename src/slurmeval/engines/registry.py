"""Which engine a config names: a module of this package, or a Python file of the project."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType

from slurmeval import engines
from slurmeval.engines.base import Engine
from slurmeval.errors import UserError


def names() -> list[str]:
    """Returns the engines of this package, sorted."""
    modules = (module.name for module in pkgutil.iter_modules(engines.__path__))
    return sorted(name for name in modules if _classes(_of_package(name)))


def find_engine(name: str, project: Path | None = None) -> Engine:
    """Returns the engine that a config names: `vllm`, or `engines/mine.py` for a file below `project`.

    Raises UserError.
    """
    return _load(located(name, project))


def located(name: str, project: Path | None = None) -> str:
    """Returns an engine's name for other folders: a file's absolute path."""
    return str((project or Path.cwd()) / name) if name.endswith(".py") else name


@cache
def _load(name: str) -> Engine:
    module = _of_file(Path(name)) if name.endswith(".py") else _named(name)
    found = _classes(module)
    if len(found) != 1:
        raise UserError(f"engine {name}: expected one class derived from Engine, found {len(found)}")
    engine: Engine = found[0]()
    return engine


def _named(name: str) -> ModuleType:
    if name not in names():
        raise UserError(f"no engine '{name}'; engines: {', '.join(names())}, or a Python file (*.py)")
    return _of_package(name)


def _of_package(name: str) -> ModuleType:
    return importlib.import_module(f"{engines.__name__}.{name}")


def _of_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"slurmeval_engine_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a project's own code
        raise UserError(f"engine {file}: {type(error).__name__}: {error}") from error
    return module


def _classes(module: ModuleType) -> list[type[Engine]]:
    """The engines that a module itself defines."""
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Engine)
        and not inspect.isabstract(value)
        and value.__module__ == module.__name__
    ]
