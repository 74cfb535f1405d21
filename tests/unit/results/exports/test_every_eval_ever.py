"""Every Eval Ever: records of every harness that their own schemas take, and that say what the tables say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from slurmeval.files import write_json
from slurmeval.paths import Paths
from slurmeval.results import exporting
from slurmeval.results.aggregate import aggregate
from slurmeval.results.partitions import write
from tests.report import example

SCHEMAS = Path(__file__).parent / "every_eval_ever"
EVALUATION = jsonschema.Draft7Validator(json.loads((SCHEMAS / "eval.schema.json").read_text()))
SAMPLE = jsonschema.Draft7Validator(json.loads((SCHEMAS / "instance_level_eval.schema.json").read_text()))


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records by benchmark and model: each is valid, as are its samples, which stand under `samples`."""
    found = {}
    for path in folder.glob("data/*/*/*/*.json"):
        record = json.loads(path.read_text())
        EVALUATION.validate(record)
        samples = path.with_name(f"{path.stem}_samples.jsonl")
        details = record.get("detailed_evaluation_results")
        assert (details is not None) == samples.exists()
        record["samples"] = []
        if details is not None:
            assert folder / details["file_path"] == samples
            assert details["checksum"] == hashlib.sha256(samples.read_bytes()).hexdigest()
            record["samples"] = [json.loads(line) for line in samples.read_text().splitlines()]
            assert details["total_rows"] == len(record["samples"]) > 0
        results = {result["evaluation_result_id"]: result for result in record["evaluation_results"]}
        assert len(results) == len(record["evaluation_results"])
        for sample in record["samples"]:
            SAMPLE.validate(sample)
            assert sample["evaluation_id"] == record["evaluation_id"]
            assert sample["model_id"] == record["model_info"]["id"]
            assert sample["evaluation_name"] == results[sample["evaluation_result_id"]]["evaluation_name"]
        found["/".join((path.parts[-4], record["model_info"]["name"]))] = record
    return found


def test_the_records_of_every_harness_are_valid(every_harness: Paths, tmp_path: Path) -> None:
    exported = exporting.export("every-eval-ever", every_harness.results, tmp_path)
    found = records(tmp_path)
    run = exporting.load(every_harness.results)
    (without,) = [remark for remark in exported.remarks if remark.startswith("left out, no score: ")]
    assert len(found) + len(without.split(",")) - 1 == len(run.ended)
    for record in found.values():
        (benchmark,) = {*record["evaluation_id"].split("/")[:1]}
        rows = [row for row in run.metrics_of["m", benchmark] if exporting.number_of(row) is not None]
        scores = [result["score_details"]["score"] for result in record["evaluation_results"]]
        assert scores == [exporting.number_of(row) for row in rows]


def test_samples_of_a_score_have_its_mean(every_harness: Paths, tmp_path: Path) -> None:
    exporting.export("every-eval-ever", every_harness.results, tmp_path, benchmarks=["nemo_openbookqa"])
    (record,) = records(tmp_path).values()
    for result in record["evaluation_results"]:
        own = [
            sample["evaluation"]
            for sample in record["samples"]
            if sample["evaluation_result_id"] == result["evaluation_result_id"]
        ]
        assert len(own) == 12 == result["score_details"]["uncertainty"]["num_samples"]
        assert sum(each["score"] for each in own) / 12 == pytest.approx(result["score_details"]["score"])
        assert all(each["is_correct"] is (each["score"] == 1) for each in own)


def test_a_record_says_what_is_known_of_model_and_run(every_harness: Paths, tmp_path: Path) -> None:
    exporting.export("every-eval-ever", every_harness.results, tmp_path, benchmarks=["nemo_asdiv"])
    (record,) = records(tmp_path).values()
    info = record["model_info"]
    assert (info["id"], info["developer"]) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB")
    assert info["inference_engine"] == {"name": "vllm", "version": "0.24.0"}
    assert info["additional_details"]["model_availability"] == "open_weights"
    assert json.loads(info["additional_details"]["served"])["dtype"] == "float32"
    assert "/secret/place" not in json.dumps(record)
    assert record["eval_library"]["name"] == "nemo"
    assert [*tmp_path.glob("data/nemo_asdiv/HuggingFaceTB/SmolLM2-135M-Instruct/*.json")] != []
    assert record["evaluation_results"][0]["source_data"]["source_type"] == "other"
    arguments = record["evaluation_results"][0]["generation_config"]
    assert arguments["generation_args"] == {"temperature": 0.5, "max_tokens": 64}
    assert arguments["additional_details"]["limit"] == "4"


