"""The harness `inspect`: what it starts, what it refuses, and how it reads a log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.models import Benchmark
from slurmeval.errors import EvaluationFailed
from slurmeval.harnesses import Job, harness
from slurmeval.harnesses.inspect import tasks

from .conftest import FIXTURES, KEY, MakeJob

INSPECT = harness("inspect")
KINDS = FIXTURES / "inspect_kinds"


@pytest.fixture
def job(make_job: MakeJob) -> Job:
    """A job whose attempt has left what a run of kinds.py left."""
    job = make_job(harness="inspect", task="kinds", limit=4, repeats=2, extra={"category": "subject"})
    shutil.copytree(KINDS, job.folder / "0001")
    return job


def rewritten(job: Job, name: str, change: Callable[[str], str]) -> None:
    path = job.folder / "0001" / name
    path.write_text(change(path.read_text()))


def benchmark(**keys: Any) -> Benchmark:
    return Benchmark(harness="inspect", **keys)


def test_scorers_reducers_and_values_are_metrics_of_their_own(job: Job) -> None:
    output = INSPECT.read(job)
    rows = [each for each in output.metrics if each.subset is None]
    found = {(each.filter, each.metric): (each.value, each.harness_value) for each in rows}
    assert found == {
        ("includes", "accuracy"): (2 / 3, 2 / 3),
        ("includes", "accuracy_at_least_1"): (2 / 3, 2 / 3),
        ("pattern", "accuracy"): (0, 0),
        ("pattern", "accuracy_at_least_1"): (0, 0),
        ("shape/words", "mean"): (None, 4),  # a count of words is no proportion
        ("shape/words", "mean_at_least_1"): (None, 1),
        ("shape/short", "accuracy"): (0, 0),
        ("shape/short", "accuracy_at_least_1"): (0, 0),
        ("by_subject", "accuracy"): (1 / 3, 1 / 3),
        ("by_subject", "accuracy_at_least_1"): (1 / 3, 1 / 3),
    }
    groups = {each.subset: each.value for each in output.metrics if each.subset and each.metric == "accuracy"}
    assert groups == {"letters": 1 / 2, "numbers": 0}
    (primary,) = [each for each in output.metrics if each.is_primary]
    assert (primary.filter, primary.metric, primary.n_items, primary.n_repeats) == (
        "includes",
        "accuracy",
        3,
        2,
    )
    assert primary.se == pytest.approx(1 / 3)
    assert output.n_requested == 8
    assert output.task_version == "3"


def test_a_score_of_all_beside_that_of_groups_is_there_once_and_another_value_has_another_name(
    job: Job,
) -> None:
    expected = {
        (each.subset, each.filter, each.metric): each.harness_value for each in INSPECT.read(job).metrics
    }

    def computed_again(text: str) -> str:
        results = json.loads(text)
        metrics = results["scores"][-1]["metrics"]
        (whole,) = [each for each in metrics if each["key"] == "all"]
        metrics += [{**whole, "key": "all1"}, {**whole, "key": "all2", "value": 0.25, "over_groups": True}]
        return json.dumps(results)

    rewritten(job, "results.json", computed_again)
    metrics = INSPECT.read(job).metrics
    found = {(each.subset, each.filter, each.metric): each.harness_value for each in metrics}
    assert len(found) == len(metrics)
    assert found == expected | {(None, "by_subject", "accuracy_at_least_1_all2"): 0.25}


def test_samples_say_what_failed_what_was_cut_short_and_what_was_scored(job: Job) -> None:
    samples = {(each.native_id, each.repeat_idx): each for each in INSPECT.read(job).samples}
    assert len(samples) == 8
    right, broken, long = samples["right", 1], samples["broken", 0], samples["long", 0]
    assert (right.status, right.reference, right.category) == ("ok", "A | B", "letters")
    assert right.output == "The answer is (A)."
    scores = {(each.filter, each.metric): (each.value, each.correct) for each in right.scores}
    assert scores == {
        ("includes", "accuracy"): (1, True),
        ("pattern", "accuracy"): (0, False),
        ("shape/words", "mean"): (4, None),
        ("shape/short", "accuracy"): (0, False),
        ("by_subject", "accuracy"): (1, True),
    }
    assert (broken.status, broken.output, broken.scores) == ("error", None, [])
    assert "the solver broke" in broken.metadata["error"]
    assert long.metadata["limit"] == "message"
    assert right.prompts == ["system: Be short.\n\nuser: Which letter?"]


def test_an_answer_in_which_the_first_scorer_finds_nothing_is_unparsed(job: Job) -> None:
    rewritten(
        job, "samples.jsonl", lambda text: text.replace('"answer": "the answer is (a)."', '"answer": ""')
    )
    assert {each.status for each in INSPECT.read(job).samples} == {"unparsed", "error"}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("samples.jsonl", lambda text: text.partition("\n")[2], "8 answers were asked for, .* samples of 7"),
        ("samples.jsonl", lambda text: text + text.partition("\n")[0], "is there twice"),
        ("samples.jsonl", lambda text: text[:-40], "samples.jsonl:8: not JSON"),
        ("results.json", lambda text: text[:-40], "results.json: not JSON"),
        ("results.json", lambda text: text.replace('"n_samples"', '"n"'), "do not parse"),
    ],
)  # fmt: skip
def test_files_that_are_not_whole_are_bad_results(
    job: Job, name: str, change: Callable[[str], str], message: str
) -> None:
    rewritten(job, name, change)
    with pytest.raises(EvaluationFailed, match=message):
        INSPECT.read(job)


def test_status_0_without_results_is_a_failure(job: Job, tmp_path: Path) -> None:
    (job.folder / "0001" / "results.json").unlink()
    with pytest.raises(EvaluationFailed, match=r"wrote no results\.json"):
        INSPECT.check(job, 0, tmp_path / "log")


def test_the_order_has_the_parameters_and_no_key(make_job: MakeJob) -> None:
    arguments, generate = {"data": "${dataset:mine}/test.jsonl", "n": 3}, {"stop_seqs": ["x"]}
    extra = {"task_args": arguments, "message_limit": 9, "reducers": ["mode"], "generate": generate}
    job = make_job(
        harness="inspect", task="openbookqa", task_file="inspect_openbookqa.py", datasets=["mine"], limit=5,
        repeats=3,
        temperature=0.5, max_tokens=7, parallelism=4, extra=extra,
    )  # fmt: skip
    command = INSPECT.prepare(job)
    order = json.loads((command.cwd / "order.json").read_text())
    assert order["task"] == "task/openbookqa.py@openbookqa"
    assert (command.cwd / "task" / "openbookqa.py").is_file()
    assert (order["epochs"], order["reducers"]) == (3, ["mode"])
    assert order["arguments"] == {
        "task_args": {"data": f"{job.datasets['mine'].absolute()}/test.jsonl", "n": 3},
        "limit": 5, "max_connections": 4, "max_samples": 4, "max_retries": 2, "message_limit": 9,
        "stop_seqs": ["x"], "temperature": 0.5, "max_tokens": 7,
    }  # fmt: skip
    assert KEY not in (command.cwd / "order.json").read_text()
    assert KEY not in " ".join(command.argv)
    assert not command.hostile


def test_a_sandbox_makes_it_run_contained_or_not_at_all(make_job: MakeJob) -> None:
    job = make_job(harness="inspect", task="humaneval", extra={"sandbox": "local"})
    command = INSPECT.prepare(job)
    assert command.hostile
    assert json.loads((command.cwd / "order.json").read_text())["arguments"]["sandbox"] == "local"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "task: is missing"),
        ({"task": "gpqa_diamon"}, "inspect_evals has no task 'gpqa_diamon'; did you mean 'gpqa_diamond'?"),
        ({"task": "humaneval"}, "extra.sandbox: is missing; the scorer of 'humaneval' runs programs"),
        ({"task": "simpleqa"}, "extra.model_roles: 'simpleqa' has answers judged"),
        ({"task": "gaia", "extra": {"sandbox": "local"}}, "network: 'gaia' needs the internet"),
        ({"task": "gaia", "network": True, "extra": {"sandbox": "local"}}, "network: it runs what the model"),
        ({"task": "ifeval"}, "task: 'ifeval' needs packages"),
        ({"task": "bbh", "endpoint": "completions"}, "endpoint: Inspect asks through chat"),
        ({"task": "bbh", "few_shot": 2}, "few_shot: Inspect has none"),
        ({"task": "bbh", "extra": {"epochs": 2}}, "extra.epochs: unknown"),
        ({"task": "bbh", "extra": {"sandbox": "docker"}}, "extra.sandbox: 'docker' must be local"),
        ({"task": "bbh", "extra": {"message_limit": "9"}}, "extra.message_limit: expected a whole number"),
        ({"task": "bbh", "extra": {"reducers": "mean"}}, "extra.reducers: expected a list"),
        ({"task": "bbh", "extra": {"task_args": []}}, "extra.task_args: expected a mapping"),
        ({"task": "mine", "task_file": "mine.yaml"}, "task_file: mine.yaml must be a Python file"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_before_anything_starts(keys: dict[str, Any], message: str) -> None:
    found = INSPECT.problems(benchmark(**keys))
    assert any(line.startswith(message) or message in line for line in found), found


def test_what_can_be_has_no_problems() -> None:
    assert INSPECT.problems(benchmark(task="gpqa_diamond")) == []
    assert INSPECT.problems(benchmark(task="humaneval", extra={"sandbox": "local"})) == []
    assert INSPECT.problems(benchmark(task="simpleqa", extra={"model_roles": {"grader": "self"}})) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@task\ndef mine():\n    pass\n", None),
        ("import inspect_ai\n@inspect_ai.task(version=2)\ndef mine(): pass\n", None),
        ("@task(name='mine')\ndef other(): pass\n", None),
        ("@task(name='other')\ndef mine(): pass\n", ": has no task 'mine'; it has other"),
        ("def mine(): pass\n", ": has no task 'mine'; it has none"),
        ("def mine(:\n", ":1: invalid syntax"),
    ],
)
def test_a_file_of_ones_own_is_looked_at_and_not_run(tmp_path: Path, text: str, message: str | None) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    (*found,) = tasks.file_problems(file, "mine")
    assert len(found) == (message is not None)
    assert message is None or found[0].startswith(message)
