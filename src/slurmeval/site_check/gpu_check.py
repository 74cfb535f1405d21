"""`scripts/gpu-check`: a small model on this machine's GPU and on its CPU, and a table of both.

Written without a GPU at hand, and not yet run on one.
"""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from slurmeval.files import write_atomically
from slurmeval.progress import to_stderr
from slurmeval.project_files import DATA
from slurmeval.results import TableName
from slurmeval.results.frames import read_combined

DEMO = DATA / "config" / "demo.yaml"
ON = ("gpu", "cpu")
BENCHMARKS = ("asdiv", "commonsenseqa")
LIMIT = 100
QUERY = ("utilization.gpu", "memory.used", "name", "driver_version")
SAMPLE_S = 1.0
TABLES: tuple[TableName, TableName] = ("servers", "metrics")
NOISE = 1.96
"""Standard errors: scores that differ by no more are alike."""


def config(folder: Path) -> dict[str, Any]:
    """Returns a config with the demo's model on the GPU and on the CPU, and two of its benchmarks."""
    demo = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    model, cores = demo["models"]["smollm2"], demo["servers"]["cpu"]
    return {
        "version": 1,
        "results": str(folder / "results"),
        "models": {on: {**model, "server": on} for on in ON},
        "servers": {"gpu": {"gpus": 1, "ready_timeout_s": 1800}, "cpu": cores},
        "datasets": {name: demo["datasets"][name] for name in BENCHMARKS},
        "benchmarks": {name: {**demo["benchmarks"][name], "limit": LIMIT} for name in BENCHMARKS},
        "evaluate": {"benchmarks": list(BENCHMARKS)},
    }


class Busy:
    """How busy the first GPU is, asked every second in a thread of its own."""

    def __init__(self, ask: Callable[[], str]) -> None:
        """`ask` returns what nvidia-smi prints for QUERY."""
        self._ask, self._ended = ask, threading.Event()
        self.seen: list[tuple[float, float, float]] = []
        """Seconds since 1970, percent busy, MiB used."""
        self.name = ""

    def __enter__(self) -> Busy:
        """Starts asking."""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops asking."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            line = (self._ask().splitlines() or [""])[0]
            cells = [cell.strip() for cell in line.split(",")]
            if len(cells) == len(QUERY) and cells[0].isdecimal() and cells[1].isdecimal():
                self.seen.append((time.time(), float(cells[0]), float(cells[1])))
                self.name = f"{cells[2]}, driver {cells[3]}"
            if self._ended.wait(SAMPLE_S):
                return

    def between(self, began: float, ended: float) -> tuple[float, float] | None:
        """Returns mean percent busy and most MiB used in a time; None: it was not asked."""
        found = [(busy, used) for at, busy, used in self.seen if began <= at <= ended]
        if not found:
            return None
        return sum(busy for busy, _ in found) / len(found), max(used for _, used in found)


def ask_nvidia_smi() -> str:
    """Returns what nvidia-smi says; empty where it fails."""
    argv = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", errors="replace", check=False)
    return done.stdout if done.returncode == 0 else ""


def table(
    servers: Sequence[dict[str, Any]], scores: Sequence[dict[str, Any]], busy: Busy
) -> tuple[str, bool]:
    """Returns the table in Markdown, and whether all scores agree within noise.

    Args:
        servers: Rows of the table of servers.
        scores: Rows of the table of metrics.
        busy: What was seen of the GPU.
    """
    lines = [f"GPU: {busy.name or 'not told'}", "", "| | gpu | cpu |", "|---|---|---|"]
    runs = {on: [row for row in servers if row["model"] == on and row["ready_at"]] for on in ON}
    last = {on: rows[-1] if rows else None for on, rows in runs.items()}
    lines.append(_row("start to first answer, s", [_figure(last[on], "starting_s") for on in ON]))
    lines.append(_row("tokens/s while busy", [_speed(last[on]) for on in ON]))
    lines.append(_row("GPU busy, and memory used", [_share(last["gpu"], busy), "–"]))
    alike = True
    for name in BENCHMARKS:
        found = [_score(scores, on, name) for on in ON]
        lines.append(_row(name, [_with_error(each) for each in found]))
        alike = alike and _alike(found)
    lines += ["", f"Scores are {'equal' if alike else 'NOT equal'} within noise."]
    return "\n".join(lines), alike


def _row(title: str, cells: Sequence[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _figure(row: dict[str, Any] | None, key: str) -> str:
    return "–" if row is None or row[key] is None else f"{row[key]:.0f}"


def _speed(row: dict[str, Any] | None) -> str:
    if row is None or not row["busy_s"] or row["generated_tokens"] is None:
        return "–"
    return f"{row['generated_tokens'] / row['busy_s']:.0f}"


def _share(row: dict[str, Any] | None, busy: Busy) -> str:
    if row is None:
        return "–"
    ended = row["ended_at"] or datetime.now(UTC)
    found = busy.between(row["ready_at"].timestamp(), ended.timestamp())
    return "–" if found is None else f"{found[0]:.0f} %, {found[1]:.0f} MiB"


def _score(rows: Sequence[dict[str, Any]], model: str, benchmark: str) -> tuple[float, float | None] | None:
    found = [row for row in rows if row["model"] == model and row["benchmark"] == benchmark]
    first = next((row for row in found if row["is_primary"] and row["value"] is not None), None)
    return None if first is None else (first["value"], first["se"])


def _with_error(score: tuple[float, float | None] | None) -> str:
    if score is None:
        return "none"
    return f"{score[0]:.3f}" if score[1] is None else f"{score[0]:.3f} ± {score[1]:.3f}"


def _alike(found: Sequence[tuple[float, float | None] | None]) -> bool:
    if any(score is None for score in found):
        return False
    (a, se_a), (b, se_b) = (score for score in found if score is not None)
    return abs(a - b) <= NOISE * math.hypot(se_a or 0.0, se_b or 0.0)


def main() -> int:
    """Runs the check in a folder, and prints the table. Returns 0 if all went well."""
    folder = Path(sys.argv[1])
    file = folder / "config.yaml"
    write_atomically(file, yaml.safe_dump(config(folder), sort_keys=False))
    argv = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--configfile", str(file)]
    with Busy(ask_nvidia_smi) as busy:
        status = subprocess.run(argv, check=False).returncode
    results = folder / "results"
    if not (results / "servers.parquet").exists():
        to_stderr(f"gpu-check: the run failed before a server answered; {results} has the logs")
        return status or 1
    servers, scores = (read_combined(name, results).to_pylist() for name in TABLES)
    text, alike = table(servers, scores, busy)
    write_atomically(folder / "table.md", text + "\n")
    print(text)
    return status or (0 if alike else 1)


if __name__ == "__main__":
    sys.exit(main())
