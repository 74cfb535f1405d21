"""An evaluation's partition: whole or not there, exact, in the schema."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurmeval.gateway.log import Record
from slurmeval.harnesses.base import HarnessOutput, Metric, Sample, Score
from slurmeval.paths import Paths
from slurmeval.results import columns, partitions, schema
from slurmeval.results.partitions import read_rows, write
from slurmeval.results.sample_names import sample_uid
from tests.report import example

PAIR = ("m", "b.1")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return example.paths_in(tmp_path / "with space & 'quote' ü")


def _files(paths: Paths) -> list[str]:
    return sorted(str(p.relative_to(paths.results)) for p in paths.results.rglob("*") if p.is_file())


def _output(metrics: list[Metric], samples: list[Sample] | None = None) -> HarnessOutput:
    return HarnessOutput(metrics, samples or [], 0, "1", None)


def _metrics(paths: Paths) -> list[dict[str, object]]:
    return partitions.read_rows(paths.metrics(*PAIR), schema.METRICS).to_pylist()


def test_all_four_files_have_their_schema_and_counts(paths: Paths) -> None:
    example.write_evaluation(paths, *PAIR, [True, False] * 30)
    for file, table, rows in (
        (paths.samples(*PAIR), schema.SAMPLES, 60),
        (paths.requests(*PAIR), schema.REQUESTS, 60),
        (paths.metrics(*PAIR), schema.METRICS, 2),
        (paths.evaluation(*PAIR), schema.EVALUATIONS, 1),
    ):
        assert partitions.read_rows(file, table).num_rows == rows
    assert len(_files(paths)) == 4
    (row,) = partitions.read_rows(paths.evaluation(*PAIR), schema.EVALUATIONS).to_pylist()
    assert (row["status"], row["n_requested"], row["n_samples"], row["n_requests"]) == ("ok", 60, 60, 60)
    assert (row["completion_tokens"], row["n_truncated"], row["n_replayed"]) == (420, 7, 0)
    assert row["log"] == "logs/evaluate/m/b.1.log"
    assert json.loads(row["versions_json"]) == {"lm-eval": "0.4.13"}


@pytest.mark.parametrize(
    "value", [0.1 + 0.2, 1 / 3, 0.11413288653790232, 45.0, 5e-324, 1.7976931348623157e308]
)
def test_the_harness_value_is_kept_to_the_last_bit(paths: Paths, value: float) -> None:
    write(paths, *PAIR, example.evaluation(), _output([Metric("t", "acc", value, value)]), [])
    assert _metrics(paths)[0]["harness_value"] == value


def test_a_missing_score_is_null_and_nan_is_missing(paths: Paths) -> None:
    metrics = [Metric("t", "a", None, None), Metric("t", "b", math.nan, math.nan)]
    write(paths, *PAIR, example.evaluation(), _output(metrics), [])
    assert [row["value"] for row in _metrics(paths)] == [None, None]


@pytest.mark.parametrize("broken", ["samples", "requests"])
def test_a_failure_while_writing_leaves_nothing(paths: Paths, broken: str) -> None:
    def requests() -> Iterator[Record]:
        yield example.record(0, "a", "b")
        if broken == "requests":
            raise RuntimeError("the log is damaged")

    made = example.samples("t", [True])
    if broken == "samples":
        made[0].scores[0].value = "no number"  # type: ignore[assignment]
    with pytest.raises((RuntimeError, pa.ArrowInvalid, TypeError)):
        write(paths, *PAIR, example.evaluation(), _output([], made), requests())
    assert _files(paths) == []


def test_a_failing_rewrite_leaves_what_was_there(paths: Paths) -> None:
    example.write_evaluation(paths, *PAIR, [True])
    before = {path: path.read_bytes() for path in paths.results.rglob("*.parquet")}
    with pytest.raises(AttributeError):
        write(paths, *PAIR, example.evaluation(), _output([]), [None])  # type: ignore[list-item]
    assert {path: path.read_bytes() for path in paths.results.rglob("*.parquet")} == before


def test_evaluations_appears_last(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    replace = Path.replace

    def noted(self: Path, target: Path) -> Path:
        order.append(target.parent.parent.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    example.write_evaluation(paths, *PAIR, [True])
    assert order[-1] == "evaluations"


def test_many_samples_are_written_in_row_groups(paths: Paths) -> None:
    example.write_evaluation(paths, *PAIR, [True] * (2 * columns.ROWS_PER_GROUP + 1))
    assert pq.ParquetFile(paths.samples(*PAIR)).num_row_groups == 3


def test_long_answers_make_short_row_groups(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BYTES_PER_GROUP", 10_000)
    made = [Sample(str(i), "t", f"q{i}", "a" * 4000, metadata={"x": "y" * 2000}) for i in range(10)]
    write(paths, *PAIR, example.evaluation(), _output([], made), [])
    assert pq.ParquetFile(paths.samples(*PAIR)).num_row_groups == 5


class Counted(Sequence[Sample]):
    """Samples that know how often they were gone through."""

    def __init__(self, made: list[Sample]) -> None:
        self.made, self.times = made, 0

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, position: Any) -> Any:
        raise AssertionError("read one by one")

    def __iter__(self) -> Iterator[Sample]:
        self.times += 1
        return iter(self.made)


@pytest.mark.parametrize(("requests", "times"), [(0, 1), (5, 2)])
def test_samples_are_gone_through_once_and_once_more_for_their_requests(
    paths: Paths, requests: int, times: int
) -> None:
    made = example.samples("t", [True, False] * 10)
    samples = Counted(made)
    output = HarnessOutput(
        [Metric("t", "exact_match", 0.5, 0.5, None, "strict-match")], samples, 20, "1", None
    )
    write(paths, *PAIR, example.evaluation(), output, list(example.requests_for(made))[:requests])
    assert samples.times == times
    rows = partitions.read_rows(paths.samples(*PAIR), schema.SAMPLES).to_pylist()
    assert sum(row["n_requests"] for row in rows) == requests
    assert _metrics(paths)[0]["recomputed_value"] == 0.5


def test_structures_in_place_of_text_are_kept_as_json(paths: Paths) -> None:
    made: Any = [
        Sample("0", "t", "q", "a", choices=["x"], scores=[Score("m", 1.0, answer="b")]),
        Sample(7, "t", {"q": [1]}, ["a"], choices=[{"x": 1}], scores=[Score("m", 1.0, answer=["b"])]),  # type: ignore[arg-type]
    ]
    write(paths, *PAIR, example.evaluation(), _output([], made), [])
    plain, row = partitions.read_rows(paths.samples(*PAIR), schema.SAMPLES).to_pylist()
    assert (plain["input"], plain["output"], plain["choices"]) == ("q", "a", ["x"])
    found = (row["native_id"], row["input"], row["output"], row["choices"], row["scores"][0]["answer"])
    assert found == ("7", '{"q":[1]}', '["a"]', ['{"x":1}'], '["b"]')


def test_nothing_at_all_can_be_written(paths: Paths) -> None:
    write(paths, *PAIR, example.evaluation(), _output([]), [])
    assert partitions.read_rows(paths.samples(*PAIR), schema.SAMPLES).num_rows == 0


def test_hostile_text_comes_back_as_it_was(paths: Paths) -> None:
    texts = [*example.HOSTILE, "\U0001f600", ""]
    made = [Sample(str(i), "t", text, text, reference=text, choices=[text]) for i, text in enumerate(texts)]
    write(paths, *PAIR, example.evaluation(), _output([], made), [])
    rows = partitions.read_rows(paths.samples(*PAIR), schema.SAMPLES).to_pylist()
    assert [row["output"] for row in rows] == texts


def test_a_lone_surrogate_does_not_stop_an_evaluation(paths: Paths) -> None:
    made = [Sample("0", "t", "q \ud83d", "a \ud83d", metadata={"x": "\ud83d"}, scores=[Score("m", 1.0)])]
    write(paths, *PAIR, example.evaluation(), _output([], made), [])
    (row,) = partitions.read_rows(paths.samples(*PAIR), schema.SAMPLES).to_pylist()
    assert row["output"] == "a ?"


def test_a_question_is_named_alike_for_every_model_and_position() -> None:
    one, two = example.samples("t", [True, False])[1], example.samples("t", [False, False, True])[1]
    two.native_id, two.output, two.repeat_idx = "other", "another answer", 3
    assert sample_uid(one, {"d": "r"}) == sample_uid(two, {"d": "r"})
    assert sample_uid(one, {"d": "r"}) != sample_uid(one, {"d": "s"})
    two.reference = "something else"
    assert sample_uid(one, {}) != sample_uid(two, {})


def test_equal_questions_are_numbered_so_that_no_two_rows_have_one_key(paths: Paths) -> None:
    made = [
        Sample(str(i), "t", f"q{i % 2}", f"a{i}", reference="r", repeat_idx=i // 2 % 2) for i in range(10)
    ]
    made += [Sample("x", "t", "q0", "a", repeat_idx=0), Sample("y", "t", "q1", "a", reference="r")]
    keys = []
    for answers in (made, [replace(sample, output="another model's") for sample in made]):
        write(paths, *PAIR, example.evaluation(), _output([], answers), [])
        rows = partitions.read_rows(paths.samples(*PAIR), schema.SAMPLES).to_pylist()
        keys.append([(row["sample_uid"], row["repeat_idx"]) for row in rows])
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 12
    assert keys[0][0] == (sample_uid(made[0], {"data": "b" * 40}), 0)
    assert keys[0][2] == (keys[0][0][0], 1)  # the second answer to the same question
    assert keys[0][6] == (keys[0][4][0], 1)


def test_a_column_that_the_table_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(schema.SchemaDrift, match="servers has no column more"):
        partitions.write_rows(tmp_path / "x.parquet", schema.SERVERS, [{"more": 1}])


def test_samples_show_what_their_requests_took(paths: Paths) -> None:
    example.write_evaluation(paths, *PAIR, [True, False])
    rows = partitions.read_rows(paths.samples(*PAIR), schema.SAMPLES).to_pylist()
    assert [(row["n_requests"], row["latency_ms"], row["completion_tokens"]) for row in rows] == [
        (1, 100.0, 7),
        (1, 101.0, 7),
    ]
    requests = partitions.read_rows(paths.requests(*PAIR), schema.REQUESTS).to_pylist()
    assert [row["sample_uid"] for row in requests] == [row["sample_uid"] for row in rows]


@pytest.mark.parametrize(
    ("asked", "tokens", "cut_off"),
    [
        ({"max_tokens": 64}, 64, True),
        ({"max_tokens": 1}, 1, False),
        ({"max_tokens": 0, "echo": True}, 0, False),
        ({"max_tokens": 16, "echo": True}, 16, False),
        ({"max_tokens": 16, "echo": False}, 16, True),
        ({"max_tokens": 2, "prompt_logprobs": 1}, 2, False),
    ],
)
def test_only_generated_text_is_cut_off(
    paths: Paths, asked: dict[str, Any], tokens: int, cut_off: bool
) -> None:
    made = example.samples("t", [True])
    body = json.dumps({"prompt": made[0].input, **asked}).encode()
    more = {"request_body": body, "completion_tokens": tokens, "finish_reason": "length"}
    requests = [example.record(1, made[0].input, "x", **more)]
    write(paths, "m", "b", example.evaluation(), example.output(made, "t"), requests)
    (row,) = read_rows(paths.evaluation("m", "b"), schema.EVALUATIONS).to_pylist()
    (sample,) = read_rows(paths.samples("m", "b"), schema.SAMPLES).to_pylist()
    assert (row["n_truncated"], sample["finish_reason"]) == ((1, "length") if cut_off else (0, None))
