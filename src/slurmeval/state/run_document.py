"""The run document (`state/runs/<hash>.json`): what the planner has resolved, and all jobs of a run read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from slurmeval.paths import Paths
from slurmeval.state.records import JsonObject
from slurmeval.state.server_spec import JobParameters, ServerSpec


@dataclass(frozen=True, kw_only=True)
class SharedJobEntry:
    """The job that small servers share."""

    models: list[str]
    job: JobParameters


@dataclass(frozen=True, kw_only=True)
class RuntimeEntry:
    """What servers or a harness run in."""

    runtime: str
    """environment, image, none."""
    environment: Path | None
    """Its record, which says where it lies once it is made. None: the server is there already."""


@dataclass(frozen=True, kw_only=True)
class ModelEntry(RuntimeEntry):
    """A model and its servers."""

    answers_key: str
    """Hash of all that alters its answers."""
    params: JsonObject
    """All that alters its answers."""
    manifest: Path
    """Says where its weights lie, once they are staged."""
    serving: ServerSpec
    """The first replica's, but for `weights` and `python`, which are known once they are staged and made."""
    replicas: int
    parallelism: int
    """Requests at once of a benchmark that does not say how many, at most."""
    job_names: list[str]
    """The name of each replica's job."""
    shared_job: SharedJobEntry | None = None
    seats: int | None = None
    """Requests that all its servers answer at once, for benchmarks that do not say how many to share; None:
    they share none."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkEntry(RuntimeEntry):
    """A benchmark and what its harness runs in."""

    environment: Path
    environment_sha256: str
    rehearsal: Path
    """The manifest of what its harness fetches by itself."""
    rehearsal_key: str
    versions: dict[str, str]
    """Of the packages that alter its results."""
    results_key: str
    """Hash of all that alters its results."""
    requests_key: str = ""
    """Hash of what of this alters its requests."""
    time_limit_min: float
    judge: str | None = None
    """The model whose server its evaluations lease; None: that of the model that is evaluated."""
    judges: bool = False
    """Whether its evaluations read stored answers of others."""
    asks_nobody: bool = False
    """Whether its evaluations need no server."""
    own_gpus: int = 0
    """GPUs that its own job has, for what no server does."""
    own_memory_gb: float = 0
    """Memory of its job where that has GPUs, in GB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunDocument:
    """A run. `config` and `site` are the files' content; `slurmeval.config.of_run` has them as types."""

    project: Path
    paths: Paths
    config: JsonObject
    site: JsonObject | None
    """None: the run is on one machine."""
    evaluations: list[tuple[str, str]]
    """Model and benchmark of each."""
    order: list[str]
    """The models, in the order that frees GPUs soonest."""
    tokenizer_model: str
    """The model whose tokenizer rehearsals use."""
    tokenizers: dict[str, list[str]] = field(default_factory=dict)
    """The benchmarks that load a tokenizer, by its model and key."""
    models: dict[str, ModelEntry]
    datasets: dict[str, Path]
    """The manifest of each dataset."""
    benchmarks: dict[str, BenchmarkEntry]

    def server_of(self, model: str, benchmark: str) -> str:
        """Returns the model whose server an evaluation leases: the judge's, else its own."""
        return self.benchmarks[benchmark].judge or model

    def lease_name(self, model: str, benchmark: str) -> str:
        """Returns the name of an evaluation's lease, which stands among those of its server's model."""
        return benchmark if self.benchmarks[benchmark].judge is None else f"{benchmark}~{model}"

    def answers_key(self, model: str, benchmark: str) -> str:
        """Returns the hash of all that alters the answers that an evaluation gets."""
        return self.models[self.server_of(model, benchmark)].answers_key

    def work(self, model: str, benchmark: str) -> Path:
        """Returns an evaluation's own folder."""
        return self.paths.work(model, benchmark, self.answers_key(model, benchmark))

    def lock_file(self, model: str, benchmark: str) -> Path:
        """Returns the file by which one process at a time runs an evaluation."""
        return self.paths.lock_file(model, benchmark, self.answers_key(model, benchmark))
