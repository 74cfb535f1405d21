"""What a plan says of a run of which nothing has been measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.models import Config
from slurmeval.config.site import Site
from slurmeval.planning.estimate import estimate, questions, work_of
from slurmeval.planning.law import Span
from slurmeval.planning.outlook import smallest_difference, unmeasured, visible
from slurmeval.planning.plan import Plan
from slurmeval.state.manifest import Manifest, Rehearsed
from slurmeval.state.records import write

ROOT = Path(__file__).parents[3]
SEEN = Rehearsed(questions=1319, asked=2, requests=2, prompt_tokens=2000, max_tokens=256)
MODEL = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "torch_dtype": "bfloat16",
}


def make_plan(
    tmp_path: Path, seen: Rehearsed | None = SEEN, gpu: str | None = "A100-80GB", **benchmark: Any
) -> Plan:
    """A plan with an 8B model on one GPU, and a benchmark that was rehearsed so."""
    weights = tmp_path / "weights"
    weights.mkdir(exist_ok=True)
    (weights / "config.json").write_text(json.dumps(MODEL))
    with (weights / "model.safetensors").open("wb") as file:
        file.truncate(16 * 10**9)
    if not (tmp_path / "containers").exists():
        (tmp_path / "containers").symlink_to(ROOT / "containers")
    content = {
        "version": 1,
        "models": {"m": {"weights": {"folder": "weights"}, "server": "s"}},
        "servers": {"s": {"gpus": 1}},
        "benchmarks": {"b": {"harness": "lm-eval", "task": "gsm8k", "limit": 100, **benchmark}},
        "evaluate": {"benchmarks": ["b"]},
    }
    site = Site.model_validate({"version": 1, "servers": {"gpu": gpu}})
    plan = Plan(Config.model_validate(content), tmp_path, tmp_path / "hf", site)
    if seen is not None:
        write(tmp_path / plan.rehearsal("b"), Manifest(folder=tmp_path, files=[], rehearsed=seen))
    return plan


def words(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def test_an_evaluation_asks_as_its_rehearsal_did(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, repeats=2)
    entry, model = plan.config.benchmarks["b"], plan.config.models["m"]
    work = work_of(entry, SEEN, model)
    assert work is not None
    assert (work.requests, work.prompt_tokens) == (200, 200_000)
    assert work.answer_tokens == Span(200 * 32, 200 * 256)
    # four choices to each of 57 subtasks' two questions
    choices = Rehearsed(14_042, 114, 456, 456_000, 1)
    assert questions(entry, choices) == 5700
    work = work_of(entry.model_copy(update={"limit": None, "repeats": 1}), choices, model)
    assert work is not None and work.requests == 14_042 * 4
    assert work.answer_tokens == Span(14_042 * 4, 14_042 * 4)


def test_an_answer_without_limit_is_as_long_as_the_model_may(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    entry, model = plan.config.benchmarks["b"], plan.config.models["m"]
    without = Rehearsed(10, 2, 2, 2000, None)
    assert work_of(entry, without, model) is None
    work = work_of(entry, without, model.model_copy(update={"max_model_len": 4096}))
    assert work is not None and work.answer_tokens.high == 10 * 4096
    work = work_of(entry.model_copy(update={"max_tokens": 8}), without, model)
    assert work is not None and work.answer_tokens.high == 80


def test_servers_are_estimated_before_anything_has_run(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    told = estimate(plan, "m", ["b"], starting=True, ask_hub=False).seconds
    assert told is not None
    # 38 to 260 s of start; 3,200 to 25,600 tokens of 100 sequences at once, 18 ms a step, and the prompts
    assert told.low == pytest.approx(38 + 13 + 100_000 * 16e9 / (312e12 * 0.4) / 1000, abs=14)
    assert 260 < told.high < 290
    found = words(unmeasured(plan, plan.evaluations, ask_hub=False))
    assert "Not measured, estimated from the models' sizes, the GPUs and the rehearsals" in found
    assert "m: 0.01 to 0.08 GPU-hours, 52 s to 5 min" in found


@pytest.mark.parametrize(
    ("given", "lacking"),
    [
        ({"gpu": None}, "the kind of GPU: `gpu` in servers of the site file"),
        ({"seen": None}, "the rehearsal of b: `snakemake staged`"),
        ({"seen": Rehearsed(None, 2, 2, 2000, 256), "limit": None}, "how much b asks"),
    ],
)
def test_what_is_lacking_for_an_estimate_is_said(tmp_path: Path, given: dict[str, Any], lacking: str) -> None:
    plan = make_plan(tmp_path, **given)
    found = words(unmeasured(plan, plan.evaluations, ask_hub=False))
    assert found.startswith("No estimate for m: it takes ") and lacking in found


def test_a_judge_is_told_of_apart_from_whom_it_judges(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    content = plan.config.model_dump(mode="json")
    content["models"]["wise"] = content["models"]["m"]
    content["benchmarks"]["judged"] = {"harness": "judge", "judging": {"of": "b", "judge": "wise"}}
    content["benchmarks"]["jury"] = {"harness": "judge", "judging": {"jury": ["judged", "judged"]}}
    content["evaluate"] = {"models": ["m"], "benchmarks": ["b", "judged", "jury"]}
    plan = Plan(Config.model_validate(content), tmp_path, tmp_path / "hf", plan.site)
    assert [name for _, name in plan.evaluations] == ["b", "judged", "jury"]
    found = words(unmeasured(plan, plan.evaluations, ask_hub=False))
    assert "m: 0.01 to 0.08 GPU-hours, 52 s to 5 min" in found
    assert found.count("No estimate") == 1
    assert "No estimate for wise: it takes the answers that judged judges" in found


def test_the_smallest_difference_is_millers() -> None:
    assert smallest_difference(198, 1) == pytest.approx(0.13273, abs=1e-5)
    assert smallest_difference(198, 10) == pytest.approx(0.07567, abs=1e-5)


def test_half_the_difference_has_a_price(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    found = words(visible(plan, plan.evaluations, ask_hub=False))
    assert "b: 18.7 with 100 questions; 9.3 with 400, for 0.01 to 0.0" in found
    assert found.endswith("GPU-hours more")
    larger = make_plan(tmp_path, limit=500)
    assert "b: 8.4 with 500 questions; 5.1 with all 1,319" in words(
        visible(larger, larger.evaluations, False)
    )
    whole = make_plan(tmp_path, limit=None)
    found = words(visible(whole, whole.evaluations, ask_hub=False))
    assert found.endswith("b: 5.1 with 1319 questions, all that it has")


def test_a_benchmark_that_nobody_knows_is_not_told_of(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, seen=None, limit=None)
    assert visible(plan, plan.evaluations, ask_hub=False) == []
    # of how many subtasks the limit is, is not known either
    few = make_plan(tmp_path, seen=None, limit=5)
    assert visible(few, few.evaluations, ask_hub=False) == []
    of_four = Rehearsed(400, 8, 8, 2000, 256)
    some = make_plan(tmp_path, seen=of_four, limit=5)
    assert "b: 41.8 with 20 questions; 20.9 with 80" in words(visible(some, some.evaluations, False))
