"""Writing files so that a reader never sees half of one, and a crash leaves none behind."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

READ_BUFFER_BYTES = 1 << 20
"""Of files that are read line by line: Python's own 8 KiB take a call to the system for every few lines."""


def write_atomically(path: Path, data: bytes | str, mode: int = 0o644) -> None:
    """Writes `data` beside `path`, flushes it to disk and renames it into place. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the system does not say which file had no room
        raise


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """`write_atomically` for a JSON value."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n", mode)


def append_json(path: Path, value: Any) -> None:
    """Adds a line to a file of JSON lines, on disk when this returns. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        stream.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a file, one in memory at a time.

    They end at a line feed alone: `str.splitlines` also splits at U+2028, U+2029, U+0085 and others, which
    JSON lines hold as they are.
    """
    with path.open("rb", READ_BUFFER_BYTES) as stream:
        yield from stream


def read_json(path: Path) -> Any:
    """The JSON value in `path`, or None where there is no such file. Raises ValueError on other content."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def create_exclusively(path: Path, data: str = "", mode: int = 0o644) -> bool:
    """Makes `path` unless it exists.

    True for the one caller that made it, on any file system that has O_EXCL (NFS since version 3). The
    content may be seen late: what counts is that the file exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return True


def sha256_of_file(path: Path) -> str:
    """Hex sha256 of the file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """Hex sha256 of a JSON value's canonical text (sorted keys, no spaces, UTF-8)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
