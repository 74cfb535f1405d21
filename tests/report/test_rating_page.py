"""A rater's page in a real browser: filled in by keyboard, closed, opened, downloaded, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.chromium import downloaded as _downloaded
from tests.report.chromium import press as _press
from tests.report.chromium import until as _until
from tests.report.example import HOSTILE
from tests.report.test_browser import browser
from tests.unit.humans import studies
from tests.unit.results.test_comparison import Results

pytestmark = pytest.mark.browser
__all__ = ["browser"]


def _open(browser: Any, folder: Path, rater: str) -> None:
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get((folder / "for-raters" / f"{rater}.html").as_uri())
    _until(browser, lambda: bool(_text(browser, "progress")))


def _text(browser: Any, name: str) -> str:
    return str(browser.find_element("id", name).text)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    made = studies.answers(tmp_path, 8)
    texts = {"input": list(HOSTILE), "output": list(HOSTILE), "category": [None] * len(HOSTILE)}
    for model in ("first-model", "second-model"):
        made.add(model, "hostile", [1.0] * len(HOSTILE), **texts)
    return made


def test_a_study_is_filled_in_by_keyboard_over_two_days_and_read_back(
    browser: Any, results: Results, tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    dimensions = {name: {"question": f"How {name}?"} for name in ("accurate", "clear")}
    folder = studies.make(
        results, raters=["anna"], benchmarks=["letters"], questions=5, dimensions=dimensions, duplicates=0.2
    )
    _open(browser, folder, "anna")
    assert _text(browser, "progress") == "0 of 12 rated"
    for _ in range(3):
        _press(browser, "4", "2", Keys.ENTER)
    _press(browser, "5", Keys.ENTER)  # one of two: Enter does not leave it
    assert _text(browser, "progress") == "3 of 12 rated"
    _press(browser, "c", "half dcx12 a comment", Keys.ESCAPE)
    _open(browser, folder, "anna")  # the next day
    assert _text(browser, "progress") == "3 of 12 rated"
    assert browser.find_element("id", "comment").get_property("value") == "half dcx12 a comment"
    _press(browser, Keys.ARROW_DOWN, "3", Keys.ENTER)
    _press(browser, "x", Keys.ENTER)
    while _text(browser, "progress") != "12 of 12 rated":
        _press(browser, "1", "1", Keys.ENTER)
    assert browser.find_element("id", "done").is_displayed()
    assert browser.get_log("browser") == []
    path = _downloaded(browser, tmp_path, "ratings-anna.json")
    given = json.loads(path.read_text())["ratings"]
    assert [each["values"] for each in given[:5]] == [{"accurate": 4, "clear": 2}] * 3 + [
        {"accurate": 5, "clear": 3},
        {},
    ]
    assert given[3]["comment"] == "half dcx12 a comment" and given[4]["skipped"] is True
    assert all(each["time_ms"] > 0 for each in given)
    assert studies.read(results, path) == 0
    (anna,) = studies.summary(folder)["raters"]
    assert (anna["n_rated"], anna["n_skipped"]) == (12, 1)


def test_raters_of_one_browser_have_each_their_own(browser: Any, results: Results) -> None:
    folder = studies.make(results, raters=["anna", "ben"], benchmarks=["letters"], questions=2)
    for rater, first_time in (("anna", True), ("ben", True), ("anna", False)):
        _open(browser, folder, rater)
        assert browser.find_element("id", "guidelines").get_property("open") is first_time
        assert _text(browser, "progress").startswith("0 of" if first_time else "1 of")
        _press(browser, "4")


def test_two_tabs_of_one_page_do_not_write_over_each_other(
    browser: Any, results: Results, tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    folder = studies.make(results, raters=["anna"], benchmarks=["letters"], questions=2, duplicates=0)
    first = browser.current_window_handle
    _open(browser, folder, "anna")
    browser.switch_to.new_window("tab")
    second = browser.current_window_handle
    _open(browser, folder, "anna")
    browser.switch_to.window(first)
    _press(browser, "4", Keys.ENTER, "5")
    browser.switch_to.window(second)
    _until(browser, lambda: _text(browser, "progress") == "2 of 4 rated")
    assert len(browser.find_elements("css selector", "#item button[aria-pressed=true]")) == 1
    _press(browser, Keys.ENTER, Keys.ENTER, "2")
    # A browser that tells tabs nothing: what the other one kept is found when something is kept here
    browser.switch_to.window(first)
    _until(browser, lambda: _text(browser, "progress") == "3 of 4 rated")
    kept = "const kept = JSON.parse(localStorage.getItem(place)); const {item} = data.items[3];"
    browser.execute_script(
        f"{kept} kept[item] = {{...kept[item], values: {{quality: 1}}, at: '2999-01-01T00:00:00Z'}};"
        "localStorage.setItem(place, JSON.stringify(kept));"
    )
    _press(browser, "3")
    given = json.loads(_downloaded(browser, tmp_path, "ratings-anna.json").read_text())["ratings"]
    assert [each["values"]["quality"] for each in given] == [4, 3, 2, 1]
    browser.switch_to.window(second)
    browser.close()
    browser.switch_to.window(first)


def test_pairs_are_chosen_by_keyboard(browser: Any, results: Results, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    folder = studies.make(
        results, kind="pairwise", raters=["anna"], benchmarks=["letters"], questions=3, duplicates=0
    )
    _open(browser, folder, "anna")
    _press(browser, "b", "5", Keys.ENTER, "t", Keys.ENTER, "a", "1")
    given = json.loads(_downloaded(browser, tmp_path, "ratings-anna.json").read_text())["ratings"]
    assert [each["values"] for each in given] == [
        {"preference": "B", "confidence": 5},
        {"preference": "tie"},
        {"preference": "A", "confidence": 1},
    ]
    assert studies.read(results, tmp_path / "ratings-anna.json") == 0


def test_what_a_model_wrote_stays_text(browser: Any, results: Results) -> None:
    folder = studies.make(
        results, raters=["anna"], models=["first-model"], benchmarks=["hostile"], questions=len(HOSTILE)
    )
    _open(browser, folder, "anna")
    from selenium.webdriver.common.keys import Keys

    seen = set()
    for _ in range(len(HOSTILE)):
        seen.add(browser.find_element("css selector", "#item .output").text)
        _press(browser, Keys.ARROW_RIGHT)
    assert {HOSTILE[0], HOSTILE[1]} <= seen
    assert browser.title == "pilot" and browser.get_log("browser") == []
    assert not browser.find_elements("css selector", "main script:not(#data), main img")


def test_the_report_shows_what_people_said(browser: Any, tmp_path: Path) -> None:
    from slurmeval.report import build
    from tests.report import example

    paths = example.paths_in(tmp_path)
    example.write_run(paths)
    results = Results(paths.results)
    folder = studies.make(results, models=["smollm2-135m"], benchmarks=["asdiv"], title="<b>Pilot</b>")
    grades = {"anna": 4, "ben": 2}
    files = [
        studies.filled(folder, rater, lambda item, rater: {"quality": grades[rater]}) for rater in grades
    ]
    assert studies.read(results, *files) == 0
    page = build(paths, example.document(tmp_path))
    browser.get_log("browser")
    browser.get(page.as_uri())
    section = browser.find_element("id", "people").text
    assert "<b>Pilot</b>" in section and "20 of 60 questions of asdiv" in section
    assert "3.00" in section and "+2.000" in section and "−2.000" in section
    assert browser.get_log("browser") == []
