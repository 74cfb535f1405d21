"""Results as DataFrames: every table, errors of one line, and the snippets of docs/python.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pandas
import pyarrow.parquet as pq
import pytest

from slurmeval.errors import SlurmevalError, UserError
from slurmeval.paths import Paths
from slurmeval.results import TableName, load, schema
from tests.report import example

PAGE = Path(__file__).parents[3] / "docs" / "python.md"
SNIPPET = re.compile(r"^#+ ([^\n]+)\n(?:(?!^#).)*?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCORED = "Each answer with its score"
SNIPPETS: dict[str, str] = dict(SNIPPET.findall(PAGE.read_text()))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    example.write_run(example.paths_in(folder))
    return folder


@pytest.mark.parametrize("table", sorted(set(get_args(TableName)) - {"ratings", "judged", "judge_card"}))
def test_every_table_has_the_columns_that_are_documented(project: Path, table: TableName) -> None:
    tables = {one.name: one for one in (*schema.TABLES, schema.ALL_EVALUATIONS)}
    frame = load(table, project)
    assert list(frame.columns) == [name for name, *_ in tables[table].columns]
    assert len(frame) > 0


def test_the_results_folder_and_the_project_folder_are_the_same(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    wanted = load("metrics", project)
    for found in (load("metrics"), load("metrics", "."), load("metrics", project / "results")):
        pandas.testing.assert_frame_equal(found, wanted)


def test_what_is_not_known_is_never_zero(project: Path) -> None:
    failed = load("evaluations", project).query("status == 'failed'").iloc[0]
    assert failed["n_samples"] is pandas.NA and failed["workflow_dirty"] is pandas.NA
    perplexity = load("metrics", project).query("metric == 'perplexity'").iloc[0]
    assert pandas.isna(perplexity["value"]) and perplexity["mismatch"] is pandas.NA
    assert load("evaluations", project)["n_samples"].dtype == "Int64"


def test_samples_of_all_evaluations_that_ended_well_are_one_table(project: Path) -> None:
    frame = load("samples", project)
    pairs = set(zip(frame["model"], frame["benchmark"], strict=True))
    assert len(pairs) == len(example.MODELS) * len(example.BENCHMARKS) - 1
    assert example.FAILED not in pairs


def test_partitions_that_the_run_does_not_tell_of_are_left_out(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    example.write_run(paths, n=3)
    example.write_evaluation(paths, "left.from.earlier", "asdiv", [True])
    assert "left.from.earlier" not in set(load("samples", tmp_path)["model"])


def test_folder_without_results_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a folder with evaluations\.parquet") as caught:
        load("metrics", tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: ") and "\n" not in str(caught.value)


def test_unknown_table_is_told_which_there_are(project: Path) -> None:
    table: Any = "scores"
    with pytest.raises(
        UserError, match="'scores': no such table; expected one of evaluations, metrics, samples"
    ):
        load(table, project)


def test_missing_and_damaged_partitions_are_named(tmp_path: Path) -> None:
    paths: Paths = example.paths_in(tmp_path)
    example.write_run(paths, n=3)
    partition = paths.samples(example.MODELS[0], "asdiv")
    partition.write_bytes(b"PAR1 no parquet")
    with pytest.raises(SlurmevalError, match=r"asdiv\.parquet cannot be read: "):
        load("samples", tmp_path)
    partition.unlink()
    with pytest.raises(UserError, match=r"asdiv\.parquet is missing: run the workflow"):
        load("samples", tmp_path)


def test_tables_of_another_version_are_refused(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    example.write_run(paths, n=3)
    old = pq.read_table(paths.all_metrics)
    pq.write_table(old.replace_schema_metadata({"schema_version": "1"}), paths.all_metrics)
    with pytest.raises(schema.SchemaDrift, match=r"version 1, not .* \(slurmeval rescore\)"):
        load("metrics", tmp_path)


@pytest.mark.parametrize("benchmark", [None, *example.BENCHMARKS])
def test_scores_of_answers_on_the_page_are_those_of_the_primary_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmark: str | None
) -> None:
    """Also where no score of the run has a filter."""
    example.write_run(example.paths_in(tmp_path))

    def only(table: TableName) -> pandas.DataFrame:
        frame = load(table, tmp_path)
        return frame if benchmark is None else frame[frame.benchmark == benchmark].reset_index(drop=True)

    namespace: dict[str, Any] = {"load": only}
    exec(SNIPPETS[SCORED], namespace)  # noqa: S102
    found = namespace["answers"].groupby(["model", "benchmark"]).value.mean()
    wanted = only("metrics").query("is_primary").set_index(["model", "benchmark"]).recomputed_value.dropna()
    assert len(wanted) > 0
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value)


def test_page_answers_ten_questions() -> None:
    assert len([title for title in SNIPPETS if title.endswith("?")]) == 10


@pytest.mark.parametrize("title", SNIPPETS)
def test_snippet_of_the_page_runs_as_it_stands(
    project: Path, monkeypatch: pytest.MonkeyPatch, title: str
) -> None:
    monkeypatch.chdir(project)
    namespace: dict[str, Any] = {"load": load}
    exec(SNIPPETS[SCORED], namespace)  # noqa: S102
    exec(compile(SNIPPETS[title], f"{PAGE.name}: {title}", "exec"), namespace)  # noqa: S102
    [*_, answer] = (value for name, value in namespace.items() if name != "__builtins__")
    assert answer > 0 if isinstance(answer, float) else len(answer) > 0


def test_tables_of_judges_are_empty_where_nothing_was_judged(tmp_path: Path) -> None:
    (tmp_path / "evaluations.parquet").touch()
    for table in ("judged", "judge_card"):
        frame = load(table, tmp_path)
        assert len(frame) == 0
        assert "value" in frame.columns or "value_judge" in frame.columns
