"""`slurmeval import-helm`: from a run's folder to tables and report, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from slurmeval.cli import main

FIXTURES = Path(__file__).parents[1] / "harnesses" / "fixtures"
RUN = "medcalc_bench:model=local_small"
SPEC = {
    "name": RUN,
    "scenario_spec": {"class_name": "helm.benchmark.scenarios.medcalc_bench_scenario.MedCalcBenchScenario"},
    "adapter_spec": {
        "method": "generation", "model": "local/small", "model_deployment": "local/small", "temperature": 0.0,
        "max_eval_instances": 3, "num_train_trials": 1, "max_train_instances": 0, "max_tokens": 10,
    },
    "metric_specs": [],
    "groups": ["medcalc_bench"],
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of HELM on three questions, as its own program left it (its `run_spec.json` is written here)."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "benchmark_output" / "runs" / "suite" / RUN
    shutil.copytree(FIXTURES / "nemo_helm" / "runs" / "medcalc_bench" / RUN, folder)
    (folder / "run_spec.json").write_text(json.dumps(SPEC))
    return folder


def imported(*arguments: object) -> int:
    return main.run(["import-helm", *map(str, arguments)])


def rows(table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(f"imported/{table}.parquet").to_pylist()
    return found


def changed(run: Path, name: str, change: Callable[[Any], Any]) -> None:
    content = json.loads((run / name).read_text())
    (run / name).write_text(json.dumps(change(content) or content))


def without_the_first(stats: Any) -> Any:
    return [entry for entry in stats if entry["instance_id"] != "1"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert imported(*arguments) != 0
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert not Path("imported", "metrics.parquet").exists()
    return shown.err


def test_a_run_becomes_tables_and_a_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported("benchmark_output") == 0
    assert "local-small on medcalc_bench: 3 samples" in capsys.readouterr().out
    metrics = {row["metric"]: row for row in rows("metrics")}
    # What HELM's leaderboard shows of this group leads; the mean is HELM's and that of the samples
    assert metrics.keys() == {"medcalc_bench_accuracy", "exact_match"}
    led = metrics["medcalc_bench_accuracy"]
    assert (led["is_primary"], led["value"], led["n_items"], led["mismatch"]) == (True, 1 / 3, 3, False)
    samples = rows("samples/local-small/medcalc_bench")
    assert [sample["scores"][0]["correct"] for sample in samples] == [True, False, False]
    assert samples[0]["reference"] == "25.0"
    (evaluation,) = rows("evaluations")
    assert (evaluation["harness"], evaluation["limit"], evaluation["temperature"]) == ("helm", 3, 0)
    assert evaluation["ended_at"].year == 2026  # the last answer's time
    assert Path("imported/report/index.html").exists()

    assert imported(run) == 0
    assert "was there already" in capsys.readouterr().out


def test_perturbed_questions_are_rows_of_their_own(run: Path) -> None:
    def perturb(state: Any) -> None:
        extra = json.loads(json.dumps(state["request_states"][0]))
        extra["instance"]["perturbation"] = {"name": "robustness", "robustness": True, "fairness": False}
        state["request_states"].append(extra)

    changed(run, "scenario_state.json", perturb)
    assert imported(run) == 0
    found = {(row["metric"], row["subset"]) for row in rows("metrics")}
    assert ("medcalc_bench_accuracy", "robustness (worst)") in found
    assert len(rows("samples/local-small/medcalc_bench")) == 3


def test_choices_that_are_asked_one_by_one_are_one_sample(run: Path) -> None:
    def apart(state: Any) -> None:
        states = []
        for each in state["request_states"]:
            each["instance"]["references"] = [
                {"output": {"text": "yes"}, "tags": ["correct"]}, {"output": {"text": "no"}, "tags": []},
            ]  # fmt: skip
            states += [each | {"reference_index": number, "request_mode": "original"} for number in (0, 1)]
            states.append(each | {"reference_index": 0, "request_mode": "calibration"})
        state["request_states"] = states

    changed(run, "scenario_state.json", apart)
    assert imported(run) == 0
    samples = rows("samples/local-small/medcalc_bench")
    assert [(sample["choices"], sample["output"]) for sample in samples] == [(["yes", "no"], None)] * 3


def test_an_answer_that_never_came_is_an_error(run: Path) -> None:
    def lose(state: Any) -> None:
        state["request_states"][0]["result"] = {"success": False, "completions": [], "error": "no"}

    changed(run, "scenario_state.json", lose)
    assert imported(run) == 0
    sample = rows("samples/local-small/medcalc_bench")[0]
    assert (sample["status"], json.loads(sample["metadata_json"])["error"]) == ("error", "no")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "per_instance_stats.json",
            without_the_first,
            "instance 1, trial 0, are in scenario_state.json",
        ),
        ("scenario_state.json", lambda state: state | {"request_states": []}, "no request in the splits"),
        (
            "stats.json",
            lambda stats: [stat | {"count": 0} for stat in stats],
            "has no score of the split test",
        ),
        ("run_spec.json", lambda spec: {"name": RUN}, "not laid out as HELM does: KeyError('adapter_spec')"),
    ],
)
def test_what_does_not_hold_together_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], name: str, change: Callable[[Any], Any], message: str
) -> None:
    changed(run, name, change)
    assert message in refused(capsys, run)


def test_folders_that_are_no_runs_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such folder" in refused(capsys, "nowhere")
    (run / "stats.json").unlink()
    assert "has no stats.json: the run did not end" in refused(capsys, run)
    shutil.rmtree(run)
    assert "no run_spec.json in it" in refused(capsys, "benchmark_output")


def test_trials_and_perturbations_of_a_run_of_helm_itself(run: Path) -> None:
    """crfm-helm 0.5.16 on four made-up questions, with its client `simple`, two trials and its mild_mix."""
    assert imported(FIXTURES / "helm_run") == 0
    metrics = rows("metrics")
    (led,) = [row for row in metrics if row["is_primary"]]
    assert (led["metric"], led["value"], led["n_items"], led["n_repeats"]) == ("exact_match", 0, 4, 2)
    perturbed = {row["subset"] for row in metrics if row["subset"]}
    assert {"mild_mix (perturbed)", "robustness (worst)"} <= perturbed
    assert {row["metric"] for row in metrics if row["subset"]} == {"exact_match"}
    assert not any(row["mismatch"] for row in metrics)
    (table,) = Path("imported/samples/simple-model1").glob("*.parquet")
    samples = pq.read_table(table).to_pylist()
    assert len(samples) == 8
    assert (samples[0]["choices"], samples[0]["reference"]) == (["Paris", "Rome", "Lima"], "Paris")
