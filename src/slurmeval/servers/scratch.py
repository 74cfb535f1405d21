"""Weights and images on a disk of the node itself: copied once for all jobs of this user there, and removed
by the last of them that leaves.

    <scratch>/slurmeval-<uid>/<key>.owner     by whom the next lines are changed just now
    <scratch>/slurmeval-<uid>/<key>/copy/     the copy, with `record.json`: the names and sizes of its files
    <scratch>/slurmeval-<uid>/<key>/making/   one that is being made or removed, or was when its job died
    <scratch>/slurmeval-<uid>/<key>/users/    one claim for each job that uses the copy

A copy is made in `making` and renamed, so that nobody takes half of one for a whole. Claims of jobs that were
killed are told by the kernel; the next job that comes to the node removes what they have left."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import stat
import string
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurmeval.disk import is_full
from slurmeval.files import read_json
from slurmeval.ownership import Claim, live_owner
from slurmeval.progress import Progress, size_text
from slurmeval.servers.copying import Changed, Pause, copy_files

OTHERS_COPY_S = 7200.0
"""Longest wait for another job that makes the same copy."""

LEAVE_S = 2.0
"""Longest wait of a job that leaves; what it leaves behind then, the next one removes."""

_RAM = {0x01021994: "tmpfs", 0x858458F6: "ramfs"}
"""File systems in memory, by the magic numbers of statfs(2)."""


class _Unusable(Exception):
    """Why nothing is copied, in a few words."""


class _Template(string.Template):
    idpattern = "(?a:[_A-Za-z][_A-Za-z0-9]*)"


@dataclass(frozen=True)
class _File:
    """A file of the source, by its path below it (empty: the source is this file)."""

    name: str
    size: int


class Copy:
    """A copy that this process uses, until it releases it."""

    def __init__(self, path: Path, place: Path, claim: Claim) -> None:
        self.path = path
        """The copied folder, or file."""
        self._place, self._claim, self._held = place, claim, True

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Gives it back; the last one that does removes it. Safe to call again."""
        if not self._held:
            return
        self._held = False
        self._claim.release()
        owner = _owner(self._place)
        with suppress(OSError):
            if owner.wait(LEAVE_S) is None:
                try:
                    _remove_unused(self._place)
                finally:
                    owner.release()


def local_copy(
    source: Path,
    scratch: str | None,
    key: str,
    keep_free_bytes: int,
    progress: Progress,
    *,
    files: Mapping[str, int] | None = None,
    environment: Mapping[str, str] = os.environ,
    pause: Pause = time.sleep,
) -> Copy | None:
    """A copy of the folder or file `source` below the folder `scratch`, in which `$NAME` stands for a
    variable of the job; or the one that another job of this node has made. None, after a line to `progress`,
    where there cannot be one: then `source` itself is to be used.

    Links are followed. `key` names the content: what differs has another. `files` are those of the folder
    that are wanted, with their sizes (None: all). `pause` is called again and again while it takes long."""
    if scratch is None:
        return None
    source = source.absolute()
    try:
        root = _root(scratch, environment)
        _sweep(root, key)
        return _copy(source, files, root / key, keep_free_bytes, progress, pause)
    except (_Unusable, Changed) as reason:
        progress(f"{source.name} is not copied to {scratch}: {reason}")
    except OSError as error:
        what = "it is full" if is_full(error) else error.strerror or str(error)
        at = f" ({error.filename})" if error.filename else ""
        progress(f"{source.name} is not copied to {scratch}: {what}{at}")
    return None


def _root(scratch: str, environment: Mapping[str, str]) -> Path:
    """This user's own folder below `scratch`; made, if need be. Raises _Unusable or OSError."""
    folder = Path(_expanded(scratch, environment))
    if not folder.is_absolute():
        raise _Unusable(f"{folder} is no absolute path")
    if not folder.is_dir():
        raise _Unusable(f"there is no folder {folder} on this node")
    if (kind := ram(folder)) is not None:
        raise _Unusable(f"{folder} is in memory ({kind}), which the job pays for")
    root = folder / f"slurmeval-{os.getuid()}"
    with suppress(FileExistsError):
        root.mkdir(mode=0o700)
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise _Unusable(f"{root} is there, and is not yours alone")
    return root


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """With the values of `$NAME` and `${NAME}`. Raises _Unusable where one is not set."""
    try:
        found = _Template(text).substitute({name: value for name, value in environment.items() if value})
    except KeyError as missing:
        raise _Unusable(f"${missing.args[0]} is not set in this job") from None
    except ValueError:
        raise _Unusable("a $ stands before no name in it") from None
    return found


def ram(folder: Path) -> str | None:
    """`tmpfs` or `ramfs` where a folder lies in memory."""
    buffer = ctypes.create_string_buffer(512)  # struct statfs takes 120 bytes; its first word is the magic
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(folder), buffer) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    return _RAM.get(ctypes.c_ulong.from_buffer(buffer).value & 0xFFFFFFFF)


