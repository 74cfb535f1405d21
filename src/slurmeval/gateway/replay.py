"""Resume: the k-th identical request of a try is answered with the k-th stored answer of the tries before."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import orjson

from slurmeval.gateway.log import ByteRange, Record, decode_exchange, exchanges, segments


def parse(body: bytes) -> tuple[bool, Any]:
    """Whether `body` is JSON, and its value."""
    try:
        return True, orjson.loads(body)
    except orjson.JSONDecodeError:
        return False, None


def request_key(path: str, body: bytes, is_json: bool, value: Any) -> bytes:
    """sha256 of a request's path (with its query) and canonical body: JSON with sorted keys and no spaces.

    Every key counts. A body that is no JSON, or nests deeper than 250 levels, counts byte by byte.
    """
    kind, canonical = b"\nraw\n", body
    if is_json:
        with contextlib.suppress(orjson.JSONEncodeError):
            kind, canonical = b"\njson\n", orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(b"".join((path.encode(), kind, canonical))).digest()


class Replays:
    """Where the answers of earlier tries lie.

    Bodies stay on disk. An entry is gone once it is taken, so requests that come at the same time get
    different answers, and requests never seen cost no memory.
    """

    def __init__(self, folder: Path) -> None:
        """Reads the whole log once. Raises LogFormatError."""
        self._places: dict[bytes, list[ByteRange]] = {}
        self._descriptors: dict[Path, int] = {}
        self.stored = 0
        for segment in segments(folder):
            for place, record in exchanges(segment):
                if record.answered:
                    self._places.setdefault(bytes.fromhex(record.key), []).append(place)
                    self.stored += 1
        for places in self._places.values():
            places.reverse()

    def take(self, key: bytes) -> Record | None:
        """The next stored answer to this request, or None: ask the server."""
        while places := self._places.get(key):
            place = places.pop()
            if not places:
                del self._places[key]
            try:
                return decode_exchange(self._read(place))
            except (OSError, ValueError):  # damaged since it was indexed
                continue
        return None

    def _read(self, place: ByteRange) -> bytes:
        descriptor = self._descriptors.get(place.segment)
        if descriptor is None:
            descriptor = self._descriptors[place.segment] = os.open(place.segment, os.O_RDONLY)
        return os.pread(descriptor, place.length, place.offset)

    def close(self) -> None:
        """Closes the log's files."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
