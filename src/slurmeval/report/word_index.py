"""Which of an evaluation's scripts may hold a text: the page of samples searches those alone.

Of each script it is kept which sequences of three bytes (of UTF-8, in lower case) it has; these are hashed
into `BUCKETS`. A text of three bytes or more can only be where all its sequences are.
"""

from __future__ import annotations

import numpy as np

BUCKETS = 1 << 15
_FACTOR = 0x9E3779B1
"""Of multiplicative hashing; templates/samples.js has the same."""


class WordIndex:
    """Bits by bucket and script, the scripts of a bucket one behind another."""

    def __init__(self, n_files: int) -> None:
        """Takes the number of scripts."""
        self._bits = np.zeros((BUCKETS, -(-n_files // 8)), np.uint8)

    def add(self, file: int, texts: list[str]) -> None:
        """Adds the texts of a script; the first has number 0."""
        found = buckets("\n".join(texts).lower().encode())
        self._bits[found, file // 8] |= np.uint8(1 << file % 8)

    def packed(self) -> bytes:
        """Returns the bits as they lie in the script."""
        return self._bits.tobytes()


def buckets(text: bytes) -> np.ndarray:
    """Returns the buckets of a text's sequences, each once."""
    letters = np.frombuffer(text, np.uint8).astype(np.uint64)
    threes = (letters[:-2] << np.uint64(16)) | (letters[1:-1] << np.uint64(8)) | letters[2:]
    hashed = (np.unique(threes) * np.uint64(_FACTOR)) & np.uint64(0xFFFFFFFF)
    return np.unique(hashed >> np.uint64(32 - (BUCKETS.bit_length() - 1)))
