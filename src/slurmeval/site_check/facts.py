"""What a probe on a node writes down."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Place:
    """A folder of the login node, as the probe's node sees it."""

    path: str
    same: bool
    """Whether it holds the file that the login node has put there."""
    writable: bool
    free_bytes: int


@dataclass(frozen=True)
class Gpu:
    """A GPU, as nvidia-smi tells of it."""

    name: str
    memory_mib: float
    driver: str
    capability: str
    """Compute capability, such as `9.0`; empty where the driver does not say."""


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """A node, as a job on it finds it."""

    node: str
    began: float
    """When the probe began, in seconds since 1970, by the node's clock."""
    machine: str
    """Such as `x86_64`."""
    cores: int
    python: str
    places: dict[str, Place]
    """By `results`, `environments`, `HF_HOME`."""
    ahead_s: float | None
    """How far the clock of the results' file system is ahead of the node's; None: it cannot be told."""
    internet: str | None
    """Why the hub cannot be reached; None: it can."""
    containers: str
    """Version of Apptainer; empty: there is none."""
    containment: str | None
    """Why harnesses cannot be contained; None: they can."""
    scratch: str | None = None
    """What the folder for scratch is on this node, in words; None: the site file names none."""
    scratch_usable: bool = True
    devices: list[str] = field(default_factory=list)
    """GPUs that Slurm names to the job, by number or UUID."""
    gpus: list[Gpu] = field(default_factory=list)
    gpus_unknown: str | None = None
    """Why nothing is known of the GPUs; None where nvidia-smi (or rocm-smi) has answered."""


@dataclass(frozen=True)
class Listening:
    """Where the probe in a server's job waits to be reached; or why it does not."""

    host: str
    port: int
    fault: str | None = None


@dataclass(frozen=True)
class Reached:
    """Whether the probe in an evaluation's job has reached one in a server's job."""

    fault: str | None
    node: str
