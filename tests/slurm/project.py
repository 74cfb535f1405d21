"""A project folder on the test cluster, run by the real Snakemake: all is real but vLLM."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from slurmeval.slurm.commands import job_name
from tests.slurm.cluster import Cluster
from tests.waiting import wait_for
from tests.workflow.conftest import N_PROBLEMS, ROOT, Project, processes_in

RELEASED_S = 120.0
"""GPUs are free so long after the last work at the latest."""

SITE: dict[str, Any] = {
    "version": 1,
    "servers": {
        "account": "acct1",
        "partition": "gpu",
        "gpus": "--gpus-per-node=h100:{gpus}",
        "memory": "--mem={memory_gb}G",
    },
    "evaluations": {"account": "acct1", "partition": "cpu", "cpus": 1, "memory_gb": 0.5},
    "poll_s": 1,
}


class ClusterProject(Project):
    """A project whose jobs go to the test cluster. `site` is written before each run."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster
        self.n_problems = N_PROBLEMS
        self.profile = "profile"
        self.host = [str(cluster.base / "login")]
        self.site = json.loads(json.dumps(SITE))
        self.config["servers"]["stand-in"] |= {"gpus": 1, "cpus": 1, "memory_gb": 1, "drain_s": 5}
        for benchmark in self.config["benchmarks"].values():
            benchmark["time_limit_min"] = 5

    def command(self, *arguments: str) -> list[str]:
        profile = self.folder / "profile"
        profile.mkdir(exist_ok=True)
        options = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
        (profile / "config.yaml").write_text(yaml.safe_dump(options | {"latency-wait": 5}))
        (profile / "site.yaml").write_text(yaml.safe_dump(self.site))
        return super().command(*arguments)

    # What is going on

    def jobs(self) -> list[dict[str, Any]]:
        """This project's jobs in the queue."""
        return [dict(job) for job in self.cluster.jobs() if str(job["name"]).startswith(self.job_prefix)]

    @property
    def job_prefix(self) -> str:
        return job_name(self.results, "")

    def all_jobs(self) -> list[dict[str, str]]:
        """This project's jobs as accounting has them, one row each."""
        fields = ["JobID", "JobName", "State"]
        answer = self.cluster.ask(
            ["sacct", "-X", "-n", "-P", f"--format={','.join(fields)}", "--starttime=now-1hour"]
        )
        rows = [dict(zip(fields, line.split("|"), strict=True)) for line in answer.splitlines()]
        return [row for row in rows if row["JobName"].startswith(self.job_prefix)]

    def server_jobs(self) -> list[dict[str, Any]]:
        return [job for job in self.jobs() if "-serve-" in job["name"]]

    def evaluation_jobs(self) -> list[dict[str, Any]]:
        return [job for job in self.jobs() if job["name"].endswith("-evaluate")]

    def log(self) -> str:
        """What Snakemake has said; nothing where a job ran it."""
        file = self.folder / "run.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def has_answered(self, at_least: int) -> Callable[[], bool]:
        """Whether the model has answered so many requests, with those that probe a server."""
        return lambda: sum(self.answered().values()) >= at_least

    def node_of(self, job: dict[str, Any]) -> str:
        return str(job["nodes"])

    def options(self) -> list[str]:
        """Snakemake's options, the files that they name written."""
        command = self.command()
        return command[command.index("--profile") :]

    def supervisor(self) -> int:
        """The process that supervises the server, as this machine counts."""
        (engine,) = self.engines()
        status = Path(f"/proc/{engine}/status").read_text()
        return int(status.partition("PPid:")[2].split()[0])

    # What has to be

    def finish(self, run: subprocess.Popen[str], deadline_s: float = 200) -> None:
        """Waits for the run, which must end well, with every sample once and nothing left in the queue."""
        assert run.wait(deadline_s) == 0, self.log()[-8000:]
        self.assert_complete()
        wait_for(lambda: not self.jobs(), "the queue to be empty", RELEASED_S)

    def assert_complete(self) -> None:
        """Every evaluation ended well, and every question was answered once, whatever happened."""
        rows = self.table("evaluations.parquet")
        assert {(row["status"], row["n_samples"]) for row in rows} == {("ok", self.n_problems)}, self.log()[
            -4000:
        ]
        for row in rows:
            name = f"{row['model']}/{row['benchmark']}.parquet"
            assert len({sample["sample_uid"] for sample in self.table(f"samples/{name}")}) == self.n_problems
            whole = [r["request_key"] for r in self.table(f"requests/{name}") if r["http_status"] == 200]
            assert len(whole) == len(set(whole)) == self.n_problems

    def engine_runs(self) -> list[dict[str, Any]]:
        return self.table("servers.parquet")

    def page(self) -> str:
        return (self.results / "report" / "index.html").read_text()

    def end(self) -> None:
        """Leaves nothing behind, whatever the test did."""
        for pid in processes_in(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if jobs := [job["id"] for job in self.jobs()]:
            self.cluster.login(["scancel", "--full", *jobs])
            wait_for(lambda: not self.jobs(), "cancelled jobs to end", 60)
