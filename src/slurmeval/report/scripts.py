"""Scripts that hand one value to a page, which may read no other file once it was opened from disk.

The value is compressed by gzip. Its bytes stand in a JavaScript string, two in each character, in UTF-16
with a byte order mark: browsers obey the mark before all else, and 3 % are added to the bytes where base64
adds 33 %. So nothing that a model wrote is ever part of a program.
"""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from slurmeval.files import write_atomically

_LEVEL = 6
"""Of compression: 9 takes a third longer for a 250th of the size."""
_MARK, _TURNED = 1, 0x8000
"""What cannot stand in a string comes as two characters, _MARK and itself with its highest bit turned."""
_NOT_IN_STRINGS = np.array([_MARK, *b'\n\r"\\', 0x2028, 0x2029], np.uint16)
_SURROGATES = 0xD800 >> 11


def write_script(path: Path, name: str, value: Any, made_from: str = "") -> None:
    """Writes a script that hands `value` (or bytes) to the page under `name`."""
    content = value if isinstance(value, bytes) else orjson.dumps(value)
    packed = gzip.compress(content, _LEVEL, mtime=0)
    start = f'// made from {made_from}\nslurmeval({json.dumps(name)}, {len(packed)}, "'
    text = start.encode("utf-16-le") + _characters(packed) + '");\n'.encode("utf-16-le")
    write_atomically(path, codecs.BOM_UTF16_LE + text)


def made_from(path: Path) -> str:
    """Returns what a script says that it was made from; nothing where there is none."""
    try:
        with path.open(encoding="utf-16") as stream:
            return stream.readline(300).partition("made from ")[2].strip()
    except (FileNotFoundError, UnicodeError):  # of an earlier version, which had another encoding
        return ""


def _characters(packed: bytes) -> bytes:
    """Returns bytes as characters of UTF-16 that may stand in a string."""
    units = np.frombuffer(packed + b"\0" * (len(packed) % 2), "<u2")
    turned = (units >> 11 == _SURROGATES) | np.isin(units, _NOT_IN_STRINGS)
    places = np.flatnonzero(turned)
    told = units.copy()
    told[turned] ^= _TURNED
    return np.insert(told, places, _MARK).astype("<u2").tobytes()
