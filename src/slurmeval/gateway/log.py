"""The request log: format, reader and repair. docs/gateway.md describes the format.

A log is a folder of segments `0001.jsonl`, `0002.jsonl` …, one for each gateway process. The first line of a
segment is its header; every other line is an exchange (a request with its answer or failure) or a replay.
"""

from __future__ import annotations

import base64
import functools
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from slurmeval import files
from slurmeval.errors import SlurmevalError
from slurmeval.gateway.bodies import NoJSON, broken, is_stream, lacking, stream_events, value_of
from slurmeval.state.owner import Owner

FORMAT = "slurmeval-gateway-log"
VERSION = 1
REPLAY_PREFIX = b'{"replay_of":'

_DEEP = 1000
"""Brackets from which a body's nesting is checked: the parser stops at 1024 levels, a line adds one."""

_logger = logging.getLogger(__name__)


class LogFormatError(SlurmevalError):
    """A segment that this version cannot read."""


class ByteRange(NamedTuple):
    """Where a line lies; `length` is without its newline."""

    segment: Path
    offset: int
    length: int


@dataclass
class Record:
    """One exchange. Times are in milliseconds; `started_at` is in seconds since 1970, UTC."""

    request_id: str
    key: str
    """Hex sha256 of path and canonical body: equal for identical requests."""
    endpoint: str
    """The path that was asked, such as `/v1/completions`."""
    started_at: float
    latency_ms: float
    """From the request's arrival to the end of its answer, holding and repeated tries included."""
    ttft_ms: float | None
    """Streams: from the request's arrival to the first piece of its answer."""
    http_status: int
    """What the harness was answered; 499: it hung up."""
    attempt: int
    """How often the request was sent; 0: never, the server was lost before."""
    server_id: str | None
    engine_run: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str | None
    """Of the first choice."""
    error: str | None
    """Why there is no usable answer, in one sentence."""
    content_type: str | None
    request_body: bytes
    response_body: bytes | None
    replayed: int = 0
    """How often later tries were answered with this answer."""
    waited_ms: float | None = None
    """Of `latency_ms`, until it was sent for the last time; None: an earlier version did not say."""

    @property
    def server_ms(self) -> float:
        """From the sending that was answered to the end of the answer; without waiting and earlier tries."""
        return self.latency_ms - (self.waited_ms or 0.0)

    @property
    def sent_at(self) -> float:
        """When it was sent for the last time, seconds since 1970."""
        return self.started_at + (self.waited_ms or 0.0) / 1000

    @property
    def answered(self) -> bool:
        """Whether this answer is replayed to a later identical request."""
        return self.http_status == 200 and self.error is None and self.response_body is not None

    @property
    def cut_off(self) -> bool:
        """Whether generated text ended at the token limit.

        A request for likelihoods, or for one token, ends there by design.
        """
        few = self.completion_tokens is not None and self.completion_tokens <= 1
        if self.finish_reason != "length" or few:
            return False
        if b"echo" not in self.request_body and b"prompt_logprobs" not in self.request_body:
            return True
        request = self.request
        asks = isinstance(request, dict) and (
            request.get("echo") or request.get("prompt_logprobs") is not None
        )
        return not asks

    @functools.cached_property
    def request(self) -> Any:
        """The request's JSON value, parsed once; its text where it is no JSON."""
        return _value(self.request_body)

    @functools.cached_property
    def response(self) -> Any:
        """The answer's JSON value, parsed once; of a stream the list of its events; else its text."""
        if self.response_body is None:
            return None
        if is_stream(self.content_type):
            return [_value(data) for data in stream_events(self.response_body) if data != b"[DONE]"]
        return _value(self.response_body)


def _value(body: bytes) -> Any:
    try:
        return value_of(body)
    except NoJSON:
        return body.decode(errors="replace")


