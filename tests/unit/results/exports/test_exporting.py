"""What holds for every format: whole files or none, partial runs, and one clear line for bad input."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from slurmeval.cli.export import export as command
from slurmeval.cli.main import run as run_program
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.paths import Paths
from slurmeval.results import exporting
from slurmeval.results.aggregate import aggregate
from slurmeval.results.exports import csv, formats
from slurmeval.results.schema import SchemaDrift
from tests.report import example

PAGE = Path(__file__).parents[4] / "docs" / "exporting.md"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = example.paths_in(tmp_path)
    example.write_run(made, 15)
    return made


def test_the_command_says_what_it_wrote_and_what_it_left_out(paths: Paths) -> None:
    result = CliRunner().invoke(command, ["--to", "csv", "--results", str(paths.results)])
    assert result.exit_code == 0
    folder = paths.results / "exports" / "csv"
    assert result.stdout == f"{folder}: 2 files\n"
    assert "left out, failed: other.model_2 on bfcl.v3\n" in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["evaluations.csv", "metrics.csv"]


def test_every_format_is_documented() -> None:
    headings = [line for line in PAGE.read_text().splitlines() if line.startswith("#")]
    for name in formats():
        assert any(f"`{name}`" in heading for heading in headings), name


def test_models_and_benchmarks_can_be_chosen(paths: Paths) -> None:
    run = exporting.load(paths.results, ["smollm2-135m"], ["asdiv", "bfcl.v3"])
    assert [(row["model"], row["benchmark"]) for row in run.evaluations] == [
        ("smollm2-135m", "asdiv"),
        ("smollm2-135m", "bfcl.v3"),
    ]
    assert {row["benchmark"] for row in run.metrics} == {"asdiv", "bfcl.v3"}


@pytest.mark.parametrize(("kind", "known"), [("model", "smollm2-135m"), ("benchmark", "openbookqa")])
def test_an_unknown_name_is_refused_with_the_known_ones(paths: Paths, kind: str, known: str) -> None:
    chosen: dict[str, list[str]] = {f"{kind}s": ["nope"]}
    with pytest.raises(UserError, match=rf"unknown {kind} 'nope'; in .*{known}"):
        exporting.load(paths.results, **chosen)


def test_a_wrong_format_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(["export", "--to", "excel"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'excel' is not one of" in line and "'csv'" in line


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a folder with evaluations\.parquet"):
        exporting.export("csv", tmp_path)


def test_results_of_which_nothing_ended_well_are_refused(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    example.write_failure(paths, "m", "b")
    aggregate(paths, [("m", "b"), ("m", "c")])
    with pytest.raises(UserError, match="no evaluation has ended well"):
        exporting.export("csv", paths.results)


@pytest.mark.parametrize("name", ["evaluations.parquet", "samples/smollm2-135m/asdiv.parquet"])
def test_results_of_another_version_are_refused(paths: Paths, name: str) -> None:
    table = pq.read_table(paths.results / name, partitioning=None)
    pq.write_table(table.replace_schema_metadata({"schema_version": "1"}), paths.results / name)
    with pytest.raises(SchemaDrift, match=r"schema version 1, not \d+ \(slurmeval rescore\)"):
        exporting.export("parquet", paths.results)
    assert not (paths.results / "exports" / "parquet").exists()


def test_samples_that_are_not_there_are_named(paths: Paths) -> None:
    paths.samples("smollm2-135m", "asdiv").unlink()
    with pytest.raises(UserError, match=r"asdiv\.parquet is missing"):
        exporting.export("parquet", paths.results)


def test_damaged_samples_are_named_in_one_line(paths: Paths) -> None:
    paths.samples("smollm2-135m", "asdiv").write_bytes(b"PAR1 cut off")
    with pytest.raises(SlurmevalError, match=r"asdiv\.parquet cannot be read: [^\n]*$"):
        exporting.export("parquet", paths.results)


def test_an_export_that_fails_leaves_the_older_one_as_it_was(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    exporting.export("csv", paths.results, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "mine.txt").write_text("mine")

    def half(run: exporting.Run, folder: Path) -> list[str]:
        (folder / "metrics.csv").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv, "export", half)
    with pytest.raises(OSError, match="No space"):
        exporting.export("csv", paths.results, out)
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert after == before | {"mine.txt": b"mine"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


@pytest.mark.parametrize("place", ["out", "out/below", "out/far/below"])
def test_a_file_in_place_of_the_folder_is_refused(paths: Paths, tmp_path: Path, place: str) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="/out: expected a folder to write to, not a file"):
        exporting.export("csv", paths.results, tmp_path / place)


@pytest.mark.parametrize("place", ["", "report", "../other"])
def test_a_run_s_own_tables_are_not_written_over(paths: Paths, place: str) -> None:
    (paths.results.parent / "other" / "state" / "runs").mkdir(parents=True)
    before = paths.all_metrics.read_bytes()
    with pytest.raises(UserError, match="holds a run's own tables or report; name another folder"):
        exporting.export("parquet", paths.results, paths.results / place, [example.MODELS[0]])
    assert paths.all_metrics.read_bytes() == before


def test_a_package_that_is_not_there_is_named(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(run: exporting.Run, folder: Path) -> list[str]:
        import no_such_tracker  # type: ignore[import-not-found]

        return [no_such_tracker.__name__]

    monkeypatch.setattr(csv, "export", lacks)
    with pytest.raises(UserError, match="--to csv needs the package no_such_tracker"):
        exporting.export("csv", paths.results)


def test_long_lists_of_names_are_shortened() -> None:
    assert exporting.listed(["a", "b"]) == "a, b"
    assert exporting.listed([str(n) for n in range(13)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more"


def test_samples_are_read_a_row_group_at_a_time(paths: Paths) -> None:
    path = paths.samples("smollm2-135m", "asdiv")
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table, path, row_group_size=4)
    run = exporting.load(paths.results)
    groups = [*run.sample_groups("smollm2-135m", "asdiv")]
    assert [len(group) for group in groups] == [4, 4, 4, 3]
    assert pa.concat_tables(groups).equals(table)
    assert [*run.samples("smollm2-135m", "asdiv")] == table.to_pylist()
