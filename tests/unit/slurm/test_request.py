"""Jobs are asked for in each cluster's own way, and with nothing else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.site import EvaluationJobs, Jobs, ServerJobs, Site, StagingJobs
from slurmeval.slurm.request import (
    SUBMITIT_DEFAULTS,
    environment,
    evaluation_flags,
    forget_own_job,
    server_flags,
    staging_command,
    submitit_parameters,
    time_min,
)
from slurmeval.variables import OWN_PYTHON_LINE

SUBMITITS_OWN = {"job-name", "signal", "output", "error", "open-mode"}
"""What submitit adds to our flags: no cluster refuses these."""

SERVER_STYLES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "generic": (
        {},
        {"gpus": 2, "memory_gb": 64},
        ["--gpus-per-node=2", "--cpus-per-task=16", "--mem=64G"],
    ),
    "model of the GPU, no cores, no memory (Alvis)": (
        {"account": "NAISS2026-1-2", "gpus": "--gpus-per-node=A100:{gpus}", "cpus": None, "memory": None},
        {"gpus": 4},
        ["--account=NAISS2026-1-2", "--gpus-per-node=A100:4"],
    ),
    "gres (Leonardo)": (
        {"partition": "boost_usr_prod", "gpus": "--gres=gpu:{gpus}"},
        {"gpus": 4, "nodes": 2, "memory_gb": 480},
        ["--partition=boost_usr_prod", "--gres=gpu:4", "--cpus-per-task=32", "--mem=480G"],
    ),
    "QOS and cores for each GPU (MareNostrum 5)": (
        {
            "partition": "acc",
            "qos": "acc_bsccs",
            "gpus": "--gres=gpu:{gpus}",
            "cpus_per_gpu": 20,
            "memory": None,
        },
        {"gpus": 2},
        ["--partition=acc", "--qos=acc_bsccs", "--gres=gpu:2", "--cpus-per-task=40"],
    ),
    "by the partition alone (Dardel)": (
        {"partition": "gpu", "gpus": None, "cpus": None, "memory": None, "gpus_per_job": 8},
        {"gpus": 8},
        ["--partition=gpu"],
    ),
    "by constraint (Perlmutter)": (
        {"qos": "shared", "constraint": "gpu&hbm80g", "memory": None},
        {"gpus": 1},
        ["--qos=shared", "--constraint=gpu&hbm80g", "--gpus-per-node=1", "--cpus-per-task=8"],
    ),
    "memory for each GPU, as the site says (LUMI)": (
        {"partition": "small-g", "cpus_per_gpu": 7, "memory": "--mem-per-gpu=60G"},
        {"gpus": 2, "memory_gb": 999},
        ["--partition=small-g", "--gpus-per-node=2", "--cpus-per-task=14", "--mem-per-gpu=60G"],
    ),
    "memory for each GPU, as the config says": (
        {"memory": "--mem-per-gpu={memory_per_gpu_gb}G", "cpus": "--cpus-per-gpu={cpus_per_gpu}"},
        {"gpus": 4, "memory_gb": 250, "cpus": 30},
        ["--gpus-per-node=4", "--cpus-per-gpu=8", "--mem-per-gpu=62G"],
    ),
    "GPUs in all (Berzelius)": (
        {"constraint": "fat", "gpus": "--gpus={total_gpus}"},
        {"gpus": 8, "nodes": 2, "cpus": 100, "memory_gb": 0.5},
        ["--constraint=fat", "--gpus=16", "--cpus-per-task=100", "--mem=1G"],
    ),
    "for the task, whole nodes (Clariden)": (
        {"gpus": "--gpus-per-task={gpus}", "cpus": None, "memory": None, "extra": ["--exclusive"]},
        {"gpus": 4},
        ["--gpus-per-task=4", "--exclusive"],
    ),
    "everything else": (
        {"reservation": "course", "exclude": "n[01-03]", "extra": ["--gpu-bind=none", "--switches=1"]},
        {"gpus": 1, "memory_gb": 10},
        [
            *(
                "--reservation=course",
                "--exclude=n[01-03]",
                "--gpus-per-node=1",
                "--cpus-per-task=8",
                "--mem=10G",
            ),
            *("--gpu-bind=none", "--switches=1"),
        ],
    ),
    "no GPU": ({}, {"gpus": 0}, ["--cpus-per-task=4", "--mem=32G"]),
    "no GPU, where GPUs count": (
        {"memory": "--mem-per-gpu={memory_per_gpu_gb}G", "cpus": "--cpus-per-gpu={cpus_per_gpu}"},
        {"gpus": 0, "cpus": 3},
        ["--cpus-per-task=3", "--mem=32G"],
    ),
}

EVALUATION_STYLES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "generic": ({}, ["--nodes=1", "--ntasks=1", "--cpus-per-task=2", "--mem=4096M", "--time=30"]),
    "no memory, nodes without GPU (Alvis)": (
        {"account": "NAISS2026-1-2", "constraint": "NOGPU", "memory": None},
        [
            *("--account=NAISS2026-1-2", "--constraint=NOGPU"),
            *("--nodes=1", "--ntasks=1", "--cpus-per-task=2", "--time=30"),
        ],
    ),
    "memory for each core": (
        {
            "partition": "rome",
            "cpus": 3,
            "memory": "--mem-per-cpu={memory_per_cpu_mb}M",
            "extra": ["--no-kill"],
        },
        [
            *("--partition=rome", "--nodes=1", "--ntasks=1", "--cpus-per-task=3"),
            *("--mem-per-cpu=1365M", "--time=30", "--no-kill"),
        ],
    ),
}


def flags_of(jobs: dict[str, Any], need: dict[str, Any]) -> list[str]:
    wanted = {"nodes": 1, "cpus": None, "memory_gb": 32, "time_min": 90} | need
    return server_flags(ServerJobs(**jobs), **wanted)


@pytest.mark.parametrize("style", SERVER_STYLES)
def test_server_is_asked_for_in_the_style_of_the_site(style: str) -> None:
    jobs, need, wanted = SERVER_STYLES[style]
    always = [f"--nodes={need.get('nodes', 1)}", "--ntasks-per-node=1", "--time=90", "--requeue"]
    assert sorted(flags_of(jobs, need)) == sorted([*wanted, *always])


@pytest.mark.parametrize("style", EVALUATION_STYLES)
def test_evaluation_is_asked_for_in_the_style_of_the_site(style: str) -> None:
    jobs, wanted = EVALUATION_STYLES[style]
    site = Site(version=1, evaluations=EvaluationJobs(**jobs))
    assert evaluation_flags(site, time_min=30, memory_gb=4) == wanted


def test_download_is_paid_by_whom_the_user_names() -> None:
    """srun reads no SBATCH_ACCOUNT."""
    variables = {"SBATCH_ACCOUNT": "mine", "SBATCH_PARTITION": "other", "SBATCH_QOS": ""}
    site = Site(version=1, staging=StagingJobs(where="jobs", partition="serial"))
    flags = staging_command(site, variables)
    assert {"--account=mine", "--partition=serial"} <= set(flags)
    assert not {"--partition=other", "--qos="} & set(flags)
    own = Site(version=1, staging=StagingJobs(where="jobs", account="its"))
    assert [word for word in staging_command(own, variables) if "account" in word] == ["--account=its"]


Script = Callable[[list[str], list[str]], str]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """submitit's own script for these flags; it is written and not submitted."""
    import submitit

    # submitit asks for srun's presence only
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\necho 'a stand-in for srun' >&2\nexit 1\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(srun.parent), prepend=":")

    def text(flags: list[str], setup: list[str]) -> str:
        executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="slurm")
        executor.update_parameters(name="serve-tiny", **asdict(submitit_parameters(flags, setup)))
        executor._executor.update_parameters(**SUBMITIT_DEFAULTS)
        return str(executor._executor._make_submission_file_text("true", "0"))

    return text


