"""Scales of metrics, by task and name.

They are never told by a value, which one model may have within 0 to 1 and another not. The names are those of
lm-eval's tasks (0.4.8 and 0.4.13, and NVIDIA's own) and of the harnesses that NeMo Evaluator wraps.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache

PROPORTION, PERCENT = 1, 100

_SQUAD = re.compile(r"exact|f1|(HasAns|NoAns|best)_(exact|f1)")
"""The scores of SQuAD 2, in percent: `f1` only beside another one, since elsewhere it is a proportion."""
_SQUAD_ONLY = re.compile(r"exact|(HasAns|NoAns|best)_(exact|f1)")

_BY_TASK: tuple[tuple[str, str, int | None], ...] = (
    (r"french_bench_.*", r"exact|f1", PROPORTION),
    (r"scrolls_.*", r"acc.*", PROPORTION),
    (r"scrolls_.*", r".*", PERCENT),
    # These take BLEU from the package evaluate, which has it on 0–1.
    (
        r"(meqsum|mediqa_qa2019|mimic_repsum|mts_dialog|meddialog|medtext|olaph|careqa_open|wmt-ro-en).*",
        r"bleu",
        PROPORTION,
    ),
    (r"(longbench|longproc|helmet)_.*|realtoxicityprompts", r"score", PROPORTION),
    (r"(niah|ruler)_.*", r"\d+", PROPORTION),
)
"""Task, metric, scale: the first that fits."""

_NAMES: tuple[tuple[str, int | None], ...] = (
    # From 0 up without end, below 0 too, or turned round: no share of anything.
    (r".*(perplexity|likelihood|logprob|bits_per_(byte|char)|entropy|loss|nll|brier).*", None),
    (r".*(_diff|difference|_bias)(_.*)?|bias_.*|.*bias_score.*", None),
    (r"mcc|.*(matthews|pearson|spearman|kendall|correlation).*|bleurt.*|bert_?score.*|[twc]er", None),
    (r".*(latency|seconds|tokens|length|throughput|duration).*|(n|num|total)_.*|.*_len", None),
    (r"(.*_)?acc(_.*)?", PROPORTION),
    (r"(sacre)?bleu.*|smoothed_bleu.*|chrf.*|rouge\w+_(max|avg)|percent_.*|eqbench", PERCENT),
    (
        r"(.*[_/:-])?(accuracy|exact|match|em|f1|fscore|precision|recall|rate|mrr|ndcg|anls|meteor)([_/:-].*)?",
        PROPORTION,
    ),
    (
        r"rouge.*|pass[@^].*|pass_(at|hat)_.*|maj@.*|cons@.*|r@.*|hits?@.*|map(_at_.*)?|pct_.*|.*toxicity.*|F1-.*",
        PROPORTION,
    ),
    (r"contains|is_included|math_verify|verifiable_reward|strict_metrics_mean|libra_score", PROPORTION),
    (r"json_validity|schema_compliance", PROPORTION),
    (r"(classification|retrieval|retrieval_zh|count|code_sim|qa_f1|qa_f1_zh)_score", PROPORTION),
)
"""Metric, scale: the first that fits."""


_CHANCES = (
    (r"(leaderboard_|adlr_)?gpqa.*", 1 / 4),
    (r"(global_)?mmlu(?!_?pro).*|m_mmlu_.*", 1 / 4),
    (r"bbq.*", 1 / 3),
    (r"(adlr_)?winogrande.*|(adlr_)?piqa.*", 1 / 2),
)
"""Tasks whose questions all have as many options."""


def scale(task: str, metric: str, beside: Collection[str] = ()) -> int | None:
    """Returns the value of a perfect score; None: the metric is no proportion, or not known to be one.

    `beside` has the names of the task's other metrics.
    """
    of_squad = _SQUAD.fullmatch(metric) and any(map(_SQUAD_ONLY.fullmatch, (metric, *beside)))
    return _of(task, metric, PERCENT if of_squad else None)


@cache
def _of(task: str, metric: str, of_squad: int | None) -> int | None:
    for tasks, metrics, found in _BY_TASK:
        if re.fullmatch(tasks, task) and re.fullmatch(metrics, metric):
            return found
    if of_squad is not None:
        return of_squad
    return next((found for names, found in _NAMES if re.fullmatch(names, metric)), None)


def chance(task: str, metric: str) -> float | None:
    """Returns the score of random answers where the task asks for one letter of so many; None: unknown here.

    Where the samples have their choices, these say it.
    """
    if not re.fullmatch(r"acc|acc_norm|accuracy|exact_match|score/micro.*", metric):
        return None
    return next((found for tasks, found in _CHANCES if re.fullmatch(tasks, task)), None)


def leading(metrics: Collection[tuple[str, int | None]]) -> int | None:
    """Returns the place of the metric by which a task is known; None: there are no metrics.

    It is the first proportion, but not a text's likeness to the closest reference (`*_max`) where others
    judge it right or wrong; without proportions the first metric. `metrics` are names with scales, in the
    harness's order.
    """
    proportions = [place for place, (_, found) in enumerate(metrics) if found is not None]
    names = [name for name, _ in metrics]
    judged = [place for place in proportions if not names[place].endswith(("_max", "_avg"))]
    return next(iter([*judged, *proportions, *range(len(names))]), None)
