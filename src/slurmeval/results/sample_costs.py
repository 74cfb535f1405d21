"""What the requests of each sample took, of millions of samples too."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from slurmeval.gateway.log import Record

_MAX_REASONS = 256
"""Finish reasons that are told apart: their number takes a byte."""


@dataclass(slots=True)
class Cost:
    """What a sample's requests took. None: no request said."""

    n_requests: int = 0
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None
    reasoning: str | None = None
    """The model's thoughts, which are no part of its answer."""


class Costs:
    """The costs of all samples by their position; what the model thought lies in `thoughts`.

    They take 29 bytes for each; -1 stands for what is not known.
    """

    def __init__(self, n: int, thoughts: BinaryIO) -> None:
        self.n_requests = array("i", [0]) * n
        self._prompt_tokens = array("q", [-1]) * n
        self._completion_tokens = array("q", [-1]) * n
        self._latency_ms = array("d", [-1.0]) * n
        self._reasons = array("B", [0]) * n
        self._reason_numbers: dict[str | None, int] = {None: 0}
        self._thoughts = _Texts(n, thoughts)

    def add(self, position: int, record: Record) -> None:
        """Counts a request."""
        self.n_requests[position] += 1
        reason = record.finish_reason
        if reason and (reason != "length" or record.cut_off):
            if reason not in self._reason_numbers and len(self._reason_numbers) < _MAX_REASONS:
                self._reason_numbers[reason] = len(self._reason_numbers)
            self._reasons[position] = self._reason_numbers.get(reason, self._reasons[position])
        _add(self._prompt_tokens, position, record.prompt_tokens)
        _add(self._completion_tokens, position, record.completion_tokens)
        _add(self._latency_ms, position, record.server_ms)

    def think(self, position: int, thoughts: str) -> None:
        """Keeps what the model thought before an answer, after what it thought before others."""
        before = self._thoughts[position]
        self._thoughts[position] = thoughts if before is None else f"{before}\n\n{thoughts}"

    def reasoning(self, start: int, stop: int) -> list[str | None]:
        """Returns what the model thought before its answers to each sample from `start` to `stop`."""
        return self._thoughts.within(start, stop)

    def columns(self, start: int, stop: int) -> dict[str, pa.Array]:
        """Returns the columns of `samples` from `start` to `stop`, but for `reasoning`."""
        reasons = np.frombuffer(self._reasons, np.uint8)[start:stop]
        return {
            "n_requests": pa.array(self.n_requests[start:stop], pa.int64()),
            "finish_reason": pa.array(list(self._reason_numbers), pa.string()).take(pa.array(reasons)),
            "prompt_tokens": _known(self._prompt_tokens[start:stop]),
            "completion_tokens": _known(self._completion_tokens[start:stop]),
            "latency_ms": _known(self._latency_ms[start:stop]),
        }

    def __getitem__(self, position: int) -> Cost:
        known = {name: column[0].as_py() for name, column in self.columns(position, position + 1).items()}
        return Cost(**known, reasoning=self._thoughts[position])


def _add(totals: array[Any], position: int, more: float | None) -> None:
    if more is not None:
        totals[position] = more if totals[position] < 0 else totals[position] + more


def _known(values: array[Any]) -> pa.Array:
    numbers = np.frombuffer(values, values.typecode)
    return pa.array(numbers, mask=numbers < 0)


class _Texts:
    """A text for each position, in a file."""

    def __init__(self, n: int, file: BinaryIO) -> None:
        self._n, self._file = n, file
        self._places: array[int] | None = None

    def __getitem__(self, position: int) -> str | None:
        start, stop = self._places[2 * position : 2 * position + 2] if self._places else (0, 0)
        if stop == 0:
            return None
        self._file.seek(start)
        return self._file.read(stop - start).decode()

    def within(self, start: int, stop: int) -> list[str | None]:
        if self._places is None:
            return [None] * (stop - start)
        return [self[position] for position in range(start, stop)]

    def __setitem__(self, position: int, text: str) -> None:
        self._places = self._places or array("q", [0]) * (2 * self._n)
        start = self._file.seek(0, os.SEEK_END)
        stop = start + self._file.write(text.encode(errors="replace"))
        self._places[2 * position : 2 * position + 2] = array("q", [start, stop])
