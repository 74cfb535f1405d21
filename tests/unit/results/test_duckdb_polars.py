"""Every snippet of docs/duckdb-polars.md runs, and its answers are those of pandas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from slurmeval.results import load
from tests.report import example

PAGES = Path(__file__).parents[3] / "docs"
SECTION = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCORED = "Each answer with its score"
SECTIONS = {
    title: BLOCK.findall(text) for title, text in SECTION.findall((PAGES / "duckdb-polars.md").read_text())
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    example.write_run(example.paths_in(folder))
    return folder


def ran(block: int, title: str) -> dict[str, Any]:
    """Runs one block of a section after that of the scores."""
    namespace: dict[str, Any] = {}
    for code in (*SECTIONS[SCORED], SECTIONS[title][block]):
        exec(compile(code, title, "exec"), namespace)  # noqa: S102
    return namespace


def test_the_questions_are_those_of_pandas() -> None:
    asked = [title for title, _ in SECTION.findall((PAGES / "python.md").read_text()) if title.endswith("?")]
    assert [title for title in SECTIONS if title.endswith("?")] == asked
    assert all(len(blocks) == 2 for blocks in SECTIONS.values())


@pytest.mark.parametrize("title", [title for title in SECTIONS if title.endswith("?")])
def test_both_snippets_of_a_question_run_and_agree(
    project: Path, monkeypatch: pytest.MonkeyPatch, title: str
) -> None:
    monkeypatch.chdir(project)
    last = re.findall(r"^(\w+) = ", SECTIONS[title][1], re.MULTILINE)[-1]
    relation, frame = ran(0, title)[last], ran(1, title)[last]
    rows = relation.fetchall()
    assert len(rows) == len(frame) > 0
    if title == "Do two models really differ?":
        assert sorted(rows, key=repr) == sorted((row[0], row[1], row[2], *row[3:]) for row in frame.rows())


def test_scores_of_answers_are_those_that_pandas_gives(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    namespace: dict[str, Any] = {"load": load}
    (snippet,) = dict(SECTION.findall((PAGES / "python.md").read_text()))[SCORED].split("```python\n")[1:]
    exec(snippet.partition("```")[0], namespace)  # noqa: S102
    pandas_ = namespace["answers"].groupby(["model", "benchmark"]).value.mean()
    found = ran(0, "Is a model better at some subjects?")
    in_sql = found["duckdb"].sql("select model, benchmark, avg(value) from scored group by all").fetchall()
    in_polars = (
        found["scored"].group_by("model", "benchmark").agg(found["polars"].col("value").mean()).collect()
    )
    for rows in (in_sql, in_polars.rows()):
        assert len(rows) == len(pandas_)
        for model, benchmark, value in rows:
            assert value == pytest.approx(pandas_[model, benchmark], nan_ok=True)
