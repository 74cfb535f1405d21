"""A study from its file to the summary: what is drawn, what raters see, what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slurmeval.cli import main
from slurmeval.results import load
from tests.unit.humans import studies
from tests.unit.results.test_comparison import Results

GOLD = {"question": "What is 1 + 1?", "answer": "quality 1 three", "ratings": {"quality": 1}}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return studies.answers(tmp_path)


def test_what_raters_get_is_blind_shuffled_and_each_ones_own(results: Results) -> None:
    folder = studies.make(results, gold=[GOLD])
    pages = {rater: studies.on_page(folder, rater) for rater in ("anna", "ben")}
    for rater, page in pages.items():
        text = (folder / "for-raters" / f"{rater}.html").read_text()
        assert "model" not in json.dumps(page) and "first-model" not in text
        assert "gold" not in json.dumps(page) and "duplicate" not in json.dumps(page)
        # 20 questions × 2 models, a tenth again, one of gold
        assert len(page["items"]) == 40 + 4 + 1
    order = [[item["answers"][0] for item in page["items"]] for page in pages.values()]
    assert order[0] != order[1] and order[0] != sorted(order[0])
    ids = [item["item"] for page in pages.values() for item in page["items"]]
    assert len(set(ids)) == len(ids)
    assert (folder / "key.json").stat().st_mode & 0o077 == 0


def test_questions_are_drawn_at_random_by_benchmark_and_category(results: Results) -> None:
    key = json.loads((studies.make(results) / "key.json").read_text())
    drawn = {(unit["benchmark"], unit["sample_uid"]) for unit in key["units"].values()}
    for benchmark in ("summaries", "letters"):
        numbers = [int(uid[1:]) for name, uid in drawn if name == benchmark]
        assert len(numbers) == 10
        assert sum(number % 4 == 0 for number in numbers) in (2, 3)  # a quarter are long
    assert {unit["probability"] for unit in key["units"].values()} == {0.25}
    other = json.loads((studies.make(results, name="other", seed=2) / "key.json").read_text())
    assert {(unit["benchmark"], unit["sample_uid"]) for unit in other["units"].values()} != drawn


@pytest.mark.parametrize(
    ("given", "n"),
    [
        # n₀ = (1.96 · 1.2 / w)² and n₀ / (1 + n₀ / 40) of each benchmark; of wins with 0.5
        ({"half_width": 0.4}, 2 * 19),
        ({"half_width": 0.1}, 2 * 38),
        ({"half_width": 0.9}, 2 * 15),  # fewer get no interval
        ({"half_width": 0.2, "kind": "pairwise"}, 2 * 16),
    ],
)
def test_a_sample_is_as_large_as_the_wanted_interval_needs(
    results: Results, given: dict[str, Any], n: int
) -> None:
    key = json.loads((studies.make(results, questions=None, **given) / "key.json").read_text())
    assert len({(unit["benchmark"], unit["sample_uid"]) for unit in key["units"].values()}) == n


def test_each_answer_is_seen_by_as_many_raters_as_wanted(results: Results) -> None:
    folder = studies.make(results, raters=["a", "b", "c"], raters_per_answer=2)
    key = json.loads((folder / "key.json").read_text())
    seen: dict[str, set[str]] = {}
    for rater, items in key["raters"].items():
        for item in items:
            seen.setdefault(item["unit"], set()).add(rater)
    assert {len(raters) for raters in seen.values()} == {2}
    counts = [sum(not item["again"] for item in items) for items in key["raters"].values()]
    assert max(counts) - min(counts) <= 1


def test_ratings_are_read_with_agreement_raters_and_models(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = studies.make(results, gold=[GOLD])

    def hard(item: dict[str, Any], rater: str) -> dict[str, Any]:
        grade = studies.quality(item, rater)["quality"]
        return {"quality": max(1, grade - 1)}

    files = [studies.filled(folder, "anna"), studies.filled(folder, "ben", hard)]
    assert studies.read(results, *files) == 0
    found = studies.summary(folder)
    (agreed,) = found["agreements"]
    assert agreed["n_units"] == 40
    assert 0.3 < agreed["alpha"] < 0.9 and agreed["interval"]["low"] < agreed["alpha"]
    assert agreed["tau"] > 0.9  # the order is nearly the same
    anna, ben = found["raters"]
    assert anna["leaning"] == pytest.approx(-ben["leaning"]) and anna["leaning"] > 0.5
    assert anna["self_agreement"] == ben["self_agreement"] == 1 and anna["n_again"] == 4
    assert anna["gold_right"] == 1 and anna["median_time_s"] == 5
    means = {(mean["benchmark"], mean["model"]): mean for mean in found["means"]}
    # 10 questions, 2 raters: neither gold nor what was seen twice counts
    assert {(mean["n_questions"], mean["n_ratings"]) for mean in means.values()} == {(10, 20)}
    assert means["letters", "first-model"]["value"] < means["letters", "second-model"]["value"]
    assert {difference["verdict"] for difference in found["differences"]} <= {"worse", "cannot tell"}
    out = capsys.readouterr().out
    assert "anna" in out and "alpha" in out
    ratings = load("ratings", results.folder)
    assert len(ratings) == 2 * (40 + 4) and set(ratings["dimension"]) == {"quality"}
    assert set(ratings["random"]) == {True} and set(ratings["probability"]) == {0.25}
    first = ratings[~ratings["again"]].groupby("model")["value"].mean()
    assert first["second-model"] - first["first-model"] == pytest.approx(0.9, abs=0.3)


def test_the_better_of_two_is_found_whichever_stands_first(results: Results) -> None:
    folder = studies.make(results, kind="pairwise")
    page = studies.on_page(folder, "anna")
    first = [
        int(item["answers"][0].split()[1]) > int(item["answers"][1].split()[1]) for item in page["items"]
    ]
    assert 3 < sum(first) < len(first) - 3  # the better answer stands on either side
    files = [studies.filled(folder, rater, studies.better) for rater in ("anna", "ben")]
    assert studies.read(results, *files) == 0
    found = studies.summary(folder)
    wins = {(mean["model"], mean["against"]): mean["value"] for mean in found["means"]}
    assert wins["second-model", "first-model"] == 1 and wins["first-model", "second-model"] == 0
    assert {model["elo"] for model in found["strengths"]} == {None}  # it never lost
    (anna, _) = found["raters"]
    assert anna["self_agreement"] == 1  # although the second time was turned
    assert anna["leaning_interval"]["low"] < 0 < anna["leaning_interval"]["high"]


def test_who_always_takes_the_first_is_shown(results: Results) -> None:
    folder = studies.make(results, kind="pairwise")
    lazy = studies.filled(folder, "anna", lambda item, rater: {"preference": "A"})
    assert studies.read(results, lazy) == 0
    (anna,) = studies.summary(folder)["raters"]
    assert anna["leaning"] == 0.5 and anna["self_agreement"] == 0


def test_half_a_file_counts_and_what_is_missing_is_said(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = studies.make(results)
    half = studies.changed(
        studies.filled(folder, "anna"), lambda content: content["ratings"].__delitem__(slice(10, None))
    )
    assert studies.read(results, half) == 0
    out = capsys.readouterr().out
    assert "anna: 34 of 44 items are not rated" in out and "ben: no file" in out
    assert studies.summary(folder)["raters"][0]["n_rated"] == 10


def test_of_two_files_of_a_rater_the_latest_rating_counts(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = studies.make(results)
    whole = studies.filled(folder, "anna")

    def later(content: dict[str, Any]) -> None:
        content["saved_at"] = "2026-11-30T12:00:00Z"
        content["ratings"][0] |= {"values": {"quality": 5}, "at": "2026-11-30T12:00:00Z", "comment": "again"}

    second = studies.changed(whole, later, "again.json")
    assert studies.read(results, second, whole) == 0
    assert "anna: 2 files (again.json, ratings-anna.json)" in capsys.readouterr().out
    ratings = load("ratings", results.folder)
    assert list(ratings[ratings["comment"] == "again"]["value"]) == [5.0]


def _with_item(**changes: Any) -> Any:
    return lambda content: content["ratings"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.update(rater="carl"), "unknown rater 'carl'; the study has: anna, ben"),
        (lambda content: content.update(format=9), "expected format 1"),
        (lambda content: content.update(key_sha256="0" * 64), "with another key than this one"),
        (lambda content: content.update(batch="b"), "has no key of its batch"),
        (_with_item(item="zz"), "item zz: is none that anna was given"),
        (_with_item(sha256="0"), "was rated with other texts"),
        (_with_item(values={"quality": 6}), "quality is 6; expected one of 1, 2, 3, 4, 5"),
        (_with_item(values={"quality": True}), "quality is True"),
        (_with_item(values={"quality": 4.0}), "quality is 4.0"),
        (_with_item(values={"style": 3}), "'style' was not asked for; expected quality"),
        (_with_item(flags=["nice"]), "unknown flag 'nice'; the study has: broken"),
        (lambda content: content["ratings"].append(content["ratings"][0]), "is there twice"),
        (lambda content: content.pop("ratings"), "is no file of ratings that is known"),
    ],
)
def test_a_file_that_is_not_of_the_study_is_refused_in_one_line(
    results: Results, capsys: pytest.CaptureFixture[str], change: Any, said: str
) -> None:
    folder = studies.make(results)
    path = studies.changed(studies.filled(folder, "anna"), change)
    assert studies.read(results, path) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1
    assert not (folder / "summary.json").exists()


def test_a_file_cut_off_is_refused(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    path = studies.filled(studies.make(results), "anna")
    path.write_text(path.read_text()[:-100])
    assert studies.read(results, path) == 2
    assert "cannot be read; is it whole?" in capsys.readouterr().err


def test_an_edited_key_is_refused(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    folder = studies.make(results)
    path = studies.filled(folder, "anna")
    key = json.loads((folder / "key.json").read_text())
    unit = next(iter(key["units"].values()))
    unit["models"] = ["second-model" if unit["models"] == ["first-model"] else "first-model"]
    (folder / "key.json").write_text(json.dumps(key))
    assert studies.read(results, path) == 2
    assert "was changed after it was made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"questions": None}, "questions: either questions or half_width"),
        ({"raters": ["a", "a"]}, "raters: names one twice"),
        ({"raters_per_answer": 3}, "raters_per_answer: is more than there are raters (2)"),
        ({"models": ["none"]}, "models: no results of 'none'"),
        ({"benchmarks": ["none"]}, "benchmarks: 'none' has no results of all of"),
        ({"kind": "pairwise", "models": ["first-model"]}, "a pairwise study needs at least 2"),
        ({"dimensions": {"comment": {"question": "Kind?"}}}, "dimensions: 'comment' means something else"),
        ({"dimensions": {"confidence": {"question": "Sure?"}}}, "dimensions: 'confidence' means something"),
        ({"dimension": {}}, "unknown key; did you mean 'dimensions'?"),
        ({"gold": [GOLD | {"ratings": {"style": 1}}]}, "gold.0: rates style, which is no dimension"),
        ({"kind": "pairwise", "gold": [GOLD]}, "of a pairwise study has answers (two) and preference"),
    ],
)
def test_a_study_that_cannot_be_made_is_refused_in_one_line(
    results: Results, capsys: pytest.CaptureFixture[str], given: dict[str, Any], said: str
) -> None:
    file = studies.study(results, **given)
    assert main.run(["humans", "make", str(file), "--results", str(results.folder)]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1


def test_a_study_is_not_made_over_another(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    studies.make(results)
    file = studies.study(results)
    assert main.run(["humans", "make", str(file), "--results", str(results.folder)]) == 2
    assert "the study was made already" in capsys.readouterr().err


def test_what_raters_disagree_on_is_listed_without_models(results: Results) -> None:
    folder = studies.make(results)
    files = [
        studies.filled(folder, "anna", lambda item, rater: {"quality": 1}),
        studies.filled(
            folder, "ben", lambda item, rater: {"quality": 1 if "letters" in item["question"] else 4}
        ),
    ]
    assert studies.read(results, *files) == 0
    text = (folder / "adjudicate.csv").read_text()
    assert len(text.splitlines()) == 1 + 20 and "letters" not in text and "-model" not in text
    assert studies.summary(folder)["n_disputed"] == 20


def test_questions_that_one_model_did_not_answer_are_not_drawn(results: Results) -> None:
    status = ["error"] * 30 + ["ok"] * 10
    texts = {"input": ["q"] * 40, "output": ["quality 1"] * 40, "category": [None] * 40}
    results.add("first-model", "summaries", [1.0] * 40, status=status, **texts)
    key = json.loads((studies.make(results, benchmarks=["summaries"]) / "key.json").read_text())
    assert key["strata"] == [{"benchmark": "summaries", "population": 10, "drawn": 10, "unsure": 0}]


def _judge(results: Results, model: str, told: list[dict[str, Any]], status: list[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    results.add(model, "judged", [0.5] * len(told), status=status)
    path = results.folder / "samples" / model / "judged.parquet"
    rows = pq.read_table(path)
    for name, values in {
        "native_id": [f"q{number:05d}" for number in range(len(told))],
        "metadata_json": [json.dumps({"judged": "x", "repeat": 0} | each) for each in told],
    }.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(values))
    pq.write_table(rows, path)


def test_what_a_judge_is_unsure_of_is_rated_too_and_counts_for_no_mean(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    sure: dict[str, Any] = {"verdicts": ["A", "B"]}
    told = [sure, {"verdicts": ["A", "A"]}, {"disagreement": {"x": 0.6}}, {"disagreement": {"x": 0.2}}, sure]
    for model in ("first-model", "second-model"):
        _judge(results, model, told, ["ok", "ok", "ok", "ok", "unparsed"])
    folder = studies.make(results, "--unsure-of", "judged", benchmarks=["letters"], questions=1, seed=3)
    assert "that judged is unsure of" in capsys.readouterr().out
    key = json.loads((folder / "key.json").read_text())
    drawn = {unit["sample_uid"]: unit["probability"] for unit in key["units"].values()}
    unsure = {"q00001", "q00002", "q00004"}
    assert {uid for uid, chance in drawn.items() if chance is None} == unsure - {
        uid for uid, chance in drawn.items() if chance is not None
    }
    assert studies.read(results, studies.filled(folder, "anna"), studies.filled(folder, "ben")) == 0
    assert {mean["n_questions"] for mean in studies.summary(folder)["means"]} == {1}
    ratings = load("ratings", results.folder)
    assert set(ratings[~ratings["random"]]["sample_uid"]) == {uid for uid in unsure if drawn[uid] is None}


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("none", "unsure_of: no results of first-model on 'none'"),
        ("letters", "is no benchmark of the harness"),
    ],
)
def test_a_judge_that_is_none_is_refused(
    results: Results, capsys: pytest.CaptureFixture[str], judge: str, said: str
) -> None:
    file = studies.study(results, unsure_of=judge)
    assert main.run(["humans", "make", str(file), "--results", str(results.folder)]) == 2
    assert said in capsys.readouterr().err


def test_a_mean_of_grades_that_are_all_the_same_is_not_certain(tmp_path: Path) -> None:
    results = studies.answers(tmp_path, 20)
    folder = studies.make(results, raters=["anna"], benchmarks=["letters"], questions=20, duplicates=0)
    assert studies.read(results, studies.filled(folder, "anna", lambda item, rater: {"quality": 5})) == 0
    for mean in studies.summary(folder)["means"]:
        assert (mean["value"], mean["interval"]["high"]) == (5.0, 5.0)
        assert 4 < mean["interval"]["low"] < 4.9
