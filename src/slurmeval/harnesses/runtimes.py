"""Runtimes of a harness's commands: a locked environment, or an image."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slurmeval.containers.apptainer import Apptainer, Bind, with_targets
from slurmeval.containment import command as containment
from slurmeval.containment import loopback, seccomp
from slurmeval.containment.interpreter import inspect, links_on_the_way
from slurmeval.containment.scratch_dir import ScratchDir
from slurmeval.environments.locks import normalised
from slurmeval.environments.package_versions import installed_version, site_packages
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.state.runtime_records import ImageRecord
from slurmeval.variables import CERTIFICATES

_NOT_INSIDE = ("HOME", "PATH", "VIRTUAL_ENV", "TMPDIR", "LD_LIBRARY_PATH", *CERTIFICATES)
"""Variables that name places outside; an image has its own."""


@dataclass(frozen=True)
class Contained:
    """What a harness's command may see and reach."""

    cwd: Path
    home: Path
    reads: tuple[Path, ...]
    writes: tuple[Path, ...]
    scratch: ScratchDir
    port: int
    """The gateway's port, at which it is reached inside too."""
    network: bool = False
    hostile: bool = False
    """It runs what the model writes: it must not run but contained."""


class Runtime(Protocol):
    """Place where a harness's commands run."""

    def program(self, *names: str) -> str:
        """Returns the first of these programs that exists.

        Raises:
            EvaluationFailed: None exists.
        """

    @property
    def python(self) -> str:
        """Returns the interpreter that has the harness's packages."""

    def version(self, package: str) -> str | None:
        """Returns the version of an installed package; None: it is not installed."""

    def variables(self) -> dict[str, str]:
        """Returns variables by which its programs find each other."""

    def package_data(self, folder: str, keep: Path) -> Path | None:
        """Returns a folder of an installed package, such as `bfcl/data`; a copy may be kept in `keep`."""

    def command(
        self, argv: list[str], env: dict[str, str], contained: Contained
    ) -> tuple[list[str], dict[str, str]]:
        """Returns the command line and the variables with which a command starts there."""


@dataclass(frozen=True)
class EnvironmentRuntime:
    """Locked virtual environment. Its programs run in containment wherever the kernel grants namespaces."""

    folder: Path

    def program(self, *names: str) -> str:
        """Returns the first of these programs that exists.

        Raises:
            EvaluationFailed: None exists.
        """
        for name in names:
            if (self.folder / "bin" / name).exists():
                return str(self.folder / "bin" / name)
        raise EvaluationFailed(ErrorClass.HARNESS_ERROR, f"{self.folder}/bin has no {' and no '.join(names)}")

    @property
    def python(self) -> str:
        """Returns the interpreter that has the harness's packages."""
        return str(self.folder / "bin" / "python")

    def version(self, package: str) -> str | None:
        """Returns the version of an installed package; None: it is not installed."""
        return installed_version(self.folder, package)

    def variables(self) -> dict[str, str]:
        """Returns variables by which its programs find each other."""
        return {
            "PATH": f"{self.folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "VIRTUAL_ENV": str(self.folder),
        }

    def package_data(self, folder: str, keep: Path) -> Path | None:
        """Returns a folder of an installed package."""
        packages = site_packages(self.folder)
        data = packages / folder if packages else None
        return data if data is not None and data.is_dir() else None

    def command(
        self, argv: list[str], env: dict[str, str], contained: Contained
    ) -> tuple[list[str], dict[str, str]]:
        """Returns the command line and the variables with which a command starts there."""
        if (why := containment.unavailable()) is not None:
            if contained.hostile:
                raise EvaluationFailed(
                    ErrorClass.HARNESS_ERROR,
                    "it runs what the model writes, which needs user namespaces or an image "
                    f"(runtime: image), and here: {why}",
                )
            return argv, env
        script = Path(loopback.__file__)
        if not contained.network:
            argv = [self.python, str(script), str(contained.scratch.socket), str(contained.port), *argv]
        places = [*(env.get(name, "") for name in CERTIFICATES), *env.get("LD_LIBRARY_PATH", "").split(":")]
        reads = [Path(place) for place in (*places, *inspect(Path(self.python)).folders) if place]
        started = containment.argv(
            argv,
            folder=contained.scratch.temporary,
            cwd=contained.cwd,
            reads=[
                *(path for path in reads if path.exists()),
                *with_targets(contained.reads),
                *(self.folder, script, contained.scratch.socket_folder),
            ],
            writes=contained.writes,
            links=links_on_the_way(Path(self.python)),
            network=contained.network,
        )
        return started, env | {"TMPDIR": "/tmp"}


