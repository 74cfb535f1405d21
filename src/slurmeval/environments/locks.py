"""Lock files: the exact packages of an environment, in `containers/locks/<name>.lock`.

A lock is what `uv pip compile` writes, after lines that say how to install it:

    # slurmeval: no-deps               install the listed packages and nothing that they ask for
    # slurmeval: torch-backend cpu     torch is the CPU build
    # slurmeval: disk-mb 4500          the room that is needed, in MB
    # slurmeval: check <Python code>   proof that the finished environment works

`<name>.in` says what is wanted; its own `# slurmeval:` lines go into the lock, and two more are for
making it: `exclude <package> …` (never, whoever asks for it) and `group <name>` (also the project's
dependencies and that dependency group).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from slurmeval.environments.indexes import uv_environment, uv_flags, uv_program
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import sha256_of_file, sha256_of_json, write_atomically

PYTHON_VERSION = "3.11"
"""The oldest Python that the locks must suit."""

_DIRECTIVE = re.compile(r"^# slurmeval: (?P<name>[a-z-]+)(?: (?P<value>.+))?$")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?\s*==\s*(?P<version>[^\s;\\]+)")
_CPU_BUILD = re.compile(r"(?m)^[A-Za-z0-9][A-Za-z0-9._-]*==[^\s+]+\+cpu\b")
_FOR_LOCK = ("no-deps", "torch-backend", "disk-mb", "check")
_FOR_MAKING = ("exclude", "group")
_DEFAULT_DISK_MB = 1000


@dataclass(frozen=True)
class Lock:
    """Lock file, read."""

    path: Path
    name: str
    sha256: str
    packages: dict[str, str]
    """Pinned version by normalised name."""
    no_deps: bool
    torch_backend: str | None
    disk_mb: int
    check: str | None

    @property
    def packages_sha256(self) -> str:
        """Hash of what is installed: every package's version and the build of torch, not the comments."""
        return sha256_of_json([self.packages, self.torch_backend])


def normalised(name: str) -> str:
    """Returns a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path) -> Lock:
    """Reads a lock.

    Raises:
        UserError: It is missing, or holds anything but pins and known directives.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        known = sorted(lock.stem for lock in path.parent.glob("*.lock"))
        raise UserError(f"{path}: no such lock; there are: {', '.join(known) or 'none'}") from error
    directives = _directives(path, text, _FOR_LOCK)
    packages: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        pinned = PIN.match(line)
        if pinned is None:
            raise UserError(
                f"{path}, line {number}: `{line.strip()}` is no `name==version`: run scripts/update-locks"
            )
        packages[normalised(pinned["name"])] = pinned["version"]
    return Lock(
        path=path,
        name=path.stem,
        sha256=sha256_of_file(path),
        packages=packages,
        no_deps="no-deps" in directives,
        torch_backend=directives.get("torch-backend"),
        disk_mb=int(directives.get("disk-mb", _DEFAULT_DISK_MB)),
        check=directives.get("check"),
    )


def update_lock(requirements: Path, project: Path) -> Path:
    """Resolves `<name>.in` into `<name>.lock` beside it.

    Raises:
        SlurmevalError: With uv's reason.
    """
    text = requirements.read_text(encoding="utf-8")
    directives = _directives(requirements, text, _FOR_LOCK + _FOR_MAKING)
    pins = _compile(requirements, project, directives)
    if directives.get("torch-backend") != "cpu" and (builds := _CPU_BUILD.findall(pins)):
        # A folder of wheels offers them, and to uv a local version is the newest
        pins = _compile(requirements, project, directives, [pin.replace("==", "!=") for pin in builds])
        if left := _CPU_BUILD.findall(pins):
            raise SlurmevalError(
                f"{requirements.name}: {left[0]} is a build for CPUs, and there is no other: let pip know an "
                "index with other builds, or say `# slurmeval: torch-backend cpu`"
            )
    # The CPU build's local version is named by the torch-backend line: the pin must suit every index.
    pins = re.sub(r"(?m)^(torch==[^\s+]+)\+cpu$", r"\1", pins)
    header = [
        f"# Made from {requirements.name} by scripts/update-locks (Python {PYTHON_VERSION}): do not edit."
    ]
    header += [line for line in text.splitlines() if (m := _DIRECTIVE.match(line)) and m["name"] in _FOR_LOCK]
    lock = requirements.with_suffix(".lock")
    write_atomically(lock, "\n".join([*header, pins]))
    return lock


def _compile(
    requirements: Path, project: Path, directives: dict[str, str], constraints: list[str] | None = None
) -> str:
    """Returns the pins that uv resolves.

    Raises:
        SlurmevalError: With uv's reason.
    """
    argv = [uv_program(), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--upgrade"]
    argv += ["--python-version", PYTHON_VERSION, *uv_flags(), str(requirements)]
    if "group" in directives:
        argv += ["pyproject.toml", "--group", directives["group"]]
    with tempfile.TemporaryDirectory() as folder:
        for option, lines in (
            ("--excludes", directives.get("exclude", "").split()),
            ("--constraints", constraints or []),
        ):
            if lines:
                file = Path(folder) / f"{option[2:]}.txt"
                file.write_text("\n".join(lines) + "\n")
                argv += [option, str(file)]
        done = subprocess.run(
            argv,
            cwd=project,
            env=uv_environment(),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    if done.returncode != 0:
        raise SlurmevalError(f"{requirements.name} cannot be resolved: {' '.join(done.stderr.split())}")
    return done.stdout


def _directives(path: Path, text: str, allowed: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("# slurmeval:"):
            continue
        directive = _DIRECTIVE.match(line)
        if directive is None or directive["name"] not in allowed:
            raise UserError(f"{path}, line {number}: `{line}` is not one of: {', '.join(allowed)}")
        if directive["name"] == "disk-mb" and not (directive["value"] or "").isdecimal():
            raise UserError(f"{path}, line {number}: disk-mb needs a whole number of MB")
        found[directive["name"]] = directive["value"] or ""
    return found


def main(names: list[str]) -> int:
    """Rebuilds the named locks, or all: `python -m slurmeval.environments.locks PROJECT [NAME…]`."""
    project = Path(names[0]).resolve()
    folder = project / "containers" / "locks"
    wanted = [folder / f"{name}.in" for name in names[1:]] or sorted(folder.glob("*.in"))
    for requirements in wanted:
        if not requirements.is_file():
            print(f"{requirements}: no such file", file=sys.stderr)
            return 2
        try:
            lock = update_lock(requirements, project)
        except SlurmevalError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{lock.relative_to(project)}: {len(read_lock(lock).packages)} packages", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
