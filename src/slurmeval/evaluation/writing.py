"""What is written of an evaluation that ended well.

That is its part of the tables, and all by which it can be repeated.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slurmeval import __version__
from slurmeval.evaluation import provenance
from slurmeval.files import sha256_of_json
from slurmeval.gateway import audit
from slurmeval.gateway import log as gateway_log
from slurmeval.harnesses.base import HarnessOutput
from slurmeval.results import evaluation as results
from slurmeval.results import history, partitions
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import load

if TYPE_CHECKING:
    from slurmeval.evaluation.evaluate import Evaluation


def write_partition(evaluation: Evaluation, pinned: results.EvaluationRecord, output: HarnessOutput) -> None:
    """Writes the evaluation's part of the tables.

    Raises EvaluationFailed (bad_result) where too much stayed unanswered; what was there before is left
    then.
    """
    log = evaluation.work / "gateway"
    partitions.write(
        evaluation.paths,
        evaluation.model,
        evaluation.benchmark_id,
        pinned,
        output,
        gateway_log.read(log),
        gateway_log.unanswered(log),
        evaluation.benchmark.max_unanswered,
        asked=evaluation.planned_model.params,
        again=gateway_log.read(log / audit.FOLDER),
    )
    history.keep(evaluation.paths, evaluation.model, evaluation.benchmark_id)


def pins(evaluation: Evaluation) -> results.EvaluationRecord:
    """Returns all by which the evaluation can be repeated."""
    benchmark = evaluation.benchmark
    judged = evaluation.run.models[evaluation.model]
    model = load(judged.manifest, Manifest)
    datasets = {name: load(evaluation.run.datasets[name], Manifest) for name in benchmark.datasets}
    commit, dirty = provenance.commit(evaluation.run.project)
    return results.EvaluationRecord(
        attempt=evaluation.attempt,
        started_at=evaluation.started_at,
        ended_at=datetime.now(UTC),
        harness=benchmark.harness,
        task=benchmark.task,
        endpoint=benchmark.endpoint,
        log=str(evaluation.harness_log),
        versions=evaluation.planned_benchmark.versions,
        environment_sha256=evaluation.planned_benchmark.environment_sha256,
        task_sha256=provenance.file_sha256(evaluation.run.project, benchmark.task_file),
        datasets=[
            {"id": name, "revision": data.revision, "sha256": data.sha256} for name, data in datasets.items()
        ],
        model_source=provenance.model_source(judged.serving, model),
        model_revision=model.revision,
        model_sha256=model.sha256,
        served=judged.params,
        answers_key=evaluation.planned_model.answers_key,
        few_shot=benchmark.few_shot,
        limit=benchmark.limit,
        n_repeats=benchmark.repeats,
        temperature=benchmark.temperature,
        top_p=benchmark.top_p,
        max_tokens=benchmark.max_tokens,
        parameters=benchmark.extra | _judge(evaluation),
        slurmeval_version=__version__,
        workflow_commit=commit,
        workflow_dirty=dirty,
        config_sha256=sha256_of_json(evaluation.run.config),
    )


def _judge(evaluation: Evaluation) -> dict[str, Any]:
    """Returns what is judged and how, and by which model of which weights; nothing where nobody judges."""
    judging = evaluation.benchmark.judging
    if judging is None:
        return {}
    how = judging.model_dump(mode="json", exclude_defaults=True, exclude={"labels"})
    found: dict[str, Any] = {"judging": how}
    if judging.judge is not None:
        entry = evaluation.planned_model
        weights = load(entry.manifest, Manifest)
        found["judge"] = {
            "source": provenance.model_source(entry.serving, weights),
            "revision": weights.revision,
            "sha256": weights.sha256,
        }
    return found
