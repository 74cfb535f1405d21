"""Folders that are already there. They are described, never copied or changed."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from pathlib import Path

from slurmeval.errors import UserError
from slurmeval.files import sha256_of_json
from slurmeval.staging.manifest import HashCache, hash_files
from slurmeval.state.manifest import StagedFile

PACKED_SUFFIXES = (".safetensors", ".bin")
"""Weights in a form that vLLM loads."""


def files_below(folder: Path, patterns: list[str], what: str) -> list[str]:
    """Returns the relative paths of the files below `folder` that match, without hidden ones.

    Raises UserError where none does.
    """
    if not folder.is_dir():
        raise UserError(f"{what}: there is no folder {folder}")
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    for pattern in patterns:
        if not fnmatch.filter(names, pattern) and pattern not in names:
            raise UserError(f"{what}: {folder} has no file {pattern}")
    if patterns:
        names = [name for name in names if any(name == p or fnmatch.fnmatch(name, p) for p in patterns)]
    if not names:
        raise UserError(f"{what}: {folder} holds no files")
    return names


def need_model_files(names: list[str], folder: Path, what: str) -> None:
    """Raises UserError unless the files make a model: a config.json and weights."""
    if "config.json" not in names:
        raise UserError(f"{what}: {folder} has no config.json: a Hugging Face model folder is needed")
    if not any(name.endswith(PACKED_SUFFIXES) for name in names):
        raise UserError(f"{what}: {folder} has no weights (*{' or *'.join(PACKED_SUFFIXES)})")


def foreign_code(folder: Path) -> str | None:
    """Returns the other repository whose code a model's files name, or None.

    `auto_map: org/name--module.Class` in config.json names it. It is not staged.
    """
    for file in sorted(folder.glob("*config.json")):
        try:
            named = json.loads(file.read_text(encoding="utf-8")).get("auto_map")
        except (OSError, ValueError, AttributeError):
            continue
        for value in named.values() if isinstance(named, dict) else ():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, str) and "--" in each:
                    return each.partition("--")[0]
    return None


def describe_folder(folder: Path, names: list[str], store: Path) -> tuple[str, list[StagedFile]]:
    """Returns a revision made of all names and contents, and the files."""
    key = hashlib.sha256(str(folder).encode()).hexdigest()[:40]
    files = hash_files(folder, names, HashCache(store / "ledgers" / f"{key}.json"))
    return sha256_of_json([[file.path, file.sha256] for file in files])[:40], files