def encode_header(segment: int, started_at: float, process: Owner) -> bytes:
    """Returns the first line of a segment."""
    header = {"format": FORMAT, "version": VERSION, "segment": segment, "started_at": started_at}
    named = {"host": process.host, "pid": process.pid, "started": process.started}
    return orjson.dumps(header | {"process": named}) + b"\n"


def encode_body(body: bytes, is_json: bool) -> tuple[str, bytes]:
    """How a body stands in a line: its form and its bytes.

    JSON is kept as it is, except that line breaks between tokens become spaces; other UTF-8 becomes a
    JSON string; anything else base64.
    """
    if is_json and not _too_deep(body):
        if b"\n" in body or b"\r" in body:
            body = body.translate(bytes.maketrans(b"\r\n", b"  "))
        return "json", body
    try:
        return "text", orjson.dumps(body.decode())
    except UnicodeDecodeError:
        return "base64", b'"' + base64.b64encode(body) + b'"'


def _too_deep(body: bytes) -> bool:
    if body.count(b"[") + body.count(b"{") < _DEEP:
        return False
    try:
        orjson.loads(b"[" + body + b"]")
    except orjson.JSONDecodeError:
        return True
    return False


def encode_exchange(
    meta: dict[str, Any],
    request: bytes,
    request_is_json: bool,
    response: bytes | None,
    response_is_json: bool,
) -> bytes:
    """A line. `meta` has the fields of Record but the bodies and `replayed`."""
    request_form, request = encode_body(request, request_is_json)
    if response is None:
        response_form, response = "none", b"null"
    else:
        response_form, response = encode_body(response, response_is_json)
    head = orjson.dumps(
        meta | {"forms": [request_form, response_form], "sizes": [len(request), len(response)]}
    )
    return b"".join((head[:-1], b',"request":', request, b',"response":', response, b"}\n"))


def encode_replay(replay_of: str, started_at: float, latency_ms: float) -> bytes:
    """Returns the line of an answer that was replayed."""
    return orjson.dumps({"replay_of": replay_of, "started_at": started_at, "latency_ms": latency_ms}) + b"\n"


def decode_exchange(line: bytes) -> Record:
    """Raises ValueError on a damaged line."""
    value = orjson.loads(line)
    try:
        request_form, response_form = value.pop("forms")
        request_size, response_size = value.pop("sizes")
        response_at = len(line) - 1 - response_size
        request_at = response_at - len(b',"response":') - request_size
        if line[request_at - len(b',"request":') : request_at] != b',"request":':
            raise ValueError("the sizes do not fit the line")
        asked = value.pop("request")
        request = _decode_body(request_form, line[request_at : request_at + request_size], asked)
        answer = value.pop("response")
        response = _decode_body(response_form, line[response_at:-1], answer)
        if value["http_status"] == 200 and value["error"] is None and response is not None:
            whole = response_form == "json"  # logs of earlier versions hold answers that are none
            path, kind = value["endpoint"], value["content_type"]
            value["error"] = lacking(path, answer) if whole else broken(path, kind, response)
        if "life" in value:  # what earlier versions called it
            value["engine_run"] = value.pop("life")
        if len(bytes.fromhex(value["key"])) != 32:
            raise ValueError("the key is no sha256")
        record = Record(**value, request_body=request or b"", response_body=response)
        if request_form == "json":
            vars(record)["request"] = asked
        if response_form == "json" and not is_stream(record.content_type):
            vars(record)["response"] = answer
        return record
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no exchange: {error}") from error


def _decode_body(form: str, raw: bytes, value: Any) -> bytes | None:
    match form:
        case "none":
            return None
        case "json":
            return raw
        case "text":
            return str(value).encode()
        case "base64":
            return base64.b64decode(value, validate=True)
    raise ValueError(f"no such form of a body: {form!r}")


def segments(folder: Path) -> list[Path]:
    """The segments of a log, oldest first. No folder: none."""
    return sorted(folder.glob("[0-9][0-9][0-9][0-9].jsonl"))


