"""Definition files of Apptainer, made from Dockerfiles by spython."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

from slurmeval.errors import UserError

_LOST = {
    "ADD": "a URL is not downloaded, an archive not unpacked",
    "ARG": "it is a plain variable in %post; the value given to docker build is not known",
    "HEALTHCHECK": "it becomes %test",
    "SHELL": "%post is run by /bin/sh",
    "USER": "Apptainer runs everything as the user who starts it",
    "VOLUME": "bind a folder instead",
}
"""Instructions that a definition file has no equal for, and what becomes of each."""


def definition_of(dockerfile: Path) -> str:
    """Returns the text of a definition file that does what a Dockerfile does.

    Raises:
        UserError: The file cannot be read, or is no Dockerfile.
    """
    try:
        instructions = _instructions(dockerfile.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{dockerfile}: cannot be read: {error}") from error
    if "FROM" not in instructions:
        raise UserError(f"{dockerfile}: expected a Dockerfile with an instruction FROM")
    from spython.main.parse.parsers import DockerParser
    from spython.main.parse.writers import SingularityWriter

    try:
        with contextlib.redirect_stdout(sys.stderr):
            text = SingularityWriter(DockerParser(str(dockerfile)).recipe).convert()
    except (SystemExit, ValueError, LookupError, AttributeError, TypeError) as error:
        raise UserError(f"{dockerfile}: cannot be converted: {error or 'see above'}") from error
    text = text.replace("\nStage: spython-base\n", "\n")  # its name for the only stage
    return f"# Made from {dockerfile.name} by slurmeval; read it before you build it.\n{text}\n"


def losses(dockerfile: Path) -> list[str]:
    """Returns what a person has to look at in the definition file, one line each."""
    text = dockerfile.read_text(encoding="utf-8")
    found = [f"{name}: {_LOST[name]}" for name in sorted(_LOST.keys() & _instructions(text))]
    stages = set(re.findall(r"^\s*FROM\s+\S+\s+AS\s+(\S+)", text, re.MULTILINE | re.IGNORECASE))
    for base in re.findall(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", text, re.MULTILINE | re.IGNORECASE):
        if "@sha256:" not in base and base not in stages:
            found.append(f"FROM {base}: a tag may move; name a digest (`@sha256:…`)")
    return found


def _instructions(text: str) -> set[str]:
    return {name.upper() for name in re.findall(r"^\s*([A-Za-z]+)\s+\S", text, re.MULTILINE)}
