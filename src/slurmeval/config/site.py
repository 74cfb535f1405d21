"""A cluster, as one file beside its profile says it (`profiles/<name>/site.yaml`): how jobs are asked for.

Nothing here alters answers. What is specific to a cluster stands in such a file, and nowhere in the code.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from slurmeval.config.gpus import gpus, known
from slurmeval.config.sources import Identifier, Section
from slurmeval.errors import UserError

SITE_VERSION = 1

WITH_KEYS = ("account", "partition", "qos", "constraint", "reservation", "exclude")
"""Flags of sbatch that have a key of their own, of the same name."""
OURS = (
    *(
        "array",
        "chdir",
        "clusters",
        "comment",
        "dependency",
        "error",
        "export",
        "hold",
        "input",
        "job-name",
        "nodes",
        "ntasks",
    ),
    *(
        "ntasks-per-node",
        "open-mode",
        "output",
        "parsable",
        "quiet",
        "requeue",
        "no-requeue",
        "signal",
        "test-only",
    ),
    *("time", "wait", "wrap"),
)
"""Flags of sbatch that slurmeval gives itself, or that would break its jobs."""


def flag_name(flag: str) -> str:
    """`gres` of `--gres=gpu:4`."""
    return flag.removeprefix("--").split("=")[0]


def _one_word(text: str) -> str:
    if not text or any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("a word without spaces is needed; null leaves the flag out")
    return text


def _long_flag(flag: str) -> str:
    name = flag_name(flag)
    if not flag.startswith("--") or not name.replace("-", "").isalnum() or name.startswith("-"):
        raise ValueError("a long flag of sbatch is needed, such as --exclusive or --gres=gpu:4")
    if any(character.isspace() or not character.isprintable() for character in flag):
        raise ValueError("one flag without spaces is needed, as --name=value; further ones go into extra")
    return flag


def _further_flag(flag: str) -> str:
    name = flag_name(_long_flag(flag))
    if name in WITH_KEYS:
        raise ValueError(f"the key {name} says that")
    if name in OURS:
        raise ValueError(f"slurmeval gives --{name} itself")
    return flag


def placeholders(template: str) -> tuple[str, ...]:
    """Returns the names in a template's braces. Raises ValueError if the braces do not match."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        raise ValueError("the braces do not fit") from None
    if any(form or conversion for _, _, form, conversion in parts):
        raise ValueError("braces hold a name only")
    return tuple(name for _, name, _, _ in parts if name is not None)


def _known(template: str, allowed: tuple[str, ...]) -> str:
    named = ", ".join(f"{{{name}}}" for name in allowed)
    try:
        unknown = [name for name in placeholders(template) if name not in allowed]
    except ValueError as error:
        raise ValueError(f"{error}; allowed: {named}") from None
    if unknown:
        raise ValueError(f"{{{unknown[0]}}} is unknown; allowed: {named}")
    return template


def _address(template: str) -> str:
    if "host" not in placeholders(_known(_one_word(template), ("host",))):
        raise ValueError("{host} is needed: each node has an address of its own")
    return template


def _flag_with(*allowed: str) -> Any:
    return AfterValidator(lambda flag: _further_flag(_known(flag, allowed)))


Word = Annotated[str, AfterValidator(_one_word)]
FurtherFlag = Annotated[str, AfterValidator(_further_flag)]
GpuFlag = Annotated[str, _flag_with("gpus", "total_gpus")]
CpuFlag = Annotated[str, _flag_with("cpus", "cpus_per_gpu")]
ServerMemoryFlag = Annotated[
    str,
    _flag_with("memory_gb", "memory_mb", "memory_per_gpu_gb", "memory_per_gpu_mb", "memory_per_cpu_mb"),
]
EvaluationMemoryFlag = Annotated[str, _flag_with("memory_gb", "memory_mb", "memory_per_cpu_mb")]


