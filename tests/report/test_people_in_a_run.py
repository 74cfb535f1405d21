"""A judge screens all answers of a run, people rate some in a browser, and the run corrects the judge."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import yaml

from tests.report.rate_pages import fill_in_all
from tests.report.test_browser import browser
from tests.workflow.conftest import Project, make_project, project

pytestmark = pytest.mark.browser
__all__ = ["browser", "make_project", "project"]

STUDY: dict[str, Any] = {
    "name": "hybrid",
    "raters": ["anna", "ben"],
    "benchmarks": ["towns"],
    "questions": 16,
    "unsure_of": "doubted",
    "unsure_limit": 3,
    "show_reference": True,
    "dimensions": {"right": {"question": "Is it right?"}},
}
RUBRIC = {"right": {"asks": "Is it right?", "lowest": 0, "grades": ["No.", "Yes."]}}


@pytest.fixture
def hybrid(project: Project) -> Project:
    """24 answers, 8 of them right, with a judge who calls all right and one who says nothing."""
    (project.folder / "mine").mkdir()
    answers = ["Oslo" if number % 3 == 0 else "Bergen" for number in range(24)]
    lines = [{"question": f"Town {number}?", "answer": answer} for number, answer in enumerate(answers)]
    (project.folder / "mine" / "towns.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    (project.folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    config = project.config
    config["datasets"] = {"towns": {"folder": "mine"}}
    judging = {"of": "towns", "judge": "lenient", "rubric": RUBRIC, "labels": {"study": "study.yaml"}}
    config["benchmarks"] = {
        "towns": {
            "harness": "custom",
            "datasets": ["towns"],
            "questions": {"prompt": "{{ question }}", "scorers": {"includes": {}}},
        },
        "judged": {"harness": "judge", "judging": judging},
        "doubted": {"harness": "judge", "judging": judging | {"judge": "silent"}},
    }
    config["suites"]["all"] = ["judged", "doubted"]
    config["evaluate"]["models"] = ["tiny"]
    servers, said = config["servers"], {"lenient": "right: 1", "silent": "I would rather not say."}
    for name, text in said.items():
        env = servers["stand-in"]["env"] | {"STAND_IN_TEXT": text}
        servers[name] = servers["stand-in"] | {"env": env}
        config["models"][name] = {"weights": {"folder": "weights"}, "server": name}
    servers["stand-in"]["env"]["STAND_IN_TEXT"] = "It is Oslo."
    return project


def judged(project: Project) -> dict[str, dict[str, Any]]:
    return {row["benchmark"]: row for row in project.table("judged.parquet")}


@pytest.mark.timeout(600)
def test_people_correct_a_judge_by_what_was_drawn_at_random_alone(browser: Any, hybrid: Project) -> None:
    run = hybrid.run()
    assert run.returncode == 0, run.stdout
    before, asked = judged(hybrid), hybrid.answered()
    assert (before["judged"]["value_judge"], before["doubted"]["value_judge"]) == (1.0, None)
    reason = "people have rated nothing yet: slurmeval humans make study.yaml"
    assert {row["uncorrected"] for row in before.values()} == {reason}

    humans = [sys.executable, "-m", "slurmeval", "humans"]
    made = hybrid.run_command([*humans, "make", "study.yaml"])
    assert "towns: 16 of 24 questions, at random; 3 that doubted is unsure of" in made.stdout
    files = list(fill_in_all(browser, hybrid.results / "humans" / "hybrid"))
    assert [file.name for file in files] == ["ratings-anna.json", "ratings-ben.json"]
    read = hybrid.run_command([*humans, "read", *map(str, files)])
    assert read.returncode == 0, read.stdout

    run = hybrid.run()
    assert run.returncode == 0, run.stdout
    assert hybrid.answered() == asked  # nobody is asked again: only tables and report are made
    ratings = [row for row in hybrid.table("humans/hybrid/ratings.parquet") if not row["again"]]
    assert len({row["sample_uid"] for row in ratings}) == 19
    at_random = {row["sample_uid"]: (row["value"] - 1) / 4 for row in ratings if row["random"]}
    after = judged(hybrid)
    for row in after.values():
        assert (row["n_labelled"], row["uncorrected"]) == (16, None)
        assert row["value_corrected"] == pytest.approx(sum(at_random.values()) / 16)
        assert row["corrected_lo"] < 8 / 24 < row["corrected_hi"]
    card = {(row["benchmark"], row["measure"]): row["value"] for row in hybrid.table("judge_card.parquet")}
    assert card["judged", "specificity"] == 0.0
    page = hybrid.results / "report" / "index.html"
    browser.get(page.as_uri())
    for section, said in (("judges", "16"), ("people", "16 of 24 questions of towns")):
        assert said in browser.find_element("id", section).text
    assert not hybrid.planned()  # nothing to be done
