"""The harness `patching`: its pairs, what it refuses, how it starts, and how its results are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.models import Benchmark
from slurmeval.errors import EvaluationFailed, UserError
from slurmeval.harnesses import Job, harness
from slurmeval.harnesses.patching import pairs
from slurmeval.harnesses.patching.harness import cells_of

from .conftest import FIXTURES, KEY, MakeJob

PATCHING = harness("patching")
LEFT = FIXTURES / "patching_agreement"


@pytest.fixture
def job(make_job: MakeJob) -> Job:
    """A job whose attempt has left what a run on SmolLM2 left."""
    job = make_job(harness="patching", task="agreement", limit=6, patching={"gpus": 0})
    shutil.copytree(LEFT, job.folder / "0001")
    return job


def lines() -> list[dict[str, Any]]:
    return [json.loads(text) for text in (LEFT / "pairs.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", pairs.KINDS)
def test_pairs_differ_in_a_word_and_their_answers_in_the_same_way(kind: str) -> None:
    made = pairs.of_kind(kind, None)
    assert len(made) >= 20
    assert len({(line["clean"], line["corrupted"]) for line in made}) == len(made)
    for line in made:
        clean, corrupted = line["clean"].split(), line["corrupted"].split()
        assert len(clean) == len(corrupted)
        assert sum(a != b for a, b in zip(clean, corrupted, strict=True)) == 1
        assert line["answer"] != line["wrong"] and line["answer"].startswith(" ")
    assert pairs.of_kind(kind, 3) == made[:3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"clean": "a"}',
            "mine.jsonl, line 2: corrupted is missing or no text; a pair has clean, corrupted",
        ),
        ('{"clean": 1}', "line 2: clean is missing"),
        ("[1]", "line 2: expected a JSON object"),
        ("{", "line 2: is no JSON"),
        (
            '{"clean": "e", "corrupted": "f", "answer": "g", "wrong": "h", "id": "7"}',
            "mine.jsonl, line 2: the id '7' is that of another pair too",
        ),
    ],
)
def test_a_pair_that_will_not_do_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.jsonl"
    good = json.dumps({"clean": "a", "corrupted": "b", "answer": " c", "wrong": " d", "id": 7})
    file.write_text(f"{good}\n{text}\n")
    with pytest.raises(UserError, match=message):
        pairs.of_folder(tmp_path, None)
    (found,) = pairs.of_folder(tmp_path, 1)
    assert found == {
        "clean": "a",
        "corrupted": "b",
        "answer": " c",
        "wrong": " d",
        "id": "7",
        "category": None,
    }


def test_results_are_the_share_of_right_pairs_and_the_places_that_recover_most(job: Job) -> None:
    output = PATCHING.read(job)
    accuracy, *best = output.metrics
    assert (accuracy.metric, accuracy.value, accuracy.n_items, accuracy.is_primary) == (
        "accuracy",
        1,
        6,
        True,
    )
    # Before the first layer, the residual stream at the word that differs holds all of the difference
    (resid,) = [each for each in best if each.filter == "resid"]
    assert resid.subset is not None and resid.subset.startswith("layer 0, position -5")
    assert (resid.value, resid.harness_value) == (None, pytest.approx(1))
    assert {each.filter for each in best} == {"resid", "attn", "mlp", "heads"}
    sample = output.samples[0]
    assert (sample.status, sample.reference, sample.choices) == ("ok", " are", [" are", " is"])
    assert sample.input == "The dogs near the old tree\nThe dog near the old tree"
    assert sample.metadata["cells"].keys() == {"resid", "attn", "mlp", "heads"}


def test_cells_of_pairs_of_several_lengths_meet_at_the_end() -> None:
    made = [
        {"tokens": ["a", "b"], "cells": {"resid": [[0, 1, 0.5]], "heads": [[0, 1, 0.1]]}},
        {"tokens": ["a", "b", "c"], "cells": {"resid": [[0, 2, 0.7], [0, 1, 0.2]], "heads": [[0, 1, 0.3]]}},
        {"tokens": ["a"], "cells": None},
    ]
    assert cells_of(made, "resid") == {(0, -1): [0.5, 0.7], (0, -2): [0.2]}
    assert cells_of(made, "heads") == {(0, 1): [0.1, 0.3]}


def test_a_pair_that_cannot_be_patched_is_unparsed_and_counts_for_nothing(job: Job) -> None:
    left = lines()
    left[0] = {
        k: left[0][k] for k in ("clean", "corrupted", "answer", "wrong", "id", "category", "tokens")
    } | {"problem": "the prompts have 3 and 4 tokens"}
    (job.folder / "0001" / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in left))
    output = PATCHING.read(job)
    assert output.samples[0].status == "unparsed"
    assert output.samples[0].metadata["problem"] == "the prompts have 3 and 4 tokens"
    assert output.metrics[0].n_items == 5


def test_files_that_are_not_whole_are_bad_results(job: Job) -> None:
    path = job.folder / "0001" / "pairs.jsonl"
    path.write_text(path.read_text().partition("\n")[2])
    with pytest.raises(EvaluationFailed, match="6 answers were asked for, and there are samples of 5"):
        PATCHING.read(job)
    path.write_text("{")
    with pytest.raises(EvaluationFailed, match="not JSON"):
        PATCHING.read(job)


def test_it_is_started_on_the_weights_without_a_server(make_job: MakeJob) -> None:
    job = make_job(harness="patching", task="tense", limit=2, patching={"gpus": 0, "sites": ["mlp"]})
    command = PATCHING.prepare(job)
    order = json.loads((command.cwd / "order.json").read_text())
    assert (order["weights"], order["gpus"], order["sites"]) == (str(job.tokenizer.absolute()), 0, ["mlp"])
    assert len((command.cwd / order["pairs"]).read_text().splitlines()) == 2
    assert command.env["HF_HUB_OFFLINE"] == "1"
    assert KEY not in (command.cwd / "order.json").read_text()
    assert job.benchmark.asks_nobody


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"task": "grammar"}, "task: 'grammar' must be one of indirect_object, tense"),
        ({"task": "pairs"}, "datasets: task: pairs has one"),
        ({"task": "tense", "datasets": ["mine"]}, "datasets: task: pairs has one"),
        ({"task": "tense", "temperature": 1}, "temperature: patching has none"),
        ({"task": "tense", "repeats": 2}, "repeats: patching has none"),
        ({"task": "tense", "runtime": "image"}, "runtime: patching runs in its environment"),
        ({"task": "tense", "extra": {"a": 1}}, "extra.a: unknown"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(keys: dict[str, Any], message: str) -> None:
    found = PATCHING.problems(Benchmark(harness="patching", **keys))
    assert any(line.startswith(message) for line in found), found


def test_gpus_of_its_own_take_another_environment() -> None:
    on_gpu, on_cpu = (Benchmark(harness="patching", task="tense", patching={"gpus": n}) for n in (2, 0))
    assert (PATCHING.environments(on_gpu), PATCHING.environments(on_cpu)) == ("patching-cuda", "patching-cpu")
    assert (on_gpu.own_gpus, on_cpu.own_gpus) == (2, 0)
    assert Benchmark(harness="patching", task="tense").own_gpus == 1
    assert Benchmark(harness="human-eval", task="human-eval").own_gpus == 0