class Jobs(Section):
    """How jobs of one kind are asked for. null: the flag is left out, and the cluster's default holds."""

    account: Word | None = None
    """The project that pays (--account). null: the variable SBATCH_ACCOUNT, where it is set."""
    partition: Word | None = None
    """--partition; several may be given, with commas."""
    qos: Word | None = None
    """--qos."""
    constraint: Word | None = None
    """Features of the nodes (--constraint), such as `NOGPU` or `gpu&hbm80g`."""
    reservation: Word | None = None
    """--reservation."""
    exclude: Word | None = None
    """Nodes to leave out (--exclude), such as `n[01-03]`."""
    extra: list[FurtherFlag] = Field(default=[])
    """Further flags of sbatch, in their long form, such as `--exclusive`."""
    setup: list[str] = Field(default=[])
    """Shell lines that run first in the job, such as `module load CUDA` or `export http_proxy=…`. One
    that fails ends the job."""
    max_time_min: Annotated[int, Field(ge=1)] | None = None
    """The longest that a job may ask for. null: what the partition says, where it can be asked."""
    min_time_min: Annotated[int, Field(ge=1)] = 1
    """The shortest that a job may ask for."""

    @model_validator(mode="after")
    def _usable(self) -> Jobs:
        if self.max_time_min is not None and self.max_time_min < self.min_time_min:
            raise ValueError(f"max_time_min is less than min_time_min, {self.min_time_min}")
        first: dict[str, str] = {}
        for key, flag in self._flags():
            name = flag_name(flag)
            if name in first:
                raise ValueError(f"--{name} is given twice ({first[name]} and {key}); sbatch takes one only")
            first[name] = key
        return self

    def _flags(self) -> Iterator[tuple[str, str]]:
        """Returns key and flag of all that is written as a flag."""
        for key in ("gpus", "cpus", "memory"):
            if isinstance(flag := getattr(self, key, None), str):
                yield key, flag
        yield from (("extra", flag) for flag in self.extra)


