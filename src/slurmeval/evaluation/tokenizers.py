"""Loads a model's own tokenizer where harnesses will load it, before a server is asked for."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from slurmeval.config.of_run import config_of
from slurmeval.containment.scratch_dir import scratch_dir
from slurmeval.errors import ErrorClass, EvaluationFailed, SlurmevalError
from slurmeval.evaluation.runtimes import runtime_of
from slurmeval.files import write_json
from slurmeval.harnesses import harness_process
from slurmeval.harnesses.attempts import begin_attempt
from slurmeval.harnesses.base import Command, Job
from slurmeval.harnesses.job_environment import environment_variables
from slurmeval.harnesses.logs import telling_line
from slurmeval.harnesses.tokenizer_files import place_tokenizer
from slurmeval.scheduling.failures import record
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import load
from slurmeval.state.run_document import RunDocument

LONGEST_S = 900.0
_LOAD = """
import sys, transformers
load = transformers.AutoTokenizer.from_pretrained
tokenizer = load("./tokenizer", trust_remote_code=sys.argv[1] == "True")
print(type(tokenizer).__name__, tokenizer("Question: 2 + 2 = ?").input_ids)
"""


def try_tokenizer(run: RunDocument, model: str, key: str, output: Path, log: Path) -> None:
    """Loads the tokenizer, and writes to `output` that it can be.

    Raises SlurmevalError with the reason why not, which the evaluations that will not start say too.
    """
    started_at, paths = datetime.now(UTC), run.paths
    pairs = [(model, benchmark) for benchmark in run.tokenizers[f"{model}~{key}"]]
    log.parent.mkdir(parents=True, exist_ok=True)
    paths.state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tokenizer-", dir=paths.state) as folder:
        failure = _try(_job(run, model, pairs[0][1], Path(folder)), log)
    if failure is None:
        write_json(output, {"model": model, "loaded_at": datetime.now(UTC).isoformat()})
        return
    for pair in pairs:
        where = str(log.relative_to(paths.results))
        record(paths.failure(*pair), failure, *pair, started_at, where)
    raise SlurmevalError(f"model {model}: {failure.reason} (log: {log})")


def _job(run: RunDocument, model: str, benchmark: str, folder: Path) -> Job:
    config = config_of(run)
    entry, project = config.models[model], run.project
    return Job(
        model=model,
        benchmark_id=benchmark,
        benchmark=config.benchmarks[benchmark],
        runtime=runtime_of(run, benchmark),
        folder=folder,
        base_url="",
        api_key="",
        served_name=model,
        tokenizer=load(run.models[model].manifest, Manifest).folder,
        model_entry=entry,
        chat_template=project / entry.chat_template if entry.chat_template else None,
    )


def _try(job: Job, log: Path) -> EvaluationFailed | None:
    attempt = begin_attempt(job.folder)
    try:
        place_tokenizer(job, attempt / "tokenizer")
    except EvaluationFailed as failure:
        return failure
    assert job.model_entry is not None
    trusted = str(job.model_entry.trust_remote_code)
    env = environment_variables(job, attempt)
    command = Command([job.runtime.python, "-c", _LOAD, trusted], env, attempt)
    with scratch_dir() as place:
        running = harness_process.start(job, command, place, 1024, log)
        try:
            status = running.wait(LONGEST_S)
        finally:
            harness_process.end(running)
    if status == 0:
        return None
    line = telling_line(log)
    hint = "; trust_remote_code: true of the model lets it run" if "custom code" in line else ""
    return EvaluationFailed(ErrorClass.HARNESS_ERROR, f"its tokenizer cannot be loaded: {line}{hint}")