def requested(text: str) -> list[str]:
    """The flags in a script, as sbatch reads them."""
    return [shlex.split(line)[1] for line in text.splitlines() if line.startswith("#SBATCH ")]


@pytest.mark.parametrize("style", SERVER_STYLES)
def test_submitit_asks_for_what_we_ask_and_nothing_else(style: str, script: Script) -> None:
    jobs, need, _ = SERVER_STYLES[style]
    flags = flags_of(jobs, need)
    found = requested(script(flags, []))
    own = [flag for flag in found if re.match(r"--([a-z-]+)", flag)[1] in SUBMITITS_OWN]  # type: ignore[index]
    assert {flag.split("=")[0][2:] for flag in own} == SUBMITITS_OWN
    assert sorted(set(found) - set(own)) == sorted(flags)
    assert len(found) == len(set(found))


def test_setup_runs_before_the_server(script: Script) -> None:
    text = script(flags_of({}, {"gpus": 1}), ["module load 'CUDA/12'", "export A=b"])
    assert (
        text.index("SRUN_CPUS_PER_TASK")
        < text.index("module load 'CUDA/12'\n")
        < text.index("export A=b\n")
        < text.index(OWN_PYTHON_LINE)  # modules set PYTHONPATH
        < text.index("unset SLURM_EXPORT_ENV\n")
        < text.index("srun --")
    )


@pytest.mark.parametrize(
    ("wanted", "limits", "asked"),
    [
        (30, {}, 30),
        (0.2, {}, 1),
        (30.1, {}, 31),
        (30, {"min_time_min": 60}, 60),
        (3000, {"max_time_min": 1440}, 1440),
        (100, {"min_time_min": 60, "max_time_min": 1440}, 100),
    ],
)
def test_time_is_within_what_the_site_allows(wanted: float, limits: dict[str, int], asked: int) -> None:
    assert time_min(wanted, Jobs(**limits)) == asked


def test_environment_of_sbatch_has_nothing_of_another_job() -> None:
    base = {
        "PATH": "/bin",
        "SLURM_CONF": "/etc/slurm/slurm.conf",
        "SLURM_JOB_ID": "7",
        "SLURM_MEM_PER_CPU": "1",
        "SRUN_CPUS_PER_TASK": "1",
        "SBATCH_ACCOUNT": "mine",
        "SBATCH_PARTITION": "other",
        "SBATCH_TIMELIMIT": "1",
        "SBATCH_WCKEY": "key",
    }
    kept = {"PATH": "/bin", "SLURM_CONF": "/etc/slurm/slurm.conf", "SBATCH_ACCOUNT": "mine"}
    assert environment(["--partition=gpu", "--time=3"], base) == kept
    assert environment([], base) == {**kept, "SBATCH_PARTITION": "other"}


def test_controller_in_an_allocation_leaves_it_to_itself() -> None:
    """srun of `staging: {where: jobs}` would make a step of it; jobs would not see their GPUs."""
    variables = {"SLURM_JOB_ID": "4711", "SLURM_MEM_PER_CPU": "2048", "SRUN_CPUS_PER_TASK": "1"}
    variables |= {"SBATCH_TIMELIMIT": "1", "CUDA_VISIBLE_DEVICES": ""}
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_CLUSTERS": "wice", "SBATCH_ACCOUNT": "P1", "PATH": "/bin"}
    variables |= kept
    forget_own_job(variables)
    assert variables == kept
