"""The Hub's formats: what its own library reads back, and what must not stand on a leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, parse_eval_result_entries

from slurmeval.files import write_json
from slurmeval.paths import Paths
from slurmeval.results import exporting
from slurmeval.results.aggregate import aggregate
from slurmeval.results.partitions import write
from tests.report import example

REVISION = "b" * 40


def run_of(folder: Path, **known: Any) -> Paths:
    """Results of one evaluation, whose dataset is of the Hub."""
    paths = example.paths_in(folder)
    made = example.samples("gsm8k", [True, True, False, True] * 4)
    evaluation = example.evaluation(**{"limit": None, "task": "gsm8k", "few_shot": 5} | known)
    write(paths, "m", "b", evaluation, example.output(made, "gsm8k"), None)
    aggregate(paths, [("m", "b")])
    for revision, repo in (("a" * 40, "openai/older"), (REVISION, "openai/gsm8k")):
        manifest = {"revision": revision, "source": {"repo": repo, "package": None}}
        write_json(paths.staged_dataset("data", revision[:8]), manifest)
    return paths


def card_of(path: Path) -> list[EvalResult]:
    """The results of a model card with this metadata, as the Hub's library reads them."""
    card = ModelCard(f"---\n{path.read_text()}---\n")
    results: list[EvalResult] = card.data.eval_results
    return results


def test_the_model_index_is_read_by_the_hubs_library(tmp_path: Path) -> None:
    exported = exporting.export("hf", run_of(tmp_path).results)
    (result,) = card_of(exported.folder / "m" / "model-index.yaml")
    assert (result.dataset_type, result.dataset_revision, result.dataset_name) == (
        "openai/gsm8k",
        REVISION,
        "b",
    )
    assert (result.metric_type, result.metric_value, result.metric_config) == (
        "exact_match",
        0.75,
        "all 1,319, 5-shot",
    )
    assert result.metric_name == "exact_match (strict-match), 95 % interval 0.505–0.898, 16 questions"
    assert exported.remarks == []


def test_an_entry_of_eval_results_names_the_hubs_dataset_at_its_revision(tmp_path: Path) -> None:
    exported = exporting.export("hf", run_of(tmp_path).results)
    text = (exported.folder / "m" / ".eval_results" / "b.yaml").read_text()
    (entry,) = parse_eval_result_entries(yaml.safe_load(text))
    assert (entry.dataset_id, entry.dataset_revision, entry.task_id) == ("openai/gsm8k", REVISION, "gsm8k")
    assert (entry.value, entry.date) == (0.75, "2026-11-22T09:03:00+00:00")
    assert entry.notes is not None and entry.notes.endswith("; all 1,319, 5-shot; lm-eval 0.4.13")


@pytest.mark.parametrize(
    ("known", "remark"),
    [
        ({"limit": 4}, "not in .eval_results, asked the first questions only: m on b"),
        ({"datasets": []}, "not in .eval_results, read no single dataset of the Hub: m on b"),
        (
            {"datasets": [{"id": "data", "revision": "c" * 40, "sha256": ""}]},
            "not in .eval_results, read no single dataset of the Hub: m on b",
        ),
    ],
)
def test_what_is_no_leaderboards_score_stays_out(tmp_path: Path, known: dict[str, Any], remark: str) -> None:
    exported = exporting.export("hf", run_of(tmp_path, **known).results)
    assert [str(name) for name in exported.files] == ["m/model-index.yaml"]
    assert exported.remarks == [remark]


def test_every_harness_has_a_model_index(every_harness: Paths, tmp_path: Path) -> None:
    exported = exporting.export("hf", every_harness.results, tmp_path)
    results = card_of(tmp_path / "m" / "model-index.yaml")
    (without,) = (remark for remark in exported.remarks if remark.startswith("left out, no score"))
    run = exporting.load(every_harness.results)
    assert len(results) + len(without.split(": ")[1].split(", ")) == len(run.ended)
    for result in results:
        primary = run.primary("m", result.dataset_name)
        assert primary is not None and result.metric_value == exporting.number_of(primary)
