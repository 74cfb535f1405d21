"""Checks of `slurmeval doctor`.

Each answers in plain words. None raises, and none changes anything but for a file that is made and removed to
read the file system's clock.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slurmeval.disk import existing
from slurmeval.errors import SlurmevalError
from slurmeval.paths import Paths
from slurmeval.processes import SKEW_S, file_system_ahead_s
from slurmeval.project_files import environment_locks
from slurmeval.slurm import commands
from slurmeval.variables import shadowing

Level = Literal["ok", "warn", "bad"]

GIB = 2**30
MIN_PYTHON_VERSION = (3, 11)
MIN_DISK_GIB, LOW_DISK_GIB = 1, 10
LOW_MEMORY_GIB = 8
LOW_SHARED_MEMORY_GIB = 1
CLOCK_SKEW_WARNING_S = 30.0
"""Heartbeats bear any difference of clocks; times in tables and limits of jobs are off by it."""
INDEX_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Check:
    """Result of one check. `bad`: a run with profiles/local cannot do without it."""

    name: str
    level: Level
    found: str
    advice: str = ""


def python() -> Check:
    """Checks the interpreter's version."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < MIN_PYTHON_VERSION:
        return Check("Python", "bad", found, "make the environment with Python 3.11 or later")
    return Check("Python", "ok", f"{found} ({sys.executable})")


def python_path(environment: Mapping[str, str] = os.environ) -> Check:
    """Checks for variables, mostly of environment modules, that put another Python's packages in front."""
    name = "PYTHONPATH, PYTHONHOME"
    if environment.get("PYTHONHOME"):
        found = f"PYTHONHOME is {environment['PYTHONHOME']}"
        return Check(name, "warn", found, "unset it: it is another Python's")
    if (folders := shadowing(environment)) is not None:
        advice = "unset it, or run scripts/setup: its packages come before those of slurmeval"
        return Check(name, "warn", f"PYTHONPATH is {folders}", advice)
    if environment.get("PYTHONPATH"):
        return Check(name, "ok", "PYTHONPATH is set, and comes after slurmeval's own packages")
    return Check(name, "ok", "not set")


def packages() -> Iterator[Check]:
    """Checks for the packages that slurmeval itself needs."""
    try:
        wanted = importlib.metadata.requires("slurmeval") or []
    except importlib.metadata.PackageNotFoundError:
        yield Check("packages", "bad", "slurmeval is not installed", "run scripts/setup")
        return
    names = [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in wanted if ";" not in line]
    missing = [name for name in names if _version(name) is None]
    if missing:
        yield Check("packages", "bad", f"missing: {', '.join(missing)}", "run scripts/setup")
    else:
        yield Check("packages", "ok", f"all {len(names)} are there")
    snakemake = _version("snakemake")
    if snakemake is not None:
        yield Check("Snakemake", "ok", snakemake)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def uv() -> Check:
    """Checks for uv, which makes environments."""
    from slurmeval.environments.indexes import uv_program

    try:
        program = uv_program()
        found = _output([program, "--version"])
    except SlurmevalError as error:
        return Check("uv", "bad", str(error), "run scripts/setup")
    return (
        Check("uv", "ok", found)
        if found
        else Check("uv", "bad", f"{program} does not run", "run scripts/setup")
    )


def disk_space(paths: Paths) -> Iterator[Check]:
    """Whether results, environments and HF_HOME can be written and have room."""
    places = (
        ("results", paths.results, "set `results` in the config to another folder"),
        ("environments", paths.environments, "set `staging.environments` to another folder"),
        ("HF_HOME", paths.hf_home, "set `staging.hf_home` or the variable HF_HOME to another folder"),
    )
    for name, folder, otherwise in places:
        there = existing(folder)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield Check(name, "bad", f"{folder} cannot be written", otherwise)
            continue
        free = shutil.disk_usage(there).free / GIB
        found = f"{folder}, {free:.0f} GiB free"
        if free < LOW_DISK_GIB:
            yield Check(name, "bad" if free < MIN_DISK_GIB else "warn", found, f"make room, or {otherwise}")
        else:
            yield Check(name, "ok", found)


def home_quota(paths: Paths) -> Check:
    """Checks whether weights lie in the home folder, whose quota is small on most clusters."""
    home = Path.home()
    if paths.hf_home.is_relative_to(home) and commands.is_here():
        advice = "set HF_HOME or staging.hf_home to scratch or project space; home folders have small quotas"
        return Check("HF_HOME's place", "warn", f"{paths.hf_home} is in the home folder", advice)
    return Check("HF_HOME's place", "ok", str(paths.hf_home))


def caches(environment: Mapping[str, str] = os.environ) -> Check:
    """Checks the cache folder, where Snakemake writes at every start; it cannot start without."""
    folder = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        with tempfile.TemporaryFile(dir=existing(folder)) as file:
            file.write(bytes(4096))  # a quota counts blocks
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        advice = "set XDG_CACHE_HOME to a folder that can be, such as .cache of the project"
        return Check("caches", "bad", f"{folder} cannot be written: {error.strerror}", advice)
    return Check("caches", "ok", str(folder))


def memory() -> Check:
    """Checks the memory that this process may use: the machine's, or its control group's share."""
    import psutil

    available = psutil.virtual_memory().available / GIB
    limit = _cgroup_limit_bytes()
    limited = "" if limit is None else f", limited to {limit / GIB:.0f} GiB"
    least = available if limit is None else min(available, limit / GIB)
    found = f"{available:.0f} GiB free{limited}"
    if least < LOW_MEMORY_GIB:
        return Check("memory", "warn", found, "vLLM on CPU needs 6 GiB and more, even with a small model")
    return Check("memory", "ok", found)


