"""The rehearsal of a benchmark: its harness runs once, before a server is asked for.

It gets two samples, and a model that always says the same.

It runs without network first. Where that may fail for want of one it may fetch what it lacks, once, into
`<HF_HOME>/slurmeval/benchmarks/<key>`; and then it must end well without network from what is there. So what
a harness loads by itself (datasets, word lists, tokenizers) is on disk, built by the harness's own libraries,
before GPUs wait, whatever harness it is.
"""

from __future__ import annotations

import collections
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurmeval.build_once import owned
from slurmeval.config.of_run import config_of
from slurmeval.containment.scratch_dir import ScratchDir, scratch_dir
from slurmeval.errors import ErrorClass, EvaluationFailed, SlurmevalError, UserError
from slurmeval.evaluation.runtimes import runtime_of
from slurmeval.harnesses import harness, harness_process
from slurmeval.harnesses.attempts import last_attempt
from slurmeval.harnesses.base import Job
from slurmeval.harnesses.context import context_length
from slurmeval.harnesses.job_environment import KEPT
from slurmeval.harnesses.logs import may_lack_network
from slurmeval.harnesses.rehearsal_model import serving
from slurmeval.progress import Progress
from slurmeval.scheduling.failures import record
from slurmeval.secrets import make_private, scrub
from slurmeval.staging import fetched
from slurmeval.staging.manifest import HashCache, hash_files, is_whole, write_manifest
from slurmeval.state.manifest import Manifest, Rehearsed, StagedFile
from slurmeval.state.records import load
from slurmeval.state.run_document import RunDocument

MODEL = "rehearsal"
SAMPLES = 2
"""Of one alone some harnesses cannot tell a deviation."""
LONGEST_S = 4 * 3600.0
"""Of one try. Large datasets are fetched meanwhile."""
SAY_EVERY_S = 15.0


