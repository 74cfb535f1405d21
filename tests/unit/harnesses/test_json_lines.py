"""Files of JSON lines: where a line ends, what it may hold, what is said of one that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses.json_lines import json_lines
from slurmeval.results.records import read_lines

ODD = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei Zürich 東京"


def test_lines_end_at_newlines_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a\u2028b\u2029c\u0085d Zürich"}\r\n\n{"n": 2}', encoding="utf-8")
    wanted = [{"text": "a\u2028b\u2029c\u0085d Zürich"}, {"n": 2}]
    assert json_lines(path) == list(read_lines(path)) == wanted


@pytest.mark.parametrize("value", [ODD, "\ud83d alone", float("inf"), 10**400, -0.1, True, None])
def test_values_are_those_that_were_written(tmp_path: Path, value: object) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"value": value}) + "\n")
    (line,) = json_lines(path)
    assert line == {"value": value} and type(line["value"]) is type(value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1}\n{"b": "\xff"}\n', "x.jsonl:2: not UTF-8: invalid start byte at byte 7"),
        (b'{"a": 1}\n{"b": \n', "x.jsonl:2: not JSON: "),
        (b'{"a": 1}\n\x00\x00', "x.jsonl:2: not JSON: "),
        (b"[1]\n", "x.jsonl:1: expected a JSON object"),
        (b"[" * 100_000, "x.jsonl:1: not JSON: nested too deeply"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(EvaluationFailed) as caught:
        json_lines(tmp_path / "x.jsonl")
    assert str(caught.value).startswith(reason)
    assert caught.value.error_class is ErrorClass.BAD_RESULT


def test_what_is_no_file_is_a_bad_result(tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailed, match=r"x\.jsonl: was not written"):
        json_lines(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").mkdir()
    with pytest.raises(EvaluationFailed, match=r"x\.jsonl: cannot be read: Is a directory"):
        json_lines(tmp_path / "x.jsonl")
