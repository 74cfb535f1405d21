"""Results of NeMo Evaluator, as metrics and samples.

`results.yml` has the scores of any wrapped harness (`nemo_scores`). Samples come from the wrapped harness's
own files, where their layout is known (lm-eval and BFCL here, all others in `nemo_readers`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slurmeval.harnesses import scales
from slurmeval.harnesses.base import HarnessOutput, Job, Metric, Sample
from slurmeval.harnesses.bfcl_results import read_bfcl
from slurmeval.harnesses.job_environment import task_name
from slurmeval.harnesses.lm_eval_metrics import read_metrics
from slurmeval.harnesses.lm_eval_samples import LmEvalFiles, LmEvalSamples, check_counts, n_available
from slurmeval.harnesses.nemo_readers import knows, reader, tidy
from slurmeval.harnesses.nemo_readers.reading import json_value, laid_out_by
from slurmeval.harnesses.nemo_scores import Scale, read_results
from slurmeval.harnesses.nemo_traits import LM_EVAL
from slurmeval.harnesses.sample_checks import well_formed
from slurmeval.harnesses.scores import bad_result, mark_primary, wholes

COUNTS_LIMIT = 2**53
"""What numbers of questions and repeats stay below."""


def scale_of(wrapped: str) -> Scale:
    """Returns the scale on which a wrapped harness writes a score, before its own rules (`nemo_readers`)."""
    if wrapped == "bfcl":
        return lambda task, metric, beside: scales.PERCENT
    if wrapped != LM_EVAL and knows(wrapped):
        return lambda task, metric, beside: scales.PROPORTION
    return scales.scale


def read_output(job: Job, wrapped: str, output: Path, version: str) -> HarnessOutput:
    """Returns all results of one attempt.

    Raises:
        EvaluationFailed: They cannot be read, or do not fit the limit (bad_result).
    """
    metrics = read_results(output / "results.yml", scale_of(wrapped))
    if wrapped == "bfcl":
        result = _read_bfcl(job, metrics, output, version)
    elif wrapped == LM_EVAL:
        result = _read_lm_eval(job, metrics, output, version)
    else:
        result = _read_other(job, wrapped, metrics, output, version)
    if all(row.n_items == 0 for row in result.metrics):
        raise bad_result("results.yml: has no score: there is none that is over a question")
    return result


def _read_other(job: Job, wrapped: str, written: list[Metric], output: Path, version: str) -> HarnessOutput:
    """Returns the samples of a harness with a reader. How many requests a sample takes is unknown."""
    check_responses(output, at_least=1)
    read = reader(wrapped)
    with laid_out_by(wrapped, output):
        samples = well_formed(read(job, output), wrapped) if read is not None else []
        metrics = tidy(wrapped, written, samples)
    for row in metrics:
        if not 0 <= (row.n_items or 0) < COUNTS_LIMIT or not 0 < row.n_repeats < COUNTS_LIMIT:
            counts = f"{row.n_items} questions, {row.n_repeats} repeats"
            raise bad_result(f"{wrapped}: {row.task} {row.metric} is over {counts:.80}")
    leading = [row for row in metrics if row.is_primary]
    if len(leading) > 1:
        names = " and ".join(f"{row.task} {row.metric}" for row in leading[:2])
        raise bad_result(f"results.yml: {names} both stand for the whole")
    if not leading:
        mark_primary(metrics, task_name(job), wholes(metrics))
    return HarnessOutput(metrics, samples, None, version, None)


def _read_lm_eval(job: Job, written: list[Metric], output: Path, version: str) -> HarnessOutput:
    files = LmEvalFiles(output)
    samples = LmEvalSamples(files)
    n_requested = check_counts(files, samples, job.benchmark.limit)
    check_responses(output, at_least=samples.n_asked())
    metrics = read_metrics(files, task_name(job))
    own, nemo = _numbers(metrics), _numbers(written)
    if own != nemo:
        differing = sorted(str(key) for key in own.keys() | nemo.keys() if own.get(key) != nemo.get(key))
        raise bad_result(f"results.yml and {files.path.name} differ in {differing[0]}")
    task = task_version(files.results, task_name(job))
    return HarnessOutput(metrics, samples, n_requested, version, task, True, n_available(files))


def _numbers(rows: list[Metric]) -> dict[tuple[str, str, str | None], float]:
    return {
        (row.task, row.metric, row.filter): row.harness_value for row in rows if row.harness_value is not None
    }


def task_version(results: dict[str, Any], task: str) -> str | None:
    """Returns the version of the task that lm-eval wrote."""
    version = (results.get("versions") or {}).get(task)
    return None if version is None else str(version)


def _read_bfcl(job: Job, written: list[Metric], output: Path, version: str) -> HarnessOutput:
    metrics, samples, n_requested = read_bfcl(job, written, output)
    answered = [sample for sample in samples if sample.status != "error"]
    check_responses(output, at_least=len(answered))
    texts = job.benchmark.task.endswith("_ast_prompting")  # others keep calls, or whole conversations
    return HarnessOutput(metrics, samples, n_requested, version, "v3", texts)


def response_count(output: Path) -> int | None:
    """Returns how many good answers NeMo's adapter counted; None where it wrote no statistics."""
    path = output / "eval_factory_metrics.json"
    if not path.exists():
        return None
    with laid_out_by("NeMo", path):
        stats = json_value(path).get("response_stats")
        if stats is None:
            return None
        counted = stats["successful_count"]
        if isinstance(counted, bool) or not isinstance(counted, int):
            raise TypeError(f"successful_count is {counted!r}, not a whole number")
        return counted


def check_responses(output: Path, at_least: int) -> None:
    """Checks that at least as many answers came through this evaluation's own adapter as the samples took.

    More may come: a request that was asked again.

    Raises:
        EvaluationFailed: Fewer came, so the others came through another evaluation's adapter (bad_result).
    """
    counted = response_count(output)
    if counted is None:
        raise bad_result("NeMo's adapter left no statistics of responses (eval_factory_metrics.json)")
    if counted < at_least:
        raise bad_result(
            f"the samples took {at_least} requests, but only {counted} answers passed NeMo's adapter"
        )


__all__ = ["Sample", "check_responses", "read_output", "response_count", "scale_of", "task_version"]