@dataclass
class Rehearsal:
    """One benchmark's, as the run document describes it."""

    run: RunDocument
    benchmark_id: str
    log: Path
    progress: Progress
    secrets: Mapping[str, str]

    def __post_init__(self) -> None:
        entry = self.run.benchmarks[self.benchmark_id]
        self.paths = self.run.paths
        config = config_of(self.run)
        self.models = config.models
        self.benchmark = config.benchmarks[self.benchmark_id]
        self.store = self.paths.hf_home / "slurmeval" / "benchmarks" / entry.rehearsal_key
        self.hash_cache = self.store.with_name(f"{self.store.name}.ledger.json")
        self.what = f"rehearsal of {self.benchmark_id}"
        self.log_hint = f" (log: {self.log})"
        self.rehearsed: Rehearsed | None = None

    def try_once(self, folder: Path, prepared: Path | None, online: bool) -> EvaluationFailed | None:
        """Runs the harness; None where it ended well and its results hold what was asked."""
        shutil.rmtree(folder, ignore_errors=True)
        make_private(folder)
        program = harness(self.benchmark.harness)
        with scratch_dir() as place, serving(MODEL, place.socket) as model:
            job = self._job(folder, model.url, model.api_key, prepared, online)
            try:
                command = program.prepare(job)
                returncode = self._wait(job, command, place, model.port, online)
                program.check(job, returncode, self.log)
                output = program.read(job)
                self.rehearsed = Rehearsed(
                    output.n_available,
                    output.n_requested or SAMPLES,
                    model.prompts,
                    model.prompt_tokens,
                    model.max_tokens,
                )
                collections.deque(output.samples, maxlen=0)  # they are made as they are gone through
                if not output.metrics:
                    return EvaluationFailed(
                        ErrorClass.BAD_RESULT, "the harness ended well, but wrote no score"
                    )
            except EvaluationFailed as failure:
                return failure
            except UserError as error:
                return EvaluationFailed(ErrorClass.HARNESS_ERROR, str(error))
        return None

    def _wait(self, job: Job, command: Any, place: ScratchDir, port: int, online: bool) -> int:
        started = time.monotonic()
        running = harness_process.start(job, command, place, port, self.log)
        try:
            while True:
                try:
                    return running.wait(SAY_EVERY_S)
                except subprocess.TimeoutExpired:
                    seconds = time.monotonic() - started
                    doing = "fetching what it lacks" if online else "without network"
                    self.progress(f"{self.what}: {doing}, {seconds:.0f} s")
                    if seconds > LONGEST_S:
                        reason = f"not done within {LONGEST_S / 3600:.0f} h"
                        raise EvaluationFailed(ErrorClass.TIME_LIMIT, reason) from None
        finally:
            harness_process.end(running)
            for folder in (job.folder, self.log.parent):
                scrub(folder, job.secrets)

    def _job(self, folder: Path, url: str, key: str, prepared: Path | None, online: bool) -> Job:
        hub = self.paths.hf_home / "hub"
        hub.mkdir(parents=True, exist_ok=True)
        task_file = self.benchmark.task_file
        manifests = {name: self.run.datasets[name] for name in self.benchmark.datasets}
        model = self.run.tokenizer_model
        tokenizer = load(self.run.models[model].manifest, Manifest).folder
        entry, project = self.models[model], self.run.project
        return Job(
            model=MODEL,
            benchmark_id=self.benchmark_id,
            benchmark=self.benchmark.model_copy(update={"limit": SAMPLES, "repeats": 1}),
            runtime=runtime_of(self.run, self.benchmark_id),
            folder=folder,
            base_url=url,
            api_key=key,
            served_name=MODEL,
            tokenizer=tokenizer,
            model_entry=entry,
            chat_template=project / entry.chat_template if entry.chat_template else None,
            context=context_length(tokenizer, entry.max_model_len),
            datasets={name: load(path, Manifest).folder for name, path in manifests.items()},
            task_file=project / task_file if task_file else None,
            prepared=prepared,
            hub=hub,
            online=online,
            secrets=dict(self.secrets),
        )

    def rehearse(self) -> list[StagedFile]:
        """What the harness has fetched; empty where it needs nothing.

        Raises SlurmevalError with the reason why it cannot run.
        """
        work = self.store.with_name(f"{self.store.name}.rehearsing")
        self.store.parent.mkdir(parents=True, exist_ok=True)
        with owned(self.store, self.what, self.progress):
            try:
                there = is_whole(self.store, HashCache(self.hash_cache))
                self.progress(f"{self.what}: two samples, without network")
                offline = self.try_once(work, self.store if there else None, online=False)
                if offline is not None:
                    self._fetch(work, offline)
                    offline = self.try_once(work, self.store, online=False)
                if offline is not None:
                    raise self._failed(f"it fetched what it lacked, but without network {offline.reason}")
            finally:
                shutil.rmtree(work, ignore_errors=True)
            hash_cache = HashCache(self.hash_cache)
            return hash_files(self.store, hash_cache.names, hash_cache) if self.store.is_dir() else []

    def _fetch(self, work: Path, offline: EvaluationFailed) -> None:
        """Lets it fetch what it lacks, and keeps that. What no network can mend is not tried again."""
        if not may_lack_network(self.log):
            raise self._failed(offline.reason)
        self.progress(f"{self.what}: without network {offline.reason}; once more, to fetch what it lacks")
        before = fetched.snapshots(self.paths.hf_home)
        failure = self.try_once(work, None, online=True)
        fetched.note(self.paths.hf_home, before)
        if failure is not None:
            with_network = "" if failure.reason == offline.reason else f"; with network {failure.reason}"
            raise self._failed(f"without network {offline.reason}{with_network}")
        attempt = last_attempt(work)
        making = self.store.with_name(f"{self.store.name}.making")
        for remains in (making, self.store):
            shutil.rmtree(remains, ignore_errors=True)
        making.mkdir()
        for name in KEPT:
            (attempt / name).rename(making / name)
        for lock in making.rglob("*.lock"):
            lock.unlink()
        names = [str(path.relative_to(making)) for path in making.rglob("*") if path.is_file()]
        self.hash_cache.unlink(missing_ok=True)
        making.rename(self.store)
        hash_files(self.store, names, HashCache(self.hash_cache))

    def _failed(self, reason: str) -> SlurmevalError:
        return SlurmevalError(f"{self.what}: {reason}{self.log_hint}")


def rehearse(
    run: RunDocument,
    benchmark: str,
    output: Path,
    log: Path,
    progress: Progress,
    secrets: Mapping[str, str],
) -> None:
    """Rehearses a benchmark and writes what it fetched as a manifest to `output`. Raises SlurmevalError."""
    rehearsal = Rehearsal(run, benchmark, log, progress, secrets)
    started_at = datetime.now(UTC)
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        # A judge's program is slurmeval's own, and what it is to read is not there yet
        wanted = rehearsal.benchmark.rehearse and rehearsal.benchmark.judging is None
        files = rehearsal.rehearse() if wanted else []
    except SlurmevalError as error:
        _record(rehearsal, error, started_at)
        raise
    entry = run.benchmarks[benchmark]
    source = {"task": rehearsal.benchmark.task, "runtime": entry.environment_sha256}
    key, asked = entry.rehearsal_key, rehearsal.rehearsed
    write_manifest(output, "benchmark", benchmark, source, key, rehearsal.store, files, asked)


def _record(rehearsal: Rehearsal, error: SlurmevalError, started_at: datetime) -> None:
    """The evaluations that will not start say why, in the report too."""
    reason = str(error).removesuffix(rehearsal.log_hint)
    failure = EvaluationFailed(ErrorClass.HARNESS_ERROR, reason)
    log = str(rehearsal.log.relative_to(rehearsal.paths.results))
    for model, benchmark in rehearsal.run.evaluations:
        if benchmark == rehearsal.benchmark_id:
            record(rehearsal.paths.failure(model, benchmark), failure, model, benchmark, started_at, log)
