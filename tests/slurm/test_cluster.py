"""The test cluster is a cluster: what the other tests take for granted."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lacking import lacking
from tests.slurm.cluster import Cluster, ClusterError, configuration, network, packages, processes
from tests.slurm.cluster.commands import run
from tests.slurm.cluster.layout import CGROUPS, NODES, Layout
from tests.waiting import wait_for


@pytest.fixture
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("other-cluster")
    yield base
    Cluster(base).down()


def wait_for_state(cluster: Cluster, job_id: str, state: str, deadline_s: float = 30) -> None:
    wait_for(
        lambda: cluster.scontrol_show_job(job_id)["JobState"] == state, f"job {job_id} {state}", deadline_s
    )


def test_all_nodes_are_idle(cluster: Cluster) -> None:
    assert cluster.node_states() == dict.fromkeys(NODES, "idle")
    assert cluster.jobs() == []


def test_a_job_gets_its_gpus_and_they_are_accounted(cluster: Cluster, tmp_path: Path) -> None:
    output = tmp_path / "output"
    script = '#!/bin/bash\necho "$(hostname) $CUDA_VISIBLE_DEVICES"\n'
    job = cluster.submit("--partition=gpu", "--gres=gpu:2", f"--output={output}", script=script)
    wait_for_state(cluster, job, "COMPLETED")
    assert output.read_text() in ("gpu1 0,1\n", "gpu2 0,1\n")
    (job_run,) = cluster.sacct(job)
    assert job_run["State"] == "COMPLETED"
    assert "gres/gpu=2" in job_run["AllocTRES"].split(",")
    assert job_run["Account"] == "acct1"


def test_jobs_use_slurm_from_within(cluster: Cluster, tmp_path: Path) -> None:
    output = tmp_path / "output"
    commands = "srun hostname && sbatch --output=/dev/null --wrap=true && squeue && sacct && scontrol ping"
    script = f"#!/bin/sh\n{commands} && echo fine\n"
    # As little environment as a job of a workflow may come with
    environment = {"PATH": os.environ["PATH"]}
    done = cluster.login(["sbatch", "--export=ALL", f"--output={output}"], input=script, env=environment)
    assert done.returncode == 0, done.stderr
    cluster.wait_idle()
    assert output.read_text().endswith("fine\n")


@pytest.mark.parametrize(
    "wrong",
    [["--account=nobodys"], ["--partition=gpu-short", "--time=10"], ["--partition=gpu", "--gres=gpu:5"]],
)
def test_what_can_never_run_is_refused(cluster: Cluster, wrong: list[str]) -> None:
    done = cluster.login(["sbatch", *wrong, "--wrap=true"])
    assert done.returncode == 1
    assert "Batch job submission failed" in done.stderr or "Unable to allocate" in done.stderr


def test_nodes_reach_each_other_by_name_and_nothing_else(cluster: Cluster, tmp_path: Path) -> None:
    server = f"#!/bin/sh\nexec {sys.executable} -m http.server --directory {tmp_path} 8000\n"
    job = cluster.submit("--partition=gpu", "--nodelist=gpu1", f"--output={tmp_path}/log", script=server)
    knock = ["bash", "-c", ": </dev/tcp/gpu1/8000"]
    for host in ("cpu1", "login"):
        wait_for(lambda host=host: cluster.on(host, knock).returncode == 0, f"{host} to reach gpu1", 20)
    # The port is the node's own
    assert cluster.on("gpu2", ["bash", "-c", ": </dev/tcp/127.0.0.1/8000"]).returncode != 0
    assert cluster.run_as_stranger("gpu1", ["bash", "-c", ": </dev/tcp/127.0.0.1/8000"]).returncode == 0
    assert "unreachable" in cluster.on("gpu1", ["ip", "route", "get", "192.0.2.1"]).stderr
    assert [process.name for process in cluster.processes_of_jobs()["gpu1"]]
    cluster.ask(["scancel", job])
    cluster.wait_idle()
    assert cluster.processes_of_jobs() == {}


def test_the_stranger_has_no_rights(cluster: Cluster, tmp_path: Path) -> None:
    assert cluster.run_as_stranger("gpu1", ["id", "-un"]).stdout == "mallory\n"
    assert cluster.run_as_stranger("gpu1", ["cat", "/etc/shadow"]).returncode != 0
    assert cluster.run_as_stranger("login", ["srun", "--chdir=/", "id", "-un"]).stdout == "mallory\n"


def test_memory_limits_are_enforced(cluster: Cluster) -> None:
    if not configuration.cgroups_v1():
        lacking("the machine has no control groups of version 1: Slurm cannot limit memory here")
    greedy = f"{sys.executable} -c 'len(b\"x\" * 300_000_000)'"
    job = cluster.submit("--mem=64", "--output=/dev/null", f"--wrap={greedy}")
    wait_for_state(cluster, job, "OUT_OF_MEMORY")
    assert cluster.sacct(job)[0]["State"] == "OUT_OF_MEMORY"


def test_a_crashed_nodes_job_is_requeued(cluster: Cluster, tmp_path: Path) -> None:
    job_runs = tmp_path / "job_runs"
    script = f'#!/bin/sh\necho "$SLURM_RESTART_COUNT" >>{job_runs}\n[ "$SLURM_RESTART_COUNT" ] || sleep 60\n'
    job = cluster.submit("--nodelist=cpu1", "--output=/dev/null", script=script)
    wait_for(job_runs.exists, "the job to start", 20)
    cluster.kill_node("cpu1")
    assert cluster.on("cpu1", ["true"]).returncode == 69
    cluster.report_down("cpu1")
    cluster.boot_node("cpu1")
    wait_for_state(cluster, job, "COMPLETED")
    assert job_runs.read_text().splitlines() == ["", "1"]
    assert [job_run["State"] for job_run in cluster.sacct(job)] == ["NODE_FAIL", "COMPLETED"]


def test_a_preempted_job_is_warned_and_requeued(cluster: Cluster, tmp_path: Path) -> None:
    said = tmp_path / "said"
    step = f"trap 'echo warned >>{said}; exit' TERM; echo started >>{said}; while :; do sleep 0.1; done"
    script = f'#!/bin/sh\n[ "$SLURM_RESTART_COUNT" ] && exit\nsrun sh -c "{step}"\nsleep 60\n'
    options = ["--gres=gpu:4", "--nodelist=gpu1", "--output=/dev/null"]
    job = cluster.submit("--partition=gpu", *options, script=script)
    wait_for(said.exists, "the job to start", 20)
    other = cluster.submit("--partition=gpu-high", *options, "--wrap=true")
    wait_for(lambda: said.read_text() == "started\nwarned\n", "the warning", 10)
    wait_for(lambda: cluster.scontrol_show_job(job)["Restarts"] == "1", "the job to be requeued")
    cluster.ask(["scancel", job, other])
    assert cluster.sacct(job)[0]["State"] == "PREEMPTED"


def test_services_and_networks_fail_and_come_back(cluster: Cluster) -> None:
    cluster.stop_slurmctld()
    assert cluster.login(["scontrol", "ping"]).returncode != 0
    cluster.start_slurmctld()
    cluster.stop_slurmdbd()
    assert cluster.login(["sacct"]).returncode != 0
    cluster.start_slurmdbd()
    cluster.cut_network("gpu2")
    # The machine's own way into the node needs no network
    assert cluster.on("gpu2", ["bash", "-c", ": </dev/tcp/head/6817"]).returncode != 0
    cluster.restore_network("gpu2")
    assert cluster.on("gpu2", ["bash", "-c", ": </dev/tcp/head/6817"]).returncode == 0
    cluster.drain("cpu2")
    assert cluster.node_states()["cpu2"] == "drained"
    cluster.resume("cpu2")
    assert cluster.node_states()["cpu2"] == "idle"


def test_a_small_file_system_is_full_on_every_host(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.small_filesystem(tmp_path / "small", 1_000_000) as folder:
        for host in ("login", "gpu1"):
            done = cluster.on(host, ["dd", "if=/dev/zero", f"of={folder}/{host}", "bs=1M", "count=2"])
            assert "No space left on device" in done.stderr
        assert (folder / "login").exists()
        (folder / "login").unlink()
        assert cluster.on("gpu1", ["test", "-e", folder / "login"]).returncode == 1
    assert not (tmp_path / "small").is_symlink()


def test_a_folder_with_other_things_in_it_is_no_cluster(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "thesis").touch()
    with pytest.raises(ClusterError, match="name another folder"):
        Cluster.up(tmp_path)
    Cluster(tmp_path).down()
    assert (tmp_path / "thesis").exists()
    with pytest.raises(ClusterError, match="no cluster is up"):
        Cluster.attach(tmp_path)


def test_a_second_cluster_goes_without_a_trace(cluster: Cluster, other_base: Path) -> None:
    prefix = Layout(other_base).prefix
    other = Cluster.up(other_base)
    assert Cluster.up(other_base).is_up()
    other.submit("--partition=gpu", "--output=/dev/null", "--wrap=sleep 60")
    wait_for(other.processes_of_jobs, "the job to start", 20)
    assert cluster.jobs() == []
    other.down()
    assert not other_base.exists()
    assert processes.all_of(Layout(other_base)) == []
    traces = [Path("/proc/self/mounts").read_text(), run(["ip", "link"]), run(["ip", "netns"])]
    traces += [folder.name for folder in CGROUPS.glob("*/*")]
    assert not [trace for trace in traces if prefix in trace or str(other_base) in trace]
    # Nothing is there any more, and that is no error
    other.down()
    assert cluster.node_states() == dict.fromkeys(NODES, "idle")


def test_the_subnet_is_one_that_the_machine_does_not_use() -> None:
    first = network.free_subnet([])
    assert network.free_subnet([first]) != first
    with pytest.raises(ClusterError, match="no addresses are left"):
        network.free_subnet([network.Network("10.0.0.0/8")])


def test_no_service_starts_while_packages_are_installed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with packages.no_service_starts(policy):
        assert policy.stat().st_mode & 0o111
        # Killed here, it stays; the next installation removes it
        with packages.no_service_starts(policy):
            pass
    assert not policy.exists()
    policy.write_text("the administrator's")
    with packages.no_service_starts(policy):
        assert policy.read_text() == "the administrator's"
    assert policy.exists()
