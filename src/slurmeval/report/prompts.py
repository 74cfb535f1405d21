"""What was sent for each sample, from the gateway's log: messages or prompt, and parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from slurmeval.errors import SlurmevalError
from slurmeval.gateway import log as gateway_log
from slurmeval.report.rendering import shortened, visible
from slurmeval.results import schema
from slurmeval.results.joining import prompts_of
from slurmeval.results.partitions import read_rows

if TYPE_CHECKING:
    from slurmeval.gateway.log import ByteRange, Record
    from slurmeval.paths import Paths
    from slurmeval.report.chat_templates import TemplateProcess
    from slurmeval.report.tables import Row

Answer = tuple[str, int]
"""A question's uid, and which answer to it."""
MAX_REQUESTS = 16
"""Requests of one sample that are shown."""
_TEXTS = ("messages", "prompt", "model")
"""Keys of a request that are no parameters."""


class Prompts:
    """The requests of an evaluation. In memory is where they lie, not what they say."""

    def __init__(self, paths: Paths, evaluation: Row) -> None:
        """Finds the requests of an evaluation in its gateway's log; none where the log is no longer there."""
        self._places: dict[Answer, list[ByteRange]] = defaultdict(list)
        pair = evaluation["model"], evaluation["benchmark"]
        segments = log_segments(paths, evaluation)
        file = paths.requests(*pair)
        if not segments or not file.exists():
            return
        rows = read_rows(file, schema.REQUESTS, ["request_id", "sample_uid", "repeat_idx"])
        columns = (rows[name].to_pylist() for name in ("request_id", "sample_uid", "repeat_idx"))
        of = {name: (uid, repeat or 0) for name, uid, repeat in zip(*columns, strict=True) if uid is not None}
        for segment in segments:
            for place, record in _exchanges(segment):
                if (answer := of.get(record.request_id)) is not None:
                    self._places[answer].append(place)

    def __bool__(self) -> bool:
        """Whether any request is known."""
        return bool(self._places)

    def packed(
        self, answers: Sequence[tuple[Answer, str]], template: TemplateProcess | None = None
    ) -> dict[str, Any]:
        """Returns what was sent for some answers, given with their questions; `laid_out`: by a chat template.

        Texts that come again are written once; where a text holds the question, a place stands for it.
        """
        shared = _Shared()
        sent, laid_out = [], []
        for answer, question in answers:
            read = [self._record(place) for place in self._places.get(answer, ())[:MAX_REQUESTS]]
            records = [record for record in read if record is not None]
            sent.append([shared.request(record, question) for record in records])
            if template is not None:
                texts = zip(records, template.texts(records), strict=True)
                laid_out.append([shared.laid_out(record, text, question) for record, text in texts])
        found = {"texts": shared.texts, "parameters": shared.parameters, "sent": sent}
        return found | ({"laid_out": laid_out} if template is not None else {})

    def _record(self, place: ByteRange) -> Record | None:
        with place.segment.open("rb") as stream:
            stream.seek(place.offset)
            try:
                return gateway_log.decode_exchange(stream.read(place.length))
            except ValueError:
                return None


def log_segments(paths: Paths, evaluation: Row) -> list[Path]:
    """Returns the segments of the log of an evaluation's gateways, of the answers that were scored."""
    key = evaluation["answers_key"]
    if key is None:
        return []
    folder: Path = paths.work(evaluation["model"], evaluation["benchmark"], key) / "gateway"
    return gateway_log.segments(folder)


def _exchanges(segment: Path) -> Iterator[tuple[ByteRange, Record]]:
    try:
        yield from gateway_log.exchanges(segment)
    except (OSError, SlurmevalError):
        return


class _Shared:
    """Texts and parameters of some requests, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.parameters: list[str] = []
        self._numbers: dict[str, int] = {}
        self._of_parameters: dict[str, int] = {}

    def request(self, record: Record, question: str) -> list[Any]:
        """Returns number of the parameters, then each message: its role and its text in parts."""
        request = record.request if isinstance(record.request, dict) else {}
        known = {name: value for name, value in request.items() if name not in _TEXTS}
        text = shortened(orjson.dumps({"path": record.endpoint} | known).decode(), 2000)
        number = self._of_parameters.setdefault(text, len(self.parameters))
        if number == len(self.parameters):
            self.parameters.append(text)
        return [number, *([visible(role), self._parts(text, question)] for role, text in _messages(record))]

    def laid_out(self, record: Record, text: str | None, question: str) -> list[int] | None:
        """Returns the numbers of the parts of a laid out chat: the messages' are those of the messages."""
        if text is None:
            return None
        numbers, rest = [], text
        for _, message in _messages(record):
            before, found, after = rest.partition(message.strip())
            if message.strip() and found:
                numbers += [*([self._number(before)] if before else []), *self._parts(found, question)]
                rest = after
        return [*numbers, *([self._number(rest)] if rest else [])]

    def _parts(self, text: str, question: str) -> list[int]:
        """Returns the numbers of a text's parts; −1 is the question."""
        before, found, after = text.partition(question) if question else (text, "", "")
        numbers = [self._number(before)] if before else []
        return [*numbers, *([-1] if found else []), *([self._number(after)] if after else [])]

    def _number(self, text: str) -> int:
        text = shortened(text)
        number = self._numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number


def _messages(record: Record) -> Iterator[tuple[str, str]]:
    """Yields role and text of each message; of a plain prompt, no role."""
    messages = record.request.get("messages") if isinstance(record.request, Mapping) else None
    if isinstance(messages, list):
        for message in messages:
            if isinstance(message, dict):
                content = message.get("content")
                text = content if isinstance(content, str) else orjson.dumps(content).decode()
                yield str(message.get("role")), text
        return
    for prompt in prompts_of(record)[:1]:
        yield "", prompt
