"""Real harnesses, and a server that refuses one prompt for good: what the tables say."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from slurmeval.config.models import Benchmark, Model
from slurmeval.containment.scratch_dir import scratch_dir
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.evaluation.reading import read_output, refusals_named
from slurmeval.files import read_json, write_json
from slurmeval.gateway import log as gateway_log
from slurmeval.gateway.process import start
from slurmeval.gateway.settings import GatewayConfig
from slurmeval.harnesses import Job, cuts, harness
from slurmeval.paths import Paths
from slurmeval.processes import identity
from slurmeval.results import evaluation as results
from slurmeval.results import partitions
from slurmeval.state.lease import Lease
from slurmeval.state.records import write
from tests.serving.environments import environment
from tests.waiting import wait_for

TASK = """
task: refused
dataset_path: json
dataset_kwargs: {data_files: {test: "${dataset:asked}/asked.jsonl"}}
test_split: test
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "x"
generation_kwargs: {until: ["END"], do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""
INSPECT = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample, json_dataset
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def refused(data: str) -> Task:
    questions = json_dataset(data, lambda row: Sample(input=row["text"], target="x"))
    return Task(dataset=questions, solver=generate(), scorer=includes())
"""
KEY, MODEL = "key-of-the-server", "m"
KINDS = {
    "lm-eval": ("lm-eval", "refused", "question 3", {}),
    "nemo-lm-evaluation-harness": ("nemo", "lm-evaluation-harness.refused", "question 3", {}),
    "inspect": ("inspect", "refused", "question 3", {}),
    "nemo-bfcl": ("nemo", "bfcl.bfclv3_ast_prompting", "triangle with a base", {"extra": {"task": "simple"}}),
}
"""Harness, task, what the refused prompt holds, and more keys; by environment."""

pytestmark = [pytest.mark.serving, pytest.mark.timeout(600)]


@dataclass
class Server:
    """A stand-in server in a process of its own, with the files of a lease."""

    url: str
    lease: Path

    def refuse(self, text: str) -> None:
        body = json.dumps({"refuse_text": text}).encode()
        request = urllib.request.Request(f"{self.url}/stand-in/faults", body)
        urllib.request.urlopen(request, timeout=10).read()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    ready, folder, lease = tmp_path / "ready.json", tmp_path / "servers" / MODEL / "0001", tmp_path / "lease"
    command = [sys.executable, "-m", "tests.stand_ins.stand_in_server", "--model", MODEL, "--api-key", KEY]
    process = subprocess.Popen([*command, "--ready-file", str(ready)])
    wait_for(ready.exists, "the stand-in server")
    url = read_json(ready)["url"]
    folder.mkdir(parents=True)
    write_json(folder / "state.json", {"status": "ready", "engine_run": 1})
    write_json(folder / "endpoint.json", {"url": url, "api_key": KEY, "model": MODEL, "engine_run": 1})
    write(lease, Lease(folder, MODEL, "bench", "1", identity()))
    yield Server(url, lease)
    process.kill()
    process.wait()


def evaluate(entry: Benchmark, name: str, server: Server, folder: Path) -> tuple[dict[str, Any], list[Any]]:
    """The rows of the tables `evaluations` and `metrics`."""
    program = harness(entry.harness)
    with scratch_dir() as place:
        config = GatewayConfig(
            leases=[server.lease], log=folder / "log", ready_file=folder / "gateway.json", max_in_flight=8,
            hold_s=60, retries=1, request_timeout_s=60, model=MODEL, socket=place.socket,
            blank_refused=program.dies_of_refusals(entry),
        )  # fmt: skip
        with start(config, folder / "gateway") as gateway:
            job = Job(
                model=MODEL, benchmark_id="b", benchmark=entry, folder=folder / "work", base_url=gateway.url,
                api_key=gateway.api_key, served_name=MODEL, datasets={"asked": folder},
                task_file=folder / str(entry.task_file) if entry.task_file else None,
                runtime=environment(name),
                tokenizer=folder, context=4096, model_entry=Model(weights={"folder": "."}, server="cpu"),
            )  # fmt: skip
            process = cuts.harness_process.start(
                job, program.prepare(job), place, gateway.port, folder / "out"
            )
            try:
                with refusals_named(folder / "log"):
                    output = read_output(program, job, process.wait(300), folder / "out")
            finally:
                cuts.harness_process.end(process)
    now = datetime.now(UTC)
    pins = results.EvaluationRecord(
        attempt=1, started_at=now, ended_at=now, harness=entry.harness, task=entry.task, endpoint="chat"
    )
    paths = Paths(folder / "results", folder, folder, folder)
    log = folder / "log"
    partitions.write(paths, MODEL, "b", pins, output, gateway_log.read(log), gateway_log.unanswered(log), 0.5)
    (row,) = pq.read_table(paths.evaluation(MODEL, "b")).to_pylist()
    return row, pq.read_table(paths.metrics(MODEL, "b")).to_pylist()


def four_questions(name: str, tmp_path: Path) -> Benchmark:
    """Writes four questions, and the task that asks them."""
    kind, task, _, more = KINDS[name]
    lines = (json.dumps({"text": f"This is question {number}."}) for number in range(4))
    (tmp_path / "asked.jsonl").write_text("\n".join(lines))
    own: dict[str, Any] = {"task_file": "task.yaml", "datasets": ["asked"]}
    if kind == "inspect":
        own |= {"task_file": "task.py", "extra": {"task_args": {"data": "${dataset:asked}/asked.jsonl"}}}
    (tmp_path / own["task_file"]).write_text(INSPECT if kind == "inspect" else TASK)
    return Benchmark(harness=kind, task=task, limit=4, **({} if "bfcl" in task else own), **more)


@pytest.mark.parametrize("name", KINDS)
def test_one_refused_prompt_of_four_stands_beside_the_score(
    name: str, server: Server, tmp_path: Path
) -> None:
    server.refuse(KINDS[name][2])
    entry = four_questions(name, tmp_path)
    row, metrics = evaluate(entry, name, server, tmp_path)
    assert (row["n_samples"], row["n_unanswered"], row["n_unlogged"]) == (4, 1, 0)
    bounds = [(m["value"], m["bound_lo"], m["bound_hi"]) for m in metrics if m["value"] is not None]
    assert bounds == [(0.0, 0.0, 0.25)] * len(bounds)
    assert bounds


def test_inspect_fails_with_the_servers_word_where_everything_is_refused(
    server: Server, tmp_path: Path
) -> None:
    server.refuse("question")
    with pytest.raises(EvaluationFailed) as caught:
        evaluate(four_questions("inspect", tmp_path), "inspect", server, tmp_path)
    reason = "none of 4 requests was answered; the last: the server answered 400: made to fail"
    assert (caught.value.error_class, caught.value.reason) == (ErrorClass.BAD_RESULT, reason)
