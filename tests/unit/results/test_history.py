"""The history of evaluations: what is another row, and what is the same one again."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurmeval.cli import main
from slurmeval.errors import UserError
from slurmeval.harnesses.base import HarnessOutput, Metric
from slurmeval.paths import Paths
from slurmeval.results import history, partitions
from slurmeval.results.aggregate import aggregate
from tests.report import example

PAIR = ("m", "b.1")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return example.paths_in(tmp_path)


def evaluated(paths: Paths, value: float, pair: tuple[str, str] = PAIR, **pins: Any) -> None:
    """One evaluation ends well, and the tables are gathered."""
    output = HarnessOutput([Metric("t", "acc", value, value, is_primary=True)], [], 0, "1", None)
    partitions.write(paths, *pair, replace(example.evaluation(), **pins), output, [])
    history.keep(paths, *pair)
    aggregate(paths, [pair], ask=lambda jobs: {}, settle_s=0)


def values(paths: Paths) -> list[tuple[float | None, bool]]:
    return [(each.value, each.shown) for each in history.past_evaluations(paths.results)]


@pytest.mark.parametrize(
    ("pins", "differs"),
    [
        ({"model_revision": "f" * 40}, "model_revision ffffffffffff"),
        ({"environment_sha256": "0" * 64}, "environment"),
        ({"few_shot": 7}, "few_shot 7"),
        ({"limit": None}, "limit the default"),
        ({"answers_key": "other"}, "answers_key"),
        ({"parameters": {"a": 1}}, "parameters"),
    ],
)
def test_what_alters_results_makes_another_row(paths: Paths, pins: dict[str, Any], differs: str) -> None:
    evaluated(paths, 0.25, **pins)
    first = history.past_evaluations(paths.results)[0]
    evaluated(paths, 0.5)
    found = {each.value: each for each in history.past_evaluations(paths.results)}
    assert set(found) == {0.25, 0.5}
    assert (found[0.25].shown, found[0.5].shown) == (False, True)
    assert (found[0.25].differs, found[0.5].differs) == ((differs,), ())
    assert found[0.25].key == first.key


def test_the_same_evaluation_again_is_the_same_row(paths: Paths) -> None:
    evaluated(paths, 0.25)
    evaluated(paths, 0.5, attempt=3, slurmeval_version="99", config_sha256="0" * 64, workflow_commit="x")
    assert values(paths) == [(0.5, True)]


def test_deleted_tables_of_an_evaluation_leave_its_row(paths: Paths) -> None:
    evaluated(paths, 0.25)
    evaluated(paths, 0.5, ("other", "b.1"))  # the config has this one only
    paths.evaluation(*PAIR).unlink()
    assert values(paths) == [(0.25, False), (0.5, True)]


def test_results_of_before_there_was_a_history_are_rows_too(paths: Paths) -> None:
    evaluated(paths, 0.25)
    paths.past_evaluation(*PAIR, history.past_evaluations(paths.results)[0].key).unlink()
    assert values(paths) == [(0.25, True)]


def test_a_damaged_file_is_left_out(paths: Paths) -> None:
    evaluated(paths, 0.25, few_shot=7)
    file = next(paths.history.glob("*/*/*.json"))
    evaluated(paths, 0.5)
    file.write_text('{"format": 1, "evalu')
    assert values(paths) == [(0.5, True)]


def test_unknown_names_are_one_line(paths: Paths) -> None:
    evaluated(paths, 0.25)
    with pytest.raises(UserError, match=r"unknown model 'n'; .* has: m"):
        history.past_evaluations(paths.results, ["n"])
    with pytest.raises(UserError, match=r"unknown benchmark 'b'; .* has: b\.1"):
        history.past_evaluations(paths.results, [], ["b"])


def test_the_command_shows_a_row_for_each(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(paths, 0.25, few_shot=7)
    evaluated(paths, 0.5)
    options = ["runs", "--results", str(paths.results), "--model", "m"]
    assert main.run(options) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["model", "benchmark"]
    assert [row.split()[:1] for row in rows] in ([["*"], ["m"]], [["m"], ["*"]])
    assert sum(row.endswith("few_shot 7") for row in rows) == 1
    assert main.run([*options, "--format", "csv"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["value"] for row in table} == {"0.25", "0.5"}
    assert main.run([*options, "--format", "json"]) == 0
    assert {each["shown"] for each in json.loads(capsys.readouterr().out)} == {True, False}
