"""Index of the lines of each question in a file of lm-eval's samples.

lm-eval writes a line for each question and filter: all of the first filter, then all of the next. One pass
over the file keeps where each line begins, in 24 bytes a line, and nothing of its content. It takes question
and filter from the places where lm-eval writes them, since parsing a million lines twice takes seconds; when
a line is parsed, they must be what it says.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from slurmeval.errors import EvaluationFailed
from slurmeval.files import READ_BUFFER_BYTES
from slurmeval.files import lines as lines_of
from slurmeval.harnesses.json_lines import MALFORMED, parsed, readable
from slurmeval.harnesses.scores import bad_result

NO_FILTER = "none"
_DOC_ID = re.compile(rb'\{"doc_id": (\d{1,15}), "')
_FILTER = b'"filter": "'
"""Behind it lm-eval writes no text that the model or the dataset made."""
T = TypeVar("T")


def _whole_numbers() -> array[int]:
    return array("q")


@dataclass
class _Places:
    """Places of the lines of one filter, in the order of the file."""

    doc_ids: array[int] = field(default_factory=_whole_numbers)
    numbers: array[int] = field(default_factory=_whole_numbers)
    offsets: array[int] = field(default_factory=_whole_numbers)


class QuestionLines:
    """Lines of one task's questions."""

    def __init__(self, path: Path) -> None:
        """Indexes the file.

        Raises:
            EvaluationFailed: A line has no question or filter, a question has a second line for one filter,
                or a filter lacks questions that another one has (bad_result).
        """
        self.path = path
        self._filters: dict[str, _Places] = defaultdict(_Places)
        offset = 0
        with readable(path):
            for number, line in enumerate(lines_of(path), 1):
                if not line.isspace():
                    self._add(line, number, offset)
                offset += len(line)
        for name, places in self._filters.items():
            self._align(name, places, self._order(name, places))

    def _add(self, line: bytes, number: int, offset: int) -> None:
        """Keeps where a line is.

        Raises:
            EvaluationFailed: It has no question or filter (bad_result).
        """
        doc_id, start = _DOC_ID.match(line), line.rfind(_FILTER) + len(_FILTER)
        name = line[start : line.find(b'"', start)]
        try:
            if doc_id is not None and start >= len(_FILTER) and name.isascii() and b"\\" not in name:
                places = self._filters[name.decode()]
                places.doc_ids.append(int(doc_id[1]))
            else:
                content = parsed(line, self.path.name, number)
                places = self._filters[_filter_of(content)]
                places.doc_ids.append(_doc_id(content))
        except MALFORMED as error:
            raise malformed(self.path, number, error) from error
        places.numbers.append(number)
        places.offsets.append(offset)

    def __len__(self) -> int:
        """Returns the number of questions."""
        return len(next(iter(self._filters.values())).doc_ids) if self._filters else 0

    @property
    def filters(self) -> list[str]:
        """Returns the names of the filters, in the order of the file."""
        return list(self._filters)

    def each(self, make: Callable[[list[dict[str, Any]]], T]) -> Iterator[T]:
        """Yields what `make` returns for each question.

        It is called with the question's lines, one for each filter.

        Raises:
            EvaluationFailed: The lines of a question are malformed (bad_result).
        """
        numbers = next(iter(self._filters.values())).numbers if self._filters else ()
        of_filters = [self._read(name, places) for name, places in self._filters.items()]
        for number, *lines in zip(numbers, *of_filters, strict=True):
            try:
                made = make(lines)
            except MALFORMED as error:
                raise malformed(self.path, number, error) from error
            yield made

    def _read(self, of_filter: str, places: _Places) -> Iterator[dict[str, Any]]:
        """Yields the lines of one filter."""
        name, position = self.path.name, 0
        each = zip(places.numbers, places.offsets, places.doc_ids, strict=True)
        with readable(self.path), self.path.open("rb", READ_BUFFER_BYTES) as stream:
            for number, offset, doc_id in each:
                if offset != position:
                    stream.seek(offset)
                text = stream.readline()
                position = offset + len(text)
                line = parsed(text, name, number)
                if line.get("doc_id") != doc_id or line.get("filter", NO_FILTER) != of_filter:
                    told = ValueError(f"doc_id or filter are not where they are to be: {doc_id}, {of_filter}")
                    raise malformed(self.path, number, told)
                yield line

    def _order(self, name: str, places: _Places) -> npt.NDArray[np.int64]:
        """Returns the order of a filter's lines by question.

        Raises:
            EvaluationFailed: A question has two lines (bad_result).
        """
        ids = np.frombuffer(places.doc_ids, np.int64)
        order = np.argsort(ids, kind="stable")
        again = order[1:][np.diff(ids[order]) == 0]
        if again.size:
            line, doc_id = places.numbers[again.min()], places.doc_ids[again.min()]
            raise bad_result(f"{self.path.name}:{line}: a second line of question {doc_id}, filter {name}")
        return order

    def _align(self, name: str, places: _Places, order: npt.NDArray[np.int64]) -> None:
        """Brings the lines of a filter into the order of the first filter's lines."""
        (first_name, first), *_ = self._filters.items()
        ids, wanted = np.frombuffer(places.doc_ids, np.int64), np.frombuffer(first.doc_ids, np.int64)
        if not np.array_equal(ids[order], np.sort(wanted)):
            raise bad_result(
                f"{self.path.name}: of the filter {first_name} there are lines of {wanted.size} questions, "
                f"of {name} of {ids.size}: not the same ones"
            )
        order = order[np.searchsorted(ids[order], wanted)]
        places.numbers, places.offsets, places.doc_ids = (
            array("q", np.frombuffer(values, np.int64)[order].tobytes())
            for values in (places.numbers, places.offsets, places.doc_ids)
        )


def _filter_of(line: dict[str, Any]) -> str:
    name = line.get("filter", NO_FILTER)
    if type(name) is not str:
        raise TypeError(f"filter is {name!r}")
    if not name.isascii():
        name.encode()  # a lone surrogate is no name
    return name


def malformed(path: Path, number: int, error: Exception) -> EvaluationFailed:
    """Returns the failure of an evaluation in whose file line `number` raised `error`."""
    return bad_result(f"{path.name}:{number}: not laid out as lm-eval does: {error!r}")


def _doc_id(line: dict[str, Any]) -> int:
    doc_id = line["doc_id"]
    if type(doc_id) is not int:
        raise TypeError(f"doc_id is {doc_id!r}")
    return doc_id
