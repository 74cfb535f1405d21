"""How long a dry run takes, and how much memory.

    python timings/plan.py [--models 50] [--benchmarks 200]

Prints wall and CPU seconds and MB of `snakemake -n` over so many models and benchmarks, in a folder of its
own, and the seconds of `slurmeval --help` and of a lease that submits nothing."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import yaml

from slurmeval.config.load import load
from slurmeval.files import write_json
from slurmeval.planning.plan import Plan
from slurmeval.processes import identity
from slurmeval.state.records import write

ROOT = Path(__file__).parents[1]


def write_project(folder: Path, models: int, benchmarks: int) -> None:
    for name in ("Snakefile", "workflow", "profiles", "containers"):
        (folder / name).symlink_to(ROOT / name)
    weights = {"repo": "org/model", "revision": "0" * 40}
    names = [f"task-{number}" for number in range(benchmarks)]
    config = {
        "version": 1,
        "models": {f"model-{number}": {"weights": weights, "server": "gpu"} for number in range(models)},
        "servers": {"gpu": {}},
        "benchmarks": {
            name: {"harness": "nemo", "task": f"lm-evaluation-harness.{name}", "limit": 10} for name in names
        },
        "suites": {"all": names},
        "evaluate": {"suites": ["all"]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def prepare_lease(folder: Path) -> Path:
    """A run under way with a server that answers, both this process by name; gives the run's document."""
    config = load([folder / "config.yaml"], project=folder)
    plan = Plan(config, folder, folder / "hf")
    write(plan.run_file, plan.document)
    model = plan.document.models["model-0"]
    write_json(model.manifest, {"folder": "weights", "files": []})
    write_json(model.environment, {"python": "python"})
    controller = asdict(replace(identity(), token="benchmark"))
    write_json(plan.absolute.controller, controller)
    server = plan.absolute.servers_of("model-0") / "0001"
    write(server / "spec.json", replace(model.serving, weights="weights", python="python"))
    write_json(server / "submitter.json", controller)
    write_json(server / "job.json", {"job_id": "1", "process": asdict(identity())})
    write_json(server / "state.json", {"status": "ready", "owner": asdict(identity())})
    return plan.run_file


def measure(argv: list[str], folder: Path) -> tuple[float, float, str]:
    """Seconds, the greatest resident size in MB of any process so far, and the output."""
    started = time.perf_counter()
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"{argv} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, done.stdout + done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--benchmarks", type=int, default=200)
    arguments = parser.parse_args()
    best = min(measure([sys.executable, "-m", "slurmeval", "--help"], ROOT)[0] for _ in range(5))
    print(f"slurmeval --help: {best:.2f} s (best of 5)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, arguments.models, arguments.benchmarks)
        lease = [sys.executable, "-m", "slurmeval", "lease", str(prepare_lease(folder)), "model-0", "task-0"]
        best = min(measure(lease, folder)[0] for _ in range(5))
        print(f"slurmeval lease, nothing to submit: {best:.2f} s (best of 5)")
        plan = [sys.executable, "-m", "snakemake", "--profile", "profiles/local"]
        plan += ["--configfile", "config.yaml", "-n", "--quiet", "all"]
        seconds, megabytes, _ = measure(plan, folder)
    print(
        f"snakemake -n, {arguments.models} models x {arguments.benchmarks} benchmarks: "
        f"{seconds:.1f} s, {megabytes:.0f} MB"
    )


if __name__ == "__main__":
    main()
