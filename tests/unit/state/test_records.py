"""Records are written whole, and read as what they are: missing, half-written and foreign are one answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from slurmeval.state.owner import Owner
from slurmeval.state.records import Unreadable, append, decode, encode, load, read, read_lines, write
from slurmeval.state.server import Gone, ServerState, ServerStatus, read_gone


@dataclass(frozen=True)
class Inner:
    number: int
    path: Path


@dataclass(frozen=True)
class Outer:
    status: ServerStatus
    inner: Inner | None = None
    pair: tuple[float, float] | None = None
    names: list[str] = field(default_factory=list)
    by_name: dict[str, Inner] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)


FULL = Outer(
    ServerStatus.READY,
    Inner(3, Path("/a")),
    (1.0, 2.5),
    ["a", "b"],
    {"x": Inner(1, Path("b"))},
    {"deep": [1, {"er": None}]},
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "record.json", FULL)
    assert read(tmp_path / "record.json", Outer) == FULL
    assert json.loads((tmp_path / "record.json").read_text())["format"] == 1


def test_lines_are_read_but_for_those_that_are_cut_short_or_foreign(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert read_lines(path, Inner) == []
    append(path, Inner(1, Path("a")))
    with path.open("a") as stream:
        stream.write('{"number": "x"}\n{"numb')
    assert read_lines(path, Inner) == [Inner(1, Path("a"))]


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"status": "rea',
        "null",
        "[]",
        "{}",
        '{"status": "unheard of"}',
        '{"status": "ready", "inner": {"number": true, "path": "a"}}',
        '{"status": "ready", "inner": {"number": 1}}',
        '{"status": "ready", "pair": [1]}',
        '{"status": "ready", "names": "ab"}',
        '{"status": "ready", "format": 2}',
        "[" * 100_000,
    ],
)
def test_half_written_and_foreign_files_are_none_with_a_reason(tmp_path: Path, content: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(content)
    assert read(path, Outer) is None
    with pytest.raises(Unreadable, match=r"record\.json: "):
        load(path, Outer)


def test_missing_file_is_none(tmp_path: Path) -> None:
    assert read(tmp_path / "record.json", Outer) is None
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "record.json", Outer)


def test_file_system_that_is_away_is_no_missing_file(tmp_path: Path) -> None:
    (tmp_path / "record.json").mkdir()
    with pytest.raises(OSError, match="record"):
        read(tmp_path / "record.json", Outer)


def test_file_of_an_earlier_version_has_no_format_and_may_have_other_keys() -> None:
    assert decode({"status": "ready", "fencing_token": [0, 1.5], "beside": 1}, ServerState).fencing_token == (
        0,
        1.5,
    )


def test_reason_names_the_key() -> None:
    with pytest.raises(Unreadable, match=r"^inner\.number: expected int, got str$"):
        decode({"status": "ready", "inner": {"number": "x"}}, Outer)


def test_a_server_is_gone_once_the_file_exists(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    assert read_gone(path) is None
    path.touch()
    assert str(read_gone(path)) == "its job has ended"
    write(path, Gone("NODE_FAIL"))
    assert str(read_gone(path)) == "NODE_FAIL"


def test_details_of_an_owner_do_not_make_another_process() -> None:
    owner = Owner("host", 1, 2, token="t")
    assert owner.is_same_process(decode(encode(Owner("host", 1, 2)), Owner))
    assert not owner.is_same_process(Owner("host", 1, 3))
