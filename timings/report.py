"""How long a report of many samples takes to make, and to open and search in Chromium.

    python timings/report.py --texts GSM8K.jsonl [--samples 100000] [--keep FOLDER] [--only browser]

Writes two models' answers to half as many questions, made of sentences of `question` and `ground_truth` of
the given lines, in a folder of its own or in FOLDER. Prints CPU seconds, memory and size of the report; then,
where Chromium and its driver are, how long the first samples and some searches take: each in a page opened
anew, and again once all texts were read ahead."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.report import example
from tests.report.chromium import chromium

from slurmeval.harnesses.base import Sample, Score
from slurmeval.report import build
from slurmeval.report.samples import SAMPLES_PER_FILE
from slurmeval.results.aggregate import aggregate
from slurmeval.results.partitions import write

MODELS = ("one", "other")
RARE = "zyzzyva"
SEARCHES = {
    "a rare word": RARE,
    "a frequent word": "friends",
    "a phrase of frequent words": "how many are there",
    "a phrase that is nowhere": "there are more of the in",
    "a part of words": "ach of th",
}
SHOWN = "document.getElementById('samples')?.dataset.shown === location.hash"


def write_samples(folder: Path, texts: Path, samples: int) -> None:
    """Writes the evaluations of both models."""
    lines = [json.loads(line) for line in texts.read_text(encoding="utf-8").splitlines()]
    asked, told = (
        [part for line in lines for part in re.split(r"(?<=[.?])\s|\n", line[name]) if part]
        for name in ("question", "ground_truth")
    )
    paths = example.paths_in(folder)
    chance = random.Random(0)
    questions = [f"{' '.join(chance.choices(asked, k=4))} ({number})" for number in range(samples // 2)]
    for model in MODELS:
        made = []
        for number, question in enumerate(questions):
            output = "\n".join(chance.choices(told, k=5))
            right = chance.random() < 0.6
            score = Score("exact_match", float(right), "strict-match", right, answer=output[-4:])
            made.append(Sample(str(number), "t", question, output, reference=str(number), scores=[score]))
        made[len(made) // 2].output = f"A {RARE} is a weevil."
        write(paths, model, "b", example.evaluation(), example.output(made, "t"), None)
    aggregate(paths, [(model, "b") for model in MODELS])


def make(folder: Path) -> None:
    """Makes the report, and says what that took."""
    paths = example.paths_in(folder)
    shutil.rmtree(paths.report, ignore_errors=True)
    began, cpu = time.monotonic(), time.process_time()
    build(paths, example.document(folder))
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    size = sum(file.stat().st_size for file in paths.report.rglob("*") if file.is_file())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"made: {cpu:.1f} s of CPU, {wall:.1f} s, {memory:.0f} MB; {size / 1e6:.1f} MB on disk", flush=True)


class Clock:
    """Wall time, and CPU time of the browser's processes."""

    def __init__(self, browser: Any) -> None:
        """Starts now."""
        self._browser = browser
        self._began, self._cpu = time.monotonic(), self._used()

    def until(self, script: str) -> str:
        """Waits until a script returns what is true, and says how long it took since the start."""
        while not self._browser.execute_script(script):
            time.sleep(0.01)
            if time.monotonic() - self._began > 120:
                raise TimeoutError(self._browser.find_element("id", "count").text)
        return f"{time.monotonic() - self._began:.2f} s ({self._used() - self._cpu:.2f} of CPU)"

    def _used(self) -> float:
        parents = {self._browser.service.process.pid}
        found = 0
        for stat in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda path: int(path.parent.name)):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[1]) in parents:
                    parents.add(int(stat.parent.name))
                    found += int(fields[11]) + int(fields[12])
        return found / os.sysconf("SC_CLK_TCK")


def search(browser: Any, text: str) -> str:
    """Searches a text by its address, and says how long its first hits and all took."""
    browser.execute_script("main.replaceChildren(); delete main.dataset.made")
    clock = Clock(browser)
    browser.execute_script(f"go({{search: {json.dumps(text)}}})")
    first = clock.until(f"return main.children.length > 0 || {SHOWN}")
    return f"first {first}, all {clock.until(f'return {SHOWN}')}"


def memory(browser: Any) -> str:
    """Says what the page's heap and its process take."""
    heap = browser.execute_cdp_cmd("Runtime.getHeapUsage", {})["usedSize"] / 1e6
    of_pages = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if b"--type=renderer" in status.with_name("cmdline").read_bytes():
                found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
                of_pages.append(int(found[1]) / 1e3 if found else 0)
    return f"heap {heap:.0f} MB, process at most {max(of_pages):.0f} MB"


def measure(folder: Path, samples: int) -> None:
    """Opens the pair of models and searches at once, and again once all texts were read ahead."""
    page = (example.paths_in(folder).report / "samples.html").as_uri()
    scripts = 3 * -(-samples // 2 // SAMPLES_PER_FILE)
    for name, text in SEARCHES.items():
        with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
            clock = Clock(browser)
            browser.get(f"{page}#a={MODELS[0]}&b={MODELS[1]}&on=b")
            opened = clock.until(f"return {SHOWN}")
            at_once = search(browser, text)
            found = browser.find_element("id", "count").text
            ahead = Clock(browser).until(f"return searchable.size >= {scripts}")
            browser.execute_script("go({search: ''})")
            Clock(browser).until(f"return {SHOWN}")
            print(f"first page {opened}; {name}: {at_once}; then read ahead {ahead}, ", end="")
            print(f"and searched again: {search(browser, text)}; {memory(browser)}; {found}", flush=True)


def main() -> None:
    """Writes the samples, makes the report, and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--only", choices=["make", "browser"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = given.keep or Path(folder)
        if given.texts:
            write_samples(run, given.texts, given.samples)
        if given.only != "browser":
            make(run)
        if given.only != "make" and shutil.which("chromium") and shutil.which("chromedriver"):
            measure(run, given.samples)


if __name__ == "__main__":
    main()
