"""The harnesses: the programs that run benchmarks, each behind the interface in `base`."""

from __future__ import annotations

from pathlib import Path

from slurmeval.config.models import Benchmark, Model
from slurmeval.errors import UserError
from slurmeval.harnesses.base import Command, Harness, HarnessOutput, Job, Metric, Sample, Score
from slurmeval.harnesses.context import context_length
from slurmeval.harnesses.custom.harness import Custom
from slurmeval.harnesses.human_eval import HumanEval
from slurmeval.harnesses.inspect.harness import Inspect
from slurmeval.harnesses.judge.harness import Judge
from slurmeval.harnesses.lm_eval import LmEval
from slurmeval.harnesses.nemo import Nemo
from slurmeval.harnesses.patching.harness import Patching
from slurmeval.harnesses.perplexity.harness import Perplexity
from slurmeval.harnesses.prompts import no_room

__all__ = [
    "Command",
    "Harness",
    "HarnessOutput",
    "Job",
    "Metric",
    "Sample",
    "Score",
    "harness",
    "model_problems",
    "problems",
]

_HARNESSES: dict[str, Harness] = {
    "nemo": Nemo(),
    "lm-eval": LmEval(),
    "human-eval": HumanEval(),
    "custom": Custom(),
    "inspect": Inspect(),
    "judge": Judge(),
    "perplexity": Perplexity(),
    "patching": Patching(),
}


def harness(name: str) -> Harness:
    """Returns the harness of this name.

    Raises:
        UserError: There is no such harness.
    """
    try:
        return _HARNESSES[name]
    except KeyError:
        raise UserError(f"harness: {name!r} is none of {', '.join(_HARNESSES)}") from None


def model_problems(model: Model, benchmark: Benchmark) -> list[str]:
    """Returns why a benchmark cannot run on a model, each reason in a few words."""
    if benchmark.endpoint not in model.endpoints:
        allowed = " and ".join(model.endpoints)
        return [f"asks through {benchmark.endpoint}, and the model's endpoints are {allowed}"]
    asking = harness(benchmark.harness)
    found = asking.model_problems(model, benchmark)
    if model.weights is None and model.tokenizer is None and asking.loads_tokenizer(model, benchmark):
        found = [
            *found,
            "tokenizes prompts itself, and the model has no tokenizer: set models.<id>.tokenizer",
        ]
    return [*found, *no_room(benchmark, _context(model))]


def _context(model: Model) -> int | None:
    """Returns how many tokens the model holds, as far as that is known before it is staged."""
    folder = model.source.folder
    return model.max_model_len if folder is None else context_length(Path(folder), model.max_model_len)


def problems(benchmark: Benchmark) -> list[str]:
    """Returns what the benchmark's harness cannot do of its config: lines that begin with the key."""
    return harness(benchmark.harness).problems(benchmark)
