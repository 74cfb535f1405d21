"""The report in a real browser, from disk, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slurmeval.report import build
from tests.lacking import lacking
from tests.report import example

pytestmark = pytest.mark.browser

TITLE = "A title"
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1600",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    paths = example.paths_in(tmp_path_factory.mktemp("run #1 with 100% 'quotes' ü"))
    example.write_run(paths)
    return build(paths, example.document(paths.results.parent, title=TITLE)).parent


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        lacking("chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield driver
    driver.quit()


def _open(browser: Any, page: Path) -> None:
    browser.get_log("browser")
    browser.get(page.as_uri())


def _all(browser: Any, selector: str) -> list[Any]:
    return list(browser.find_elements("css selector", selector))


def test_every_page_opens_without_console_message_and_nothing_planted_runs(
    browser: Any, report: Path
) -> None:
    pages = sorted(report.rglob("*.html"))
    assert len(pages) == 1 + 2 + 7 * 3
    for page in pages:
        _open(browser, page)
        assert browser.get_log("browser") == [], page
        assert browser.title.endswith(TITLE)


def test_a_script_in_an_answer_is_text(browser: Any, report: Path) -> None:
    _open(browser, report / "samples" / example.MODELS[0] / "asdiv.html")
    shown = [element.text for element in _all(browser, "pre.output")]
    assert example.HOSTILE[0] in shown
    assert example.HOSTILE[1] in shown
    assert not _all(browser, "main script, main img")


def test_the_policy_would_stop_a_script_that_got_in(browser: Any, report: Path) -> None:
    """Were the escaping to fail one day, the page's policy is the second wall."""
    _open(browser, report / "index.html")
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'document.title = \"owned\"';"
        "document.body.append(s);"
        "const d = document.createElement('div'); d.innerHTML = '<img src=x onerror=\"document.title=1\">';"
        "document.body.append(d);"
    )
    assert browser.title == TITLE
    assert "Content Security Policy" in str(browser.get_log("browser"))


def _column(browser: Any, number: int) -> list[str]:
    rows = _all(browser, "table.scores tbody tr")
    return [row.find_elements("css selector", "th, td")[number].text.split("\n")[0] for row in rows]


def test_a_click_on_a_head_sorts_and_another_turns_it_round(browser: Any, report: Path) -> None:
    _open(browser, report / "index.html")
    heads = _all(browser, "table.scores thead th")
    assert [head.text for head in heads] == ["Benchmark", *example.MODELS]
    heads[2].find_element("css selector", "button").click()
    down = [cell.split()[0] for cell in _column(browser, 2)]
    assert down == ["0.817", "0.700", "0.083", "harness"]
    assert heads[2].get_attribute("aria-sort") == "descending"
    heads[2].find_element("css selector", "button").click()
    assert [cell.split()[0] for cell in _column(browser, 2)] == ["0.083", "0.700", "0.817", "harness"]
    heads[0].find_element("css selector", "button").click()
    assert _column(browser, 0) == sorted(example.BENCHMARKS)
    assert heads[2].get_attribute("aria-sort") is None


def test_a_benchmark_is_chosen_for_the_pairs_of_models(browser: Any, report: Path) -> None:
    _open(browser, report / "index.html")
    choice = browser.find_element("id", "pairs-on")
    names = [option.text for option in choice.find_elements("css selector", "option")]
    assert names == ["the mean over benchmarks", "openbookqa", "asdiv", "humaneval"]
    for number, name in enumerate(names):
        choice.find_elements("css selector", "option")[number].click()
        shown = [table.is_displayed() for table in _all(browser, "#pairs .matrix")]
        assert shown == [position == number for position in range(4)], name
    cells = [cell for cell in _all(browser, "#pairs td.num") if cell.is_displayed()]
    one, other = (cell.text.split("\n")[0].split() for cell in cells)
    assert {one[0], other[0]} == {"▲", "▼"}
    assert one[1].strip("+−") == other[1].strip("+−")


def test_a_score_leads_to_its_samples_their_next_page_and_back(browser: Any, report: Path) -> None:
    _open(browser, report / "index.html")
    browser.find_element("link text", "0.967").click()
    assert browser.find_element("css selector", "h1").text == "bfcl.v3"
    assert browser.find_element("css selector", ".lead").text == "Samples 1–20 of 60"
    browser.find_element("css selector", "nav.pages").find_element("link text", "3").click()
    assert browser.find_element("css selector", ".lead").text == "Samples 41–60 of 60"
    browser.find_element("link text", TITLE).click()
    assert browser.find_element("css selector", "h1").text == TITLE


def test_samples_are_shown_by_how_they_were_scored(browser: Any, report: Path) -> None:
    _open(browser, report / "samples" / example.MODELS[0] / "asdiv.html")
    everything = _all(browser, "article")
    counts = {}
    for kind in ("right", "wrong", "other"):
        browser.find_element("id", f"show-{kind}").click()
        visible = [article for article in everything if article.is_displayed()]
        assert all(article.get_attribute("class") == kind for article in visible)
        counts[kind] = len(visible)
    assert counts["right"] + counts["wrong"] == 20
    assert 0 < counts["right"] < 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser: Any, report: Path, scheme: str) -> None:
    """At least 4.5:1 (WCAG 2, AA), for every colour of text on the first page."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    _open(browser, report / "index.html")
    found = browser.execute_script(
        "const all = [...document.querySelectorAll('main *, header *')].filter(e => e.textContent.trim());"
        "return [getComputedStyle(document.body).backgroundColor,"
        " [...new Set(all.map(e => getComputedStyle(e).color))]]"
    )
    background, colours = found
    assert len(colours) >= 4
    for colour in colours:
        assert _contrast(_rgb(colour), _rgb(background)) >= 4.5, (colour, background)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_narrow_screen_scrolls_tables_not_the_page(browser: Any, report: Path) -> None:
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for page in ("index.html", f"models/{example.MODELS[0]}.html", f"samples/{example.MODELS[0]}/asdiv.html"):
        _open(browser, report / page)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= 360, page
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(float(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3])


def _contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(rgb: tuple[float, ...]) -> float:
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
