"""What gathering the results of many evaluations takes.

    python timings/aggregate.py [--models 10] [--benchmarks 50] [--requests 20000]

Writes so many evaluations with so many requests each, and 20 metrics each, in a folder of its own; gathers
them, gathers again with nothing new, and once more with one evaluation added. Prints the CPU seconds of the
whole command `slurmeval aggregate`, and its memory."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slurmeval.files import write_json
from slurmeval.paths import Paths
from slurmeval.results import schema
from slurmeval.state import records
from slurmeval.state.run_document import RunDocument

START = datetime(2026, 1, 1, tzinfo=UTC)
METRICS = 20
IN_FLIGHT = 16


def write_server(paths: Paths, model: str, number: int) -> None:
    """A server that was busy for the whole of its one engine_run."""
    folder = paths.servers_of(model) / f"{number:04d}"
    write_json(folder / "spec.json", {"model": model, "gpus": 1, "nodes": 1})
    write_json(folder / "state.json", {"status": "stopped"})
    began, ended = START.isoformat(), (START + timedelta(days=2)).isoformat()
    engine_run = {
        "engine_run": 1,
        "started_at": began,
        "ready_at": began,
        "ended_at": ended,
        "busy_s": 170_000.0,
    }
    (folder / "engine_runs.jsonl").write_text(json.dumps(engine_run) + "\n")


def write_evaluation(paths: Paths, model: str, benchmark: str, server: int, requests: int) -> None:
    """Its requests arrive at random, so many in flight, over a day."""
    chance = np.random.default_rng(hash((model, benchmark)) % 2**32)
    began = np.sort(chance.uniform(0, 86_400e6, requests)).astype(np.int64)
    columns = {
        "model": pa.array([model]).take(pa.array(np.zeros(requests, int))),
        "benchmark": pa.array([benchmark]).take(pa.array(np.zeros(requests, int))),
        "request_id": [f"0001-{number:06d}" for number in range(requests)],
        "server_id": pa.array([f"{model}/{server:04d}"]).take(pa.array(np.zeros(requests, int))),
        "engine_run": np.ones(requests, np.int64),
        "started_at": pa.array(began + int(START.timestamp() * 1e6)).cast(pa.timestamp("us", tz="UTC")),
        "latency_ms": chance.exponential(IN_FLIGHT * 86_400e3 / requests, requests),
    }
    write(paths.requests(model, benchmark), schema.REQUESTS, columns, requests)
    key = {"model": [model], "benchmark": [benchmark]}
    write(paths.evaluation(model, benchmark), schema.EVALUATIONS, {**key, "status": ["ok"]}, 1)
    metrics = {name: value * METRICS for name, value in key.items()}
    metrics |= {
        "task": ["t"] * METRICS,
        "metric": [f"m{n}" for n in range(METRICS)],
        "value": [0.5] * METRICS,
    }
    write(paths.metrics(model, benchmark), schema.METRICS, metrics, METRICS)


def write(path: Path, table: schema.Table, columns: dict[str, object], rows: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(rows, field.type)
        for field in table.schema
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=table.schema), path, compression="zstd")


def gather(paths: Paths, pairs: list[tuple[str, str]], what: str) -> None:
    run = RunDocument(
        project=paths.results, paths=paths, config={}, site=None, evaluations=pairs, order=[],
        tokenizer_model="", models={}, datasets={}, benchmarks={},
    )  # fmt: skip
    document = paths.results / "run.json"
    records.write(document, run)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "slurmeval", "aggregate", str(document)], check=True)
    after, wall_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - started
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{what}: {cpu_s:.2f} s of CPU, {wall_s:.2f} s, {after.ru_maxrss / 1024:.0f} MB at most", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--benchmarks", type=int, default=50)
    parser.add_argument("--requests", type=int, default=20_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = Paths(folder / "results", folder / "environments", folder / "hf", folder / "images")
        models = [f"model-{number}" for number in range(given.models)]
        pairs = [(model, f"task-{number}") for model in models for number in range(given.benchmarks)]
        for model in models:
            write_server(paths, model, 1)
        for model, benchmark in pairs:
            write_evaluation(paths, model, benchmark, 1, given.requests)
        gather(paths, [], "nothing, that is start and imports")
        gather(paths, pairs, f"{len(pairs)} evaluations, {len(pairs) * given.requests:,} requests")
        gather(paths, pairs, "the same again")
        write_server(paths, models[0], 2)
        write_evaluation(paths, models[0], "added", 2, given.requests)
        gather(paths, [*pairs, (models[0], "added")], "one evaluation added")


if __name__ == "__main__":
    main()