def repair(folder: Path) -> int:
    """Cuts the half-written last line that a crash leaves in a segment. Returns the bytes cut."""
    cut = 0
    for segment in segments(folder):
        with segment.open("r+b") as stream:
            size = end = stream.seek(0, os.SEEK_END)
            while end and not (found := _last_newline(stream.fileno(), end)):
                end = max(0, end - 65536)
            keep = found if end else 0
            if keep < size:
                stream.truncate(keep)
                os.fsync(stream.fileno())
                _logger.warning("%s: a half-written last line of %d bytes is cut off", segment, size - keep)
                cut += size - keep
    return cut


def _last_newline(descriptor: int, end: int) -> int:
    """The offset after the last newline in the 64 KiB before `end`; 0: none."""
    start = max(0, end - 65536)
    found = os.pread(descriptor, end - start, start).rfind(b"\n")
    return start + found + 1 if found >= 0 else 0


def lines(segment: Path) -> Iterator[tuple[ByteRange, bytes]]:
    """The whole lines of a segment after its header. Raises LogFormatError on another format or version."""
    with segment.open("rb", files.READ_BUFFER_BYTES) as stream:
        header = stream.readline()
        if not header.endswith(b"\n"):
            return
        _check_header(segment, header)
        offset = len(header)
        for line in stream:
            if not line.endswith(b"\n"):
                return
            yield ByteRange(segment, offset, len(line) - 1), line[:-1]
            offset += len(line)


def _check_header(segment: Path, line: bytes) -> None:
    try:
        header = orjson.loads(line)
        found, version = header["format"], header["version"]
    except (ValueError, KeyError, TypeError):
        found, version = None, None
    if found != FORMAT:
        raise LogFormatError(f"{segment}: its first line is no header of format {FORMAT}; move the file away")
    if version != VERSION:
        raise LogFormatError(
            f"{segment}: the log has version {version}; this slurmeval reads version {VERSION}"
        )


def exchanges(segment: Path) -> Iterator[tuple[ByteRange, Record]]:
    """The exchanges of a segment. Damaged lines are skipped, and their number is logged as a warning."""
    damaged = 0
    for place, line in lines(segment):
        try:
            if line.startswith(REPLAY_PREFIX):
                orjson.loads(line)
            else:
                yield place, decode_exchange(line)
        except ValueError:
            damaged += 1
    if damaged:
        _logger.warning("%s: %d damaged line(s) skipped", segment, damaged)


def read(folder: Path) -> Iterator[Record]:
    """Every exchange of a log, oldest first, with how often it was replayed. Only one is held at a time."""
    replayed = Counter(_replays(folder))
    for segment in segments(folder):
        for _, record in exchanges(segment):
            times = replayed[record.request_id]
            yield replace(record, replayed=times) if times else record


def _replays(folder: Path) -> Iterator[str]:
    for segment in segments(folder):
        for line in files.lines(segment):
            if line.startswith(REPLAY_PREFIX):
                try:
                    yield str(orjson.loads(line)["replay_of"])
                except (ValueError, KeyError):
                    continue


_ANSWERED = (b'"http_status":200,', b'"error":null,')


def unanswered(folder: Path) -> Iterator[Record]:
    """Returns the requests of the newest try that nobody answered, each once.

    Those that were answered when the harness asked again are not among them.
    """
    newest = segments(folder)[-1:]
    waiting: dict[str, ByteRange] = {}
    for segment in newest:
        for place, line in lines(segment):
            head = line.partition(b',"request":')[0]
            if line.startswith(REPLAY_PREFIX) or (not waiting and all(part in head for part in _ANSWERED)):
                continue
            try:
                record = decode_exchange(line)
            except ValueError:
                continue
            if record.answered:
                waiting.pop(record.key, None)
            else:
                waiting[record.key] = place
        with segment.open("rb") as stream:
            for place in waiting.values():
                stream.seek(place.offset)
                yield decode_exchange(stream.read(place.length))
