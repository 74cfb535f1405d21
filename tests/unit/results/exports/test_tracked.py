"""What experiment trackers are given; tests/serving has their own libraries take and read it."""

from __future__ import annotations

from pathlib import Path

from slurmeval.paths import Paths
from slurmeval.results import exporting
from tests.report import example


def test_a_model_s_numbers_are_its_primary_scores_with_their_intervals(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    example.write_run(paths, 20)
    run = exporting.load(paths.results)
    found = {model: (config, numbers) for model, config, numbers in exporting.tracked(run)}
    assert found.keys() == set(example.MODELS)
    config, numbers = found["smollm2-135m"]
    primary = run.primary("smollm2-135m", "asdiv")
    assert primary is not None
    assert {name: number for name, number in numbers.items() if name.startswith("asdiv/")} == {
        "asdiv/exact_match": primary["value"],
        "asdiv/ci_lower": primary["ci_lo"],
        "asdiv/ci_upper": primary["ci_hi"],
        "asdiv/n": 20,
    }
    assert (config["asdiv"]["limit"], config["model_revision"]) == (60, "a" * 40)
    assert not any(name.startswith("bfcl.v3/") for name in found["other.model_2"][1])


def test_every_harness_has_numbers_only(every_harness: Paths) -> None:
    ((_, config, numbers),) = [
        each for each in exporting.tracked(exporting.load(every_harness.results)) if each[0] == "m"
    ]
    assert all(isinstance(number, int | float) for number in numbers.values())
    assert len({name.split("/")[0] for name in numbers}) > 30
    assert "human_eval" in config
