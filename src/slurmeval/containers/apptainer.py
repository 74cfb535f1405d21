"""Containers: Apptainer, or Singularity on clusters that still have it under that name.

A command runs contained: it sees the image, the folders that it is given, a home folder of its own and only
the variables passed in. docs/images.md lists what this isolates.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurmeval.config.site import Containers
from slurmeval.errors import UserError
from slurmeval.variables import checked

PROGRAMS = ("apptainer", "singularity")
_NOT_INHERITED = (
    "ENV_",
    "_BIND",
    "_BINDPATH",
    "_CONTAIN",
    "_CONTAINALL",
    "_CLEANENV",
    "_HOME",
    "_NO_HOME",
    "_PWD",
)
"""Ends of the program's own variables that would change what a container sees: sites and users set some."""


@dataclass(frozen=True)
class Bind:
    """Folder or file that a container sees."""

    source: Path
    target: Path | None = None
    """Where; None: at the same path."""
    writable: bool = False

    def flags(self) -> list[str]:
        """Returns the flags of --mount: names may hold commas, colons and quotes there, unlike in --bind."""
        fields = ["type=bind", f"source={self.source}", f"destination={self.target or self.source}"]
        return ["--mount", _csv(fields if self.writable else [*fields, "ro"])]


def _csv(fields: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


@dataclass(frozen=True)
class Apptainer:
    """How containers are run here."""

    program: str
    """Its name or path."""
    setup: tuple[str, ...] = ()
    """Shell lines that run before it, such as `module load apptainer`."""
    gpu: str | None = None
    """The flag by which a container gets the GPUs."""
    binds: tuple[str, ...] = ()
    """Further folders for every container, as --bind takes them."""

    @classmethod
    def find(cls, containers: Containers | None = None) -> Apptainer:
        """Returns what the site file says (None: the defaults).

        A program that a module brings is taken on trust, under its first name.

        Raises:
            UserError: Neither program is there.
        """
        containers = containers or Containers()
        setup = tuple(containers.setup)
        program = containers.program
        if program is None:
            there = (name for name in PROGRAMS if shutil.which(name) is not None)
            program = next(there, PROGRAMS[0] if setup else None)
        elif not setup and shutil.which(program) is None:
            raise UserError(f"containers.program: {program} cannot be run here")
        if program is None:
            raise UserError(
                "neither apptainer nor singularity is on PATH: load its module (or say so in "
                "containers.setup of site.yaml), name it in containers.program, or take what runs in "
                "environments: runtime: environment of the benchmark (`slurmeval tasks` says of which), and "
                "environment instead of image of the server"
            )
        return cls(program, setup, containers.gpu, tuple(containers.binds))

    @property
    def prefix(self) -> str:
        """What the names of its variables begin with."""
        return "SINGULARITY" if Path(self.program).name.startswith("singularity") else "APPTAINER"

    def argv(self, *arguments: str) -> list[str]:
        """Returns the command line of the program with these arguments, after the setup lines."""
        if not self.setup:
            return [shutil.which(self.program) or self.program, *arguments]
        script = "\n".join([*checked(self.setup), 'exec "$@"'])
        return ["/bin/bash", "-l", "-c", script, "bash", self.program, *arguments]

    def exec_argv(
        self,
        image: Path,
        command: Sequence[str],
        *,
        binds: Sequence[Bind] = (),
        cwd: Path | None = None,
        home: Path | None = None,
        scratch: Path | None = None,
        gpu: bool = False,
        network: bool = True,
    ) -> list[str]:
        """Returns the command line that runs `command` in an image, contained.

        Args:
            image: The SIF.
            command: Program and arguments.
            binds: What it sees besides the image.
            cwd: The working directory.
            home: The home folder inside. None: an empty one that cannot be written.
            scratch: A folder whose own folders become /tmp and /var/tmp. None: in memory.
            gpu: The GPUs are there.
            network: The host's network is there. Otherwise there is only a loopback interface, and nothing on
                it.
        """
        flags = ["--silent", "exec", "--containall"]
        flags += ["--no-home"] if home is None else ["--home", f"{home}:{home}"]
        if scratch is not None:
            flags += ["--workdir", str(scratch)]
        if gpu and self.gpu is not None:
            flags.append(self.gpu)
        if not network:
            flags += ["--net", "--network", "none"]
        for bind in binds:
            flags += bind.flags()
        for text in self.binds:
            flags += ["--bind", text]
        if cwd is not None:
            flags += ["--pwd", str(cwd)]
        return self.argv(*flags, str(image), *command)

    def environment(self, inside: Mapping[str, str] | None = None) -> dict[str, str]:
        """Returns the variables of the program itself.

        Those in `inside` reach the command, and no command line.
        """
        env = {name: value for name, value in os.environ.items() if not _leaks(name)}
        return env | {f"{self.prefix}ENV_{name}": value for name, value in (inside or {}).items()}


def _leaks(name: str) -> bool:
    for program in ("APPTAINER", "SINGULARITY"):
        if name.startswith(program) and any(name[len(program) :].startswith(end) for end in _NOT_INHERITED):
            return True
    return False


def with_targets(folders: Iterable[Path]) -> list[Path]:
    """Returns the folders, and those that links in them lead to: the hub's cache has links to its blobs."""
    found: dict[Path, None] = {}
    for folder in folders:
        found[folder] = None
        real = folder.resolve()
        found[real] = None
        for path in (Path(base) / name for base, _, names in os.walk(real) for name in names):
            target = path.resolve() if path.is_symlink() else None
            if target is not None and not any(target.is_relative_to(known) for known in found):
                found[target.parent] = None
    return list(found)
