"""Studies for tests: stored answers, raters who fill in their pages by a rule, and what they send back."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from slurmeval.cli import main
from tests.unit.results.test_comparison import Results

Rule = Callable[[dict[str, Any], str], dict[str, Any]]
"""Values of an item as its page has it, for a rater."""
N = 40


def answers(folder: Path, n: int = N) -> Results:
    """Two models, two benchmarks; an answer says how good it is, and the second model is a grade better."""
    made = Results(folder / "results")
    for benchmark in ("summaries", "letters"):
        category = ["short" if number % 4 else "long" for number in range(n)]
        questions = [f"{benchmark} question {number}?" for number in range(n)]
        for grade, model in enumerate(("first-model", "second-model")):
            texts = [f"quality {1 + number % 4 + grade} of {benchmark} {number}" for number in range(n)]
            given = {"input": questions, "output": texts, "category": category}
            made.add(model, benchmark, [1.0] * n, reference=["right"] * n, **given)
    return made


def study(results: Results, **given: Any) -> Path:
    """The file of a study."""
    path = results.folder.parent / "study.yaml"
    content = {"name": "pilot", "raters": ["anna", "ben"], "questions": 20} | given
    path.write_text(yaml.safe_dump(content))
    return path


def make(results: Results, *options: str, **given: Any) -> Path:
    """Makes a study and returns its folder."""
    file = study(results, **given)
    assert main.run(["humans", "make", str(file), "--results", str(results.folder), *options]) == 0
    return results.folder / "humans" / str(given.get("name", "pilot"))


def read(results: Results, *files: Path) -> int:
    return main.run(["humans", "read", *map(str, files), "--results", str(results.folder)])


def on_page(folder: Path, rater: str) -> dict[str, Any]:
    """What the script of a rater's page is given."""
    text = (folder / "for-raters" / f"{rater}.html").read_text()
    (found,) = re.findall(r'<script type="text/plain" id="data">([^<]*)</script>', text)
    content = json.loads(base64.b64decode(found))
    assert isinstance(content, dict)
    return content


def quality(item: dict[str, Any], rater: str) -> dict[str, Any]:
    """The grade that the answer names itself."""
    return {"quality": min(5, int(item["answers"][0].split()[1]))}


def better(item: dict[str, Any], rater: str) -> dict[str, Any]:
    """The answer with the higher grade."""
    a, b = (int(text.split()[1]) for text in item["answers"])
    return {"preference": "A" if a > b else "B" if b > a else "tie", "confidence": 4}


def filled(folder: Path, rater: str, rule: Rule = quality, **more: Any) -> Path:
    """What a rater's page downloads after each item was rated by a rule."""
    page = on_page(folder, rater)
    ratings = [
        {
            "item": item["item"],
            "sha256": item["sha256"],
            "values": rule(item, rater),
            "flags": [],
            "comment": "",
            "skipped": False,
            "time_ms": 5000,
            "at": f"2026-11-30T10:00:{number % 60:02}Z",
        }
        for number, item in enumerate(page["items"])
    ]
    names = ("format", "batch", "key_sha256", "rater")
    content = {name: page[name] for name in names} | {"saved_at": "2026-11-30T11:00:00Z", "ratings": ratings}
    path = folder / f"ratings-{rater}.json"
    path.write_text(json.dumps(content | more))
    return path


def changed(path: Path, change: Callable[[dict[str, Any]], None], name: str | None = None) -> Path:
    """A rater's file with a change, under another name or its own."""
    content = json.loads(path.read_text())
    change(content)
    other = path.with_name(name or path.name)
    other.write_text(json.dumps(content))
    return other


def summary(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "summary.json").read_text())
    assert isinstance(content, dict)
    return content
