"""Records what a real Slurm answers: `python -m tests.unit.slurm.record`, as root on Debian; two minutes.

Brings a cluster of its own up, has every kind of end happen on it, and writes each program's output, errors
and status to `recorded/`. Job numbers, times and node names are the cluster's; there are no paths in it."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from slurmeval.slurm import commands, parsing
from tests.slurm.cluster.cluster import Cluster
from tests.waiting import wait_for

RECORDED = Path(__file__).with_name("recorded")
SLEEP = "#!/bin/sh\nsleep 600\n"
HOG = "#!/bin/sh\npython3 -c \"x = b'x' * 300_000_000; import time; time.sleep(60)\"\n"
COMMENT = '{"id": "a|b, c"}\n%s \x1f \'é\' <&>\\'


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster.up(Path(folder) / "cluster")
        try:
            Recording(cluster).make()
        finally:
            cluster.down()


class Recording:
    """The questions of `commands`, asked of a cluster, and its answers."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._name: str | None = None
        commands._run = self._run
        self.jobs: dict[str, str] = {}

    def _run(self, argv: list[str], script: str | None, cwd: Path | None, *, submits: bool) -> Any:
        done = subprocess.run(
            [self._cluster.base / "login", *argv],
            input=script or "",
            capture_output=True,
            encoding="utf-8",
            env=commands._environment(submits),
            cwd=cwd,
            check=False,
        )
        if self._name is not None:
            answer = {"argv": argv, "status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
            text = json.dumps(answer, indent=1, ensure_ascii=False)
            assert str(self._cluster.base) not in text
            (RECORDED / f"{self._name}.json").write_text(text + "\n")
        return done

    def asked(self, name: str, question: Any, *arguments: Any) -> None:
        self._name = name
        try:
            question(*arguments)
        except commands.SlurmAway as error:
            print(f"{name}: {error}")
        except commands.SubmissionRefused as error:
            print(f"{name}: {error}")
        finally:
            self._name = None

    def submit(self, name: str, *flags: str, script: str = SLEEP) -> None:
        flags = ("--output=/dev/null", f"--job-name={name}", "--mem=50M", *flags)
        self.jobs[name] = commands.submit(flags, script, Path("/"))

    def make(self) -> None:
        self._submit_all()
        cluster = self._cluster
        running = {"running", "timeout", "cancelled", "requeued", "requeued-held", "preempted", "node-fail"}
        wait_for(lambda: running <= self._states("RUNNING"), "the jobs", 30)
        self.asked("squeue", commands.queue)
        self.asked("sacct-early", commands.job_runs, list(self.jobs.values()))
        self.submit("preempting", "--partition=gpu-high", "--gpus-per-node=4", script="#!/bin/sh\nsleep 1\n")
        for name in ("held", "cancelled"):
            commands.cancel([self.jobs[name]])
        for name, how in (("requeued", "requeue"), ("requeued-held", "requeuehold")):
            cluster.ask(["scontrol", how, self.jobs[name]])
        cluster.kill_node("cpu2")
        time.sleep(3)
        self.asked("squeue-requeued", commands.queue)
        wait_for(lambda: "node-fail" not in self._states("RUNNING"), "the jobs", 60)
        cluster.boot_node("cpu2")
        wait_for(lambda: not self._states("RUNNING") & {"timeout", "preempting"}, "the jobs", 120)
        wait_for(lambda: {"requeued", "preempted"} <= self._states("RUNNING"), "the jobs", 120)
        time.sleep(2)
        self.asked("sacct-requeued", commands.job_runs, list(self.jobs.values()))
        commands.cancel([job.job_id for job in commands.queue()])
        wait_for(lambda: not commands.queue(), "the jobs", 30)
        time.sleep(8)  # accounting lags behind
        self.asked("sacct", commands.job_runs, list(self.jobs.values()))
        (RECORDED / "jobs.json").write_text(json.dumps(self.jobs, indent=1) + "\n")
        self._ask_the_rest()

    def _submit_all(self) -> None:
        self.submit(
            "completed",
            "--partition=gpu",
            "--gpus-per-node=2",
            "--nodes=2",
            script="#!/bin/sh\nsrun sleep 3\n",
        )
        wait_for(lambda: not commands.queue(), "the jobs", 30)
        self.submit("node-fail", "--nodelist=cpu2", "--no-requeue")
        self.submit("node-fail-requeued", "--nodelist=cpu2")
        self.submit("running", "--nodelist=cpu1", f"--comment={COMMENT}")
        self.submit("held", "--hold")
        self.submit("dependent", f"--dependency=after:{self.jobs['held']},singleton", "--mem=40M")
        self.submit("cancelled", "--nodelist=cpu1")
        self.submit("requeued", "--nodelist=cpu1")
        self.submit("requeued-held", "--nodelist=cpu1")
        self.submit("failed", script="#!/bin/sh\nexit 3\n")
        self.submit("timeout", "--time=1", "--nodelist=cpu1")
        self.submit("out-of-memory", "--nodelist=cpu1", script=HOG)
        self.submit("array", "--array=1-2,5%2", "--nodelist=cpu1")
        self.submit(
            "too-large", "--partition=cpu", "--mem=1M", "--cpus-per-task=8", "--nodes=2", "--exclusive"
        )
        self.submit("preempted", "--partition=gpu", "--gpus-per-node=4", "--nodes=2")

    def _states(self, state: str) -> set[str]:
        return {job.name for job in commands.queue() if job.state == state}

    def _ask_the_rest(self) -> None:
        cluster, base = self._cluster, ["--output=/dev/null"]
        self.asked("sbatch", commands.submit, [*base, "--hold"], SLEEP, Path("/"))
        for name, flags in {
            "partition": ["--partition=nope"],
            "account": ["--account=nope"],
            "nodes": ["--partition=gpu", "--gpus-per-node=9"],
            "time": ["--partition=gpu-short", "--time=60"],
            "flag": ["--nope"],
            "dependency": ["--dependency=afterwards:1"],
        }.items():
            self.asked(f"sbatch-bad-{name}", commands.submit, [*base, *flags], SLEEP, Path("/"))
        self.asked("would-start", commands.would_start, ["--partition=gpu", "--gpus-per-node=4"], SLEEP)
        self.asked("would-never-start", commands.would_start, ["--partition=gpu", "--gpus-per-node=9"], SLEEP)
        self.asked("scancel-unknown", commands.cancel, ["99999"])
        self.asked("sacct-unknown", commands.job_runs, ["99999"])
        argv = ["scontrol", "show", "partition", "--oneliner"]
        self.asked("scontrol-partitions", commands._ask, argv, 1)
        argv = ["sinfo", "--noheader", "--exact", f"--format={parsing.NODES_FORMAT}"]
        self.asked("sinfo", commands._ask, argv, 1)
        cluster.stop_slurmdbd()
        self.asked("sacct-away", commands.job_runs, ["1"])
        cluster.start_slurmdbd()
        cluster.stop_slurmctld()
        self.asked("squeue-away", commands.queue)
        self.asked("scancel-away", commands.cancel, ["1"])
        self.asked("would-start-away", commands.would_start, base, SLEEP)
        self.asked("sbatch-away", commands.submit, base, SLEEP, Path("/"))
        cluster.start_slurmctld()


if __name__ == "__main__":
    main()