class PoolJobs(Jobs):
    """Jobs that serve models on one kind of node.

    Braces in `gpus`, `cpus` and `memory` stand for what the model's entry of `servers` in the config says.
    """

    gpus: GpuFlag | None = "--gpus-per-node={gpus}"
    """How GPUs are asked for: {gpus} is their number on each node, {total_gpus} that on all nodes of the
    server. null: not at all, where partition or constraint give them."""
    cpus: CpuFlag | None = "--cpus-per-task={cpus}"
    """How cores are asked for: {cpus} is their number on each node, {cpus_per_gpu} the share of a GPU. null:
    not at all."""
    cpus_per_gpu: Annotated[int, Field(ge=1)] = 8
    """Cores for each GPU where `servers.<id>.cpus` does not say."""
    memory: ServerMemoryFlag | None = "--mem={memory_gb}G"
    """How memory is asked for: {memory_gb} and {memory_mb} are that of a node, {memory_per_gpu_gb},
    {memory_per_gpu_mb} and {memory_per_cpu_mb} a share of it. null: not at all, for clusters that refuse
    it."""
    gpu: Annotated[str, AfterValidator(known)] | None = None
    """The kind of GPU, as `src/slurmeval/config/gpus.yaml` names it: `slurmeval plan` estimates by it what a
    run will take before anything has run, and it says how much memory there is. null: not known."""
    gpu_memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Memory of one GPU. A staged model that cannot fit is then refused before a job is queued. null: that
    of `gpu`; without it, that is seen when it is loaded."""
    address: Annotated[str, AfterValidator(_address)] = "{host}"
    """Name under which other nodes reach a server's node; {host} is the node's own name."""
    gpus_per_job: Annotated[int, Field(ge=1)] | None = None
    """GPUs of a node, on clusters that give nodes whole. Small servers then share jobs with this many."""

    @property
    def memory_of_gpu_gb(self) -> float | None:
        """Returns the memory of one GPU, in GiB; None: it is not known."""
        return self.gpu_memory_gb or (gpus()[self.gpu].memory_gb if self.gpu else None)


class ServerJobs(PoolJobs):
    """Jobs that serve models.

    Braces in `gpus`, `cpus` and `memory` stand for what the model's entry of `servers` in the config says.
    """

    pools: dict[Identifier, PoolJobs] = Field(default={})
    """Further kinds of nodes, by the name that `servers.<id>.pool` in the config gives; a key that is left
    out is as here."""

    @model_validator(mode="after")
    def _usable_pools(self) -> ServerJobs:
        for name in self.pools:
            self.of(name)
        return self

    def of(self, pool: str | None) -> PoolJobs:
        """Returns how jobs in a pool are asked for; None: in none.

        Raises:
            UserError: There is no such pool.
        """
        if pool is None:
            return self
        if pool not in self.pools:
            named = ", ".join(self.pools) or "none"
            raise UserError(f"servers.<id>.pool: {pool!r} is not in the site file's servers.pools ({named})")
        shared = {name: getattr(self, name) for name in PoolJobs.model_fields}
        own = {name: getattr(self.pools[pool], name) for name in self.pools[pool].model_fields_set}
        if "gpu" in own:  # another kind has another memory
            own.setdefault("gpu_memory_gb", None)
        return PoolJobs.model_validate(shared | own)


class EvaluationJobs(Jobs):
    """Jobs that run evaluations: harness and gateway, no GPU."""

    where: Literal["jobs", "server"] = "jobs"
    """jobs: each evaluation is a job of its own. server: evaluations run inside their server's job, for
    clusters without nodes for that, or with closed ports between nodes."""
    cpus: Annotated[int, Field(ge=1)] = 2
    """Cores of one evaluation."""
    memory_gb: Annotated[float, Field(gt=0)] = 4
    """Memory of one evaluation; doubled for a try after one that ran out of it."""
    memory: EvaluationMemoryFlag | None = "--mem={memory_mb}M"
    """How memory is asked for: {memory_gb}, {memory_mb} or {memory_per_cpu_mb}. null: not at all."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Further tries of an evaluation that failed in a way that may not come again: a node that went down, too
    little memory, too little time."""

    def _flags(self) -> Iterator[tuple[str, str]]:
        yield "cpus", "--cpus-per-task"
        yield from super()._flags()


class StagingJobs(Jobs):
    """Where weights, datasets, images and environments are fetched."""

    where: Literal["controller", "jobs"] = "controller"
    """controller: beside Snakemake, on the login node. jobs: in jobs of their own, on nodes with internet."""
    cpus: Annotated[int, Field(ge=1)] = 2
    """Cores of one such job."""
    memory_gb: Annotated[float, Field(gt=0)] = 8
    """Memory of one such job."""
    memory: EvaluationMemoryFlag | None = "--mem={memory_mb}M"
    """How memory is asked for: {memory_gb}, {memory_mb} or {memory_per_cpu_mb}. null: not at all."""
    time_limit_min: Annotated[int, Field(ge=1)] = 240
    """Longest time of one such job. What it has downloaded by then is kept; the next run continues."""


class Containers(Section):
    """How containers are run."""

    program: Word | None = None
    """apptainer or singularity, as a name or a path; null: whichever is there."""
    setup: list[str] = Field(default=[])
    """Shell lines that run before it, such as `module load apptainer`. One that fails ends the command."""
    gpu: Literal["--nv", "--rocm"] | None = "--nv"
    """The flag by which a server's container gets the GPUs; null: none."""
    binds: list[Word] = Field(default=[])
    """Further folders that every container sees, as `folder`, `folder:inside` or `folder:inside:ro`."""
    images: dict[Identifier, Word] = Field(default={})
    """Images that are on the cluster already: the path of the file by the image's id. They are not pulled."""


class Scratch(Section):
    """Disks of the nodes themselves."""

    folder: Word | None = None
    """Where they are, such as `$TMPDIR` or `/local`; null: not used."""
    to_copy: list[Literal["weights", "images"]] = Field(default=["weights"])
    """What of a server is copied there before it is used, once for all jobs of a node."""
    keep_free_gb: Annotated[float, Field(ge=0)] = 10
    """Nothing is copied where less than this would be left free."""


class Site(Section):
    """A cluster."""

    version: Literal[1]
    """The file's format; this is version 1."""
    servers: ServerJobs = ServerJobs()
    """Jobs that serve models."""
    evaluations: EvaluationJobs = EvaluationJobs()
    """Jobs that run evaluations."""
    staging: StagingJobs = StagingJobs()
    """Downloads."""
    containers: Containers = Containers()
    """Containers."""
    scratch: Scratch = Scratch()
    """Disks of the nodes."""
    dependencies: bool = True
    """Whether a job may wait for another (--dependency). false: an evaluation is submitted once its server
    runs."""
    poll_s: Annotated[float, Field(ge=1)] = 10
    """Seconds between two looks at the queue."""
