"""Checks of a SIF: whether it is whole and works here, and what is in it."""

from __future__ import annotations

import json
import platform
import shlex
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurmeval.containers.apptainer import Apptainer
from slurmeval.containers.layers import REMEDY
from slurmeval.disk import reports_full
from slurmeval.engines.registry import find_engine, names
from slurmeval.environments.locks import normalised
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.progress import Progress
from slurmeval.subprocesses import run_bound

PROGRAMS = (
    *("nemo-evaluator", "eval-factory", "lm_eval"),
    *(find_engine(name).program for name in names()),
    "python3",
)
"""Programs that harnesses and servers are started by. The first that is there tells whose packages count."""
START_LIMIT_S = 900.0
"""Imports from a slow file system take minutes; a command that hangs takes for ever."""
MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}
"""What registries call the architectures that the kernel names so."""

_MAGIC = b"SIF_MAGIC\0"
_HEADER = struct.Struct("<32s10s3s3s16s8q")
_SIF_MACHINES = {
    "01": "386", "02": "amd64", "03": "arm", "04": "arm64", "05": "ppc64", "06": "ppc64le",
    "11": "s390x", "12": "riscv64",
}  # fmt: skip
_MARK = "slurmeval-found:"
# Each program's place and the first two lines of it: where it is a script, they name its interpreter
_LOOK = f"""for name in "$@"; do
  place=$(command -v "$name") || continue
  echo "{_MARK}$name $place"
  head -c 512 "$place" | head -n 2 | tr -d '\\000' | sed 's/^/{_MARK}> /'
done"""
_LIST = f"""import importlib.metadata as m, json
found = [(d.get('Name'), d.get('Version')) for d in (d.metadata for d in m.distributions()) if d]
print({_MARK!r} + json.dumps({{name: version for name, version in found if name and version}}))"""


@dataclass(frozen=True)
class Found:
    """What is known of an image that works."""

    architecture: str
    packages: dict[str, str]
    programs: dict[str, str]
    labels: dict[str, str]
    apptainer: str


def this_architecture() -> str:
    """Returns this machine's architecture as registries call it."""
    return MACHINES.get(platform.machine(), platform.machine())


def sif_architecture(what: str, sif: Path) -> str:
    """Returns the architecture that a SIF names in its header.

    Raises:
        UserError: It is no SIF, or only the beginning of one.
    """
    try:
        with sif.open("rb") as stream:
            data = stream.read(_HEADER.size)
            size = stream.seek(0, 2)
    except OSError as error:
        raise UserError(f"{what}: {sif}: {error.strerror}") from error
    if len(data) < _HEADER.size or not data[32:].startswith(_MAGIC):
        raise UserError(f"{what}: {sif} is no SIF (or damaged at its beginning)")
    _, _, _, machine, _, *numbers = _HEADER.unpack(data)
    wanted = numbers[6] + numbers[7]  # where its data begins, and how long that is
    if size < wanted:
        raise UserError(f"{what}: {sif} is cut short: {size} of {wanted} bytes")
    code = machine.rstrip(b"\0").decode(errors="replace")
    return _SIF_MACHINES.get(code, f"unknown ({code})")


