"""What is shown belongs to what was run, after a failure too."""

from __future__ import annotations

import copy
import html
import shutil

import pytest

from tests.workflow.conftest import Project

pytestmark = pytest.mark.timeout(900)
"""Each test runs the workflow up to nine times."""


def shown(project: Project) -> tuple[str, set[str]]:
    """The title of the report, and the benchmarks in the tables."""
    page = (project.results / "report" / "index.html").read_text()
    title = page.partition("<title>")[2].partition("</title>")[0]
    return title, {row["benchmark"] for row in project.table("evaluations.parquet")}


def test_after_a_failed_run_of_another_config_the_plain_command_brings_the_earlier_report_back(
    project: Project,
) -> None:
    project.config["report"] = {"title": "Mine"}
    mine = copy.deepcopy(project.config)
    assert project.run().returncode == 0
    assert shown(project) == ("Mine", {"first", "second", "third"})
    page = (project.results / "report" / "index.html").read_text()

    project.config["models"] = {"gone": {"weights": {"folder": "nowhere"}, "server": "stand-in"}}
    (project.folder / "nowhere").mkdir()  # no weights: it cannot be staged
    project.config["suites"] = {"all": ["first"]}
    project.config["report"] = {"title": "Other"}
    assert project.run().returncode != 0
    assert shown(project) == ("Other", {"first"})
    (failed,) = project.table("evaluations.parquet")
    assert failed["status"] == "failed"
    assert failed["reason"].startswith("staging the model gone: ")
    assert failed["reason"] in html.unescape((project.results / "report" / "index.html").read_text())

    project.config = mine
    assert project.planned() == {"aggregate": 1, "report": 1}
    # Whichever of them is gone, both come back as they were
    for gone in ("report", "tables"):
        if gone == "report":
            shutil.rmtree(project.results / "report")
        else:
            for table in project.results.glob("*.parquet"):
                table.unlink()
        run = project.run()
        assert run.returncode == 0, run.stdout
        assert shown(project) == ("Mine", {"first", "second", "third"}), gone
    again = (project.results / "report" / "index.html").read_text()
    assert again.count("<tr") == page.count("<tr")
    assert "gone" not in {folder.name for folder in (project.results / "report" / "samples").iterdir()}
    assert "Nothing to be done" in project.run().stdout
