"""Reading bundles of NeMo Evaluator 0.3 and 0.4, made by its own program (fixtures/nemo_bundle_make)."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from slurmeval.errors import EvaluationFailed, UserError
from slurmeval.harnesses.nemo_bundles import Bundle, find, read
from slurmeval.harnesses.nemo_containers import harness_of

from .conftest import FIXTURES

RUNS = ("nemo_bundle_run", "nemo_bundle_run_0_4")
Change = Callable[[dict[str, Any]], None]


def bundle_of(fixture: str, benchmark: str) -> Bundle:
    (path,) = find(FIXTURES / fixture / benchmark)
    return read(path)


@pytest.fixture
def arith(tmp_path: Path) -> Path:
    """A copy of the folder of the benchmark `arith`."""
    return Path(shutil.copytree(FIXTURES / "nemo_bundle_run" / "arith", tmp_path / "arith"))


def rewritten(folder: Path, change: Change) -> Path:
    (path,) = folder.glob("eval-*.json")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def lines_changed(folder: Path, change: Callable[[list[str]], None]) -> Path:
    lines = (folder / "results.jsonl").read_text().splitlines()
    change(lines)
    (folder / "results.jsonl").write_text("\n".join(lines) + "\n")
    return next(folder.glob("eval-*.json"))


def line_with(**values: Any) -> Callable[[list[str]], None]:
    """Changes values of the second line."""

    def change(lines: list[str]) -> None:
        lines[1] = json.dumps(json.loads(lines[1]) | values)

    return change


def refused(path: Path) -> str:
    with pytest.raises(EvaluationFailed) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path.parent) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("run", RUNS)
def test_binary_rewards_with_repeats(run: str) -> None:
    bundle = bundle_of(run, "arith")
    rows = {(row.metric, row.subset): row for row in bundle.output.metrics}
    first = rows["pass@1", None]
    assert (first.value, first.harness_value, first.harness_scale) == (0.6667, 0.6667, 1)
    assert (first.n_items, first.n_repeats, first.is_primary) == (5, 3, True)
    assert rows["pass@3", None].value == 1.0
    assert rows["scorer:exact_match", None].value == 0.0
    assert rows["mean_reward", "odd"].n_items == 3
    assert [row.metric for row in bundle.output.metrics if row.is_primary] == ["pass@1"]
    assert (len(bundle.output.samples), bundle.output.n_requested) == (15, 5)


@pytest.mark.parametrize("run", RUNS)
def test_fractional_rewards_and_an_answer_that_was_lost(run: str) -> None:
    bundle = bundle_of(run, ".._.._essay__script_")
    (first, category) = bundle.output.metrics
    assert (first.metric, first.value, first.is_primary) == ("mean_reward", 0.0445, True)
    assert category.subset == "../../x"
    lost = [sample for sample in bundle.output.samples if sample.status == "error"]
    assert [(sample.native_id, sample.output) for sample in lost] == [("2", None)]
    assert lost[0].metadata["scoring_details"]["error_category"] == "infra_error"
    assert bundle.benchmark == "../../essay <script>"


def test_samples_carry_what_was_asked_answered_and_scored() -> None:
    samples = bundle_of("nemo_bundle_run", "arith").output.samples
    (sample,) = [s for s in samples if (s.native_id, s.repeat_idx) == ("3", 1)]
    assert (sample.input, sample.output, sample.reference) == (
        "What is the sum of 4 and 6?",
        "The answer is 10",
        "10",
    )
    assert sample.category == "even"
    scores = {score.metric: (score.value, score.correct) for score in sample.scores}
    assert scores["pass@1"] == (1.0, True)
    assert scores["scorer:exact_match"][0] == 0.0
    assert sample.metadata["tokens"] == 18
    assert "trajectory" not in sample.metadata


def test_what_is_known_of_the_run() -> None:
    bundle = bundle_of("nemo_bundle_run", "arith")
    known = bundle.known
    assert known["ended_at"] == datetime(2026, 11, 23, 2, 53, 3, 538353, tzinfo=UTC)
    assert (known["ended_at"] - known["started_at"]).total_seconds() == 1.31
    assert (known["limit"], known["n_repeats"], known["temperature"]) == (5, 3, None)
    assert bundle.output.harness_version == "nemo-evaluator 0.3.0"
    assert bundle.model == "acme/Stand-In-1B"
    config = known["parameters"]["config"]
    assert config["shuffle"]["ds_full_size"] == 6
    assert not {"base_url", "_sandbox_config"} & set(config)


@pytest.mark.parametrize(
    ("folder", "primary", "value", "scale", "samples"),
    [
        ("lm-evaluation-harness", "acc", 0.0, 1, 0),
        ("bfcl", "live_overall_acc", None, 100, 0),
        ("nemo-skills", "pass@1[avg-of-2]/symbolic_correct", 0.75, 100, 4),
    ],
)
def test_containers_scores_by_their_harnesses_rules(
    folder: str, primary: str, value: float | None, scale: int, samples: int
) -> None:
    bundle = bundle_of("nemo_bundle_container", folder)
    (row,) = [row for row in bundle.output.metrics if row.is_primary]
    assert (row.metric, row.value, row.harness_scale) == (primary, value, scale)
    assert (len(bundle.output.samples), bundle.output.n_requested) == (samples, None)
    assert (bundle.model, bundle.known["started_at"]) == (None, None)
    answers = [(sample.native_id, sample.repeat_idx) for sample in bundle.output.samples]
    assert len(set(answers)) == samples


def test_repeats_of_nemo_skills_are_told_from_questions() -> None:
    """`nel` gives each of the four answers a number of its own."""
    samples = bundle_of("nemo_bundle_container", "nemo-skills").output.samples
    found = sorted((sample.native_id, sample.repeat_idx) for sample in samples)
    assert found == [("aime24-0", 0), ("aime24-0", 1), ("aime24-1", 0), ("aime24-1", 1)]


def test_of_several_tasks_of_a_container_none_stands_for_all(tmp_path: Path) -> None:
    folder = shutil.copytree(FIXTURES / "nemo_bundle_container" / "lm-evaluation-harness", tmp_path / "x")

    def change(content: dict[str, Any]) -> None:
        scores = content["benchmark"]["scores"]
        scores |= {f"another/{key.partition('/')[2]}": dict(score) for key, score in scores.items()}

    rows = read(rewritten(folder, change)).output.metrics
    assert len({row.task for row in rows}) == 2
    assert not [row for row in rows if row.is_primary]


def test_of_an_unknown_container_the_scale_is_not_known(tmp_path: Path) -> None:
    folder = shutil.copytree(FIXTURES / "nemo_bundle_container" / "lm-evaluation-harness", tmp_path / "x")

    def change(content: dict[str, Any]) -> None:
        content["config"] |= {"image": "registry/own:1", "task": "own"}

    rows = read(rewritten(folder, change)).output.metrics
    assert [(row.value, row.harness_value) for row in rows] == [(None, 0.0), (None, 0.25)]


@pytest.mark.parametrize("wrapped", ["helm", "simple_evals"])
def test_rules_that_need_samples_are_not_asked(wrapped: str, tmp_path: Path) -> None:
    folder = shutil.copytree(FIXTURES / "nemo_bundle_container" / "lm-evaluation-harness", tmp_path / "x")

    def change(content: dict[str, Any]) -> None:
        content["config"] |= {"image": "x", "task": f"{wrapped}.t"}

    values = [row.value for row in read(rewritten(folder, change)).output.metrics]
    assert values == ([None, None] if wrapped == "helm" else [0.0, 0.25])


@pytest.mark.parametrize(
    ("image", "task", "harness"),
    [
        ("nvcr.io/nvidia/eval-factory/simple-evals:26.03", "mgsm", "simple_evals"),
        ("nvcr.io/nvidia/eval-factory/bfcl@sha256:00", "x", "bfcl"),
        ("my/image:1", "hle.hle", "hle"),
        ("my/image:1", "mmath_fr", "mmath"),
        ("my/image:1", "mgsm", None),  # several have one
        (None, None, None),
    ],
)
def test_harness_of_a_container(image: str | None, task: str | None, harness: str | None) -> None:
    assert harness_of({"image": image, "task": task}) == harness


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"reward": float("nan")}, ":2: reward: None; expected a finite number"),
        ({"reward": "1"}, ":2: reward: '1'; expected a finite number"),
        ({"reward": None}, ":2: reward: None; expected a finite number"),
        ({"problem_idx": None}, ":2: problem_idx: None; expected a whole number"),
        ({"problem_idx": True}, ":2: problem_idx: True"),
        ({"repeat": -1}, ":2: repeat: -1; expected a whole number from 0"),
        ({"repeat": 2**40}, ":2: repeat: "),
        ({"repeat": 7}, "problem_idx 3 has the repeats"),
        ({"scoring_details": []}, None),
        ({"scoring_details": "x"}, ":2: scoring_details: 'x'; expected a mapping"),
        ({"metadata": [1]}, ":2: metadata: [1]; expected a mapping"),
        ({"scorer_rewards": [1]}, ":2: scorer_rewards: [1]; expected a mapping"),
        ({"problem_idx": 99}, "benchmark.samples: 5; expected 6, by results.jsonl"),
        ({"repeat": 1}, ":2: problem_idx 3, repeat 1 is there twice"),
    ],
)
def test_broken_answers(arith: Path, values: dict[str, Any], said: str | None) -> None:
    path = lines_changed(arith, line_with(**values))
    if said is None:
        assert len(read(path).output.samples) == 15
    else:
        assert said in refused(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines.append(lines.pop()[:40]), "results.jsonl:15: not JSON"),
        (lambda lines: lines.pop(), "n_results: 15; expected 14, by results.jsonl"),
        (lambda lines: lines.append(lines[0]), "results.jsonl:16: problem_idx 3, repeat 1 is there twice"),
        (lambda lines: lines.append("[1]"), "results.jsonl:16: expected a mapping"),
        (lambda lines: lines.append("[" * 100_000), "results.jsonl:16: not JSON"),
    ],
)
def test_broken_lines(arith: Path, change: Callable[[list[str]], None], said: str) -> None:
    assert said in refused(lines_changed(arith, change))


def set_at(*keys: str, to: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        if to is ...:
            del content[keys[-1]]
        else:
            content[keys[-1]] = to

    return change


PASS_1 = ("benchmark", "scores", "pass@1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            set_at(*PASS_1, "value", to=float("nan")),
            "benchmark.scores.pass@1.value: None; expected a finite number",
        ),
        (set_at(*PASS_1, to=0.5), "benchmark.scores.pass@1: expected a mapping"),
        (
            set_at("benchmark", "scores", "pass@3", "value", to=0.9),
            "benchmark.scores.pass@3.value: 0.9; expected 1.0, by results.jsonl",
        ),
        (set_at("benchmark", "scores", "pass@4", to={"value": 1.0}), "pass@4.value: 1.0; expected None, by"),
        (set_at("benchmark", "scores", to={}), "benchmark.scores: has no score"),
        (set_at("benchmark", "scores", to=...), "benchmark.scores: expected a mapping"),
        (set_at("benchmark", "name", to=" "), "benchmark.name: ' '; expected text"),
        (set_at("benchmark", "samples", to=6), "benchmark.samples: 6; expected 5, by results.jsonl"),
        (set_at("benchmark", "samples", to="5"), "benchmark.samples: '5'; expected a whole number from 0"),
        (set_at("benchmark", "repeats", to=2), "has the repeats [0, 1, 2], of 2 (benchmark.repeats)"),
        (set_at("benchmark", "repeats", to=0), "benchmark.repeats: 0; expected a whole number from 1"),
        (
            set_at("benchmark", "categories", "odd", "n", to=8),
            "categories.odd.n: 8; expected 9, by results.jsonl",
        ),
        (set_at("benchmark", to=[]), "benchmark: expected a mapping"),
        (set_at("n_results", to=...), "n_results: is missing; expected a whole number from 0"),
        (set_at("timestamp", to="yesterday"), "timestamp: 'yesterday'; expected a time with its zone"),
        (set_at("timestamp", to="2026-11-23T02:53:03"), "timestamp: "),
        (set_at("timestamp", to="0001-01-01T00:00:00+00:00"), "timestamp: "),
        (set_at("sdk_version", to=...), "sdk_version: is missing; expected text"),
        (set_at("config", "model", to=7), "config.model: 7; expected text"),
        (set_at("config", "max_problems", to="all"), "config.max_problems: 'all'; expected a whole number"),
        (set_at("config", "shuffle", "ds_effective_size", to=6), "5 of 6 problems: of a run in shards"),
    ],
)
def test_broken_bundles(arith: Path, change: Change, said: str) -> None:
    assert said in refused(rewritten(arith, change))


def test_bundle_that_is_no_json(arith: Path) -> None:
    (path,) = arith.glob("eval-*.json")
    path.write_text(path.read_text()[:500])
    assert "not JSON" in refused(path)
    path.write_bytes(b"\xff\xfe\x00")
    assert "not JSON" in refused(path)
    path.write_text("[]")
    assert "expected a mapping" in refused(path)


def test_missing_results(arith: Path) -> None:
    (arith / "results.jsonl").unlink()
    assert "results.jsonl: is missing; bundles have it beside them" in refused(find(arith)[0])


def test_two_bundles_in_a_folder(arith: Path) -> None:
    (first,) = find(arith)
    later = shutil.copy(first, arith / "eval-20270101T000000Z-arith.json")
    with pytest.raises(UserError, match=r"2 bundles .* with one results.jsonl, which is of the last"):
        find(arith)
    assert "is of eval-20270101T000000Z-arith.json, which was written later" in refused(first)
    assert len(read(Path(later)).output.samples) == 15


def test_finding(tmp_path: Path, arith: Path) -> None:
    assert len(find(FIXTURES / "nemo_bundle_run")) == 2
    assert find(find(arith)[0]) == find(arith)
    for place, said in ((tmp_path / "none", "no such file or folder"), (tmp_path / "empty", "no eval-")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=said):
            find(place)


def test_rewards_beyond_1_are_no_proportions(arith: Path) -> None:
    def change(lines: list[str]) -> None:
        for index, line in enumerate(lines):
            lines[index] = json.dumps(json.loads(line) | {"reward": 3.0 if index == 0 else 0.0})

    def scores(content: dict[str, Any]) -> None:
        content["benchmark"]["scores"] = {"mean_reward": {"value": 0.2}}

    lines_changed(arith, change)
    row = read(rewritten(arith, scores)).output.metrics[0]
    assert (row.value, row.harness_value, row.is_primary) == (None, 0.2, True)


def test_a_text_that_parquet_cannot_hold_and_names_that_mean_something_here(arith: Path) -> None:
    hostile = {"category": "a\ud800", "request_ids": 7, "prompt": "other"}
    path = lines_changed(arith, line_with(metadata=hostile, scorer_rewards={"scorer:\udfff": 1}))
    rewritten(arith, set_at("benchmark", "categories", to=...))
    sample = list(read(path).output.samples)[1]
    assert (sample.category, sample.scores[-1].metric) == ("a?", "scorer:?")
    assert not {"request_ids", "prompt"} & set(sample.metadata)


def test_without_a_prompt_questions_are_told_apart(arith: Path) -> None:
    def change(lines: list[str]) -> None:
        for index, line in enumerate(lines):
            lines[index] = json.dumps({k: v for k, v in json.loads(line).items() if k != "prompt"})

    samples = read(lines_changed(arith, change)).output.samples
    assert len({sample.input for sample in samples}) == 5


def test_answers_are_streamed(arith: Path) -> None:
    """30 MB of answers in less than a tenth of it."""
    n_answers, answer = 3000, "x" * 10_000

    def change(content: dict[str, Any]) -> None:
        content["benchmark"] |= {"samples": n_answers, "repeats": 1, "scores": {"pass@1": {"value": 0.0}}}
        content["benchmark"]["categories"] = None
        content["config"]["shuffle"] = None
        content["n_results"] = n_answers

    with (arith / "results.jsonl").open("w") as stream:
        for index in range(n_answers):
            row = {"problem_idx": index, "reward": 0.0, "prompt": str(index), "model_response": answer}
            stream.write(json.dumps(row) + "\n")
    path = rewritten(arith, change)
    tracemalloc.start()
    try:
        samples = read(path).output.samples
        assert sum(len(sample.output or "") for sample in samples) == n_answers * len(answer)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
