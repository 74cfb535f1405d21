"""What runs on a Slurm cluster cost: GPU-seconds, waits, and CPU beside the work.

    python timings/slurm.py [gpu-seconds] [batching] [latency] [overhead] [waiting]

Each part (all, where none is named) runs real Snakemake on the test cluster, with a stand-in for vLLM. The
cluster is made for it and taken down, unless SLURMEVAL_TEST_CLUSTER names one that is up. Needs Debian and
root. CPU seconds hold on a busy machine too, the others only on one that has nothing else to do."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.slurm.cluster import Cluster
from tests.slurm.project import ClusterProject
from tests.stand_ins.stand_in_engine import tokens_of
from tests.waiting import wait_for
from timings.batching import SEQUENCE_S, STEP_S, simulate

from slurmeval.scheduling import finished
from slurmeval.state.records import load
from slurmeval.state.run_document import RunDocument

BENCHMARKS, PROBLEMS, RATE, START_S = 10, 20, 10, 60
IDEAL_S = START_S + BENCHMARKS * PROBLEMS / RATE
STAGGER_S = 25
"""Evaluations start in bursts; that of one project is not to fall into the other's answers: cores are few."""
POLL_S = 10
"""As in profiles/slurm."""

TELLS_CPU = """
import atexit, json, os, sys

def tell():
    times = os.times()
    own, children = times.user + times.system, times.children_user + times.children_system
    line = {"argv": sys.orig_argv[1:], "own_s": own, "children_s": children}
    with open(FILE, "a") as stream:
        stream.write(json.dumps(line) + "\\n")

atexit.register(tell)

if "snakemake" in sys.orig_argv:
    import subprocess

    def try_wait(process, flags):
        try:
            pid, status, used = os.wait4(process.pid, flags)
        except ChildProcessError:
            return process.pid, 0
        if pid:
            with open(FILE, "a") as stream:
                line = {"child": str(process.args), "s": used.ru_utime + used.ru_stime}
                stream.write(json.dumps(line) + "\\n")
        return pid, status

    subprocess.Popen._try_wait = try_wait
"""
"""A sitecustomize: each Python process says what it and its children took, Snakemake what each child took."""

CHILDREN = {
    name: re.compile(pattern)
    for name, pattern in {
        "rule lease": r"slurmeval lease ",
        "sbatch": r"\['sbatch'",
        "squeue and sacct": r"\['(squeue|sacct)'",
        "Snakemake's solver": r"/pulp/",
        "rules aggregate and report": r"slurmeval (aggregate|report) ",
    }.items()
}
"""What Snakemake starts, by command."""


@contextmanager
def a_cluster() -> Iterator[Cluster]:
    if base := os.environ.get("SLURMEVAL_TEST_CLUSTER"):
        yield Cluster.attach(Path(base))
        return
    made = Cluster.up(Path(tempfile.mkdtemp(prefix="slurmeval-cluster-")))
    try:
        yield made
    finally:
        made.down()


@contextmanager
def projects(cluster: Cluster) -> Iterator[Callable[..., ClusterProject]]:
    """Makes projects in which every model is asked every benchmark's problems."""
    root = Path(tempfile.mkdtemp(prefix="slurmeval-benchmark-"))
    root.chmod(0o755)
    made: list[ClusterProject] = []

    def make(
        models: int, benchmarks: int, problems: int, poll_s: float = 1, **env: float | str
    ) -> ClusterProject:
        project = ClusterProject(root / str(len(made)), cluster)
        made.append(project)
        config = project.config
        config["models"] = {f"model-{number}": config["models"]["tiny"] for number in range(models)}
        names = [f"task-{number}" for number in range(benchmarks)]
        config["benchmarks"] = {
            name: project.benchmark(parallelism=8, limit=problems, time_limit_min=5) for name in names
        }
        config["suites"]["all"] = names
        config["servers"]["stand-in"]["env"] |= {name: str(value) for name, value in env.items()}
        project.write_problems("problems", range(problems))
        project.site["poll_s"] = poll_s
        return project

    try:
        yield make
    finally:
        left = [process for process in psutil.process_iter(["cwd"]) if works_in(process, root)]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=10)
        for project in made:
            project.end()
        shutil.rmtree(root, ignore_errors=True)