def _copy(
    source: Path,
    wanted: Mapping[str, int] | None,
    place: Path,
    keep_free: int,
    progress: Progress,
    pause: Pause,
) -> Copy:
    owner = _owner(place)
    if (other := owner.take()) is not None:
        who = f"process {other['pid']} on {other['host']}"
        progress(f"{source.name}: {who} copies it to {place.parent}; waiting")
        if owner.wait(OTHERS_COPY_S, sleep=pause) is not None:
            raise _Unusable(f"{who} has been copying it for more than {OTHERS_COPY_S:g} s")
    try:
        _remove_unused(place, whole_ones_stay=True)
        files = _listed(source, wanted)
        whole = _is_whole(place / "copy", source.name, files)
        if not whole and any(_users(place)):
            raise _Unusable("jobs on this node use a copy of other files under its name")
        claim = _user(place)
        try:
            if not whole:
                _make(source, files, place, keep_free, progress, pause)
        except BaseException:
            claim.release()
            raise
        return Copy(place / "copy" / source.name, place, claim)
    except BaseException:
        with suppress(OSError):
            _remove_unused(place)
        raise
    finally:
        owner.release()


def _owner(place: Path) -> Claim:
    return Claim(place.with_name(f"{place.name}.owner"))


def _user(place: Path) -> Claim:
    """A new claim on the copy, to be taken before it is made: it is flushed to disk, and that could wait for
    all that was copied."""
    claim = Claim(place / "users" / f"{os.getpid()}-{secrets.token_hex(4)}.json")
    claim.take()
    return claim


def _users(place: Path) -> Iterator[Path]:
    """The claims of live jobs on the copy."""
    return (file for file in (place / "users").glob("*.json") if live_owner(file) is not None)


def _sweep(root: Path, key: str) -> None:
    """Removes the copies that nobody uses, but for `key`'s. Those that another is at just now are left."""
    names = {entry.name.removesuffix(".owner") for entry in root.iterdir()}
    for name in names - {key}:
        owner = _owner(root / name)
        if name.endswith(".takeover") or owner.take() is not None:
            continue
        try:
            _remove_unused(root / name)
        finally:
            owner.release()


def _remove_unused(place: Path, whole_ones_stay: bool = False) -> None:
    """To be called by its owner: removes what was half-made or half-removed, and the copy where no live job
    uses it (unless `whole_ones_stay`)."""
    making, copy = place / "making", place / "copy"
    if making.exists():
        shutil.rmtree(making)
    if whole_ones_stay or any(_users(place)):
        return
    if copy.exists():
        copy.rename(making)
    if place.exists():
        shutil.rmtree(place)


def _listed(source: Path, wanted: Mapping[str, int] | None) -> list[_File]:
    """The files of a folder, or the one file. Raises _Unusable where one is missing or not whole."""
    if wanted is not None:
        return [_wanted(source, name, size) for name, size in sorted(wanted.items())]
    if source.is_file():
        return [_File("", source.stat().st_size)]
    if not source.is_dir():
        raise _Unusable(f"{source} is not there")
    return sorted(_below(source, "", ()), key=lambda file: file.name)


def _wanted(source: Path, name: str, size: int) -> _File:
    try:
        there = (source / name).stat().st_size
    except FileNotFoundError:
        raise _Unusable(f"its file {name} is missing") from None
    if there != size:
        raise _Unusable(f"its file {name} has {there} bytes, and should have {size}")
    return _File(name, size)


def _below(folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[_File]:
    real = folder.resolve()
    if real in above:
        raise _Unusable(f"{folder} leads to a folder above it")
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                yield from _below(Path(entry), f"{name}/", (*above, real))
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:
                raise _Unusable(f"its file {name} is missing") from None
            if not stat.S_ISREG(status.st_mode):
                raise _Unusable(f"its {name} is no file")
            yield _File(name, status.st_size)


def _is_whole(copy: Path, name: str, files: list[_File]) -> bool:
    """Whether a copy is there, of these very files, whole, and of the time since the node was started: a
    crash may leave files that are shorter than they were, or hold nothing."""
    try:
        if read_json(copy / "record.json") != _record(name, files):
            return False
        return all(_at(copy / name, file).stat().st_size == file.size for file in files)
    except (ValueError, FileNotFoundError):
        return False


def _record(name: str, files: list[_File]) -> dict[str, Any]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return {"name": name, "boot": boot, "files": [[file.name, file.size] for file in files]}


def _make(
    source: Path, files: list[_File], place: Path, keep_free: int, progress: Progress, pause: Pause
) -> None:
    """Makes `place/copy`. Raises _Unusable, Changed or OSError, or what `pause` raises; what it made is the
    caller's to remove."""
    shutil.rmtree(place / "copy", ignore_errors=True)
    size, free = sum(file.size for file in files), shutil.disk_usage(place.parent).free
    if free - size < keep_free:
        kept = f", of which {size_text(keep_free)} are kept (scratch.keep_free_gb)" if keep_free else ""
        raise _Unusable(f"{size_text(size)} are needed, {size_text(free)} are free{kept}")
    making = place / "making"
    target = making / source.name
    for folder in sorted({_at(target, file).parent for file in files} | {making}):
        folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    progress(f"{source.name}: {size_text(size)} are copied to {place}")
    pairs = [(_at(source, file), _at(target, file), file.size) for file in files]
    copy_files(f"{source.name} to {place.parent}", pairs, progress, pause)
    # Not flushed to disk, for the same reason
    (making / "record.json").write_text(json.dumps(_record(source.name, files)))
    making.rename(place / "copy")
    seconds = time.monotonic() - started
    progress(f"{source.name}: copied in {seconds:.1f} s, {size_text(size / max(seconds, 0.001))}/s")


def _at(folder: Path, file: _File) -> Path:
    return folder / file.name if file.name else folder
