"""Flags of sbatch for a site file and a config."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence

from slurmeval.config.serving import Serving
from slurmeval.config.site import WITH_KEYS, Jobs, PoolJobs, Site, flag_name, placeholders
from slurmeval.state.server_spec import JobParameters
from slurmeval.variables import OWN_PYTHON_LINE, checked

CPUS_WITHOUT_GPU = 4
"""Cores of a server without GPU where its entry of `servers` does not say."""
MB_PER_GB = 1024
AFTER_LIMIT_MIN = 10
"""Between the time limit of an evaluation, which it keeps itself, and that of its job."""

SUBMITIT_DEFAULTS = {"wckey": None}
"""What submitit's SlurmExecutor asks for unasked. AutoExecutor passes no None on, so this goes to the
executor inside it: `executor._executor.update_parameters(**SUBMITIT_DEFAULTS)`."""

WHOLE_JOB_TO_THE_STEP = (
    'if [ -n "${SLURM_CPUS_PER_TASK-}" ]; then export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"; fi'
)
"""From Slurm 22.05 to 24.05, submitit's srun would else give the server one core of those of its job."""

ENVIRONMENT_TO_THE_STEP = "unset SLURM_EXPORT_ENV"
"""A site's prolog, or --export=NONE, may have it say NONE: the server would start without PATH and HOME."""

KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
"""Variables that say how Slurm is reached. All other SLURM_* are of a job that the caller runs in."""
DEVICES = (
    *("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
    "ZE_AFFINITY_MASK",
)
OF_THE_USER = ("account", "partition", "qos", "reservation")
"""What SBATCH_<NAME> may say where the site file says nothing."""


def evaluation_flags(site: Site, *, time_min: int, memory_gb: float) -> list[str]:
    """Returns the flags of one evaluation's job."""
    jobs = site.evaluations
    flags = [*_keys(jobs), "--nodes=1", "--ntasks=1", f"--cpus-per-task={jobs.cpus}"]
    if jobs.memory is not None:
        flags.append(jobs.memory.format(**_memory(memory_gb, jobs.cpus, 0)))
    return [*flags, f"--time={time_min}", *jobs.extra]


def gpu_evaluation_flags(
    site: Site, pool: str | None, *, gpus: int, time_min: int, memory_gb: float
) -> list[str]:
    """Returns the flags of an evaluation's job that has GPUs of its own, asked for as servers ask."""
    jobs = site.servers.of(pool)
    return server_flags(jobs, gpus=gpus, nodes=1, cpus=None, memory_gb=memory_gb, time_min=time_min)


def staging_flags(site: Site, time_min: int) -> list[str]:
    """Returns the flags of a job that downloads."""
    jobs = site.staging
    flags = [*_keys(jobs), "--nodes=1", "--ntasks=1", f"--cpus-per-task={jobs.cpus}"]
    if jobs.memory is not None:
        flags.append(jobs.memory.format(**_memory(jobs.memory_gb, jobs.cpus, 0)))
    return [*flags, f"--time={time_min}", *jobs.extra]


def staging_command(site: Site, variables: Mapping[str, str]) -> list[str]:
    """Returns the command that runs a command where there is internet, its arguments to follow.

    That is nothing, or srun, which stays for as long as its job does, passes on its output, and ends it when
    it is ended. srun does not read SBATCH_*, so what those of `variables` say for the user is a flag.
    """
    jobs = site.staging
    if jobs.where == "controller":
        return []
    users = {name: variables.get(f"SBATCH_{name.upper()}") for name in OF_THE_USER}
    keys = [f"--{name}={value}" for name, value in users.items() if value and getattr(jobs, name) is None]
    flags = [*staging_flags(site, time_min(jobs.time_limit_min, jobs)), *keys, "--job-name=slurmeval-stage"]
    script = "\n".join([*checked(jobs.setup), OWN_PYTHON_LINE, 'exec "$@"'])
    return ["srun", "--quiet", "--input=none", *flags, "/bin/bash", "-c", script, "bash"]


def server_flags(
    jobs: PoolJobs, *, gpus: int, nodes: int, cpus: int | None, memory_gb: float, time_min: int
) -> list[str]:
    """The flags of a job that serves; `gpus`, `cpus` and `memory_gb` are for each of its nodes.

    Slurm may put it back in the queue after its node went down or it was preempted (--requeue), whatever the
    cluster's default is.
    """
    cores = cpus or gpus * jobs.cpus_per_gpu or CPUS_WITHOUT_GPU
    flags = [*_keys(jobs), f"--nodes={nodes}", "--ntasks-per-node=1"]
    if gpus and jobs.gpus is not None:
        flags.append(jobs.gpus.format(gpus=gpus, total_gpus=gpus * nodes))
    if jobs.cpus is not None:
        template = jobs.cpus if gpus else _without_gpu(jobs.cpus, "--cpus-per-task={cpus}")
        flags.append(template.format(cpus=cores, cpus_per_gpu=math.ceil(cores / max(gpus, 1))))
    if jobs.memory is not None:
        template = jobs.memory if gpus else _without_gpu(jobs.memory, "--mem={memory_gb}G")
        flags.append(template.format(**_memory(memory_gb, cores, gpus)))
    return [*flags, f"--time={time_min}", "--requeue", *jobs.extra]


def serving_flags(site: Site, server: Serving) -> list[str]:
    """Returns the flags of the job of one server."""
    jobs = site.servers.of(server.pool)
    return server_flags(
        jobs,
        gpus=server.gpus,
        nodes=server.nodes,
        cpus=server.cpus,
        memory_gb=server.memory_gb,
        time_min=time_min(server.time_limit_min, jobs),
    )


def submitit_parameters(flags: Sequence[str], setup: Sequence[str]) -> JobParameters:
    """`flags` of `server_flags` as parameters of submitit's AutoExecutor.update_parameters.

    submitit itself must know time, nodes and tasks; the rest is handed through. Its own defaults are the
    caller's to take away: SUBMITIT_DEFAULTS.
    """
    values: dict[str, str | bool] = {}
    for flag in flags:
        _, equals, value = flag.partition("=")
        values[flag_name(flag)] = value if equals else True
    return JobParameters(
        timeout_min=int(values.pop("time")),
        nodes=int(values.pop("nodes")),
        tasks_per_node=int(values.pop("ntasks-per-node")),
        slurm_additional_parameters=values,
        slurm_setup=[WHOLE_JOB_TO_THE_STEP, *checked(setup), OWN_PYTHON_LINE, ENVIRONMENT_TO_THE_STEP],
    )


def evaluation_time_min(limit_min: float, loading_s: float, jobs: Jobs) -> int:
    """Returns the minutes to request for an evaluation.

    It begins with its server's job, so the model's loading counts. It keeps its own limit, so Slurm's comes
    later.
    """
    return time_min(limit_min + loading_s / 60 + AFTER_LIMIT_MIN, jobs)


def time_min(wanted: float, jobs: Jobs) -> int:
    """Returns the minutes to request: those wanted, within the limits of the site."""
    least = max(math.ceil(wanted), jobs.min_time_min)
    return least if jobs.max_time_min is None else min(least, jobs.max_time_min)


def environment(flags: Sequence[str], base: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment to run sbatch in: `base` without what would alter the request or the job.

    sbatch reads SBATCH_* before the flags that stand in a script, and a job inherits SLURM_* of a job that
    submits it. The user's account, partition, QOS and reservation count if `flags` name none.
    """
    given = {flag_name(flag) for flag in flags}
    wanted = {f"SBATCH_{name.upper()}" for name in OF_THE_USER if name not in given}
    return {
        name: value
        for name, value in base.items()
        if not name.startswith(("SLURM_", "SBATCH_", "SRUN_")) or name in KEPT or name in wanted
    }


def forget_own_job(variables: MutableMapping[str, str]) -> None:
    """Removes variables of the job that the controller itself runs in, and devices of this machine.

    Otherwise srun would make a step of that job, and jobs would inherit the rest.
    """
    kept = environment([], variables)
    for name in [name for name in variables if name not in kept or name in DEVICES]:
        del variables[name]


def _keys(jobs: Jobs) -> list[str]:
    return [f"--{name}={value}" for name in WITH_KEYS if (value := getattr(jobs, name)) is not None]


def _memory(memory_gb: float, cpus: int, gpus: int) -> dict[str, int]:
    """Returns whole numbers for sbatch. Shares are rounded down: their sum may not exceed a node's."""
    memory_mb = math.ceil(memory_gb * MB_PER_GB)
    share_mb = memory_mb // max(gpus, 1)
    return {
        "memory_gb": math.ceil(memory_gb),
        "memory_mb": memory_mb,
        "memory_per_gpu_gb": max(share_mb // MB_PER_GB, 1),
        "memory_per_gpu_mb": max(share_mb, 1),
        "memory_per_cpu_mb": max(memory_mb // cpus, 1),
    }


def _without_gpu(template: str, plain: str) -> str:
    """Returns `plain` for a template with a share per GPU, which means nothing to a server without GPUs."""
    per_gpu = "per-gpu" in template or any("per_gpu" in name for name in placeholders(template))
    return plain if per_gpu else template
