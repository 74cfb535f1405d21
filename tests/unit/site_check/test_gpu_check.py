"""`scripts/gpu-check`, as far as it can be tried without a GPU."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from slurmeval.cli.check import checked
from slurmeval.site_check.gpu_check import BENCHMARKS, Busy, config, table

ROOT = Path(__file__).parents[3]
SAYS = "93, 71234, NVIDIA H100 80GB HBM3, 580.65.06\n"


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def server(model: str, **given: Any) -> dict[str, Any]:
    row = {"model": model, "ready_at": at(0), "ended_at": at(9e9), "starting_s": 41.2, "busy_s": 10.0}
    return row | {"generated_tokens": 5000} | given


def scores(gpu: float, cpu: float) -> list[dict[str, Any]]:
    return [
        {"model": model, "benchmark": name, "value": value, "se": 0.03, "is_primary": True}
        for model, value in (("gpu", gpu), ("cpu", cpu))
        for name in BENCHMARKS
    ]


def seen() -> Busy:
    with Busy(lambda: SAYS) as busy:
        pass
    return busy


def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    tools = {name: f"/bin/{name}" for name in ("bash", "dirname", "env", "sed")}
    for name, target in tools.items():
        (tmp_path / name).symlink_to(target)
    done = subprocess.run(
        ["/bin/bash", ROOT / "scripts" / "gpu-check"],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "gpu-check: there is no GPU here (nvidia-smi is absent, or names none)\n"
    assert done.stdout == ""


def test_its_config_will_do(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config(tmp_path)))
    found = checked([file])
    assert [found.servers[found.models[name].server].lock for name in ("gpu", "cpu")] == [
        "vllm-cuda",
        "vllm-cpu",
    ]


def test_the_table_has_start_speed_and_how_busy_the_gpu_was() -> None:
    text, alike = table([server("gpu"), server("cpu", generated_tokens=50)], scores(0.50, 0.55), seen())
    assert alike
    assert text.splitlines()[0] == "GPU: NVIDIA H100 80GB HBM3, driver 580.65.06"
    assert "| start to first answer, s | 41 | 41 |" in text
    assert "| tokens/s while busy | 500 | 5 |" in text
    assert "| GPU busy, and memory used | 93 %, 71234 MiB | – |" in text
    assert "| asdiv | 0.500 ± 0.030 | 0.550 ± 0.030 |" in text


def test_scores_that_differ_by_more_than_noise_are_told() -> None:
    text, alike = table([server("gpu"), server("cpu")], scores(0.50, 0.60), seen())
    assert not alike and text.endswith("Scores are NOT equal within noise.")
    text, alike = table([server("cpu")], scores(0.5, 0.5)[len(BENCHMARKS) :], seen())
    assert not alike and "| asdiv | none | 0.500 ± 0.030 |" in text
