"""Snakemake's options do what its users expect of them."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.workflow.conftest import Project

pytestmark = pytest.mark.timeout(900)
"""Each test runs the workflow up to nine times."""


@pytest.fixture
def done(project: Project) -> Project:
    """A project whose run has ended well."""
    run = project.run()
    assert run.returncode == 0, run.stdout
    return project


def contents(project: Project) -> dict[Path, tuple[int, bytes]]:
    """All files of the project and their times, but for Snakemake's own and the config."""
    files = (path for path in project.folder.rglob("*") if path.is_file() and ".snakemake" not in path.parts)
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files if path.name != "config.yaml"
    }


READING = [
    ["--lint"],
    ["--dag"],
    ["--rulegraph"],
    ["--summary"],
    ["--list-rules"],
    ["--dry-run"],
    ["--unlock"],
    ["--report", ".snakemake/report.zip"],
]


def test_what_only_reads_the_snakefile_changes_nothing_and_asks_nobody(
    done: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_ENDPOINT", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # A branch without a commit, a lease of a dead run, and a half-made file
    done.config["models"]["other"] = {"weights": {"repo": "acme/other"}, "server": "stand-in"}
    done.config["staging"] = {"pinned": False}
    lease = done.results / "leases" / "tiny" / "first.json"
    lease.parent.mkdir(parents=True, exist_ok=True)
    lease.write_text(json.dumps({"controller": "of a dead run"}))
    before = contents(done)
    for options in READING:
        read = done.run(*options)
        assert read.returncode == 0, (options, read.stdout)
        assert "slurmeval: " not in read.stdout, (options, read.stdout)
        assert contents(done) == before, options


def test_a_rule_s_command_can_be_pasted_into_a_shell(done: Project) -> None:
    page = done.results / "report" / "index.html"
    page.unlink()
    shown = done.run("--printshellcmds", "results/report/index.html").stdout
    command = next(line.strip() for line in shown.splitlines() if " report " in line and "tee" in line)
    page.unlink()
    pasted = subprocess.run(
        ["bash", "-c", command.removeprefix("Shell command: ")], cwd=done.folder, check=False
    )
    assert pasted.returncode == 0
    assert page.exists()


def test_touch_says_that_all_is_up_to_date(done: Project) -> None:
    before = done.answered()
    touched = done.run("--touch")
    assert touched.returncode == 0, touched.stdout
    assert done.planned() == {}
    assert done.answered() == before
    assert not (done.results / "state" / "controller.json").exists()


def test_forced_rules_run_again_and_what_depends_on_them(done: Project) -> None:
    before = done.answered()
    assert done.planned("--forcerun", "aggregate") == {"aggregate": 1, "report": 1}
    assert done.planned("-R", "report") == {"report": 1}
    again = done.run("--forcerun", "evaluate")
    assert again.returncode == 0, again.stdout
    assert "3 of 7 steps" in again.stdout or "evaluate" in again.stdout
    assert done.answered() == before  # from stored answers
    assert done.planned() == {}


def test_until_and_batch_do_a_part(project: Project) -> None:
    staged = project.run("--until", "rehearse")
    assert staged.returncode == 0, staged.stdout
    assert not (project.results / "state" / "servers").exists()
    for part in ("1/3", "2/3"):
        run = project.run("--batch", f"aggregate={part}")
        assert run.returncode == 0, run.stdout
    assert len(list(project.results.glob("evaluations/tiny/*.parquet"))) == 2
    assert not (project.results / "evaluations.parquet").exists()
    last = project.run("--batch", "aggregate=3/3")
    assert last.returncode == 0, last.stdout
    assert len(project.table("evaluations.parquet")) == 3


def test_deleting_all_output_leaves_the_answers(done: Project) -> None:
    logs = sorted(done.results.glob("work/**/gateway/*"))
    assert logs
    deleted = done.run("--delete-all-output")
    assert deleted.returncode == 0, deleted.stdout
    assert not list(done.results.glob("*.parquet"))
    assert sorted(done.results.glob("work/**/gateway/*")) == logs


def test_snakemakes_own_report_has_the_scores_the_chart_and_the_page(done: Project) -> None:
    made = done.run("--report", "report.zip")
    assert made.returncode == 0, made.stdout
    with zipfile.ZipFile(done.folder / "report.zip") as archive:
        names = archive.namelist()
        (page,) = (name for name in names if name.endswith("/report.html"))
        text = archive.read(page).decode()
    for name in ("index.html", "scores.svg", "metrics.csv"):
        assert any(each.endswith(f"/{name}") for each in names), names
    for caption in ("evaluated with slurmeval", "a colour for each model", "The first page of the report"):
        assert caption in text