def labels_of(output: str) -> dict[str, str]:
    """Returns the labels in the output of `apptainer inspect --json`; none where it has none.

    Format: `{"data": {"attributes": {"labels": {…}}}}`, perhaps with warnings before it.
    """
    try:
        document, _ = json.JSONDecoder().raw_decode(output, output.index("{"))
        labels = document["data"]["attributes"]["labels"]
        return {str(name): str(value) for name, value in labels.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


class Checker:
    """Tries one SIF. `scratch` is an empty folder: what is run in the image may write there only."""

    def __init__(
        self, what: str, sif: Path, apptainer: Apptainer, scratch: Path, log: Path, progress: Progress
    ) -> None:
        """Takes an empty folder `scratch`: the only place where what runs in the image may write."""
        self.what, self.sif, self.apptainer = what, sif, apptainer
        self.scratch, self.log, self.progress = scratch, log, progress

    def check(self, command: Sequence[str]) -> Found:
        """Checks the SIF and runs `command` in it.

        Raises:
            UserError: It is no SIF, or made for another architecture.
            SlurmevalError: It does not start.
        """
        architecture, here = sif_architecture(self.what, self.sif), this_architecture()
        if architecture != here:
            raise UserError(f"{self.what}: {self.sif} is made for {architecture}; this machine is {here}")
        version = self._outside("--version").strip().rpartition(" ")[2]
        labels = labels_of(self._outside("inspect", "--json", str(self.sif)))
        if command:
            self._inside(command, f"`{shlex.join(command)}` does not start in it")
        programs, interpreters = self._programs()
        return Found(architecture, self._packages(interpreters), programs, labels, version)

    def _outside(self, *arguments: str) -> str:
        returncode, output = self._run(self.apptainer.argv(*arguments))
        if returncode != 0:
            raise SlurmevalError(
                f"{self.what}: `apptainer {arguments[0]}` fails: {_last_line(output)} (log: {self.log})"
            )
        return output

    def _inside(self, command: Sequence[str], failure: str) -> str:
        """Returns the output of a command in the image, contained and without a network."""
        home, temporary = self.scratch / "home", self.scratch / "tmp"
        home.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(exist_ok=True)
        argv = self.apptainer.exec_argv(
            self.sif, command, home=home, scratch=temporary, cwd=home, network=False
        )
        returncode, output = self._run(argv)
        if returncode != 0:
            if reports_full(output):
                raise UserError(f"{self.what}: the disk is full: make room, or {REMEDY} (log: {self.log})")
            raise SlurmevalError(f"{self.what}: {failure}: {_last_line(output)} (log: {self.log})")
        return output

    def _run(self, argv: Sequence[str]) -> tuple[int, str]:
        return run_bound(argv, self.log, self.apptainer.environment(), self.scratch, self._waiting)

    def _waiting(self, seconds: float) -> None:
        self.progress(f"{self.what}: trying it, {seconds:.0f} s")
        if seconds > START_LIMIT_S:
            raise SlurmevalError(
                f"{self.what}: what was started in it has not ended for {seconds:.0f} s (log: {self.log})"
            )

    def _programs(self) -> tuple[dict[str, str], list[str]]:
        """Returns the paths of the known programs, and the Pythons to ask for packages, likeliest first."""
        try:
            output = self._inside(["/bin/sh", "-c", _LOOK, "sh", *PROGRAMS], "no shell")
        except UserError:
            raise
        except SlurmevalError:  # an image without a shell: what it needs is its check command
            return {}, ["python3"]
        programs: dict[str, str] = {}
        interpreters: list[str] = []
        for line in output.splitlines():
            found, text = line.startswith(_MARK), line.removeprefix(_MARK)
            if found and text.startswith("> "):
                interpreters += _interpreter(text.removeprefix("> "))
            elif found:
                name, _, place = text.partition(" ")
                programs[name] = place
        return programs, list(
            dict.fromkeys([*interpreters, *([programs["python3"]] if "python3" in programs else [])])
        )

    def _packages(self, interpreters: Sequence[str]) -> dict[str, str]:
        for python in interpreters:
            try:
                output = self._inside([python, "-c", _LIST], "cannot list packages")
            except UserError:
                raise
            except SlurmevalError:
                continue
            for line in output.splitlines():
                if line.startswith(_MARK):
                    listed: Mapping[str, str] = json.loads(line.removeprefix(_MARK))
                    return {normalised(name): str(version) for name, version in sorted(listed.items())}
        return {}


def _interpreter(line: str) -> list[str]:
    """Returns the Python that runs a script, from one of its first lines.

    Such as `#!/opt/x/bin/python`, `#!/usr/bin/env python3`, or, if that would be too long, `'''exec'
    "/opt/x/bin/python" "$0" "$@"`.
    """
    if not line.startswith(("#!", "'''exec'")):
        return []
    try:
        words = shlex.split(line.removeprefix("#!").replace("'''exec'", ""))
    except ValueError:
        return []
    return [word for word in words[:2] if "python" in Path(word).name][:1]


def _last_line(output: str) -> str:
    """Returns the last line that says something. Apptainer's own failures come before others."""
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("FATAL", "ERROR"))]
    return (fatal or lines or ["it gave no reason"])[-1][:300]
