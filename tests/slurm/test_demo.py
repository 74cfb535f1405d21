"""The demo on a cluster: the real vLLM on a "GPU" node, the real harnesses on CPU nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slurmeval.slurm.commands import job_name
from tests.serving.test_demo import Demo
from tests.slurm.cluster import Cluster
from tests.slurm.project import SITE
from tests.slurm.test_runs import gpu_seconds_of_sacct

BENCHMARKS = ("humaneval", "commonsenseqa")

pytestmark = [pytest.mark.serving, pytest.mark.timeout(1500)]


def test_the_demo_runs_on_the_cluster(cluster: Cluster, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    demo = Demo(tmp_path)
    profile = tmp_path / "cluster"
    profile.mkdir()
    options = yaml.safe_load(Path("profiles/slurm/config.yaml").read_text())
    (profile / "config.yaml").write_text(yaml.safe_dump(options))
    # Two evaluations share a core here: harnesses import for long, and all of them at once
    site = SITE | {"evaluations": {**SITE["evaluations"], "memory_gb": 4}}
    # The job has a GPU, and the config asks for none: with `gpus` it would refuse an environment for CPUs
    site |= {"servers": {**SITE["servers"], "extra": ["--gres=gpu:h100:1"]}}
    (profile / "site.yaml").write_text(yaml.safe_dump(site))
    demo.here["servers"] = {"cpu": {"cpus": 2, "memory_gb": 12}}
    # One of each kind: a request for tokens, and one for log-probabilities
    demo.here["suites"] = {"demo": list(BENCHMARKS)}
    demo.write_here()
    demo.command = [str(cluster.base / "login"), *demo.command]
    demo.command[demo.command.index("profiles/local")] = "cluster"

    demo.say()
    rows = demo.table("evaluations.parquet")
    assert {(row["benchmark"], row["status"]) for row in rows} == {(name, "ok") for name in BENCHMARKS}
    assert all(row["n_samples"] == row["n_requested"] for row in rows)
    engine_runs = demo.table("servers.parquet")
    (server,) = {row["job_id"] for row in engine_runs}
    assert sum(row["gpu_s"] for row in engine_runs) == gpu_seconds_of_sacct(cluster, server)
    assert {row["nodes"] for row in engine_runs} <= {"gpu1", "gpu2"}
    assert {row["node"] for row in rows} <= {"cpu1", "cpu2"}
    assert "GPU" in (demo.results / "report" / "index.html").read_text()
    prefix = job_name(demo.results, "")
    assert not [job for job in cluster.jobs() if job["name"].startswith(prefix)]
    assert "Nothing to be done" in demo.say()
