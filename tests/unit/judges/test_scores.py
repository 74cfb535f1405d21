"""Scores by a judge: what they leave open, and how people's labels correct them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurmeval.config.judging import Judging, Labels, RubricDimension
from slurmeval.errors import UserError
from slurmeval.harnesses.judge.labels import Labelled, read_labels
from slurmeval.judges.card import card_rows
from slurmeval.judges.reading import StoredVerdict
from slurmeval.judges.scores import score_rows

RIGHT = RubricDimension(asks="Right?", lowest=0, grades=["no", "yes"])
RUBRIC = {"right": RIGHT}
Rows = dict[str, dict[str, Any]]


def verdict(question: int, value: float | None, **more: Any) -> StoredVerdict:
    given: dict[str, Any] = {
        "model": "m",
        "question": f"q{question}",
        "repeat_idx": 0,
        "of_repeat": 0,
        "category": None,
        "status": "ok" if value is not None else "unparsed",
        "judged": "an answer",
        "against": None,
        "values": {"right": value},
    }
    return StoredVerdict(**given | more)


def comparison(question: int, orders: tuple[str | None, str | None], **more: Any) -> StoredVerdict:
    value = None if None in orders else {("A", "B"): 1.0, ("B", "A"): 0.0}.get(orders, 0.5)  # type: ignore[arg-type]
    given: dict[str, Any] = {"against": "other", "values": {"win_rate": value}, "orders": orders}
    return verdict(question, value, **given | more)


def scores(verdicts: list[StoredVerdict], labelled: Labelled | None = None) -> list[dict[str, Any]]:
    return list(score_rows(verdicts, labelled or Labelled(), RUBRIC))


def card(verdicts: list[StoredVerdict], labelled: Labelled | None = None, judge: str | None = "wise") -> Rows:
    rows = card_rows(verdicts, judge, labelled or Labelled(), RUBRIC)
    return {row["measure"]: row for row in rows}


def test_what_was_not_read_is_in_no_score_and_in_the_bounds() -> None:
    verdicts = [verdict(n, float(n < 12)) for n in range(16)]
    verdicts += [verdict(16, None), verdict(17, None, status="error", values={})]
    (row,) = scores(verdicts)
    assert (row["n_answers"], row["n_scored"], row["n_unreadable"], row["n_unjudged"]) == (18, 16, 1, 1)
    assert row["value_judge"] == 0.75
    assert (row["bound_lo"], row["bound_hi"]) == (12 / 18, 14 / 18)
    assert row["ci_lo"] < 0.75 < row["ci_hi"]


def test_the_judges_own_noise_is_told_apart_from_the_answers() -> None:
    # Two answers to each of 4 questions, two verdicts on each: one judge wavers, the other one's answers do
    def given(values: Mapping[tuple[int, int], float]) -> list[StoredVerdict]:
        return [
            verdict(question, value, of_repeat=answer, repeat_idx=2 * answer + again)
            for question in range(4)
            for (answer, again), value in values.items()
        ]

    (row,) = scores(given({(0, 0): 0.0, (0, 1): 1.0, (1, 0): 1.0, (1, 1): 0.0}))
    # s² = 1/2, four verdicts on each question: √(1/2 · 4/4) / 4; all answers have the same mean
    assert (row["judge_se"], row["rerun_se"]) == (pytest.approx(0.5**0.5 / 4), 0.0)
    (row,) = scores(given({(0, 0): 0.0, (0, 1): 0.0, (1, 0): 1.0, (1, 1): 1.0}))
    # t² = 1/2, two answers to each question: √(1/2 · 4/2) / 4
    assert (row["judge_se"], row["rerun_se"]) == (0.0, pytest.approx(1 / 4))
    (row,) = scores([verdict(n, 1.0) for n in range(4)])
    assert not {"judge_se", "rerun_se"} & row.keys()


def test_a_judge_of_whom_nothing_can_be_read_has_no_score() -> None:
    (row,) = scores([verdict(n, None) for n in range(3)])
    assert (row["value_judge"], row["bound_lo"], row["bound_hi"]) == (None, 0.0, 1.0)
    (row,) = scores([verdict(0, None, status="error", values={})])
    assert (row["dimension"], row["n_unjudged"]) == ("right", 1)


def test_categories_are_clusters_where_there_are_five_and_a_few_are_the_make_up() -> None:
    def row(n_categories: int | None) -> dict[str, Any]:
        """20 questions of each of 6 kinds, of which half are hard throughout."""
        verdicts = [
            verdict(n, float(n % 6 < 3), category=None if n_categories is None else f"c{n % n_categories}")
            for n in range(120)
        ]
        labels = {("m", f"q{n}", 0): float(n % 6 < 3 or n % 7 == 0) for n in range(0, 120, 2)}
        (found,) = scores(verdicts, Labelled({"right": labels}, random=True))
        return found

    for name in ("ci", "corrected"):
        alone, few, many = (row(n)[f"{name}_hi"] - row(n)[f"{name}_lo"] for n in (None, 3, 6))
        assert few == alone
        assert many > 2 * alone


def lenient(n: int = 600) -> tuple[list[StoredVerdict], dict[tuple[str, str, int], float]]:
    """Verdicts of a judge who calls most wrong answers right, and the truth."""
    random = np.random.default_rng(3)
    truth = random.random(n) < 0.4
    said = np.where(random.random(n) < 0.7, truth, True)
    verdicts = [verdict(number, float(value)) for number, value in enumerate(said)]
    return verdicts, {("m", f"q{number}", 0): float(value) for number, value in enumerate(truth)}


def test_random_labels_correct_the_score() -> None:
    verdicts, truth = lenient()
    labels = {key: truth[key] for key in list(truth)[:150]}
    (row,) = scores(verdicts, Labelled({"right": labels}, random=True))
    actual = sum(truth.values()) / len(truth)
    assert row["value_judge"] - actual > 0.1
    assert row["ci_lo"] > actual  # a tight interval around the wrong number
    assert row["corrected_lo"] < actual < row["corrected_hi"]
    assert row["rogan_gladen_lo"] < actual < row["rogan_gladen_hi"]
    assert (row["n_labelled"], row.get("uncorrected")) == (150, None)


def test_answers_whose_verdict_nobody_can_read_are_corrected_too() -> None:
    verdicts, truth = lenient()
    # The judge has words for right answers alone: of those that it graded nearly all are right
    verdicts = [verdict(n, 1.0 if truth[each.answer] else None) for n, each in enumerate(verdicts)]
    labels = {key: truth[key] for key in list(truth)[:150]}
    (row,) = scores(verdicts, Labelled({"right": labels}, random=True))
    assert (row["value_judge"], row["n_labelled"]) == (1.0, 150)
    assert row["corrected_lo"] < sum(truth.values()) / len(truth) < row["corrected_hi"]
    assert "value_rogan_gladen" not in row  # it never says no: nothing is known of how often that is right

    (row,) = scores([verdict(n, None) for n in range(len(truth))], Labelled({"right": labels}, random=True))
    assert row["value_judge"] is None
    assert row["value_corrected"] == pytest.approx(sum(labels.values()) / 150)  # people's alone
    assert row["weight"] == 0


@pytest.mark.parametrize(
    ("labelled", "random", "reason"),
    [
        (150, False, "the labelled answers are no random sample"),
        (0, True, "nobody labelled any of these answers"),
        (14, True, "14 labelled answers; at least 15 are needed"),
        (600, True, "all answers are labelled: people's own mean is the score"),
    ],
)
def test_without_a_random_sample_there_is_no_correction_and_it_is_said(
    labelled: int, random: bool, reason: str
) -> None:
    verdicts, truth = lenient()
    labels = {key: truth[key] for key in list(truth)[:labelled]}
    (row,) = scores(verdicts, Labelled({"right": labels}, random))
    assert row["uncorrected"] == reason
    assert "value_corrected" not in row


def test_a_card_tells_sensitivity_specificity_kappa_and_alpha() -> None:
    import statsmodels.stats.inter_rater as inter_rater

    verdicts, truth = lenient(1000)
    found = card(verdicts, Labelled({"right": truth}))
    said = np.array([v.values["right"] for v in verdicts], float)
    given = np.array(list(truth.values()))
    table = np.array([[((said == i) & (given == j)).sum() for j in (0, 1)] for i in (0, 1)])
    known = inter_rater.cohens_kappa(table)
    assert found["kappa"]["value"] == pytest.approx(known.kappa)
    assert found["kappa"]["ci_lo"] == pytest.approx(known.kappa_low, abs=1e-3)
    assert found["sensitivity"]["value"] == pytest.approx(said[given == 1].mean())
    assert found["specificity"]["value"] == pytest.approx(1 - said[given == 0].mean())
    assert found["specificity"]["n"] == (given == 0).sum()
    assert found["leaning"]["value"] == pytest.approx((said - given).mean())
    assert found["alpha"]["ci_lo"] < found["alpha"]["value"] < found["alpha"]["ci_hi"]


def test_a_card_tells_how_much_was_read_and_how_the_scale_was_used() -> None:
    verdicts = [verdict(n, 1.0) for n in range(6)] + [verdict(6, 0.0), verdict(7, None)]
    found = card([*verdicts, verdict(8, None, status="error", values={})])
    assert (found["judged"]["value"], found["parse_rate"]["value"]) == (8 / 9, 7 / 8)
    assert (found["grade_1"]["value"], found["grade_0"]["value"]) == (6 / 7, 1 / 7)


def test_a_judge_of_length_has_a_slope() -> None:
    random = np.random.default_rng(0)
    verdicts = []
    for question in range(80):
        for model in ("a", "b"):
            length = int(random.integers(1, 9))
            value = min(1.0, max(0.0, 0.1 * length + random.normal(0, 0.02)))
            verdicts.append(verdict(question, value, model=model, judged="x" * (2**length - 1)))
    found = card(verdicts)["verbosity_slope"]
    assert found["value"] == pytest.approx(0.1, abs=0.01)
    assert found["ci_lo"] > 0.08
    same = [verdict(n, float(n % 2)) for n in range(30)]
    assert card(same)["verbosity_slope"]["value"] is None


def test_a_judge_of_quality_has_no_slope_where_answers_to_the_same_questions_are_compared() -> None:
    verdicts = []
    for question in range(40):  # questions that need longer answers are the easier ones
        for model, more in (("a", 0), ("b", 1)):
            length = question % 8 + more
            verdicts.append(verdict(question, question % 8 / 7, model=model, judged="x" * (2**length - 1)))
    assert card(verdicts)["verbosity_slope"]["value"] == pytest.approx(0)
    assert card(verdicts[::2])["verbosity_slope"]["value"] == pytest.approx(1 / 7)


def test_comparisons_tell_consistency_and_the_place_that_is_preferred() -> None:
    orders = [("A", "A")] * 6 + [("A", "B")] * 3 + [("B", "tie")]
    found = card([comparison(n, each) for n, each in enumerate(orders)])
    assert (found["position_consistency"]["value"], found["position_consistency"]["n"]) == (0.3, 10)
    assert found["prefers_first"]["value"] == 15 / 19
    assert (found["ties"]["value"], found["wins"]["value"]) == (0.7, 0.3)


def test_its_own_answers_and_repeats_are_held_against_the_others() -> None:
    verdicts = [verdict(n, 0.5, model="other") for n in range(10)]
    verdicts += [verdict(n, 1.0, model="wise") for n in range(10)]
    verdicts += [verdict(n, 0.5, model="other", repeat_idx=1) for n in range(5)]
    verdicts += [verdict(n, 0.0, model="other", repeat_idx=1) for n in range(5, 10)]
    found = card(verdicts)
    assert found["self_preference"]["value"] == pytest.approx(0.625)
    assert found["test_retest"]["value"] == 0.5
    assert "self_preference" not in card(verdicts, judge="third")


def test_a_jury_tells_how_far_its_jurors_agree() -> None:
    import krippendorff

    votes = [(1.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.5, None), (0.0, 0.0)]
    verdicts = [
        verdict(n, 0.5, votes={"right": {"x": first, "y": second}}) for n, (first, second) in enumerate(votes)
    ]
    found = card(verdicts, judge=None)
    table = [[first for first, _ in votes], [float("nan") if y is None else y for _, y in votes]]
    known = krippendorff.alpha(table, level_of_measurement="interval")
    assert found["jury_alpha"]["value"] == pytest.approx(known)
    assert (found["jury_alpha"]["n"], found["jury_range"]["value"]) == (4, 0.25)


def test_win_rates_are_controlled_for_length_and_style() -> None:
    random = np.random.default_rng(5)
    verdicts = []
    for question in range(300):
        first, second = random.integers(10, 1000, 2)
        first += 200
        longer = random.random() < 1 / (1 + np.exp(-(first - second) / 200))
        texts = {"judged": "x" * int(first), "against": "x" * int(second)}
        verdicts.append(comparison(question, ("A", "B") if longer else ("B", "A"), **texts))
    (row,) = scores(verdicts)
    assert row["controlled_lo"] < 0.5 < row["controlled_hi"]
    assert row["value_style"] == pytest.approx(row["value_controlled"], abs=1e-3)  # no style in these texts


def test_nothing_looks_more_certain_than_it_is() -> None:
    for n in (3, 40):  # too few, and all the same
        (row,) = scores([comparison(number, ("A", "A")) for number in range(n)])
        assert (row["value_judge"], row["value_controlled"], row["strength"]) == (0.5, 0.5, 0.0)
        assert not {"controlled_lo", "style_lo", "strength_lo"} & row.keys()


def test_strengths_are_those_of_choix() -> None:
    import choix

    wins = {"a": 70, "b": 45}
    verdicts = [
        comparison(n, ("A", "B") if n < won else ("B", "A"), model=model)
        for model, won in wins.items()
        for n in range(100)
    ]
    found = {row["model"]: row for row in scores(verdicts)}
    pairs = [(0, 2)] * 70 + [(2, 0)] * 30 + [(1, 2)] * 45 + [(2, 1)] * 55
    known = choix.opt_pairwise(3, pairs, alpha=1e-6)
    assert found["a"]["strength"] == pytest.approx(known[0] - known[2], abs=1e-4)
    assert found["b"]["strength"] == pytest.approx(known[1] - known[2], abs=1e-4)
    assert found["a"]["strength_lo"] < found["a"]["strength"] < found["a"]["strength_hi"]
    # Of the log odds of 70 in 100, whose error is √(1/70 + 1/30): the other model's does not come in
    half = (found["a"]["strength_hi"] - found["a"]["strength_lo"]) / 2
    assert half == pytest.approx(1.96 * (1 / 70 + 1 / 30) ** 0.5, rel=0.1)


# Labels


def read(tmp_path: Path, text: str, judging: Mapping[str, Any] | None = None, **labels: Any) -> Labelled:
    (tmp_path / "labels.csv").write_text(text)
    asked = {"of": "qa", "judge": "wise", "labels": {"file": "labels.csv", **labels}, **(judging or {})}
    return read_labels(Judging.model_validate(asked), RUBRIC, tmp_path, tmp_path)


def test_labels_are_the_means_of_raters() -> None:
    assert read_labels(Judging(), RUBRIC, Path(), Path()) == Labelled()


def test_rows_on_other_answers_and_second_looks_do_not_count(tmp_path: Path) -> None:
    text = (
        "model,benchmark,sample_uid,rater,dimension,value,random,again\n"
        "m,qa,q1,ann,right,1,True,False\nm,qa,q1,bob,right,0,True,False\nm,qa,q1,bob,right,1,True,True\n"
        "m,qa,q2,ann,,1,True,False\nm,other,q3,ann,right,1,True,False\nm,qa,q4,ann,tone,5,True,False\n"
        "m,qa,q5,ann,right,,True,False\n"
    )
    found = read(tmp_path, text)
    assert found.values == {"right": {("m", "q1", 0): 0.5, ("m", "q2", 0): 1.0}}
    assert found.random
    assert not read(tmp_path, text, random=False).random
    # Beside a random sample others count for nothing: a judge's doubtful answers are no sample of all
    mixed = read(tmp_path, text.replace("q2,ann,,1,True", "q2,ann,,1,False"))
    assert mixed.random and mixed.values == {"right": {("m", "q1", 0): 0.5}}
    # `random: true` is for rows that do not say
    assert read(tmp_path, text.replace("q2,ann,,1,True", "q2,ann,,1,False"), random=True) == mixed
    assert not read(tmp_path, text.replace("True", "False"), random=True).random
    assert read(tmp_path, "model,sample_uid,value\nm,q1,1\n", random=True).random


def test_labels_of_no_dimension_that_is_judged_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^judging\.labels\.file: .*no row's dimension is judged; .* right"):
        read(tmp_path, "model,sample_uid,dimension,value\nm,q1,rihgt,1\n")


def a_study(tmp_path: Path, **given: Any) -> Labels:
    content = {"name": "pilot", "raters": ["ann"], "questions": 5, "dimensions": {"right": {"question": "?"}}}
    (tmp_path / "study.yaml").write_text(json.dumps(content | given))
    return Labels(study="study.yaml")


def test_a_study_is_read_from_the_results_once_people_have_rated(tmp_path: Path) -> None:
    judging = Judging(of="qa", judge="wise", labels=a_study(tmp_path))
    found = read_labels(judging, RUBRIC, tmp_path, tmp_path / "humans")
    assert found.lacking == "people have rated nothing yet: slurmeval humans make study.yaml"
    (row,) = scores([verdict(0, 1.0)], found)
    assert row["uncorrected"] == found.lacking
    ratings = tmp_path / "humans" / "pilot" / "ratings.parquet"
    ratings.parent.mkdir(parents=True)
    columns = {"model": ["m"], "sample_uid": ["q1"], "dimension": ["right"], "value": [4], "random": [True]}
    pq.write_table(pa.table(columns), ratings)
    found = read_labels(judging, RUBRIC, tmp_path, tmp_path / "humans")
    assert (found.random, found.values) == (True, {"right": {("m", "q1", 0): 0.75}})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "pairwise"}, "its kind is pairwise, and what is judged is direct"),
        ({"benchmarks": ["other"]}, "its benchmarks are other, without 'qa'"),
        (
            {"dimensions": {"tone": {"question": "?"}}},
            "none of its dimensions is judged: tone; the rubric has right",
        ),
        (
            {"questions": None},
            "study.yaml: questions: either questions or half_width says how many are rated",
        ),
    ],
)
def test_a_study_that_says_nothing_of_what_is_judged_is_refused(
    given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    judging = Judging(of="qa", judge="wise", labels=a_study(tmp_path, **given))
    with pytest.raises(UserError) as raised:
        read_labels(judging, RUBRIC, tmp_path, tmp_path)
    assert str(raised.value) == f"judging.labels.study: {said}"


def test_a_thousand_labels_count_each_once_and_one_bad_one_is_named(tmp_path: Path) -> None:
    lines = [f"m,q{number},{number % 2},yes" for number in range(1000)]
    found = read(tmp_path, "model,sample_uid,value,random\n" + "\n".join(lines))
    assert len(found.values["right"]) == 1000
    (row,) = scores([verdict(number, 1.0) for number in range(1100)], found)
    assert (row["n_labelled"], row["value_corrected"]) == (1000, pytest.approx(0.5))
    lines[700] = "m,q700,8,yes"
    with pytest.raises(UserError, match=r"labels\.csv, line 702: the value '8' is none of the grades 0 to 1"):
        read(tmp_path, "model,sample_uid,value,random\n" + "\n".join(lines))


def test_comparisons_are_read_in_either_order(tmp_path: Path) -> None:
    text = "model,against,sample_uid,dimension,value\nm,base,q1,preference,1\nbase,m,q2,preference,1\n"
    text += "m,base,q3,confidence,4\nm,third,q4,preference,1\n"
    found = read(tmp_path, text, {"mode": "pairwise", "against": "base"})
    assert found.values == {"win_rate": {("m", "q1", 0): 1.0, ("m", "q2", 0): 0.0}}
    words = "model,sample_uid,value\nm,q1,win\nm,q2,Tie\n"
    found = read(tmp_path, words, {"mode": "pairwise", "against": "base"})
    assert found.values["win_rate"] == {("m", "q1", 0): 1.0, ("m", "q2", 0): 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,value\nm,1\n", "labels.csv, line 2: the column sample_uid is missing"),
        ("model,sample_uid,value\nm,q,7\n", "labels.csv, line 2: the value '7' is none of the grades 0 to 1"),
        ("model,sample_uid,value\nm,q,yes\n", "labels.csv, line 2: the value 'yes' is none of the grades"),
        ("model,sample_uid,value\nm,q,nan\n", "labels.csv, line 2: the value 'nan' is none of the grades"),
        ("model,sample_uid,value\n,q,1\n", "labels.csv, line 2: model or sample_uid is empty"),
        ("model,sample_uid,value,repeat_idx\nm,q,1,x\n", "line 2: repeat_idx is 'x', no whole number"),
        ("model,sample_uid,value\nm,q\n", "labels.csv, line 2: expected 3 values"),
    ],
)
def test_a_label_that_will_not_do_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        read(tmp_path, text)
    assert str(raised.value).startswith("judging.labels.file: ")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"value": [1]}, "the value [1] is none of win, tie, loss"),
        ({"value": 10**400}, "is none of win, tie, loss"),
        ({"value": 1, "repeat_idx": [1]}, "repeat_idx is [1], no whole number"),
        ({"value": 1, "model": "base"}, "against is empty; expected what base was compared with"),
    ],
)
def test_a_comparison_that_will_not_do_is_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text(json.dumps({"model": "m", "sample_uid": "q", **row}) + "\n")
    asked = {"mode": "pairwise", "against": "base", "labels": {"file": "labels.jsonl"}}
    with pytest.raises(UserError) as raised:
        read_labels(Judging.model_validate(asked), RUBRIC, tmp_path, tmp_path)
    assert str(raised.value).startswith("judging.labels.file: labels.jsonl, line 1: ")
    assert message in str(raised.value)