def _cgroup_limit_bytes(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal() and int(text) < 2**50:
            return int(text)
    return None


def cores() -> Check:
    """Checks the cores that this process may run on."""
    count = len(os.sched_getaffinity(0))
    if count < 2:
        return Check("cores", "warn", "1", "server and harness share it; expect slow runs")
    return Check("cores", "ok", str(count))


def shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    """Checks the shared memory, through which vLLM's processes talk."""
    try:
        free = shutil.disk_usage(folder).free / GIB
    except OSError:
        return Check(str(folder), "warn", "absent", "vLLM with several processes needs it")
    if free < LOW_SHARED_MEMORY_GIB:
        return Check(str(folder), "warn", f"{free:.2f} GiB", "start the container with --shm-size=2g or more")
    return Check(str(folder), "ok", f"{free:.0f} GiB")


def environments(project: Path, folder: Path) -> Check:
    """Checks which locked environments are made."""
    from slurmeval.environments.environments import environment_for, is_made

    # Without the one that this runs in
    locks = [lock for name, lock in sorted(environment_locks(project).items()) if name != "slurmeval"]
    try:
        to_make = [lock.stem for lock in locks if not is_made(environment_for(lock, folder))]
    except SlurmevalError as error:
        return Check("locked environments", "bad", str(error), "restore the lock from git")
    if to_make:
        return Check("locked environments", "ok", f"a run makes those that it needs of {', '.join(to_make)}")
    return Check("locked environments", "ok", f"all {len(locks)} are made")


def containment() -> Check:
    """Checks whether harnesses, and programs that models write, can be contained."""
    from slurmeval.containment import command, program, seccomp

    lacking = program.unavailable() or command.unavailable()
    if lacking is None:
        found = "harnesses, and programs that models write, run apart, without network"
        if (unfiltered := seccomp.unavailable()) is not None:
            found += f"; their system calls are not filtered: {unfiltered}"
        return Check("containment", "ok", found)
    needs = "human-eval needs it, and so does, but for its image, what else runs programs that models write"
    return Check("containment", "warn", lacking, f"{needs}; all else works without")


def slurm() -> Check:
    """Checks for the commands that submit and watch jobs."""
    missing = [name for name in commands.PROGRAMS if not commands.is_here(name)]
    if len(missing) == len(commands.PROGRAMS):
        return Check("Slurm", "ok", "absent: everything runs on this machine (profiles/local)")
    if missing:
        return Check("Slurm", "warn", f"missing: {', '.join(missing)}", "profiles/slurm needs all of them")
    version = commands.version() or "there"
    try:
        commands.queue(["slurmeval"])
    except commands.SlurmAway as error:
        return Check("Slurm", "warn", f"{version}, but it does not answer: {error}", "is this a login node?")
    return Check("Slurm", "ok", version)


def containers() -> Check:
    """Checks for Apptainer, by either of its names."""
    program = shutil.which("apptainer") or shutil.which("singularity")
    if program is None:
        return Check("Apptainer", "ok", "absent: commands run in locked environments")
    return Check("Apptainer", "ok", _output([program, "--version"]) or program)


def git(project: Path) -> Check:
    """Checks for git: the report names the commit that made it."""
    if shutil.which("git") is None:
        return Check("git", "warn", "absent", "without it the report cannot name the commit")
    if not _output(["git", "-C", str(project), "rev-parse", "--git-dir"]):
        return Check("git", "warn", "this folder is no repository", "the report cannot name the commit")
    return Check("git", "ok", _output(["git", "--version"]))


def clock(results: Path) -> Check:
    """Checks the file system's clock against this machine's."""
    name = "clock of the file system"
    try:
        return judge_skew(name, abs(file_system_ahead_s(existing(results))))
    except OSError as error:
        return Check(name, "warn", f"unknown: {error.strerror}")


def judge_skew(name: str, skew_s: float) -> Check:
    """Returns what a difference of `skew_s` seconds means."""
    if skew_s < CLOCK_SKEW_WARNING_S:
        return Check(name, "ok", "agrees with this machine's")
    advice = "have the clocks set (NTP): Slurm refuses who is 300 s off, and times in the tables are wrong"
    return Check(name, "bad" if skew_s >= SKEW_S else "warn", f"{skew_s:.0f} s off", advice)


def index(timeout_s: float = INDEX_TIMEOUT_S) -> Check:
    """Whether the package index answers: environments and sources of kind `package` come from there."""
    from slurmeval.environments.indexes import uv_environment, uv_program

    advice = "environments that are made still work; set pip's index-url or a proxy to make others"
    try:
        argv = [uv_program(), "pip", "compile", "--quiet", "--no-cache", "--no-deps", "-"]
        asked = subprocess.run(
            argv, input=b"pip\n", env=uv_environment(), timeout=timeout_s, capture_output=True, check=False
        )
    except (SlurmevalError, OSError) as error:
        return Check("package index", "warn", str(error), advice)
    except subprocess.TimeoutExpired:
        return Check("package index", "warn", f"no answer within {timeout_s:g} s", advice)
    if asked.returncode != 0:
        return Check("package index", "warn", "cannot be reached", advice)
    return Check("package index", "ok", "answers")


def _output(argv: list[str]) -> str:
    """Returns the first line of a program's output; empty where it fails."""
    try:
        ran = subprocess.run(
            argv, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    lines = ran.stdout.strip().splitlines()
    return lines[0] if ran.returncode == 0 and lines else ""
