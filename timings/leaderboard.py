"""What recomputing every score, interval and pair of models takes.

    python timings/leaderboard.py [--models 20] [--benchmarks 25] [--samples 20000] [--keep FOLDER]

Writes so many evaluations with so many right or wrong answers each, in a folder of its own or in FOLDER.
Prints CPU seconds, wall time and memory of `slurmeval show --format json`, which works out the leaderboard
with all pairs: with one evaluation left out, the same again, and with all; and of plain means in DuckDB,
where it is."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slurmeval.paths import Paths
from slurmeval.results import schema

START = datetime(2026, 1, 1, tzinfo=UTC)
SCORE = schema.SAMPLES.schema.field("scores").type.value_type


def uids(benchmark: str, samples: int) -> pa.Array:
    """Names of a benchmark's questions, the same for every model."""
    return pa.array([hashlib.sha256(f"{benchmark} {n}".encode()).hexdigest() for n in range(samples)])


def write_evaluation(paths: Paths, model: str, benchmark: str, names: pa.Array) -> float:
    """Writes one evaluation's samples, and returns the share of right answers."""
    chance = np.random.default_rng(int(hashlib.sha256(f"{model} {benchmark}".encode()).hexdigest()[:8], 16))
    right = chance.random(len(names)) < 0.4 + 0.02 * int(model[1:])
    n = len(names)
    fields = {
        "metric": pa.array(["exact_match"] * n),
        "filter": pa.array(["strict-match"] * n),
        "value": pa.array(right.astype(float)),
        "correct": pa.array(right),
        "answer": pa.nulls(n, pa.string()),
        "explanation": pa.nulls(n, pa.string()),
    }
    scores = pa.StructArray.from_arrays([fields[f.name] for f in SCORE], fields=list(SCORE))
    columns = {
        "model": pa.array([model] * n),
        "benchmark": pa.array([benchmark] * n),
        "sample_uid": names,
        "repeat_idx": pa.array(np.zeros(n, np.int64)),
        "task": pa.array(["t"] * n),
        "status": pa.array(["ok"] * n),
        "scores": pa.ListArray.from_arrays(pa.array(np.arange(n + 1), pa.int32()), scores),
    }
    rows = pa.table(
        [
            columns.get(field.name, pa.nulls(n, field.type)).cast(field.type)
            for field in schema.SAMPLES.schema
        ],
        schema=schema.SAMPLES.schema,
    )
    path = paths.samples(model, benchmark)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, compression="zstd", row_group_size=10_000)
    return float(right.mean())


def write_tables(paths: Paths, means: dict[tuple[str, str], float], samples: int) -> None:
    """Writes the combined tables over all evaluations."""
    tables = {
        schema.ALL_EVALUATIONS: (paths.all_evaluations, {"status": "ok", "started_at": START}),
        schema.METRICS: (
            paths.all_metrics,
            {"task": "t", "metric": "exact_match", "filter": "strict-match", "higher_is_better": True}
            | {"harness_scale": 1.0, "is_primary": True, "is_group": False, "n_items": samples},
        ),
    }
    for table, (path, known) in tables.items():
        rows = []
        for (model, benchmark), mean in means.items():
            own = {"model": model, "benchmark": benchmark, "value": mean, "harness_value": mean}
            half = 1.96 * (mean * (1 - mean) / samples) ** 0.5
            own |= {"se": half / 1.96, "ci_lo": mean - half, "ci_hi": mean + half} | known
            rows.append({name: own.get(name) for name in table.schema.names})
        pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def measured(paths: Paths, what: str) -> None:
    """Runs the command and prints what it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", "slurmeval", "show", "--format", "json", "--results", str(paths.results)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(run.pid, 0)
    assert status == 0
    cpu_s = used.ru_utime + used.ru_stime
    wall_s = time.monotonic() - began
    print(f"{what}: {cpu_s:.1f} s of CPU, {wall_s:.1f} s, {used.ru_maxrss / 1e3:.0f} MB", flush=True)


def plain_means(paths: Paths) -> None:
    """Prints what DuckDB takes for the mean score of each evaluation."""
    try:
        import duckdb
    except ModuleNotFoundError:
        print("plain means: DuckDB is not installed")
        return
    query = (
        "select model, benchmark, avg(scores[1].value) from read_parquet(?, hive_partitioning = false) "
        "group by all"
    )
    began, cpu = time.monotonic(), time.process_time()
    rows = duckdb.sql(query, params=[f"{paths.results}/samples/*/*.parquet"]).fetchall()
    print(f"plain means of {len(rows)} in DuckDB: ", end="")
    print(f"{time.process_time() - cpu:.1f} s of CPU, {time.monotonic() - began:.1f} s")


def main() -> None:
    """Writes the evaluations, and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--benchmarks", type=int, default=25)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths.of_results((given.keep or Path(folder)) / "results")
        paths.state.mkdir(parents=True, exist_ok=True)
        means = {}
        for benchmark in (f"b{number:02d}" for number in range(given.benchmarks)):
            names = uids(benchmark, given.samples)
            for model in (f"m{number:02d}" for number in range(given.models)):
                means[model, benchmark] = write_evaluation(paths, model, benchmark, names)
        last = list(means)[-1]
        write_tables(paths, {pair: mean for pair, mean in means.items() if pair != last}, given.samples)
        measured(paths, f"{len(means) - 1} evaluations")
        measured(paths, "again")
        write_tables(paths, means, given.samples)
        measured(paths, "one more")
        plain_means(paths)


if __name__ == "__main__":
    main()
