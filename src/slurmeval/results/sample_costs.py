"""What the requests of each sample took, of millions of samples too."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from slurmeval.gateway.log import Record


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

    def add(self, record: Record) -> None:
        self.n_requests += 1
        if record.finish_reason != "length" or record.cut_off:
            self.finish_reason = record.finish_reason or self.finish_reason
        self.prompt_tokens = _sum(self.prompt_tokens, record.prompt_tokens)
        self.completion_tokens = _sum(self.completion_tokens, record.completion_tokens)
        self.latency_ms = _sum(self.latency_ms, record.server_ms)


class Costs:
    """The costs of all samples by their position, 29 bytes for each; what the model thought lies in
    `thoughts`."""

    def __init__(self, n: int, thoughts: BinaryIO) -> None:
        self._n_requests = array("i", [0]) * n
        self._tokens = array("q", [-1]) * (2 * n)
        self._latency_ms = array("d", [-1.0]) * n
        self._reasons = array("B", [0]) * n
        self._reason_names: list[str | None] = [None]
        self._thoughts = _Texts(n, thoughts)

    def __getitem__(self, position: int) -> Cost:
        if not self._n_requests[position]:
            return Cost()
        prompt, completion = self._tokens[2 * position : 2 * position + 2]
        latency = self._latency_ms[position]
        return Cost(
            self._n_requests[position],
            self._reason_names[self._reasons[position]],
            None if prompt < 0 else prompt,
            None if completion < 0 else completion,
            None if latency < 0 else latency,
            self._thoughts[position],
        )

    def add(self, position: int, record: Record) -> None:
        """Counts a request."""
        cost = self[position]
        cost.add(record)
        self._n_requests[position] = cost.n_requests
        if cost.finish_reason not in self._reason_names and len(self._reason_names) < 256:
            self._reason_names.append(cost.finish_reason)
        if cost.finish_reason in self._reason_names:
            self._reasons[position] = self._reason_names.index(cost.finish_reason)
        tokens = (cost.prompt_tokens, cost.completion_tokens)
        self._tokens[2 * position : 2 * position + 2] = array("q", [-1 if n is None else n for n in tokens])
        self._latency_ms[position] = -1.0 if cost.latency_ms is None else cost.latency_ms

    def think(self, position: int, thoughts: str) -> None:
        """Keeps what the model thought before an answer, after what it thought before others."""
        before = self._thoughts[position]
        self._thoughts[position] = thoughts if before is None else f"{before}\n\n{thoughts}"


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

    def __setitem__(self, position: int, text: str) -> None:
        self._places = self._places or array("q", [0]) * (2 * self._n)
        start = self._file.seek(0, os.SEEK_END)
        stop = start + self._file.write(text.encode(errors="replace"))
        self._places[2 * position : 2 * position + 2] = array("q", [start, stop])


def _sum(total: Any, more: Any) -> Any:
    return more if total is None else total if more is None else total + more
