"""Fills in all raters' pages of a study in Chromium, by keyboard: stands in for people.

    .venv/bin/python -m tests.report.rate_pages results/every_way/humans/every-way

It says 5 to an answer that holds the reference and 1 to others, and 5 to short answers in everything else
that is asked; each further rater is a grade stricter about long ones. Files to send back are put beside
`for-raters`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.report.chromium import chromium, downloaded, press, until

SHORT = 80
"""Characters of a short answer."""


def grades(reference: str, answer: str, scales: int, strictness: int) -> list[str]:
    """What a rater says of an answer, a grade for each dimension."""
    right = reference.strip().lower() in answer.lower()
    short = 5 if len(answer) <= SHORT else max(1, 3 - strictness)
    return [str(5 if right else 1), *[str(short)] * (scales - 1)]


def fill_in(browser: Any, page: Path, into: Path, strictness: int = 0) -> Path:
    """The file that a rater's page gives once all is rated."""
    from selenium.webdriver.common.keys import Keys

    browser.get("about:blank")
    browser.get(page.as_uri())

    def progress() -> list[str]:
        return str(browser.find_element("id", "progress").text).split()

    until(browser, lambda: bool(progress()))
    while (told := progress())[0] != told[2]:
        texts = browser.find_elements("css selector", "#item > pre")
        answer = browser.find_element("css selector", "#item .output").text
        scales = len(browser.find_elements("css selector", "#item fieldset.scale")) - 1
        press(browser, *grades(texts[-1].text, answer, scales, strictness), Keys.ENTER)
    return downloaded(browser, into, f"ratings-{page.stem}.json")


def fill_in_all(browser: Any, study: Path) -> Iterator[Path]:
    """The files of all raters of a study."""
    for strictness, page in enumerate(sorted((study / "for-raters").glob("*.html"))):
        yield fill_in(browser, page, study, strictness)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as opened:
        for file in fill_in_all(opened, Path(sys.argv[1]).absolute()):
            print(file)