def works_in(process: psutil.Process, folder: Path) -> bool:
    return Path(process.info["cwd"] or "/").is_relative_to(folder)


def ended_well(project: ClusterProject, run: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Waits for a run, and returns its evaluations."""
    if run.wait() != 0:
        sys.exit(f"a run failed:\n{project.log()[-4000:]}")
    rows = project.table("evaluations.parquet")
    assert {row["status"] for row in rows} == {"ok"}
    return rows


def say(what: str, figure: str, target: str = "") -> None:
    print(f"  {what}: {figure}" + (f" (target: {target})" if target else ""), flush=True)


# GPU-seconds


def gpu_seconds(cluster: Cluster) -> None:
    print(f"gpu-seconds: {BENCHMARKS} benchmarks of {PROBLEMS} requests, {START_S} s to start, {RATE}/s")
    stub = {"STAND_IN_START_S": START_S, "STAND_IN_RATE": RATE}
    with projects(cluster) as make:
        ours, others = make(1, BENCHMARKS, PROBLEMS, **stub), make(BENCHMARKS, 1, PROBLEMS, **stub)
        first = ours.start()
        wait_for(lambda: any(job["state"] == "RUNNING" for job in ours.server_jobs()), "the server's job")
        time.sleep(STAGGER_S)
        second = others.start()
        ended_well(ours, first)
        ended_well(others, second)
        (one,), many = gpu_seconds_of(ours), gpu_seconds_of(others)
        engine_runs = ours.engine_runs()
    say("ideal", f"{IDEAL_S:.0f} GPU-seconds")
    say("one deployment for all", f"{one}, {one / IDEAL_S:.2f} times the ideal", "1.2")
    parts = [f"{name} {sum(engine_run[f'{name}_s'] for engine_run in engine_runs):.1f}" for name in SECONDS]
    say(
        "… where they went",
        f"{', '.join(parts)}; before that {engine_runs[0]['queued_s']:.0f} s in the queue",
    )
    say("one deployment each", f"{sum(many)} ({', '.join(map(str, many))})")
    say("ratio", f"{sum(many) / one:.1f}", "at least 6")


# Batching

QUESTIONS, SLOWER, SEATS, LOADING_S = 500, 3, 256, 30
POLICIES = ("default", "parallelism 16", "one deployment each")


def batching(cluster: Cluster) -> None:
    """The law is so many times SLOWER than an engine's: two cores are to keep up with its answers."""
    print(
        f"batching: the k-th benchmark has {QUESTIONS}/k questions; timings/batching.py's law, {SLOWER} times"
    )
    for count in (2, 4, 10):
        sizes = [QUESTIONS // (k + 1) for k in range(count)]
        # The default has the cores for itself; the others need them little
        for policies in (POLICIES[:1], POLICIES[1:]):
            with projects(cluster) as make:
                policy_projects = {
                    policy: [
                        batched(make, each, None if policy == "default" else 16)
                        for each in ([[size] for size in sizes] if policy == POLICIES[-1] else [sizes])
                    ]
                    for policy in policies
                }
                runs = [(project, project.start()) for each in policy_projects.values() for project in each]
                for project, run in runs:
                    ended_well(project, run)
                for policy, each in policy_projects.items():
                    tell_batching(f"{count} benchmarks, {policy}", each, policy == "default")


def tell_batching(what: str, made: list[ClusterProject], is_ours: bool) -> None:
    """The ideal has all requests from the beginning."""
    # The first line is that of the readiness probe, which takes no time
    seen = [line for project in made for line in project.seen.read_text().split()[1:]]
    ideal = SLOWER * simulate([list(map(tokens_of, seen))], SEATS, lambda *_: len(seen))[0]
    rows = [row for project in made for row in project.engine_runs()]
    seconds = sum((row["job_ended_at"] - row["ready_at"]).total_seconds() for row in rows)
    figure = f"{seconds:.0f} GPU-seconds after the first answer"
    parts = ", ".join(f"{name} {sum(row[f'{name}_s'] for row in rows):.0f}" for name in SECONDS[1:])
    ratio = f"{seconds / ideal:.2f} times the ideal {ideal:.0f} for {len(seen)} questions"
    say(what, f"{figure} ({parts}): {ratio}", "1.15" if is_ours else "")


def batched(make: Callable[..., ClusterProject], sizes: list[int], parallelism: int | None) -> ClusterProject:
    """Returns a project with one model and benchmarks of these sizes."""
    law = f"{SLOWER * STEP_S},{SLOWER * SEQUENCE_S},{SEATS}"
    project = make(1, 1, 1, STAND_IN_LAW=law, STAND_IN_START_S=LOADING_S)
    folder = project.folder / "questions"
    folder.mkdir()
    lines = (json.dumps({"question": f"What is {n}?", "answer": str(n)}) for n in range(max(sizes)))
    (folder / "q.jsonl").write_text("\n".join(lines) + "\n")
    project.config["datasets"]["questions"] = {"folder": "questions"}
    # The stand-in's weights do not say it, and no harness starts before its server says it
    project.config["models"]["model-0"] |= {"max_model_len": 4096}
    project.config["benchmarks"] = {
        f"task-{number}": {
            "harness": "custom",
            "datasets": ["questions"],
            "questions": {"prompt": f"{number}: {{{{ question }}}}", "scorers": {"includes": {}}},
            "limit": size,
            "time_limit_min": 15,
            **({} if parallelism is None else {"parallelism": parallelism}),
        }
        for number, size in enumerate(sizes)
    }
    project.config["suites"]["all"] = list(project.config["benchmarks"])
    return project


SECONDS = ("starting", "busy", "idle", "ending")


def gpu_seconds_of(project: ClusterProject) -> list[int]:
    """Elapsed seconds times GPUs of each of a project's server jobs, as accounting has them."""
    found = []
    for job in project.all_jobs():
        if "-serve-" in job["JobName"]:
            rows = project.cluster.sacct(job["JobID"])
            gpus = [int(row["AllocTRES"].partition("gres/gpu=")[2].partition(",")[0]) for row in rows]
            found.append(sum(n * int(row["ElapsedRaw"]) for n, row in zip(gpus, rows, strict=True)))
    return found


# Waits


def latency(cluster: Cluster) -> None:
    print("latency: 3 evaluations wait for a server that takes 20 s to start")
    with projects(cluster) as make:
        project = make(1, 3, 10, STAND_IN_START_S=20, STAND_IN_DELAY_S=0.1)
        ended_well(project, project.start())
        (engine_run,) = project.engine_runs()
        answers = [
            [
                row["started_at"].timestamp() + row["latency_ms"] / 1000
                for row in project.table(f"requests/model-0/{name}.parquet")
            ]
            for name in project.config["benchmarks"]
        ]
    ready, ended = engine_run["ready_at"].timestamp(), engine_run["job_ended_at"].timestamp()
    firsts = ", ".join(f"{min(times) - ready:.1f}" for times in answers)
    say("from the server's first answer to the first answer of each evaluation", f"{firsts} s", "5 s")
    last = max(max(times) for times in answers)
    say("from the last answer to the end of the job (whole seconds)", f"{ended - last:.1f} s", "10 s")


# CPU beside the work


def overhead(cluster: Cluster, few: int = 10, many: int = 60) -> None:
    print(f"overhead: runs of {few} and {many} evaluations of one request")
    with projects(cluster) as make:
        small, large = (make(1, count, 1, poll_s=POLL_S) for count in (few, many))
        (before, rows), (after, _) = told_cpu(small), told_cpu(large)
        parts, again = node_parts(small), finished_cpu_s(small)
    by_sacct = statistics.median(row["cpu_s"] for row in rows)
    say("CPU of an evaluation on its node, by sacct, median", f"{by_sacct:.2f} s", "3.5 s")
    say("… its parts", ", ".join(f"{name} {s:.2f} s" for name, s in parts.items()))
    say("… of one that is only published", f"{again:.2f} s")
    print(f"  CPU on the controller, for each of the {many - few} further evaluations (target: 30 ms):")
    for name in after:
        say(f"  {name}", f"{(after[name] - before[name]) / (many - few) * 1000:.1f} ms")


def told_cpu(project: ClusterProject) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """CPU seconds of a run on the login host by what took them, and its evaluations."""
    (project.folder / "sitecustomize.py").write_text(
        TELLS_CPU.replace("FILE", repr(str(project.folder / "cpu.jsonl")))
    )
    command = project.command()
    with (project.folder / "run.log").open("w") as log:
        run = subprocess.Popen(
            command,
            cwd=project.folder,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": f"{project.folder}:{os.environ.get('PYTHONPATH', '')}"},
        )
    rows = ended_well(project, run)
    found = dict.fromkeys(["Snakemake's process", *CHILDREN], 0.0)
    for line in told(project):
        if line.get("argv", [])[:2] == ["-m", "snakemake"]:
            found["Snakemake's process"] = line["own_s"]
        for name, pattern in CHILDREN.items():
            if pattern.search(line.get("child", "")):
                found[name] += line["s"]
    return found, rows


def told(project: ClusterProject) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project.folder / "cpu.jsonl").read_text().splitlines()]


