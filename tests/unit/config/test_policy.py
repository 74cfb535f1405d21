"""Policies of a gate: NeMo Evaluator's keys, what an entry inherits, and files that cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmeval.config.load import load_policy
from slurmeval.config.policy import GateLimits, GatePolicy
from slurmeval.errors import ConfigError

NEMO = """
version: 1
defaults:
  tier: supporting
  metric: mean_reward
  direction: higher_is_better
  max_drop: 0.02
benchmarks:
  mmlu_pro:
    tier: critical
    max_drop: 0.01
  aime_2025:
    max_relative_drop: 0.02
    relative_guard_below: 0.20
  aa_lcr: {}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "policy.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_nemo_evaluators_policy_is_read(tmp_path: Path) -> None:
    policy = load_policy(written(tmp_path, NEMO))
    assert policy.limits("mmlu_pro") == GateLimits(
        tier="critical", max_drop=0.01, metric="mean_reward", direction="higher_is_better"
    )
    assert policy.limits("aime_2025").max_relative_drop == 0.02
    assert (policy.limits("aime_2025").tier, policy.limits("aime_2025").max_drop) == ("supporting", 0.02)
    assert policy.limits("aa_lcr") == policy.limits("named nowhere") == policy.defaults


def test_without_defaults_nemo_evaluators_hold() -> None:
    assert GatePolicy().limits("any") == GateLimits(tier="supporting", max_drop=0.015)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: {max_dorp: 0.1}", "defaults.max_dorp: unknown key; did you mean 'max_drop'?"),
        ("benchmarks: {sums: {tire: critical}}", "benchmarks.sums.tire: unknown key; did you mean 'tier'?"),
        ("defaults: {tier: severe}", "defaults.tier: 'severe' is not allowed; allowed: critical"),
        ("defaults: {max_drop: -0.1}", "defaults.max_drop: -0.1 is too small; expected at least 0"),
        ("defaults: {max_relative_drop: 2}", "defaults.max_relative_drop: 2 is too large"),
        ("defaults: {max_drop: .nan}", "defaults.max_drop: nan is not a finite number"),
        ("defaults: {max_drop: a lot}", "defaults.max_drop: 'a lot' is text; expected a number"),
        ("benchmarks: [sums]", "benchmarks: is a list; expected a mapping"),
        ("version: 2", "version: is 2; this program reads version 1"),
        ("benchmarks: {a: {}, a: {}}", "two entries with one id"),
        ("", "is empty; expected a mapping"),
        (
            "benchmarks: {sums: {relative_guard_below: 0.2}}",
            "benchmarks.sums.relative_guard_below: says nothing without max_relative_drop",
        ),
        (
            "defaults: {relative_guard_below: 0.2}",
            "defaults.relative_guard_below: says nothing without max_relative_drop",
        ),
        ("{candidate: new, baselines: [old, new]}", "baselines: has the candidate, 'new', itself"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_policy(written(tmp_path, text), project=tmp_path)
    assert message in str(raised.value)
    assert str(raised.value).startswith("policy.yaml:")


def test_a_policy_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_policy(tmp_path / "none.yaml")


def test_the_page_names_every_key_and_its_example_is_read(tmp_path: Path) -> None:
    page = Path("docs/deciding.md").read_text(encoding="utf-8")
    example = page.partition("```yaml\n")[2].partition("```")[0]
    assert load_policy(written(tmp_path, example)).baselines == ["ckpt-1000"]
    for key in (*GatePolicy.model_fields, *GateLimits.model_fields):
        assert f"`{key}`" in page