def test_tokens_thoughts_and_hostile_answers_stand_as_they_are(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path / "run")
    example.write_run(paths)
    exported = exporting.export("every-eval-ever", paths.results, tmp_path / "out", ["smollm2-135m"])
    found = records(exported.folder)
    assert {name.split("/")[1] for name in found} == {"smollm2-135m"}
    samples = found["asdiv/smollm2-135m"]["samples"]
    rows = [*exporting.load(paths.results).samples("smollm2-135m", "asdiv")]
    for sample, row in zip(samples, rows, strict=True):
        assert sample["output"]["raw"] == [row["output"]]
        assert sample["input"]["raw"] == row["input"]
        assert sample["token_usage"]["input_tokens"] == row["prompt_tokens"]
        assert sample["performance"]["latency_ms"] == row["latency_ms"]
        assert sample["answer_attribution"][0]["extracted_value"] == row["scores"][0]["answer"]
    assert any("\u2028" in sample["output"]["raw"][0] for sample in samples)
    assert any("no repository" in remark for remark in exported.remarks)


def test_exporting_again_gives_the_same_files(every_harness: Paths, tmp_path: Path) -> None:
    chosen = {"benchmarks": ["nemo_asdiv"]}
    files = exporting.export("every-eval-ever", every_harness.results, tmp_path, **chosen).files
    before = {name: (tmp_path / name).read_bytes() for name in files}
    assert exporting.export("every-eval-ever", every_harness.results, tmp_path, **chosen).files == files
    assert {name: (tmp_path / name).read_bytes() for name in files} == before


def test_a_server_that_was_there_already_is_said_to_be_one(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    made = example.samples("sums", [True])
    served = {"served_name": "org/model", "engine": {"url": "http://10.1.2.3:8000/v1"}}
    record = example.evaluation(served=served, model_source="org/model at http://10.1.2.3:8000/v1")
    write(paths, "m", "b", record, example.output(made, "sums"), None)
    aggregate(paths, [("m", "b")])
    (found,) = records(exporting.export("every-eval-ever", paths.results).folder).values()
    info = found["model_info"]
    assert (info["id"], info["additional_details"]["deployment_type"]) == ("m", "externally_managed")
    assert "inference_engine" not in info
    assert json.loads(info["additional_details"]["served"])["served_name"] == "org/model"
    assert "10.1.2.3" not in json.dumps(found)


def test_a_sample_s_score_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    made = example.samples("sums", [True, True, False])
    output = example.output(made, "sums")
    made[0].scores[0].value = float("nan")
    made[1].scores[0].value = None
    write(paths, "m", "b", example.evaluation(), output, None)
    aggregate(paths, [("m", "b")])
    exported = exporting.export("every-eval-ever", paths.results)
    assert "scores of samples left out, not of right or wrong: m on b (2)" in exported.remarks
    for record in records(exported.folder).values():
        assert [sample["evaluation"]["score"] for sample in record["samples"]] == [0.0]


def test_a_dataset_of_the_hub_is_named_by_its_repository(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    made = example.samples("sums", [True])
    write(paths, "m", "b", example.evaluation(), example.output(made, "sums"), None)
    aggregate(paths, [("m", "b")])
    manifest = {"revision": "b" * 40, "source": {"repo": "org/sums"}}
    write_json(paths.staged_dataset("data", "key"), manifest)
    (record,) = records(exporting.export("every-eval-ever", paths.results).folder).values()
    source = record["evaluation_results"][0]["source_data"]
    assert (source["source_type"], source["hf_repo"]) == ("hf_dataset", "org/sums")
    assert json.loads(source["additional_details"]["datasets_json"])[0]["revision"] == "b" * 40
