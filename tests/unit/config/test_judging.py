"""Judges in a config: who judges whom, what comes first, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.judging_checks import judging_problems
from slurmeval.config.messages import dotted
from slurmeval.config.models import Config
from slurmeval.secrets import needed

DIRECT = {"of": "qa", "judge": "wise", "rubric": {"accuracy": None}}
PAIRWISE = {"of": "qa", "judge": "wise", "mode": "pairwise", "against": "base"}


def config_of(judges: dict[str, dict[str, Any]], evaluated: list[str] | None = None, **more: Any) -> Config:
    """A config with these judges' benchmarks beside `qa`."""
    benchmarks = {name: {"harness": "judge", "judging": judging} for name, judging in judges.items()}
    content: dict[str, Any] = {
        "version": 1,
        "models": {name: {"weights": {"folder": "/w"}} for name in ("tiny", "base", "wise")},
        "benchmarks": {"qa": {"harness": "lm-eval", "task": "qa"}, **benchmarks},
        "evaluate": {"benchmarks": list(judges), "models": evaluated or ["tiny", "base"]},
    }
    return Config.model_validate(content | more)


def test_what_is_judged_is_evaluated_first_and_the_judge_has_a_server() -> None:
    config = config_of({"direct": DIRECT})
    assert config.planned_benchmarks == ["qa", "direct"]
    assert config.served_models == ["tiny", "base", "wise"]
    assert config.evaluations == [
        *(("tiny", "qa"), ("tiny", "direct")),
        *(("base", "qa"), ("base", "direct")),
    ]
    assert (config.server_of("tiny", "qa"), config.server_of("tiny", "direct")) == ("tiny", "wise")
    assert config.judged("tiny", "direct") == {"answers": ("tiny", "qa")}
    assert config.judged("tiny", "qa") == {}


def test_a_judge_of_its_own_answers_and_the_model_that_others_are_held_against_are_left_out() -> None:
    config = config_of({"direct": DIRECT, "pairs": PAIRWISE}, ["tiny", "base", "wise"])
    assert config.evaluations == [
        *(("tiny", "qa"), ("tiny", "direct"), ("tiny", "pairs")),
        *(("base", "qa"), ("base", "direct")),
        ("wise", "qa"),
    ]
    assert config.judged("tiny", "pairs") == {"answers": ("tiny", "qa"), "against": ("base", "qa")}
    assert config.not_judged("wise", "direct") == "it would judge its own answers (allow_self_judging)"
    allowed = config_of({"direct": DIRECT | {"allow_self_judging": True}}, ["wise"])
    assert ("wise", "direct") in allowed.evaluations


def test_a_jury_reads_those_jurors_that_judge_the_model() -> None:
    judges = {"a": DIRECT, "b": DIRECT | {"judge": "base"}, "jury": {"jury": ["a", "b"]}}
    config = config_of(judges)
    assert config.planned_benchmarks == ["qa", "a", "b", "jury"]
    assert config.judged("tiny", "jury") == {"a": ("tiny", "a"), "b": ("tiny", "b")}
    assert config.judged("base", "jury") == {"a": ("base", "a")}
    assert config.benchmarks["jury"].asks_nobody
    assert config.server_of("tiny", "jury") == "tiny"


def test_the_key_of_a_judge_that_is_there_already_is_needed() -> None:
    models = {"tiny": {"weights": {"folder": "/w"}}, "wise": {"server": "api"}}
    servers = {"default": {}, "api": {"url": "https://api.example/v1", "api_key": "KEY"}}
    config = config_of({"d": DIRECT}, ["tiny"], models=models, servers=servers, secrets={"KEY": {}})
    assert "KEY" in needed(config, config.planned_benchmarks)


@pytest.mark.parametrize(
    ("judging", "said"),
    [
        ({}, "of: is missing"),
        ({"of": "qa"}, "judge: is missing"),
        (DIRECT | {"judge": "wize"}, "judge: unknown model 'wize'; did you mean 'wise'?"),
        (DIRECT | {"of": "qb"}, "of: unknown benchmark 'qb'; allowed: qa, other"),
        (DIRECT | {"of": "other"}, "of: 'other' is a judge's; answers are judged, not verdicts"),
        (DIRECT | {"against": "base"}, "against: goes with mode: pairwise"),
        (DIRECT | {"rubric_file": "no.yaml"}, "rubric_file: 'no.yaml': no such file"),
        (DIRECT | {"labels": {"file": "no.csv"}}, "labels.file: 'no.csv': no such file"),
        (
            PAIRWISE | {"against": None},
            "against: is missing; it is the model that the others are compared with",
        ),
        (PAIRWISE | {"against": "wise"}, "against: 'wise' is not among the models that are evaluated"),
        ({"jury": ["other"]}, "jury: expected two jurors or more"),
        ({"jury": ["other", "qa"]}, "jury.1: 'qa' is no benchmark with a judge"),
        ({"jury": ["other", "nobody"]}, "jury.1: unknown benchmark 'nobody'"),
        ({"jury": ["other", "other"]}, "jury.1: 'other' is there twice"),
        ({"jury": ["other", "pairs"]}, "jury: its jurors judge different answers, or in different modes"),
        (
            {"jury": ["other", "pairs"], "judge": "wise"},
            "judge: does not go with jury: each juror has its own",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(judging: dict[str, Any], said: str, tmp_path: Path) -> None:
    config = config_of({"other": DIRECT, "pairs": PAIRWISE, "j": judging})
    found = [f"{dotted(each.key)}: {each.text}" for each in judging_problems(config, "j", tmp_path)]
    assert any(line.startswith(f"benchmarks.j.judging.{said}") for line in found), found


def test_a_judge_that_would_judge_only_itself_is_refused(tmp_path: Path) -> None:
    config = config_of({"j": DIRECT}, ["wise"])
    (problem,) = judging_problems(config, "j", tmp_path)
    assert problem.text.startswith("'wise' would judge only itself: take another")
