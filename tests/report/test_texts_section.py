"""The report's section on texts: what `slurmeval score` wrote, escaped."""

from __future__ import annotations

from pathlib import Path

from slurmeval.report import build
from slurmeval.results import text_scores
from tests.report import example
from tests.report.test_report import Page


def test_scores_of_texts_and_their_signatures_are_shown(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    example.write_run(paths)
    document = example.document(tmp_path)
    assert "Texts" not in Page(build(paths, document)).text
    found = text_scores.score(paths.results, "asdiv", ["chrf", "rouge1"])
    text_scores.write(paths.results, found)
    page = build(paths, document)
    text = Page(page).text
    assert "Texts" in text and "nrefs:1|bs:1000" in text and "tok:unicode" in text
    interval = found.models[0].scores[0].interval
    assert interval is not None  # the column is sorted by it
    assert f'<td class="num" data-value="{interval.low}">{interval.low:.2f} … ' in page.read_text()
    assert f"{found.compared[0].scores.difference:.2f}" in text
