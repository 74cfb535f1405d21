"""A run of one model on three benchmarks on a cluster, with a stand-in for Slurm's programs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.site import Site
from slurmeval.errors import NotYet, ServerFailed
from slurmeval.files import write_json
from slurmeval.paths import Paths
from slurmeval.processes import identity
from slurmeval.servers import leases
from slurmeval.servers.folder import ServerFolder
from slurmeval.slurm import commands
from slurmeval.slurm.commands import JobRun, QueuedJob, SlurmAway, SubmissionRefused
from slurmeval.state.records import write
from tests.run_documents import benchmark_entry, model_entry, run_document

POLICY = (
    "Batch job submission failed: Job violates accounting/QOS policy "
    "(job submit limit, user's size and/or time limits)"
)
"""What sbatch says of every limit."""

BENCHMARKS = ("first", "second", "third")


@dataclass
class StandInSlurm:
    """What Slurm's programs would say. Jobs wait until a test says otherwise."""

    jobs: dict[str, QueuedJob] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    """States of jobs that have left the queue, as accounting has them."""
    submitted: list[list[str]] = field(default_factory=list)
    away: bool = False
    remembers: bool = False
    """Whether the daemon knows what has ended."""
    most: int | None = None
    """MaxSubmitJobs."""
    refuses: str | None = None
    """What sbatch says to whatever is submitted."""
    _ids: Any = field(default_factory=lambda: itertools.count(100))

    def add(self, flags: Sequence[str], workdir: Path) -> str:
        job_id = str(next(self._ids))
        said = {flag.partition("=")[0]: flag.partition("=")[2] for flag in flags}
        name, comment = said.get("--job-name", ""), said.get("--comment", "")
        dependency = said.get("--dependency", "")
        self.jobs[job_id] = QueuedJob(
            job_id, name, "PENDING", "None", comment, str(workdir), "", None, None, dependency, 0
        )
        return job_id

    def submit(self, flags: Sequence[str], script: str, cwd: Path) -> str:
        self._answer()
        self.admit()
        self.submitted.append([*flags])
        return self.add(flags, cwd)

    def admit(self) -> None:
        """Raises SubmissionRefused where sbatch takes no further job."""
        if self.refuses is not None:
            raise SubmissionRefused(self.refuses)
        if self.most is not None and len(self.jobs) >= self.most:
            raise SubmissionRefused(f"AssocMaxSubmitJobLimit; {POLICY}")

    def queue(self, names: Sequence[str] | None = None, *, tries: int = 1) -> list[QueuedJob]:
        self._answer()
        return [job for job in self.jobs.values() if names is None or job.name in names]

    def job_runs(self, job_ids: Sequence[str], *, tries: int = 1) -> dict[str, list[JobRun]]:
        self._answer()
        now = datetime.now(UTC)
        return {
            job_id: [
                JobRun(job_id, self.ended[job_id], "0:0", now, now, now, now, 9, "cpu1", 0, None, None, 0, "")
            ]
            for job_id in job_ids
            if job_id in self.ended
        }

    def end_of(self, job_id: str) -> JobRun | None:
        """The daemon remembers nothing, unless a test says otherwise."""
        self._answer()
        return self.job_runs([job_id])[job_id][0] if self.remembers and job_id in self.ended else None

    def cancel(self, job_ids: Sequence[str], *, only_pending: bool = False, tries: int = 1) -> None:
        for job_id in job_ids:
            self.end(job_id, "CANCELLED")

    def start(self, job_id: str, reason: str = "None", state: str = "RUNNING") -> None:
        """A job begins, or waits for a `reason`."""
        self.jobs[job_id] = replace(self.jobs[job_id], state=state, reason=reason)

    def end(self, job_id: str, state: str) -> None:
        """A job leaves the queue."""
        self.jobs.pop(job_id, None)
        self.ended[job_id] = state

    def _answer(self) -> None:
        if self.away:
            raise SlurmAway("made to be away")


class Run:
    """The run's document and places. `clock` is turned by the test."""

    def __init__(self, root: Path, slurm: StandInSlurm) -> None:
        self.slurm = slurm
        self.now = 1000.0
        self.slurm_name = "serve-tiny"
        self.paths = Paths(root / "results", root / ".environments", root / "hf", root / ".images")
        self.controller = replace(identity(), token="run-1")
        write(self.paths.controller, self.controller)
        write_json(root / "manifest.json", {"folder": str(root / "weights"), "files": []})
        write_json(root / "environment.json", {"folder": str(root), "python": "/no/python"})
        tiny = model_entry(
            self.paths, "tiny", manifest=root / "manifest.json", environment=root / "environment.json"
        )
        self.document = run_document(
            self.paths,
            {"tiny": replace(tiny, serving=replace(tiny.serving, time_limit_min=120))},
            {benchmark: benchmark_entry() for benchmark in BENCHMARKS},
            site=Site.model_validate({"version": 1}).model_dump(mode="json"),
        )

    def alter(self, model: str, **more: Any) -> None:
        """Says something else of a model."""
        self.document.models[model] = replace(self.document.models[model], **more)

    def alter_results(self, benchmark: str) -> None:
        """Gives a benchmark other parameters."""
        entry = replace(self.document.benchmarks[benchmark], results_key="c" * 64)
        self.document.benchmarks[benchmark] = entry

    def limit(self, **server_jobs: Any) -> None:
        """Says something else of all servers."""
        config = self.document.config
        self.document = replace(
            self.document, config={**config, "server_jobs": {**config["server_jobs"], **server_jobs}}
        )

    def clock(self) -> float:
        return self.now

    def submit_server(self, folder: Path) -> None:
        """In place of `slurmeval.servers.submit`, a process of its own."""
        try:
            self.slurm.admit()
        except SubmissionRefused as error:
            if commands.passes(error):
                raise NotYet(str(error)) from error
            raise ServerFailed(f"the server's job could not be submitted: {error}") from error
        job_id = self.slurm.add([f"--job-name={self.slurm_name}"], folder)
        write_json(ServerFolder(folder).job, {"job_id": job_id, "cluster": "slurm"})

    def server(self, number: int = 1) -> ServerFolder:
        return ServerFolder(self.paths.servers_of("tiny") / f"{number:04d}")

    def state(self, status: str, number: int = 1, **more: Any) -> None:
        write_json(self.server(number).state, {"status": status, "reason": None, "owner": None, **more})


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> StandInSlurm:
    stand_in = StandInSlurm()
    for name in ("submit", "queue", "job_runs", "end_of", "cancel"):
        monkeypatch.setattr(commands, name, getattr(stand_in, name))
    return stand_in


@pytest.fixture
def run(tmp_path: Path, slurm: StandInSlurm, monkeypatch: pytest.MonkeyPatch) -> Run:
    made = Run(tmp_path, slurm)
    monkeypatch.setattr(leases, "submit_detached", lambda folder, *_options: made.submit_server(folder))
    return made
