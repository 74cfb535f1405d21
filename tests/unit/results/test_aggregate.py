"""The combined tables: what the config asks for, whatever state it is in."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from slurmeval.cli import scores
from slurmeval.files import write_json
from slurmeval.paths import Paths
from slurmeval.report import tables
from slurmeval.results import gathering, schema
from slurmeval.results.aggregate import aggregate
from slurmeval.results.partitions import read_rows
from tests.report import example


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return example.paths_in(tmp_path)


def _evaluations(paths: Paths) -> list[dict[str, Any]]:
    return read_rows(paths.all_evaluations, schema.ALL_EVALUATIONS).to_pylist()


def _metrics(paths: Paths) -> list[dict[str, Any]]:
    return read_rows(paths.all_metrics, schema.METRICS).to_pylist()


def _servers(paths: Paths) -> list[dict[str, Any]]:
    return read_rows(paths.all_servers, schema.SERVERS).to_pylist()


def test_a_whole_run(paths: Paths) -> None:
    pairs = example.write_run(paths, n=10)
    rows = _evaluations(paths)
    assert [(row["model"], row["benchmark"]) for row in rows] == pairs
    failed = [row for row in rows if row["status"] == "failed"]
    assert [(row["model"], row["benchmark"]) for row in failed] == [example.FAILED]
    assert failed[0]["error_class"] == "harness_error"
    assert failed[0]["log"] == "logs/evaluate/other.model_2/bfcl.v3.log"
    assert failed[0]["started_at"] == example.START
    assert len(_metrics(paths)) == 2 * 7


def test_scores_are_those_of_the_partitions_to_the_last_bit(paths: Paths) -> None:
    pairs = example.write_run(paths, n=7)
    expected = [
        row
        for pair in pairs
        if pair != example.FAILED
        for row in pq.read_table(paths.metrics(*pair), partitioning=None).to_pylist()
    ]
    assert _metrics(paths) == expected


def test_partitions_of_evaluations_no_longer_asked_for_are_left_out(paths: Paths) -> None:
    example.write_evaluation(paths, "m", "old", [True])
    example.write_evaluation(paths, "m", "new", [True])
    aggregate(paths, [("m", "new")])
    assert {row["benchmark"] for row in _metrics(paths) + _evaluations(paths)} == {"new"}


def test_a_judge_whose_answers_failed_says_so(paths: Paths) -> None:
    model, benchmark = example.FAILED
    pairs = [*example.write_run(paths, n=4), (model, "judged"), (model, "jury"), ("smollm2-135m", "judged")]
    needed = {
        (model, "judged"): [example.FAILED],
        (model, "jury"): [(model, "judged")],
        ("smollm2-135m", "judged"): [("smollm2-135m", "asdiv")],
    }
    aggregate(paths, pairs, judged=needed)
    found = {(row["model"], row["benchmark"]): row for row in _evaluations(paths)}
    failed = found[example.FAILED]["reason"]
    said = f"there are no answers to judge: {model} on {benchmark} failed: {failed}"
    assert (found[model, "judged"]["status"], found[model, "judged"]["reason"]) == ("missing", said)
    said = f"there are no answers to judge: {model} on judged has not ended: {said}"
    assert found[model, "jury"]["reason"] == said
    assert found["smollm2-135m", "judged"]["reason"] is None  # those are there: it was not begun yet
    shown = scores.lines(tables.load(paths))
    assert any(line.startswith(f"{model} on judged has not begun: there are no answers") for line in shown)


def test_an_evaluation_without_partition_or_failure_is_missing(paths: Paths) -> None:
    aggregate(paths, [("m", "b")])
    (row,) = _evaluations(paths)
    assert (row["status"], row["reason"]) == ("missing", None)


def test_a_success_outweighs_an_older_failure(paths: Paths) -> None:
    example.write_failure(paths, "m", "b")
    example.write_evaluation(paths, "m", "b", [True])
    aggregate(paths, [("m", "b")])
    assert _evaluations(paths)[0]["status"] == "ok"


@pytest.mark.parametrize("table", ["metrics", "evaluation"])
def test_a_damaged_partition_is_a_failure_and_stops_nothing(paths: Paths, table: str) -> None:
    for benchmark in ("bad", "good"):
        example.write_evaluation(paths, "m", benchmark, [True])
    file: Path = getattr(paths, table)("m", "bad")
    file.write_bytes(file.read_bytes()[:-100])
    aggregate(paths, [("m", "bad"), ("m", "good")])
    bad, good = _evaluations(paths)
    assert (bad["status"], bad["error_class"], good["status"]) == ("failed", "bad_result", "ok")
    assert "m/bad.parquet cannot be read" in bad["reason"]


def test_a_partition_of_another_version_is_a_failure_and_stops_nothing(paths: Paths) -> None:
    for benchmark in ("old", "new"):
        example.write_evaluation(paths, "m", benchmark, [True])
    table = pq.read_table(paths.metrics("m", "old"), partitioning=None)
    pq.write_table(table.replace_schema_metadata({"schema_version": "0"}), paths.metrics("m", "old"))
    aggregate(paths, [("m", "old"), ("m", "new")])
    old, new = _evaluations(paths)
    assert (old["status"], new["status"]) == ("failed", "ok")
    assert "schema version 0" in old["reason"]
    assert not list(paths.results.glob(".*"))


def test_what_has_not_changed_is_not_read_again(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = example.write_run(paths, n=10)
    before = _evaluations(paths), _metrics(paths), _servers(paths)
    read: list[Path] = []
    original = gathering.read_rows

    def noting(path: Path, table: schema.Table) -> Any:
        if not path.is_relative_to(paths.gathered):
            read.append(path)
        return original(path, table)

    monkeypatch.setattr(gathering, "read_rows", noting)
    aggregate(paths, pairs)
    assert (read, (_evaluations(paths), _metrics(paths), _servers(paths))) == ([], before)
    written = {pair for pair in pairs if pair != example.FAILED}
    assert gathering.unchanged(paths, pairs) == written
    example.write_evaluation(paths, *pairs[1], [False] * 10)
    assert gathering.unchanged(paths, pairs) == written - {pairs[1]}
    aggregate(paths, pairs)
    assert set(read) == {paths.evaluation(*pairs[1]), paths.metrics(*pairs[1])}
    changed = [row for row in _metrics(paths) if (row["model"], row["benchmark"]) == pairs[1]]
    assert changed[0]["value"] == 0.0
    assert [row["metric"] for row in _metrics(paths)] == [row["metric"] for row in before[1]]


@pytest.mark.parametrize(
    "name", ["index.json", "metrics.parquet", "evaluations.parquet", "in_flight.parquet"]
)
def test_what_is_kept_may_be_damaged(paths: Paths, name: str) -> None:
    pairs = example.write_run(paths, n=5)
    before = _evaluations(paths), _metrics(paths)
    file = paths.gathered / name
    file.write_bytes(file.read_bytes()[:-40])
    aggregate(paths, pairs)
    assert (_evaluations(paths), _metrics(paths)) == before


def test_a_damaged_failure_record_is_a_failure_without_reason(paths: Paths) -> None:
    paths.failure("m", "b").parent.mkdir(parents=True)
    paths.failure("m", "b").write_text('{"error_cl')
    aggregate(paths, [("m", "b")])
    assert _evaluations(paths)[0]["status"] == "failed"


def test_lives_of_servers(paths: Paths) -> None:
    example.write_server(paths, "m")
    aggregate(paths, [("m", "b")])
    ended, under_way = _servers(paths)
    assert (ended["engine_run"], ended["queued_s"], ended["exit_reason"]) == (1, 4.0, "killed by SIGKILL")
    assert ended["tokens_per_s"] == pytest.approx(45000 / 300.5)
    assert (under_way["engine_run"], under_way["ended_at"], under_way["queued_s"]) == (2, None, None)
    assert under_way["ready_at"] == example.START + timedelta(minutes=9)
    assert under_way["generated_tokens"] == 1000


def test_a_server_that_never_started_is_shown_with_its_reason(paths: Paths) -> None:
    folder = paths.servers_of("m") / "0001"
    state = {"status": "failed", "reason": "out of memory", "error_class": "out_of_memory", "engine_run": 0}
    write_json(folder / "state.json", state)
    (paths.servers_of("m") / "0002").mkdir()
    aggregate(paths, [("m", "b")])
    failed, pending = _servers(paths)
    assert (failed["engine_run"], failed["reason"], failed["busy_s"]) == (0, "out of memory", None)
    assert (pending["server_id"], pending["status"]) == ("m/0002", "pending")


def test_a_line_cut_off_by_a_crash_is_left_out(paths: Paths) -> None:
    example.write_server(paths, "m")
    engine_runs = paths.servers_of("m") / "0001" / "engine_runs.jsonl"
    assert len(engine_runs.read_text().splitlines()) == 2
    with pytest.raises(json.JSONDecodeError):
        json.loads(engine_runs.read_text().splitlines()[1])
    aggregate(paths, [("m", "b")])
    assert [row["engine_run"] for row in _servers(paths)] == [1, 2]


def test_no_evaluation_at_all(paths: Paths) -> None:
    aggregate(paths, [])
    assert _evaluations(paths) == _metrics(paths) == _servers(paths) == []
