"""Files for Label Studio, Potato and spreadsheets, filled in as those programs do, are the page's."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from slurmeval.results import load
from tests.unit.humans import studies
from tests.unit.results.test_comparison import Results


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return studies.answers(tmp_path)


@pytest.fixture
def folder(results: Results) -> Path:
    options = [option for name in ("html", "csv", "label-studio", "potato") for option in ("--format", name)]
    return studies.make(results, *options, kind="pairwise", raters=["anna"], show_reference=True)


@pytest.fixture
def from_page(results: Results, folder: Path) -> Any:
    assert studies.read(results, studies.filled(folder, "anna", studies.better)) == 0
    return _values(results)


def _values(results: Results) -> Any:
    return load("ratings", results.folder).drop(columns=["time_s"])


def _better(row: dict[str, Any]) -> dict[str, Any]:
    return studies.better({"answers": [row["answer_a"], row["answer_b"]]}, "anna")


def test_a_spreadsheet(results: Results, folder: Path, from_page: Any) -> None:
    with (folder / "for-raters" / "anna.csv").open(newline="") as stream:
        rows = [row | _better(row) for row in csv.DictReader(stream)]
    assert "-model" not in str(rows)
    path = folder / "filled.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, rows[0], delimiter=";")  # as Excel does in much of Europe
        writer.writeheader()
        writer.writerows(rows)
    assert studies.read(results, path) == 0
    assert _values(results).equals(from_page)


def test_no_spreadsheet_takes_a_text_for_a_formula(tmp_path: Path) -> None:
    n, formula = studies.N, '=HYPERLINK("http://example.org")'
    results = Results(tmp_path / "results")
    results.add("m", "b", [1.0] * n, input=["@SUM(1)"] * n, output=[formula] * n, reference=["-1"] * n)
    folder = studies.make(results, "--format", "csv", "--format", "html", show_reference=True)
    with (folder / "for-raters" / "anna.csv").open(newline="") as stream:
        shown = {(row["question"], row["answer"], row["reference"]) for row in csv.DictReader(stream)}
    assert shown == {("'@SUM(1)", f"'{formula}", "'-1")}

    def said(content: dict[str, Any]) -> None:
        for rating in content["ratings"]:
            rating["comment"] = formula

    files = []
    for grade, rater in ((1, "anna"), (5, "ben")):
        files.append(studies.filled(folder, rater, lambda item, rater, grade=grade: {"quality": grade}))
        studies.changed(files[-1], said)
    assert studies.read(results, *files) == 0
    with (folder / "ratings.csv").open(newline="") as stream:
        assert {row["comment"] for row in csv.DictReader(stream)} == {f"'{formula}"}
    with (folder / "adjudicate.csv").open(newline="") as stream:
        assert {(row["question"], row["answer_a"]) for row in csv.DictReader(stream)} == {
            ("'@SUM(1)", f"'{formula}")
        }


def test_label_studio(results: Results, folder: Path, from_page: Any) -> None:
    interface = ElementTree.parse(folder / "for-raters" / "label-studio.xml")
    names = {each.get("name") for each in interface.iter("Choices")}
    assert names == {"preference", "confidence", "flags"}
    tasks = json.loads((folder / "for-raters" / "anna.label-studio.json").read_text())
    shown = {each.get("value") for each in interface.iter("Text")}
    assert {value.removeprefix("$") for value in shown if value} <= set(tasks[0]["data"])
    exported = []
    for number, task in enumerate(tasks):
        result = [
            {"from_name": name, "to_name": "answer_a", "type": "choices", "value": {"choices": [str(value)]}}
            for name, value in _better(task["data"]).items()
        ]
        annotation = {"result": result, "lead_time": 5.0, "was_cancelled": False, "completed_by": 1}
        exported.append({"id": number, "annotations": [annotation], "data": task["data"]})
    path = folder / "export.json"
    path.write_text(json.dumps(exported))
    assert studies.read(results, path) == 0
    assert _values(results).equals(from_page)


def test_label_studio_shows_choices_and_has_all_texts_of_each_task(tmp_path: Path) -> None:
    """Some questions have choices, and gold has no reference."""
    n = studies.N
    given = {"input": ["Which?"] * n, "output": ["red"] * n, "reference": ["blue"] * n}
    results = Results(tmp_path / "results")
    results.add("m", "colours", [1.0] * n, **given, choices=[["red", "blue"]] * n)
    results.add("m", "names", [1.0] * n, **given)
    gold = [{"question": "What is 7 × 8?", "answer": "54", "ratings": {"quality": 1}}]
    option = ("--format", "label-studio")
    folder = studies.make(results, *option, raters=["anna"], show_reference=True, gold=gold)
    interface = ElementTree.parse(folder / "for-raters" / "label-studio.xml")
    shown = [each.get("name") for each in interface.iter("Text")]
    assert shown == ["question", "choices", "reference", "answer"]
    tasks = json.loads((folder / "for-raters" / "anna.label-studio.json").read_text())
    assert {task["data"]["choices"] for task in tasks} == {"red\nblue", ""}
    assert {task["data"]["reference"] for task in tasks} == {"blue", ""}


def test_potato(results: Results, folder: Path, from_page: Any) -> None:
    config = yaml.safe_load((folder / "for-raters" / "anna.potato.yaml").read_text())
    assert [scheme["name"] for scheme in config["annotation_schemes"]] == [
        *("preference", "confidence", "flags", "comment")
    ]
    lines = (folder / "for-raters" / config["data_files"][0]).read_text().splitlines()
    path = folder / "annotated_instances.jsonl"
    with path.open("w") as stream:
        for line in map(json.loads, lines):
            labels = {name: {str(value): str(value)} for name, value in _better(line).items()}
            said = {"id": line["id"], "displayed_text": line["text"], "label_annotations": labels}
            stream.write(json.dumps(said | {"span_annotations": []}) + "\n")
    assert studies.read(results, path) == 0
    assert _values(results).equals(from_page)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", '{"id": "x"}', "[]", "[1]", "nothing"])
@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_a_file_of_another_kind_is_refused(
    results: Results, folder: Path, capsys: pytest.CaptureFixture[str], text: str, suffix: str
) -> None:
    path = folder / f"other.{suffix}"
    path.write_text(text)
    assert studies.read(results, path) in (1, 2)
    assert len(capsys.readouterr().err.splitlines()) == 1
