"""The leaderboard in the terminal, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from slurmeval.cli import main, show
from slurmeval.paths import Paths
from slurmeval.results.judge_tables import JUDGED
from slurmeval.results.leaderboard import leaderboard
from slurmeval.results.partitions import write_rows
from slurmeval.state.records import write
from tests.run_documents import benchmark_entry, config_for, model_entry, run_document
from tests.unit.results.test_comparison import Results
from tests.unit.results.test_leaderboard import add


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def results(tmp_path: Path) -> Results:
    made = Results(tmp_path / "results")
    for model, right in (("low", 20), ("high", 80)):
        for benchmark in ("sums", "facts"):
            add(made, model, benchmark, right)
    return made


def shown(results: Results, *options: str) -> int:
    return main.run(["show", "--results", str(results.folder), *options])


def words(line: str) -> str:
    return " ".join(line.split())


def test_table_has_rank_mean_scores_intervals_and_letters(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(results) == 0
    head, first, second, *remarks = capsys.readouterr().out.splitlines()
    assert words(head) == "rank model mean of 2 sums (exact_match, n 100) facts (exact_match, n 100)"
    assert words(first).startswith("1 high 0.800 [0.744, 0.856] a 0.800 [0.711, 0.867] a")
    assert words(second).startswith("2 low 0.200 [0.144, 0.256] b")
    assert remarks == ["Models that share a letter cannot be told apart (paired, 95 %, Holm over all pairs)."]


def test_benchmarks_that_do_not_fit_the_terminal_follow_below(results: Results) -> None:
    found = list(show.lines(leaderboard(results.folder), 60))
    assert [words(line).split(" ")[0] for line in found if "model" in line[:12]] == ["rank"] * 3
    assert max(map(len, found[:-1])) <= 60


def test_scores_of_which_the_answers_are_gone_are_named(results: Results) -> None:
    (results.folder / "samples" / "low" / "sums.parquet").unlink()
    found = list(show.lines(leaderboard(results.folder), 200))
    gone = "low on sums: no answers with their scores are there, so it is told apart from no other model"
    assert found[-1] == gone
    assert len([line for line in found if "no answers" in line]) == 1
    (row,) = [
        r
        for r in csv.DictReader(io.StringIO(show.as_csv(leaderboard(results.folder))))
        if r["has_answers"] == "False"
    ]
    assert (row["model"], row["benchmark"]) == ("low", "sums")


def test_doubtful_answers_and_failures_are_said_below(results: Results) -> None:
    add(results, "low", "words", 50, status=["ok"] * 60 + ["unparsed"] * 40)
    found = list(show.lines(leaderboard(results.folder), 200))
    assert "! low on words: 40 unparsed; 0.500 if all of them were wrong, 0.900 if right" in found
    assert "0.500 [0.404, 0.596] !" in found[1]
    assert "not in all" in found[2]


def test_csv_has_each_score_and_each_mean(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(results, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["model"], row["benchmark"], row["value"], row["letters"]) for row in rows] == [
        ("high", "", "0.8", "a"),
        ("low", "", "0.2", "b"),
        ("high", "sums", "0.8", "a"),
        ("high", "facts", "0.8", "a"),
        ("low", "sums", "0.2", "b"),
        ("low", "facts", "0.2", "b"),
    ]


def test_json_has_all_of_it(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(results, "--format", "json", "--benchmark", "facts") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["models"], found["benchmarks"]) == (["high", "low"], ["facts"])
    assert found["rankings"]["facts"]["groups"] == [["high"], ["low"]]
    assert [entry["readings"]["n_doubtful"] for entry in found["entries"]] == [0, 0]


def test_a_suite_of_the_config_limits_the_benchmarks(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, benchmarks = Paths.of_results(results.folder), dict.fromkeys(("sums", "facts"), benchmark_entry())
    config = config_for(["low"], benchmarks, suites={"quick": ["facts"]}).model_dump(mode="json")
    run = run_document(paths, {"low": model_entry(paths, "low")}, benchmarks, config=config)
    write(paths.state / "runs" / "one.json", run)
    assert shown(results, "--suite", "quick") == 0
    assert "sums" not in capsys.readouterr().out
    assert main.run(["compare", "high", "low", "--suite", "quick", "--results", str(results.folder)]) == 0
    assert "sums" not in capsys.readouterr().out
    assert shown(results, "--suite", "slow") == 2
    assert "unknown suite 'slow'; the last run in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ['a,b\n"c"', "<script>alert(1)</script>", "Größe ≥ 3", "\x1b[2J", "x" * 10_000]
)
def test_hostile_names_stay_in_their_cell(
    results: Results, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for model in ("low", "high"):
        add(results, model, "odd", 50, metric={"metric": name})
    assert shown(results) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert max(map(len, printed.splitlines())) < 250
    assert shown(results, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 8
    assert show.printable(name) in {row["metric"] for row in rows}
    assert shown(results, "--format", "json") == 0
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert json.loads(printed)["metrics"]["odd"] == name


def test_a_folder_without_results_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["show", "--results", str(tmp_path)]) == 2
    assert "expected a folder with evaluations.parquet" in capsys.readouterr().err


def test_csv_names_in_means_are_harmless_too(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    for benchmark in ("sums", "facts"):
        add(results, "\x1b[31mred", benchmark, 50)
    assert shown(results, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["model"] for row in rows].count("�[31mred") == 3


def test_a_benchmark_that_nobody_ended_well_in_has_no_metric_at_its_head(results: Results) -> None:
    add(results, "low", "words", 50)
    results.rows["evaluations"][-1]["status"] = "failed"
    results.rows["metrics"].pop()
    add(results, "low", "more", 50)
    found = list(show.lines(leaderboard(results.folder, ["words"]), 200))
    assert words(found[0]) == "rank model words"


def test_no_interval_and_what_running_again_would_move_are_told(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"value": 0.5, "n_items": 14, "ci_lo": None, "ci_hi": None, "ci_method": None}
    results.add("few", "sums", [1.0] * 7 + [0.0] * 7, metric=few)
    add(results, "often", "sums", 50, metric={"rerun_se": 0.01})
    assert shown(results, "--benchmark", "sums") == 0
    said = capsys.readouterr().out.splitlines()
    assert "few on sums: no interval: 14 questions; an interval needs at least 15" in said
    # Both this run and the next have the luck of answers: 1.96 · √2 · 0.01
    assert "often on sums: running it again would move it by ± 0.028" in said


def test_a_judges_own_noise_is_told(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    add(results, "often", "sums", 50, metric={"rerun_se": 0.01})
    add(results, "often", "judged", 50, metric={"rerun_se": 0.01})
    metric = results.rows["metrics"][-1]["metric"]
    judged = {"model": "often", "benchmark": "judged", "dimension": metric, "judge_se": 0.02}
    write_rows(results.folder / "judged.parquet", JUDGED, [judged, judged | {"dimension": "other"}])
    assert shown(results) == 0
    said = capsys.readouterr().out.splitlines()
    assert "often on sums: running it again would move it by ± 0.028" in said
    # 1.96 · √2 · 0.02; the model gave one answer, and what running it again would do is not known
    assert "often on judged: asking the judge again about the same answers would move it by ± 0.055" in said
    assert not any(line.startswith("often on judged: running") for line in said)


def test_requests_asked_again_bound_what_running_again_would_move(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    add(results, "audited", "sums", 50, n_audited=40, n_audit_differ=4)
    assert shown(results, "--benchmark", "sums") == 0
    # 1.96 · √(2 · 0.1 · 0.5 · 0.5 / 100)
    assert (
        "audited on sums: 4 of 40 requests asked again got another answer; "
        "running again would move the score by ± 0.044 at most"
    ) in capsys.readouterr().out.splitlines()


def test_of_questions_answered_several_times_one_and_all_right_are_told(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    uids = [f"q{number // 4:05d}" for number in range(80)]
    # Of 20 questions 5 have all four answers right, 5 none, 10 half
    values = [1.0] * 20 + [0.0] * 20 + [1.0, 0.0] * 20
    results.add("often", "sums", values, uids=uids, metric={"value": 0.5, "n_items": 20})
    assert shown(results, "--benchmark", "sums") == 0
    line = "often on sums: of 4 answers to a question one is right: pass@4 0.750, all are: pass^4 0.250"
    said = capsys.readouterr().out.splitlines()
    assert line in said
    assert not any("pass@" in other for other in said if other != line)


def test_commands_start_without_pandas_and_tables_become_dataframes_all_the_same(results: Results) -> None:
    for model in ("low", "high"):
        add(results, model, "odd", 50)
    program = (
        "import sys; from slurmeval.cli import main; from slurmeval.results import load\n"
        "folder = sys.argv[1]\n"
        "for command in (['show'], ['compare', 'low', 'high'], ['samples', '--model', 'low']):\n"
        "    assert main.run([*command, '--results', folder]) == 0\n"
        "    assert 'pandas' not in sys.modules, command\n"
        "assert set(load('evaluations', folder)['model']) == {'low', 'high'}\n"
    )
    subprocess.run([sys.executable, "-c", program, str(results.folder)], check=True)
