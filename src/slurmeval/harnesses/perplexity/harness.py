"""The `perplexity` harness: how likely texts of one's own are to a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slurmeval.config.models import Benchmark, Model
from slurmeval.config.perplexity import PerplexityTexts
from slurmeval.harnesses.attempts import last_attempt
from slurmeval.harnesses.base import HarnessOutput, Job, Metric, Sample, Score
from slurmeval.harnesses.nemo_readers.reading import laid_out_by
from slurmeval.harnesses.own_programs import OwnProgram, left
from slurmeval.harnesses.perplexity import corpus
from slurmeval.harnesses.perplexity.windows import TextLikelihood, of_corpus
from slurmeval.harnesses.sample_checks import complete
from slurmeval.harnesses.scores import bad_result

NAME = "perplexity"
VERSION = "1"
"""Of the windows and sums here: it grows when they give other results."""
PRIMARY = "bits_per_byte"
MIN_K = "min_20_prob"


class Perplexity(OwnProgram):
    """The `perplexity` harness."""

    name = NAME
    version = VERSION
    section = "perplexity"
    module = "slurmeval.harnesses.perplexity.run"
    lacks = ("temperature", "top_p", "max_tokens", "few_shot", "task_file")

    def problems(self, benchmark: Benchmark) -> list[str]:
        """Returns what this harness cannot do of a benchmark's config: lines that begin with the key."""
        found = []
        if benchmark.endpoint != "completions":
            found.append("endpoint: must be completions: chats have no log-probabilities of their prompt")
        if len(benchmark.datasets) != 1:
            found.append("datasets: must name the one data set that holds the texts")
        if benchmark.repeats != 1:
            found.append(f"repeats: the harness {NAME} asks once: nothing is drawn")
        return [*found, *super().problems(benchmark)]

    def model_problems(self, model: Model, benchmark: Benchmark) -> list[str]:
        """Returns why this harness cannot run the benchmark on a model, each reason in a few words."""
        if not model.logprobs:
            return ["needs log-probabilities of prompts, which the model's server gives none of"]
        return super().model_problems(model, benchmark)

    def check_data(self, benchmark: Benchmark, folder: Path) -> None:
        """Reads the texts. Raises UserError where they will not do."""
        corpus.read(benchmark.perplexity or PerplexityTexts(), folder, benchmark.limit)

    def order(self, job: Job) -> dict[str, Any]:
        """Returns what the program is told of the benchmark."""
        (name,) = job.benchmark.datasets
        asked = job.benchmark.perplexity or PerplexityTexts()
        return {"data": str(job.datasets[name].absolute()), "perplexity": asked.model_dump(mode="json")}

    def read(self, job: Job) -> HarnessOutput:
        """Returns the results of the last attempt.

        Raises:
            EvaluationFailed: They cannot be read, or their number is not what was asked for (bad_result).
        """
        wanted, lines, samples = left(job, "n_texts", lambda line: _sample(line, job.benchmark_id))
        complete(samples, wanted, 1, NAME)
        with laid_out_by(NAME, last_attempt(job.folder) / "samples.jsonl"):
            told = [_likelihood(line) for line in lines if line["error"] is None]
            metrics = _metrics(told, job.benchmark_id)
        return HarnessOutput(metrics, samples, wanted, self.label, None)


def _likelihood(line: dict[str, Any]) -> TextLikelihood:
    return TextLikelihood(line["nll"], line["n_tokens"], line["n_bytes"], line["min_k"])


def _sample(line: dict[str, Any], task: str) -> Sample:
    scores = []
    if line["error"] is None and line["n_tokens"] and line["n_bytes"]:
        found = _likelihood(line)
        scores = [Score(PRIMARY, found.bits_per_byte), Score(MIN_K, found.min_k)]
    kept = ("nll", "n_tokens", "n_bytes", "n_windows", "error")
    return Sample(
        native_id=line["id"],
        task=task,
        input=line["text"],
        output=None,
        category=line["category"],
        scores=scores,
        status="error" if line["error"] is not None else "ok",
        cut=False,
        metadata={name: line[name] for name in kept if line.get(name) is not None},
        prompts=line["prompts"],
    )


def _metrics(told: Sequence[TextLikelihood], task: str) -> list[Metric]:
    if not any(text.n_tokens and text.n_bytes for text in told):
        raise bad_result(f"{NAME}: the server gave log-probabilities of no text")
    found = of_corpus(told)
    values = {
        PRIMARY: found.bits_per_byte,
        "byte_perplexity": found.byte_perplexity,
        "token_perplexity": found.token_perplexity,
        "text_perplexity": found.text_perplexity,
        MIN_K: found.min_k,
    }
    return [
        Metric(
            task=task,
            metric=name,
            value=None,
            harness_value=value,
            harness_scale=None,
            n_items=len(told),
            higher_is_better=None if name == MIN_K else False,
            is_primary=name == PRIMARY,
        )
        for name, value in values.items()
    ]