@dataclass(frozen=True)
class ImageRuntime:
    """Image, as the record of its pull describes it."""

    record: ImageRecord
    apptainer: Apptainer

    def program(self, *names: str) -> str:
        """Returns the first of these programs that exists.

        Raises:
            EvaluationFailed: None exists.
        """
        for name in names:
            if name in self.record.programs:
                return self.record.programs[name]
        raise EvaluationFailed(
            ErrorClass.HARNESS_ERROR, f"the image {self.record.id} has no {' and no '.join(names)}"
        )

    @property
    def python(self) -> str:
        """Returns the interpreter that has the harness's packages."""
        return self.program("python3")

    def version(self, package: str) -> str | None:
        """Returns the version of an installed package; None: it is not installed."""
        return self.record.packages.get(normalised(package))

    def variables(self) -> dict[str, str]:
        """Returns variables by which its programs find each other."""
        return {}

    def package_data(self, folder: str, keep: Path) -> Path | None:
        """Returns a folder of an installed package."""
        target = keep / folder
        if not target.is_dir():
            keep.mkdir(parents=True, exist_ok=True)
            copied = subprocess.run(
                self.apptainer.exec_argv(
                    self.record.sif,
                    [self.python, "-c", _COPY, folder, "/slurmeval-keep"],
                    binds=[Bind(keep, Path("/slurmeval-keep"), writable=True)],
                    network=False,
                ),
                env=self.apptainer.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            if copied.returncode != 0:
                return None
        return target if target.is_dir() else None

    def command(
        self, argv: list[str], env: dict[str, str], contained: Contained
    ) -> tuple[list[str], dict[str, str]]:
        """Returns the command line and the variables with which a command starts there."""
        scripts = [Path(str(module.__file__)) for module in (loopback, seccomp)]
        binds = [
            *(Bind(script, _inside(script)) for script in scripts),
            Bind(contained.scratch.socket_folder),
        ]
        binds += [Bind(folder, writable=True) for folder in contained.writes]
        binds += [Bind(folder) for folder in with_targets(contained.reads)]
        if not contained.network:
            address = [str(contained.scratch.socket), str(contained.port)]
            argv = [self.python, str(_inside(scripts[0])), *address, *argv]
        argv = [self.python, str(_inside(scripts[1])), *argv]
        started = self.apptainer.exec_argv(
            self.record.sif,
            argv,
            binds=binds,
            cwd=contained.cwd,
            home=contained.home,
            scratch=contained.scratch.temporary,
            network=contained.network,
        )
        given = {name: value for name, value in env.items() if name not in _NOT_INSIDE}
        return started, self.apptainer.environment(given)


def _inside(script: Path) -> Path:
    """Returns where an image shows a script of ours."""
    return Path("/slurmeval") / script.name


_COPY = """
import importlib.util, pathlib, shutil, sys
package, _, rest = sys.argv[1].partition("/")
spec = importlib.util.find_spec(package)
source = pathlib.Path(list(spec.submodule_search_locations)[0]) / rest
target = pathlib.Path(sys.argv[2]) / sys.argv[1]
shutil.copytree(source, target.with_name(target.name + ".part"), dirs_exist_ok=True)
target.with_name(target.name + ".part").rename(target)
"""
