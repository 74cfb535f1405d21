"""Weights and images on a disk of the node itself.

They are copied once for all jobs of this user there, and removed by the last of them that leaves.

    <scratch>/slurmeval-<uid>/<key>/       the copy, with `copy.json`: what it is a copy of
    <scratch>/slurmeval-<uid>/<key>.lock   locked (flock) exclusively while the copy is made or removed, and
                                           shared by each job that uses it

The kernel releases the locks of killed jobs. The next job on the node removes what they have left.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from slurmeval.disk import is_full, reports_full
from slurmeval.files import read_json
from slurmeval.parent_death import signal_at_parent_death
from slurmeval.progress import size_text
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import load
from slurmeval.state.server_spec import ServerSpec

COPYING_TIMEOUT_S = 7200.0
"""Longest wait for another job that makes the same copy."""

log = logging.getLogger(__name__)


class _Unusable(Exception):
    """Why nothing is copied, in a few words."""


class LocalCopies:
    """The copies that one server uses. `pause` waits, and raises what is to end the server."""

    def __init__(self, pause: Callable[[float], None]) -> None:
        self._pause = pause
        self._used: list[tuple[Path, int]] = []

    def of(self, spec: ServerSpec) -> ServerSpec:
        """Returns the spec with copies in place of weights and image, as far as there can be any.

        Each that there cannot be is a line in the log.
        """
        if "weights" in spec.to_copy:
            manifest = Path(spec.manifest)
            files = {file.path: file.size for file in load(manifest, Manifest).files}
            spec = replace(spec, weights=self._copied(spec, Path(spec.weights), manifest.stem, files))
        if "images" in spec.to_copy and spec.image is not None:
            image = Path(spec.image)
            spec = replace(spec, image=self._copied(spec, image, image.stem, None))
        return spec

    def release(self) -> None:
        """Gives the copies back; the last job on the node that does removes them. Safe to call again."""
        while self._used:
            copy, lock = self._used.pop()
            with suppress(OSError):
                _remove_unless_used(copy, lock)
            os.close(lock)

    def _copied(self, spec: ServerSpec, source: Path, key: str, files: Mapping[str, int] | None) -> str:
        """Returns the copy of a folder's `files` (with their sizes), or of one file; or the source."""
        try:
            folder, wanted = (
                (source, files) if files is not None else (source.parent, {source.name: _size(source)})
            )
            copy = _root(spec.scratch or "") / key
            _remove_others(copy)
            self._use(copy, folder, dict(wanted), int(spec.keep_free_gb * 1e9))
            return str(copy / source.name if files is None else copy)
        except _Unusable as reason:
            log.info("%s is not copied to %s: %s", source.name, spec.scratch, reason)
        except OSError as error:
            what = "it is full" if is_full(error) else f"{error.strerror or error} ({error.filename})"
            log.info("%s is not copied to %s: %s", source.name, spec.scratch, what)
        return str(source)

    def _use(self, copy: Path, source: Path, files: dict[str, int], keep_free: int) -> None:
        """Has a shared lock on a whole copy, which it makes where there is none."""
        deadline, told = time.monotonic() + COPYING_TIMEOUT_S, False
        while True:
            lock = os.open(copy.with_name(f"{copy.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if _lock(copy, lock, fcntl.LOCK_EX) and not _is_whole(copy, files):
                    shutil.rmtree(copy, ignore_errors=True)
                    self._make(copy, source, files, keep_free)
                if _lock(copy, lock, fcntl.LOCK_SH) and _is_whole(copy, files):
                    self._used.append((copy, lock))
                    return
            except BaseException:
                with suppress(OSError):
                    _remove_unless_used(copy, lock)
                os.close(lock)
                raise
            os.close(lock)
            if time.monotonic() > deadline:
                raise _Unusable(f"another job has been copying it for more than {COPYING_TIMEOUT_S:g} s")
            if not told:
                log.info("%s: another job copies it to %s; waiting", source.name, copy)
                told = True
            self._pause(0.2)

    def _make(self, copy: Path, source: Path, files: dict[str, int], keep_free: int) -> None:
        for name, size in files.items():
            if _size(source / name) != size:
                raise _Unusable(f"its file {name} has {_size(source / name)} bytes, and should have {size}")
        size, free = sum(files.values()), shutil.disk_usage(copy.parent).free
        if free - size < keep_free:
            kept = f", of which {size_text(keep_free)} are kept (scratch.keep_free_gb)" if keep_free else ""
            raise _Unusable(f"{size_text(size)} are needed, {size_text(free)} are free{kept}")
        log.info("%s: %s are copied to %s", source.name, size_text(size), copy)
        copy.mkdir()
        started = time.monotonic()
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                ["cp", "--dereference", "--parents", "--", *sorted(files), copy],
                cwd=source,
                stderr=errors,
                preexec_fn=lambda: signal_at_parent_death(signal.SIGKILL),
            )
            try:
                while process.poll() is None:
                    self._pause(0.2)
            finally:
                process.kill()
                process.wait()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
        if process.returncode != 0:
            ended = said.rpartition("\n")[2] or f"cp ended with status {process.returncode}"
            raise _Unusable("it is full" if reports_full(said) else ended)
        (copy / "copy.json").write_text(json.dumps(_record(files)))
        if not _is_whole(copy, files):
            raise _Unusable("a file of it is being changed")
        log.info("%s: copied in %.1f s", source.name, time.monotonic() - started)


def _lock(copy: Path, lock: int, kind: int) -> bool:
    """Returns whether it has the lock now, on the file that is still in its place."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
        return os.fstat(lock).st_ino == copy.with_name(f"{copy.name}.lock").stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove_unless_used(copy: Path, lock: int) -> None:
    if _lock(copy, lock, fcntl.LOCK_EX):
        shutil.rmtree(copy, ignore_errors=True)
        copy.with_name(f"{copy.name}.lock").unlink(missing_ok=True)


def _remove_others(copy: Path) -> None:
    """Removes all copies of the node but this one that no job uses: their jobs were killed."""
    for file in copy.parent.glob("*.lock"):
        if file.stem != copy.name:
            with suppress(FileNotFoundError):
                lock = os.open(file, os.O_RDWR)
                _remove_unless_used(file.with_suffix(""), lock)
                os.close(lock)


def _is_whole(copy: Path, files: dict[str, int]) -> bool:
    try:
        whole = all((copy / name).stat().st_size == size for name, size in files.items())
        return whole and read_json(copy / "copy.json") == _record(files)
    except (ValueError, FileNotFoundError):
        return False


def _record(files: dict[str, int]) -> dict[str, Any]:
    """Returns what a copy is of.

    One from before the node was started may hold less than its files' sizes say.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return {"boot": boot, "files": files}


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        raise _Unusable(f"its file {file.name} is missing") from None


def _root(scratch: str) -> Path:
    """Returns this user's own folder below `scratch`, in which `$NAME` stands for a variable of the job.

    Raises:
        _Unusable: Nothing may be copied there.
    """
    folder = Path(os.path.expandvars(scratch))
    if "$" in str(folder):
        raise _Unusable(f"a variable of {folder} is not set in this job")
    if not folder.is_absolute():
        raise _Unusable(f"{folder} is no absolute path")
    if not folder.is_dir():
        raise _Unusable(f"there is no folder {folder} on this node")
    if (kind := file_system(folder)) in ("tmpfs", "ramfs"):
        raise _Unusable(f"{folder} is in memory ({kind}), which the job pays for")
    root = folder / f"slurmeval-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise _Unusable(f"{root} is there, and is not yours alone")
    return root


def file_system(folder: Path) -> str:
    """Returns the type of the file system that holds a folder, such as `ext4`."""
    done = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=False)
    return done.stdout.strip()
