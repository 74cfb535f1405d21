"""All pairs of models: directions, corrected p-values, the mean over benchmarks, and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmeval.results.comparison import compare
from slurmeval.results.matrix import Matrix, matrices
from slurmeval.statistics import families
from slurmeval.statistics.pairs import Verdict
from tests.unit.results.test_comparison import Results

BENCHMARKS = ["sums", "facts"]


def right(n: int, of: int = 100) -> list[float | None]:
    """Answers of which `n` are right, spread over the questions."""
    return [float(number * n // of != (number + 1) * n // of) for number in range(of)]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Three models on two benchmarks."""
    made = Results(tmp_path / "results")
    for model, counts in {"low": (20, 30), "high": (80, 90), "middle": (70, 35)}.items():
        for benchmark, count in zip(BENCHMARKS, counts, strict=True):
            made.add(model, benchmark, right(count))
    return made


def test_a_benchmark_s_cells_are_what_a_comparison_says(results: Results) -> None:
    _, sums, facts = matrices(results.folder, BENCHMARKS)
    for matrix in (sums, facts):
        for (a, b), cell in matrix.cells.items():
            assert matrix.benchmark is not None
            (told,) = compare(results.folder, a, b, [matrix.benchmark]).benchmarks
            found = told.difference
            assert found is not None
            assert (cell.value, cell.interval, cell.n) == (found.value, found.interval, found.n)
            assert (cell.wins, cell.losses, cell.verdict) == (found.a_only, found.b_only, told.verdict)
            assert cell.detectable == found.detectable


def test_p_values_are_corrected_for_the_pairs_of_a_benchmark(results: Results) -> None:
    _, sums, _ = matrices(results.folder, BENCHMARKS)
    cells = list(sums.cells.values())
    given = [cell.p_value for cell in cells if cell.p_value is not None]
    assert len(given) == 3
    assert [cell.p_holm for cell in cells] == families.holm(given)
    assert sums.cells["low", "high"].sure and not sums.cells["high", "middle"].sure


def test_a_pair_seen_from_the_other_side_is_turned_round(results: Results) -> None:
    _, sums, _ = matrices(results.folder, BENCHMARKS)
    one, other = sums.cell("high", "low"), sums.cell("low", "high")
    assert one is not None and other is not None
    assert one.value == pytest.approx(0.6) and other.value == pytest.approx(-0.6)
    assert one.interval is not None and other.interval is not None
    assert (one.interval.low, one.interval.high) == (-other.interval.high, -other.interval.low)
    assert (one.verdict, other.verdict) == (Verdict.BETTER, Verdict.WORSE)
    assert (one.wins, one.losses) == (other.losses, other.wins)
    assert one.p_holm == other.p_holm


def test_the_mean_comes_first_and_counts_benchmarks(results: Results) -> None:
    mean, sums, _ = matrices(results.folder, BENCHMARKS)
    assert mean.benchmark is None and sums.benchmark == "sums"
    cell = mean.cell("middle", "low")
    assert cell is not None
    assert cell.value == pytest.approx((0.5 + 0.05) / 2)
    assert (cell.wins, cell.losses, cell.n) == (1, 0, 2)
    told = compare(results.folder, "middle", "low").mean
    assert told is not None and cell.interval == told[1]


def test_the_p_value_of_a_mean_agrees_with_its_interval(results: Results) -> None:
    from scipy.stats import norm

    mean, *_ = matrices(results.folder, BENCHMARKS)
    for cell in mean.cells.values():
        assert cell.interval is not None and cell.value is not None
        se = (cell.interval.high - cell.interval.low) / (2 * norm.ppf(0.975))
        assert cell.p_value == pytest.approx(2 * norm.sf(abs(cell.value) / se))
        assert cell.detectable == pytest.approx(2.8016 * se, rel=1e-4)


def test_models_stand_best_first_whichever_way_the_metric_goes(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    for model, count in {"bad": 80, "good": 10}.items():
        results.add(model, "errors", right(count), metric={"higher_is_better": False})
    (matrix,) = matrices(results.folder, ["errors"])
    assert matrix.models == ("good", "bad")
    cell = matrix.cell("good", "bad")
    assert cell is not None
    assert cell.value == pytest.approx(-0.7)
    assert cell.verdict is Verdict.BETTER
    assert cell.wins is not None and cell.losses is not None and cell.wins > cell.losses


def test_half_a_run_has_the_pairs_that_are_there(results: Results) -> None:
    results.add("late", "sums", right(50))
    mean, sums, facts = matrices(results.folder, BENCHMARKS)
    assert set(sums.models) == {"low", "middle", "high", "late"}
    assert set(facts.models) == set(mean.models) == {"low", "middle", "high"}
    assert facts.cell("late", "low") is None
    (results.folder / "samples" / "middle" / "sums.parquet").unlink()
    by_name = {matrix.benchmark: matrix for matrix in matrices(results.folder, BENCHMARKS)}
    assert set(by_name["sums"].models) == {"low", "high", "late"}
    assert set(_mean_models(by_name[None])) == {"low", "high"}


def _mean_models(matrix: Matrix) -> list[str]:
    return list(dict.fromkeys(model for pair in matrix.cells for model in pair))


def test_one_model_alone_has_no_pairs(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    results.add("only", "sums", right(50))
    assert matrices(results.folder, ["sums"]) == []


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    results.add("a", "sums", right(5, 10))
    results.add("b", "sums", right(6, 10), few_shot=5)
    results.add("c", "sums", right(6, 10), uids=[f"other{number}" for number in range(10)])
    (matrix,) = matrices(results.folder, ["sums"])
    few, nothing = matrix.cells["a", "b"], matrix.cells["b", "c"]
    assert few.verdict is Verdict.CANNOT_TELL and few.interval is None and few.p_holm is None
    assert few.remark is not None
    assert "15" in few.remark and "few_shot the default and 5" in few.remark
    assert nothing.value is None
    assert nothing.remark is not None and "no question was answered by both" in nothing.remark


def test_a_mean_says_how_many_of_the_benchmarks_two_models_share(results: Results) -> None:
    for benchmark in ("one", "two", "three"):
        for model in ("a", "b") if benchmark != "three" else ("a",):
            results.add(model, benchmark, [1.0] * 20 + [0.0] * 20)
    mean = matrices(results.folder, ["one", "two", "three"])[0]
    assert mean.benchmark is None
    assert mean.cells["a", "b"].remark == "on 2 of 3 benchmarks"