def node_parts(project: ClusterProject) -> dict[str, float]:
    """Median CPU seconds of the processes of an evaluation."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for line in told(project):
        if line.get("argv", [])[:3] == ["-m", "slurmeval", "evaluate"]:
            seconds["evaluate itself"].append(line["own_s"])
            seconds["gateway and harness"].append(line["children_s"])
        elif line.get("argv", [])[:2] == ["-m", "slurmeval.gateway"]:
            seconds["the gateway of these"].append(line["own_s"])
    return {name: statistics.median(found) for name, found in seconds.items()}


def finished_cpu_s(project: ClusterProject) -> float:
    """CPU seconds of the job of an evaluation that an earlier run has left finished."""
    (run_file,) = (project.results / "state" / "runs").glob("*.json")
    finished.keep(load(run_file, RunDocument), "model-0", "task-0")
    command = [sys.executable, "-m", "slurmeval", "evaluate", str(run_file), "model-0", "task-0"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=project.folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# A controller that waits


def waiting(cluster: Cluster, models: int = 5, benchmarks: int = 100, seconds: int = 60) -> None:
    print(f"waiting: {models * benchmarks} evaluations in the queue, looked at every {POLL_S} s")
    with projects(cluster) as make, no_cpu_nodes(cluster):
        project = make(models, benchmarks, 1, poll_s=POLL_S)
        began = time.monotonic()
        run = project.start()
        wanted = models * benchmarks
        while len(project.evaluation_jobs()) < wanted:
            time.sleep(1)
        say("until all are in the queue", f"{time.monotonic() - began:.0f} s")
        say("CPU until then, the start too", f"{cpu_of(run.pid) / wanted * 1000:.0f} ms for each")
        time.sleep(2 * POLL_S)
        controller = psutil.Process(run.pid)
        cpu_s, most, rss = cpu_of(run.pid), 0, 0
        for _ in range(seconds * 5):
            time.sleep(0.2)
            most = max(most, len(controller.children(recursive=True)))
            rss = max(rss, controller.memory_info().rss)
        share = (cpu_of(run.pid) - cpu_s) / seconds
        say(f"CPU over {seconds} s, children's too", f"{share:.1%} of a core", "5 %")
        say("memory (RSS)", f"{rss / 1e6:.0f} MB", "300 MB")
        say("processes beside it, at most", f"{most}", "none for an evaluation")


def cpu_of(pid: int) -> float:
    """Seconds of a process and of its children that have ended."""
    return sum(psutil.Process(pid).cpu_times()[:4])


@contextmanager
def no_cpu_nodes(cluster: Cluster) -> Iterator[None]:
    nodes = ("cpu1", "cpu2")
    for node in nodes:
        cluster.drain(node)
    try:
        yield
    finally:
        for node in nodes:
            cluster.resume(node)


PARTS = {
    "gpu-seconds": gpu_seconds,
    "batching": batching,
    "latency": latency,
    "overhead": overhead,
    "waiting": waiting,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part", help=", ".join(PARTS))
    parts = parser.parse_args().parts or list(PARTS)
    with a_cluster() as cluster, contextlib.suppress(KeyboardInterrupt):
        for part in parts:
            PARTS[part](cluster)


if __name__ == "__main__":
    main()
