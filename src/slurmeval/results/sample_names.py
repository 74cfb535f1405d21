"""The names of samples, which are the same for every model."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

if TYPE_CHECKING:
    from slurmeval.harnesses.base import Sample

NAME_BYTES = 32
"""Length of a sample's name, a sha256."""
_encoder = json.JSONEncoder(sort_keys=True, default=str)


class SampleNames:
    """The `sample_uid` of each sample as NAME_BYTES, gone through in the harness's order.

    With `repeat_idx` it is a key: of equal questions the second is named by a hash of the first one's
    name and the number 1, etc.

    `revisions`: of the datasets, by id.
    """

    def __init__(self, revisions: Mapping[str, Any]) -> None:
        self._revisions = _encoder.encode(revisions).encode()
        self._taken: set[int] = set()
        self._again: Counter[int] = Counter()

    def of(self, samples: Sequence[Sample]) -> bytes:
        """Returns the names of the next samples, one behind another."""
        uids = [_hashed(sample, self._revisions) for sample in samples]
        repeats = np.array([sample.repeat_idx for sample in samples], np.uint64)
        keys = (np.frombuffer(b"".join(uids), ">u8")[:: NAME_BYTES // 8] + repeats).tolist()
        new = set(keys)
        if len(new) == len(keys) and self._taken.isdisjoint(new):
            self._taken |= new
        else:
            uids = list(map(self._numbered, uids, keys))
        return b"".join(uids)

    def _numbered(self, uid: bytes, key: int) -> bytes:
        if key in self._taken:
            self._again[key] += 1
            return hashlib.sha256(f"{uid.hex()}:{self._again[key]}".encode()).digest()
        self._taken.add(key)
        return uid


def sample_uid(sample: Sample, revisions: Mapping[str, Any]) -> str:
    """The name of a question.

    It is a hash of the JSON list of task, dataset revisions, input and reference. Neither position nor
    the harness's numbering is in it.
    """
    return _hashed(sample, _encoder.encode(revisions).encode()).hex()


def _hashed(sample: Sample, revisions: bytes) -> bytes:
    texts = (_json(sample.task), revisions, _json(sample.input), _json(sample.reference))
    return hashlib.sha256(b"[%b, %b, %b, %b]" % texts).digest()


def _json(text: str | None) -> bytes:
    """Returns a text as ASCII JSON. orjson is faster, and writes all but these characters as Python does."""
    if type(text) is str and text.isascii() and "\x7f" not in text:
        return orjson.dumps(text)
    return _encoder.encode(text).encode()
