"""The log's format: what is written is read, and damage costs no more than what is damaged."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmeval.gateway.log import (
    LogFormatError,
    Record,
    decode_exchange,
    encode_exchange,
    encode_header,
    encode_replay,
    read,
    repair,
    unanswered,
)
from slurmeval.gateway.replay import Replays, parse, request_key
from slurmeval.processes import identity

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def exchange(
    number: int = 1, key: str = "ab" * 32, body: bytes = b"{}", answer: bytes = b"{}", **more: Any
) -> bytes:
    meta: dict[str, Any] = dict.fromkeys(
        ("ttft_ms", "server_id", "engine_run", "prompt_tokens", "completion_tokens", "finish_reason", "error")
    )
    meta |= {"request_id": f"0001-{number:06d}", "key": key, "endpoint": "/v1/rerank", "started_at": 1.5}
    meta |= {"latency_ms": 2.5, "http_status": 200, "attempt": 1, "content_type": "application/json"}
    return encode_exchange(meta | more, body, parse(body)[0], answer, parse(answer)[0])


def write_segment(folder: Path, *lines: bytes, number: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{number:04d}.jsonl"
    path.write_bytes(encode_header(number, 1.0, identity()) + b"".join(lines))
    return path


@given(body=st.binary() | JSON_VALUES.map(lambda value: json.dumps(value, indent=1).encode()))
def test_any_body_survives_the_log(body: bytes) -> None:
    line = exchange(body=body, answer=body)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    record = decode_exchange(line[:-1])
    if parse(body)[0]:
        assert orjson.loads(record.request_body) == orjson.loads(body)
        assert record.request_body == body.replace(b"\n", b" ").replace(b"\r", b" ")
    else:
        assert record.request_body == body
    assert record.response_body == record.request_body


@given(value=JSON_VALUES)
def test_key_order_and_spacing_do_not_alter_a_request(value: Any) -> None:
    one = json.dumps({"a": value, "b": 1}).encode()
    other = json.dumps({"b": 1, "a": value}, indent=2, ensure_ascii=False).encode()
    assert request_key("/v1/x", one, *parse(one)) == request_key("/v1/x", other, *parse(other))


@pytest.mark.parametrize(
    "other",
    [
        b'{"prompt":"b"}',
        b'{"prompt":"a","stream":true}',
        b'{"prompt":"a","seed":1}',
        b'{"prompt":"a"',
        b'["a"]',
    ],
)
def test_every_key_of_a_request_counts(other: bytes) -> None:
    one = b'{"prompt":"a"}'
    assert request_key("/v1/x", one, *parse(one)) != request_key("/v1/x", other, *parse(other))
    assert request_key("/v1/x", one, *parse(one)) != request_key("/v1/y", one, *parse(one))


@pytest.mark.parametrize("depth", [300, 1000, 1023, 1024, 5000])
def test_deeply_nested_bodies_survive_the_log(depth: int) -> None:
    body = b"[" * depth + b"]" * depth
    assert decode_exchange(exchange(body=body)[:-1]).request_body == body
    assert request_key("/v1/x", body, *parse(body))


def test_half_written_last_line_is_cut_off_and_skipped(tmp_path: Path) -> None:
    path = write_segment(tmp_path, exchange(1), exchange(2)[:-20])
    assert [record.request_id for record in read(tmp_path)] == ["0001-000001"]
    assert repair(tmp_path) == len(exchange(2)) - 20
    assert path.read_bytes().endswith(exchange(1))
    assert repair(tmp_path) == 0


def test_half_written_line_longer_than_a_block_is_cut_off(tmp_path: Path) -> None:
    path = write_segment(tmp_path, exchange(1), exchange(2, answer=b'"' + b"x" * 300_000 + b'"')[:-5])
    assert repair(tmp_path) > 300_000
    assert path.read_bytes().endswith(exchange(1))


@pytest.mark.parametrize("content", [b"", b'{"format":"slurmev'])
def test_segment_without_a_whole_header_is_empty(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0001.jsonl").write_bytes(content)
    assert list(read(tmp_path)) == []
    repair(tmp_path)
    assert (tmp_path / "0001.jsonl").read_bytes() == b""
    assert list(read(tmp_path)) == []


@pytest.mark.parametrize(
    "damaged",
    [
        exchange(9)[:40] + b"\x00" * 30 + exchange(9)[70:],
        b"\x00" * 100 + b"\n",
        b"\n",
        b"[]\n",
        exchange(9).replace(b'"sizes":[2,2]', b'"sizes":[1,2]'),
        exchange(9).replace(b"ab" * 32, b"xy" * 32),
        encode_replay("0001-000009", 1.0, 1.0)[:20] + b"\n",
    ],
)
def test_damaged_line_in_the_middle_costs_only_itself(
    tmp_path: Path, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write_segment(tmp_path, exchange(1), damaged, exchange(2))
    with caplog.at_level(logging.WARNING):
        found = [record.request_id for record in read(tmp_path)]
    assert found == ["0001-000001", "0001-000002"]
    assert "1 damaged line" in caplog.text


def test_unknown_version_is_a_clear_error(tmp_path: Path) -> None:
    path = write_segment(tmp_path, exchange(1))
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    with pytest.raises(
        LogFormatError, match=r"0001\.jsonl: the log has version 2; this slurmeval reads version 1"
    ):
        list(read(tmp_path))


def test_foreign_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "0001.jsonl").write_text("hello\n")
    with pytest.raises(LogFormatError, match="no header of format slurmeval-gateway-log"):
        list(read(tmp_path))


def test_reader_counts_replays(tmp_path: Path) -> None:
    write_segment(tmp_path, exchange(1), exchange(2))
    write_segment(tmp_path, *[encode_replay("0001-000002", 1.0, 1.0)] * 2, number=2)
    assert [record.replayed for record in read(tmp_path)] == [0, 2]


def test_record_gives_parsed_values() -> None:
    stream = b'data: {"a": 1}\n\ndata: [DONE]\n\n'
    record = decode_exchange(
        exchange(body=b'{"x": NaN}', answer=stream, content_type="text/event-stream")[:-1]
    )
    assert str(record.request) == "{'x': nan}"
    assert record.response == [{"a": 1}]
    binary = decode_exchange(exchange(answer=b"\xff\xfe")[:-1])
    assert binary.response_body == b"\xff\xfe"
    assert base64.b64encode(b"\xff\xfe") in exchange(answer=b"\xff\xfe")


def stored(replays: Replays, key: str) -> Record | None:
    return replays.take(bytes.fromhex(key))


def test_kth_identical_request_gets_the_kth_stored_answer(tmp_path: Path) -> None:
    write_segment(
        tmp_path, exchange(1, answer=b'"first"'), exchange(2, key="cd" * 32), exchange(3, http_status=500)
    )
    write_segment(tmp_path, exchange(4, answer=b'"second"'), exchange(5, error="it broke"), number=2)
    replays = Replays(tmp_path)
    assert replays.stored == 3
    answers = [stored(replays, "ab" * 32) for _ in range(3)]
    assert [answer and answer.response for answer in answers] == ["first", "second", None]
    replays.close()


def test_answer_damaged_after_indexing_is_not_replayed(tmp_path: Path) -> None:
    path = write_segment(tmp_path, exchange(1, answer=b'"first"'))
    replays = Replays(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"first"', b'"fi\x00st"'))
    assert stored(replays, "ab" * 32) is None
    replays.close()


WHOLE = b'{"choices": [{"text": "4"}]}'


@pytest.mark.parametrize(
    "answer",
    [
        b'{"choices": [{"text": "4"}',
        b"<html><body>Bad Gateway</body></html>",
        b'{"choices": []}',
        b'{"choices": [{"index": 0}]}',
        b"null",
        b"[]",
        b"",
    ],
)
def test_a_broken_answer_of_an_old_log_is_not_replayed(tmp_path: Path, answer: bytes) -> None:
    old = exchange(1, answer=answer, endpoint="/v1/completions")
    good = exchange(2, answer=WHOLE, endpoint="/v1/completions")
    write_segment(tmp_path, old, good)
    replays = Replays(tmp_path)
    assert replays.stored == 1
    taken = stored(replays, "ab" * 32)
    assert taken is not None
    assert taken.response_body == WHOLE
    replays.close()
    broken, whole = read(tmp_path)
    assert (broken.answered, whole.answered) == (False, True)
    assert (broken.error or "").startswith("the server answered ")


def test_answers_that_only_look_odd_are_whole() -> None:
    for answer in (
        b'{"choices": [{"message": {"content": null}}], "x": NaN}',
        b'{"choices": [{"message": {"content": "\\ud800"}}]}',
        b'{"choices": [{"message": {}}], "error": null}',
    ):
        assert decode_exchange(exchange(answer=answer, endpoint="/v1/chat/completions")[:-1]).answered
    usage_last = (
        b'data: {"choices": [{"delta": {"content": "a\xe2\x80\xa8b"}}]}\r\n\r\n'
        b'data: {"choices": [], "usage": {"prompt_tokens": 1}}\r\n\r\ndata: [DONE]\r\n\r\n'
    )
    stream = exchange(answer=usage_last, endpoint="/v1/chat/completions", content_type="text/event-stream")
    assert decode_exchange(stream[:-1]).answered
    assert decode_exchange(
        exchange(answer=b'{"data": [{"embedding": "AAA="}]}', endpoint="/v1/embeddings")[:-1]
    ).answered


def test_a_stream_in_which_no_model_answers_is_none() -> None:
    for events in (b'data: {"choices": []}\n\ndata: [DONE]\n\n', b'data: {"choi\n\ndata: [DONE]\n\n'):
        line = exchange(answer=events, endpoint="/v1/completions", content_type="text/event-stream")
        assert not decode_exchange(line[:-1]).answered


def test_a_log_of_an_earlier_version_is_read() -> None:
    line = exchange(latency_ms=2.5)
    assert b"waited_ms" not in line
    record = decode_exchange(line[:-1])
    assert (record.waited_ms, record.server_ms, record.sent_at) == (None, 2.5, 1.5)
    record = decode_exchange(exchange(latency_ms=2500.0, waited_ms=2000.0)[:-1])
    assert (record.server_ms, record.sent_at) == (500.0, 3.5)


def test_what_the_newest_try_left_unanswered(tmp_path: Path) -> None:
    refused = {"http_status": 400, "error": "the server answered 400: too long"}
    write_segment(tmp_path, exchange(1, key="01" * 32, **refused))
    write_segment(
        tmp_path,
        encode_replay("0001-000001", 1.0, 1.0),
        exchange(1, key="02" * 32, **refused),
        exchange(2, key="02" * 32, **refused),
        exchange(3, key="03" * 32, **refused),
        exchange(4, key="03" * 32),
        exchange(5, key="04" * 32),
        number=2,
    )
    assert [record.key for record in unanswered(tmp_path)] == ["02" * 32]
    assert list(unanswered(tmp_path / "none")) == []


def test_what_an_earlier_version_called_an_engine_run_is_read() -> None:
    older = exchange(engine_run=3).replace(b'"engine_run":', b'"life":')
    assert decode_exchange(older[:-1]).engine_run == 3
