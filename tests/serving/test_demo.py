"""The demo's models, harnesses and data, all real, with vLLM killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from slurmeval.gateway import log as gateway_log
from tests.waiting import wait_for
from tests.workflow.conftest import processes_in

ROOT = Path(__file__).parents[2]
BENCHMARKS = ("bfcl", "openbookqa", "asdiv", "commonsenseqa", "humaneval")

pytestmark = [pytest.mark.serving, pytest.mark.timeout(1500)]


class Demo:
    """A run of the demo's first model in a folder of its own, with this checkout's environments and weights.
    `here` is laid over the config."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results" / "demo"
        for name in ("Snakefile", "workflow", "profiles", "containers", "config"):
            (folder / name).symlink_to(ROOT / name)
        own = {"environments": str(ROOT / ".environments"), "hf_home": str(ROOT / ".cache" / "huggingface")}
        self.here: dict[str, Any] = {"staging": own, "evaluate": {"models": ["smollm2"]}}
        self.write_here()
        files = ["--configfile", "config/demo.yaml", "here.yaml"]
        self.command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", *files]

    def write_here(self) -> None:
        (self.folder / "here.yaml").write_text(yaml.safe_dump(self.here))

    def say(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self.command, *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def table(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(self.results / name).to_pylist()
        return rows

    def work(self, benchmark: str) -> Path:
        (folder,) = (self.results / "work" / "smollm2" / benchmark).iterdir()
        return folder

    def answered(self) -> int:
        """Requests answered so far, over all evaluations."""
        found = self.results.glob("work/smollm2/*/*/gateway/progress.json")
        return sum(json.loads(file.read_bytes())["answered"] for file in found)

    def engines(self) -> list[int]:
        return [
            pid
            for pid in processes_in(ROOT / ".cache" / "huggingface")
            if b"vllm.entrypoints" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo, run to its end, with vLLM killed once when a good part has been answered."""
    demo = Demo(tmp_path_factory.mktemp("demo"))
    with (demo.folder / "run.log").open("w") as log:
        run = subprocess.Popen(demo.command, cwd=demo.folder, stdout=log, stderr=log)
    try:
        wait_for(lambda: demo.answered() > 40 or run.poll() is not None, "answers", 900)
        for engine in demo.engines():
            os.kill(engine, signal.SIGKILL)
        assert run.wait(900) == 0, (demo.folder / "run.log").read_text()[-5000:]
    finally:
        run.kill()
    yield demo


def test_every_evaluation_ends_well_though_vllm_was_killed(demo: Demo) -> None:
    rows = {row["benchmark"]: row for row in demo.table("evaluations.parquet")}
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(BENCHMARKS, "ok")
    assert all(row["n_samples"] == row["n_requested"] for row in rows.values())
    engine_runs = demo.table("servers.parquet")
    assert [engine_run["engine_run"] for engine_run in engine_runs] == list(range(1, len(engine_runs) + 1))
    # Another program of this machine may take the port that vLLM was about to have: that run served nobody
    taken = "another process listens on the server's port"
    reasons = [
        engine_run["exit_reason"]
        for engine_run in engine_runs
        if not engine_run["exit_reason"].startswith(taken)
    ]
    assert reasons == ["vLLM was killed by SIGKILL", "no lease is left"]


def test_no_answered_request_was_asked_again(demo: Demo) -> None:
    for benchmark in BENCHMARKS:
        records = list(gateway_log.read(demo.work(benchmark) / "gateway"))
        answered = Counter(record.key for record in records if record.answered)
        wanted = Counter(record.key for record in records)
        assert answered == wanted, benchmark


def test_scores_are_what_the_harnesses_wrote_to_the_last_digit(demo: Demo) -> None:
    told = {(row["benchmark"], row["metric"], row["filter"]): row for row in demo.table("metrics.parquet")}
    written = {key: row["harness_value"] for key, row in told.items()}
    for benchmark in ("openbookqa", "asdiv"):
        (file,) = (demo.work(benchmark) / "harness").glob("*/output/results.yml")
        (task,) = yaml.safe_load(file.read_text())["results"]["tasks"].values()
        for name, metric in task["metrics"].items():
            ((_, score),) = metric["scores"].items()
            metric_name, _, filter_name = name.partition("__")
            assert written[benchmark, metric_name, filter_name or None] == score["value"]
    (file,) = (demo.work("commonsenseqa") / "harness").rglob("results_*.json")
    (task,) = json.loads(file.read_bytes())["results"].values()
    assert written["commonsenseqa", "acc", None] == task["acc,none"]
    (file,) = (demo.work("humaneval") / "harness").glob("*/results.json")
    assert written["humaneval", "pass@1", None] == json.loads(file.read_bytes())["scores"]["pass@1"]
    (file,) = (demo.work("bfcl") / "harness").glob("*/output/results.yml")
    groups = json.dumps(yaml.safe_load(file.read_text())["results"])
    (bfcl,) = [row for key, row in told.items() if key[0] == "bfcl" and row["is_primary"]]
    assert f'"value": {bfcl["harness_value"]}' in groups
    assert bfcl["value"] == pytest.approx(bfcl["harness_value"] / 100)


def test_no_score_contradicts_its_samples(demo: Demo) -> None:
    assert not [row for row in demo.table("metrics.parquet") if row["mismatch"]]


def test_requests_are_joined_to_their_samples(demo: Demo) -> None:
    for benchmark in ("openbookqa", "asdiv", "commonsenseqa", "humaneval"):
        requests = demo.table(f"requests/smollm2/{benchmark}.parquet")
        assert all(row["sample_uid"] for row in requests if row["http_status"] == 200), benchmark


def test_again_there_is_nothing_to_do(demo: Demo) -> None:
    assert "Nothing to be done" in demo.say()


def test_no_key_is_left_anywhere(demo: Demo) -> None:
    assert not list(demo.results.rglob("endpoint.json"))
    assert not list(demo.results.rglob("gateway-ready.json"))
    for file in demo.results.rglob("*"):
        if file.is_file() and file.suffix in (".json", ".jsonl", ".log", ".html"):
            assert b"Bearer " not in file.read_bytes(), file


def test_a_second_model_is_evaluated_beside_the_first_and_compared_with_it(demo: Demo) -> None:
    both = ("openbookqa", "asdiv")
    rows = demo.table("evaluations.parquet")
    first = {row["benchmark"]: row["ended_at"] for row in rows if row["benchmark"] in both}
    del demo.here["evaluate"]
    demo.here["suites"] = {"demo": list(both)}
    demo.write_here()
    demo.say()
    rows = demo.table("evaluations.parquet")
    assert Counter(row["status"] for row in rows) == {"ok": 2 * len(both)}
    assert {row["benchmark"]: row["ended_at"] for row in rows if row["model"] == "smollm2"} == first
    pair = ["smollm2", "smollm2-no-system-prompt", "--results", str(demo.results)]
    done = subprocess.run(
        [sys.executable, "-m", "slurmeval", "compare", *pair], capture_output=True, text=True, check=True
    )
    # Its prompts are plain text, which no chat template alters
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("openbookqa"))
    assert "0.000" in line and "cannot tell" in line, done.stdout
