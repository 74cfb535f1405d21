"""The same questions in other words, and what their scores lose by it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurmeval.config.models import Benchmark
from slurmeval.harnesses.custom import perturbing
from slurmeval.results import robustness

from .conftest import MakeJob, Model
from .test_custom import ASKED, BY_LETTER, COLOURS, CUSTOM, jsonl, main, own, prepared, questions

TEXT = "Which animal of the northern forests sleeps through the long winter?"


def test_typos_swap_neighbours_in_some_words_and_are_the_same_each_time() -> None:
    altered = perturbing.typos(TEXT, Random(1))
    assert altered == perturbing.typos(TEXT, Random(1)) != TEXT
    changed = [(a, b) for a, b in zip(TEXT.split(), altered.split(), strict=True) if a != b]
    assert len(changed) == 1
    ((before, after),) = changed
    assert sorted(before) == sorted(after) and before[0] == after[0]
    assert perturbing.typos("a b cc 1234", Random(1)) == "a b cc 1234"  # nothing to swap


def test_case_and_distractors_keep_the_question() -> None:
    assert perturbing.upper("Is it?", Random(0)) == "IS IT?"
    assert perturbing.lower("Is It?", Random(0)) == "is it?"
    sentence, _, rest = perturbing.distractor(TEXT, Random(0)).partition(f" {TEXT}")
    assert sentence in perturbing.DISTRACTORS and rest == ""


def test_each_question_is_asked_again_in_each_way(tmp_path: Path) -> None:
    rows = [{"question": "Capital of France?", "answer": "Paris", "said": "France is ruled from?"}]
    kinds = {"kinds": ["typos", "upper", "paraphrase"], "paraphrase": "said"}
    original, *altered = questions(jsonl(tmp_path, rows), perturb=kinds)
    assert (original.id, original.perturbation) == ("1", None)
    assert [(each.id, each.perturbation, each.perturbation_of) for each in altered] == [
        ("1~typos", "typos", "1"), ("1~upper", "upper", "1"), ("1~paraphrase", "paraphrase", "1"),
    ]  # fmt: skip
    # The column alone is altered, not what the prompt says around it
    assert altered[1].prompt == "CAPITAL OF FRANCE? The name only."
    assert altered[2].prompt == "France is ruled from? The name only."
    assert {each.references[0] for each in altered} == {"Paris"}


def test_options_come_in_another_order_with_their_letters(tmp_path: Path) -> None:
    file = jsonl(tmp_path, COLOURS)
    found = questions(file, perturb={"kinds": ["options"]}, **BY_LETTER)
    sky, turned = found[0], found[3]
    assert (turned.id, turned.choices) == ("1~options", ["blue", "green", "red"])
    assert turned.choices is not None and sky.choices is not None
    right = [each.choices["ABC".index(each.references[0])] for each in (sky, turned) if each.choices]
    assert right == ["blue", "blue"]
    assert "A. blue" in turned.prompt


def test_a_question_that_stays_as_it_is_is_not_asked_twice(tmp_path: Path) -> None:
    rows = [{"question": "is it?", "answer": "no"}]
    assert len(questions(jsonl(tmp_path, rows), perturb={"kinds": ["lower"]})) == 1


def test_scores_of_altered_questions_are_rows_of_their_own(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that knows the answer unless it is shouted at."""
    model[0].answer = staticmethod(
        lambda body: "?" if body["messages"][-1]["content"].startswith("CAPITAL") else "Paris"
    )
    job = make_job(**own(questions=ASKED | {"perturb": {"kinds": ["upper", "lower"]}}))
    rows = [{"question": f"Capital of France, no {n}?", "answer": "Paris"} for n in range(20)]
    jsonl(job.datasets["mine"], rows)
    assert main(prepared(job, model[1], monkeypatch)) == 0
    output = CUSTOM.read(job)
    found = {metric.task: (metric.value, metric.n_items, metric.is_primary) for metric in output.metrics}
    assert found == {"bench": (1, 20, True), "bench.upper": (0, 20, False), "bench.lower": (1, 20, False)}
    assert output.n_requested == len(output.samples) == 60

    path = job.folder / "samples.parquet"
    table = [
        {
            "native_id": sample.native_id,
            "category": sample.category,
            "scores": [{"metric": score.metric, "value": score.value} for score in sample.scores],
            "metadata_json": json.dumps(sample.metadata),
        }
        for sample in output.samples
    ]
    pq.write_table(pa.Table.from_pylist(table), path)
    upper, lower = robustness.read(path)
    assert (upper.kind, upper.metric, upper.original, upper.altered) == ("upper", "includes", 1, 0)
    assert (upper.paired.value, upper.paired.a_only, upper.paired.b_only) == (1, 20, 0)
    assert upper.paired.interval is not None
    z2 = 3.841459  # Tango's interval where all differ alike
    assert upper.paired.interval.low == pytest.approx((20 - z2) / (20 + z2), abs=1e-4)
    assert upper.paired.p_value == pytest.approx(2 * 0.5**20)  # McNemar's, exact
    assert (lower.paired.value, lower.paired.n) == (0, 20)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"perturb": {"kinds": ["options"]}}, "questions.perturb.kinds: options goes with questions.choices"),
        ({"perturb": {"kinds": ["paraphrase"]}}, "questions.perturb.paraphrase: names the column"),
        ({"perturb": {"kinds": ["typos"], "paraphrase": "said"}}, "questions.perturb.paraphrase: names"),
        ({"perturb": {"kinds": ["typos"]}, "rotate": True, "choices": "o"}, "questions.perturb: goes with"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: dict[str, Any], message: str) -> None:
    found = CUSTOM.problems(Benchmark.model_validate(own(questions=ASKED | asked)))
    assert any(line.startswith(message) for line in found), found
