"""What was worked out of evaluations' answers, so that it is worked out once.

Answers never change once they are written. What was found in them is kept in `state/gathered`, with the
fingerprint of what it was found in. It counts for as long as that is the same, and so is the code.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from slurmeval.files import write_atomically
from slurmeval.paths import Paths


class Kept:
    """A file of findings by name. One that is damaged, or by other code, is as good as none."""

    def __init__(self, results: Path, name: str) -> None:
        """Reads the file `name`, if it is there. Nothing is kept where no run keeps its state."""
        paths = Paths.of_results(results)
        self._file = paths.gathered / f"{name}.json" if paths.state.is_dir() else None
        self._found: dict[str, tuple[str, Any]] = _read(self._file) if self._file else {}
        self._changed = False

    def get(self, name: str, fingerprint: str | None) -> Any:
        """Returns what was found, as JSON has it; None: nothing, or in something else."""
        of, value = self._found.get(name, (None, None))
        return value if of is not None and of == fingerprint else None

    def put(self, name: str, fingerprint: str | None, value: Any) -> None:
        """Keeps a value, which JSON can say; dataclasses become mappings."""
        if fingerprint is not None:
            self._found[name] = fingerprint, value
            self._changed = True

    def save(self) -> None:
        """Writes the file if anything is new. That it cannot be written costs only time."""
        if self._changed and self._file is not None:
            content = orjson.dumps(self._found)
            with contextlib.suppress(OSError):
                write_atomically(self._file, _seal(content) + b"\n" + content)
            self._changed = False


def fingerprint(files: Iterable[Path], about: Any = None) -> str | None:
    """Returns what tells these files from rewritten ones, and `about`, a JSON value, from others.

    None: one of the files is not there.
    """
    try:
        statuses = [file.stat() for file in files]
    except OSError:
        return None
    # The last is set by no program: one that writes in place may turn the time of writing back (rsync)
    told = ((each.st_size, each.st_mtime_ns, each.st_ino, each.st_ctime_ns) for each in statuses)
    return hashed([about, *told])


def hashed(value: Any) -> str:
    """Returns a hash of a JSON value whose mappings always have the same order."""
    return hashlib.sha256(orjson.dumps(value)).hexdigest()


def _read(file: Path) -> dict[str, tuple[str, Any]]:
    try:
        seal, _, content = file.read_bytes().partition(b"\n")
    except OSError:
        return {}
    return orjson.loads(content) if seal == _seal(content) else {}


def _seal(content: bytes) -> bytes:
    """Returns a hash that other content, or other code, does not have."""
    return hashlib.sha256(_code() + content).hexdigest().encode()


@functools.cache
def _code() -> bytes:
    """Returns a hash of the code that findings are made by."""
    package = Path(__file__).parent.parent
    files = sorted(file for name in ("results", "statistics") for file in (package / name).glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).digest()
