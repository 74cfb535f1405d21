"""Locked virtual environments: built once for a lock's content, reused, never half-built.

`<environments>/<name>-<12 hex digits of the lock's sha256>/` is the environment and `<same>.json`, written
last, its record. It is built under another name and renamed, so that a process killed at any point leaves
nothing that could be taken for an environment. A folder without a record is built again.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slurmeval.build_once import forget_lost, owned
from slurmeval.disk import reports_full, require_space
from slurmeval.environments.indexes import uv_environment, uv_flags, uv_program
from slurmeval.environments.locks import Lock, read_lock
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import read_json, write_atomically, write_json
from slurmeval.progress import Progress, to_stderr
from slurmeval.subprocesses import run_bound

_CACHE = ".uv-cache"
_NO_PACKAGE = re.compile(
    r"there (?:is|are) no versions? of (?P<a>\S+)|(?:Because )?(?P<b>\S+) was not found in the|"
    r"(?P<c>\S+) has no wheels|Failed to (?:build|download and build|prepare|read|parse) `?(?P<d>[^`\s]+)`?"
)
_NO_NETWORK = re.compile(
    r"dns error|error sending request|[Cc]onnection refused|timed out|tcp connect error|"
    r"Network is unreachable|invalid peer certificate|Failed to fetch|HTTP status (?:server|client) error"
)
_ADDRESS = re.compile(r"https?://[^\s`'\")>]+")


@dataclass(frozen=True)
class Environment:
    """Finished environment."""

    name: str
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def record(self) -> Path:
        """Its record."""
        return _record(self.folder)


def environment_for(lock: Path, environments: Path) -> Environment:
    """Returns the environment of `lock`, whether it has been built or not.

    Raises:
        UserError: The lock is wrong.
    """
    return _environment(read_lock(lock), environments)


def is_made(environment: Environment) -> bool:
    """Returns whether the environment is whole: its record is there and fits, and its Python exists."""
    try:
        record = read_json(environment.record)
    except ValueError:
        return False
    return (
        isinstance(record, dict)
        and str(record.get("lock_sha256", "")).startswith(environment.folder.name.rpartition("-")[2])
        and environment.python.exists()
    )


def ensure(lock: Path, environments: Path, progress: Progress = to_stderr) -> Environment:
    """Returns the environment of `lock`, building it unless it is there. A second process waits.

    Raises:
        UserError: The lock or the disk does not do.
        SlurmevalError: The network or a package fails. The line names the log.
    """
    read = read_lock(lock)
    environment = _environment(read, environments)
    if is_made(environment):
        return environment
    environments.mkdir(parents=True, exist_ok=True)
    with owned(environment.folder, f"environment {read.name}", progress):
        if not is_made(environment):
            _make(read, environment, progress)
    return environment


def prune(
    locks: Iterable[Path], environments: Path, keep: Collection[Path] = (), dry_run: bool = False
) -> list[Path]:
    """Removes environments of earlier locks, and remains of killed builds.

    Environments that are being built now stay.

    Args:
        locks: The locks whose environments stay.
        environments: The folder of environments.
        keep: Further environments that stay (absolute).
        dry_run: Removes nothing.

    Returns the removed folders.
    """
    environments = environments.absolute()
    wanted = {environment_for(lock, environments).folder for lock in locks} | {*keep}
    removed = []
    for folder in sorted(environments.glob("*-*")) if environments.is_dir() else []:
        named = re.fullmatch(r"(?P<base>.+-[0-9a-f]{12})(?P<making>\.making-\d+)?", folder.name)
        if not folder.is_dir() or named is None:
            continue
        base = folder.with_name(named["base"])
        if base in wanted and not named["making"]:
            continue
        try:
            with owned(base, f"environment {base.name}", lambda _: None, wait_s=0):
                if not dry_run:
                    _remove(folder)
        except SlurmevalError:  # being made just now
            continue
        if base not in wanted and not dry_run:
            base.with_name(base.name + ".log").unlink(missing_ok=True)
        removed.append(folder)
    if not dry_run:
        forget_lost(environments, "python")
    return removed


def prune_packages(environments: Path, all_of_them: bool) -> str | None:
    """Removes from the package cache beside the environments what nothing can use any more.

    Args:
        environments: The folder of environments.
        all_of_them: Removes all.

    Returns what uv says of it, such as `Removed 23 files (4.1MiB)`, or None if there is no such cache: one
    that the user names (UV_CACHE_DIR) serves others, too.

    Raises:
        SlurmevalError: uv fails.
    """
    cache = environments.absolute() / _CACHE
    if not cache.is_dir():
        return None
    done = subprocess.run(
        [uv_program(), "--no-progress", "cache", "clean" if all_of_them else "prune"],
        env=uv_environment() | {"UV_CACHE_DIR": str(cache)},
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    if done.returncode != 0:
        raise SlurmevalError(f"the cache of packages cannot be pruned: {lines[-1]}")
    return lines[-1]


def _environment(lock: Lock, environments: Path) -> Environment:
    return Environment(lock.name, environments.absolute() / f"{lock.name}-{lock.sha256[:12]}")


def _record(folder: Path) -> Path:
    return folder.with_name(folder.name + ".json")


def _remove(folder: Path) -> None:
    """Removes the record first: a folder without one is no environment."""
    _record(folder).unlink(missing_ok=True)
    if folder.exists():
        doomed = folder.with_name(f"{folder.name}.making-0")
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
        shutil.rmtree(doomed)


def _make(lock: Lock, environment: Environment, progress: Progress) -> None:
    folder, started = environment.folder, time.monotonic()
    for remains in folder.parent.glob(f"{folder.name}.making-*"):
        shutil.rmtree(remains, ignore_errors=True)
    _remove(folder)
    remedy = "set staging.environments to another place"
    require_space(f"environment {lock.name}", folder.parent, lock.disk_mb * 1_000_000, remedy)
    making = folder.with_name(f"{folder.name}.making-{time.time_ns()}")
    log = folder.with_name(folder.name + ".log")
    maker = _Maker(lock, folder.parent, log, progress)
    progress(f"environment {lock.name}: {len(lock.packages)} packages into {folder}")
    try:
        write_atomically(log, f"{datetime.now(UTC).isoformat(timespec='seconds')} {lock.path}\n")
        # relocatable: scripts find their Python beside themselves, wherever the folder is renamed to
        maker.uv("venv", "--relocatable", "--no-project", "--python", sys.executable, str(making))
        python = making / "bin" / "python"
        backend = maker.install(python)
        maker.check(python)
        versions = maker.versions(python)
        making.rename(folder)
        seconds = time.monotonic() - started
        write_json(
            environment.record,
            {
                "name": lock.name,
                "lock": lock.path.name,
                "lock_sha256": lock.sha256,
                "python": platform.python_version(),
                "torch_from": backend,
                "packages": versions,
                "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "made_s": round(seconds, 1),
            },
        )
    except OSError as error:
        raise UserError(f"environment {lock.name}: {error.strerror or error} in {folder.parent}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    progress(f"environment {lock.name}: {len(versions)} packages, {seconds:.0f} s")


class _Maker:
    """Steps of building one environment."""

    def __init__(self, lock: Lock, environments: Path, log: Path, progress: Progress) -> None:
        self.lock, self.folder, self.log, self.progress = lock, environments, log, progress
        self.environment = uv_environment(environments / _CACHE)

    def uv(self, *arguments: str) -> None:
        returncode, output = run_bound(
            [uv_program(), "--no-progress", *arguments],
            self.log,
            self.environment,
            self.folder,
            self._waiting,
        )
        if returncode != 0:
            raise failure(f"environment {self.lock.name}", output, self.log)

    def install(self, python: Path) -> str | None:
        """Installs the lock's packages. Returns where torch came from, if the lock names a build of it."""
        # Compiled once: else each start does it again where Python may not, or is told not to, write bytecode
        arguments = ["pip", "install", "--compile-bytecode", "--python", str(python)]
        arguments += ["-r", str(self.lock.path.absolute())]
        arguments += uv_flags()
        if self.lock.no_deps:
            arguments.append("--no-deps")
        source, constraint = None, None
        torch = self.lock.packages.get("torch")
        if self.lock.torch_backend is not None:
            build = f"torch=={torch}+{self.lock.torch_backend}"
            if self._is_offered(build, python):
                constraint = build
                source = "the configured index"
            else:
                arguments += ["--torch-backend", self.lock.torch_backend]
                source = f"uv's torch backend {self.lock.torch_backend}"
        elif torch is not None:
            constraint = f"torch!={torch}+cpu"  # a folder of wheels may offer it, and it fits the pin
        if constraint is not None:
            file = python.parent.parent / "slurmeval-constraint.txt"
            write_atomically(file, constraint + "\n")
            arguments += ["--constraint", str(file)]
        self.uv(*arguments)
        return source

    def check(self, python: Path) -> None:
        if self.lock.check is None:
            return
        returncode, output = run_bound(
            [str(python), "-c", self.lock.check], self.log, self.environment, self.folder, self._waiting
        )
        if returncode != 0:
            reason = (output.strip().splitlines() or [f"exit status {returncode}"])[-1]
            raise SlurmevalError(f"environment {self.lock.name} does not work: {reason} (log: {self.log})")

    def versions(self, python: Path) -> dict[str, str]:
        listed = subprocess.run(
            [uv_program(), "pip", "list", "--format", "json", "--python", str(python)],
            env=self.environment, cwd=self.folder, capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        if listed.returncode != 0:
            raise failure(f"environment {self.lock.name}", listed.stderr, self.log)
        packages: list[dict[str, Any]] = json.loads(listed.stdout)
        return {str(package["name"]): str(package["version"]) for package in packages}

    def _is_offered(self, build: str, python: Path) -> bool:
        """Returns whether the indexes that the user has configured offer this very build."""
        argv = [uv_program(), "pip", "compile", "--quiet", "--no-deps", "--python", str(python)]
        asked = subprocess.run(
            [*argv, *uv_flags(), "-"],
            input=build, env=self.environment, cwd=self.folder,
            capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        return asked.returncode == 0

    def _waiting(self, seconds: float) -> None:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        last = lines[-1].strip() if lines else "starting"
        if last.startswith("Installed "):  # uv says nothing while it compiles
            last += "; compiling them"
        self.progress(f"environment {self.lock.name}: {seconds:.0f} s, {last}")


def failure(what: str, output: str, log: Path) -> SlurmevalError:
    """Returns a failure of uv in one line: a full disk, a package, or the network.

    Addresses lose user and password.
    """
    text = _ADDRESS.sub(lambda match: _without_password(match.group()), " ".join(output.split()))
    if reports_full(text):
        return UserError(f"{what}: the disk is full or over quota: make room (log: {log})")
    if _NO_NETWORK.search(text):
        hosts = sorted({urlsplit(address).netloc for address in _ADDRESS.findall(text)})
        where = f" to {', '.join(hosts)}" if hosts else ""
        return SlurmevalError(
            f"{what}: no connection{where}: is there a network, a proxy or a mirror? (log: {log})"
        )
    if (found := _NO_PACKAGE.search(text)) is not None:
        package = next(group for group in found.groups() if group)
        return SlurmevalError(f"{what}: {package} cannot be had from the configured indexes (log: {log})")
    errors = [line.strip() for line in output.splitlines() if re.match(r"\s*(error|×|Caused by)", line)]
    reason = " ".join(errors) or text[-300:] or "uv gave no reason"
    return SlurmevalError(
        f"{what}: {_ADDRESS.sub(lambda m: _without_password(m.group()), reason)} (log: {log})"
    )


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
