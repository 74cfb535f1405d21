"""How the report shows what is no plain share: means of slurmeval's, numbers off their scales, chance."""

from __future__ import annotations

import re
from pathlib import Path

from slurmeval.harnesses.base import HarnessOutput, Metric, Sample, Score
from slurmeval.paths import Paths
from slurmeval.report import build
from slurmeval.results.aggregate import aggregate
from slurmeval.results.partitions import write
from tests.report import example
from tests.report.test_report import Page


def first_page(tmp_path: Path, metric: Metric, samples: list[Sample]) -> str:
    """The text of the first page of a run with one evaluation, without spaces."""
    paths: Paths = example.paths_in(tmp_path)
    write(paths, "m", "b", example.evaluation(), HarnessOutput([metric], samples, None, "1", None), None)
    aggregate(paths, [("m", "b")])
    return re.sub(r"\s+", " ", Page(build(paths, example.document(tmp_path))).text)


def test_a_mean_of_slurmevals_says_over_how_many_tasks_it_is(tmp_path: Path) -> None:
    metric = Metric(
        "mgsm", "exact_match", 0.55, None, n_items=12, is_group=True, is_primary=True, mean_of=["ta", "tb"]
    )
    text = first_page(tmp_path, metric, [])
    assert "exact_match, mean of 2 tasks" in text
    assert "mean of 2 tasks, by slurmeval" in text
    (row,) = (tmp_path / "results" / "report" / "metrics.csv").read_text().splitlines()[1:]
    assert "ta tb" in row


def test_what_is_no_proportion_is_shown_as_the_harness_wrote_it(tmp_path: Path) -> None:
    metric = Metric("wikitext", "word_perplexity", None, 21.37, harness_scale=None, is_primary=True)
    text = first_page(tmp_path, metric, [])
    assert "21.370as written, no share of 1" in text and "no score" not in text


def test_a_score_off_its_scale_is_called_so(tmp_path: Path) -> None:
    samples = [Sample(str(i), "t", f"q{i}", "a", scores=[Score("acc", float(i < 1))]) for i in range(2)]
    text = first_page(tmp_path, Metric("t", "acc", None, 54.17, n_items=2, is_primary=True), samples)
    assert "off its scale" in text
    assert "off its scale, 0–1; samples say 0.5000" in text


def test_chance_stands_beside_the_score(tmp_path: Path) -> None:
    samples = [
        Sample(str(i), "t", f"q{i}", "a", choices=list("abcd"), scores=[Score("acc", float(i < 1))])
        for i in range(2)
    ]
    text = first_page(tmp_path, Metric("t", "acc", 0.5, 0.5, n_items=2, is_primary=True), samples)
    assert "chance 0.250" in text
