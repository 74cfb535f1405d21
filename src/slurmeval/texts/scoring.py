"""Scores of answers against references: of a whole corpus with an interval, of one answer, of two models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from slurmeval.statistics import pairs
from slurmeval.statistics.intervals import Interval, estimate
from slurmeval.texts import rouge

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

MetricName = Literal["bleu", "chrf", "chrf++", "ter", "rouge1", "rouge2", "rougeL"]
"""Metrics that need nothing but texts."""
Tokenizer = Literal["13a", "intl", "zh", "char", "none"]
PairedTest = Literal["bootstrap", "randomisation"]
RESAMPLES = {"bootstrap": 1_000, "randomisation": 10_000}
"""As sacrebleu has them."""
_AGREEMENT = {"bleu": (88.333, 0.96639), "chrf": (93.0, 1.11427)}
"""a and b of the share of people's judgements that a difference goes with, a/(1+exp(-b·difference)) in %.

T. Kocmi et al., Navigating the Metrics Maze (ACL 2024); the numbers are those of mt-thresholds 1.0.4."""


@dataclass(frozen=True)
class CorpusScore:
    """A metric of a model's answers, from 0 to 100; TER may be more."""

    metric: str
    value: float
    interval: Interval | None
    n: int
    signature: str


@dataclass(frozen=True)
class AnswerScores:
    """A metric that is a mean over answers: ROUGE, BERTScore, similarity."""

    values: list[float]
    """Of each answer, by the nearest of its references, from 0 to 100; below 0 it is unlike."""
    signature: str


@dataclass(frozen=True)
class PairedScores:
    """Two models' scores on the same questions."""

    metric: str
    a: float
    b: float
    difference: float
    """A − B."""
    p_value: float | None
    test: str
    people: float | None
    """With how many of people's judgements on translations, in %, such a difference goes; None: not known."""


@cache
def _sacrebleu(metric: str, tokenize: str, of_one: bool) -> Metric:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    if metric == "bleu":
        return BLEU(tokenize=tokenize, effective_order=of_one)
    if metric == "ter":
        return TER()
    return CHRF(word_order=2 if metric == "chrf++" else 0)


def of_answer(
    metric: MetricName, answer: str, references: Sequence[str], tokenize: Tokenizer = "13a"
) -> float:
    """Returns the score of one answer, from 0 to 100; BLEU counts only n-grams that it can have."""
    if metric.startswith("rouge"):
        return 100 * rouge.rouge(metric, answer, references)
    return float(_sacrebleu(metric, tokenize, True).sentence_score(answer, list(references)).score)


def of_corpus(
    metric: MetricName, answers: Sequence[str], references: Sequence[Sequence[str]], tokenize: Tokenizer
) -> CorpusScore:
    """Returns sacrebleu's score of all answers, with its 95 % interval by bootstrap, cut at the scale's ends.

    `references`: those of each answer, at least one.
    """
    scorer: Any = _sacrebleu(metric, tokenize, False)
    told = scorer.corpus_score(list(answers), _by_column(references), n_bootstrap=RESAMPLES["bootstrap"])
    interval = None
    if len(answers) > 1:
        low, high = float(told._mean - told._ci), float(told._mean + told._ci)
        interval = Interval(max(0.0, low), high if metric == "ter" else min(100.0, high), "bootstrap")
    return CorpusScore(metric, float(told.score), interval, len(answers), str(scorer.get_signature()))


def rouge_scores(
    metric: MetricName, answers: Sequence[str], references: Sequence[Sequence[str]]
) -> AnswerScores:
    """Returns the ROUGE of each answer."""
    values = [of_answer(metric, *both) for both in zip(answers, references, strict=True)]
    return AnswerScores(values, rouge.SIGNATURE)


def mean_score(metric: str, scores: AnswerScores) -> CorpusScore:
    """Returns the mean of answers' scores with its 95 % interval."""
    import numpy as np

    found = estimate(np.array(scores.values) / 100)
    within = found.interval
    scaled = within and Interval(100 * within.low, 100 * within.high, within.method)
    return CorpusScore(metric, 100 * found.value, scaled, len(scores.values), scores.signature)


def compared_means(metric: str, a: Sequence[float], b: Sequence[float]) -> PairedScores:
    """Returns how the means of two models' scores of the same questions differ.

    The p-value is that of Student's t or of a sign-flip test on the differences.
    """
    import numpy as np

    scores = [np.array(each) / 100 for each in (a, b)]
    found = pairs.difference(scores[0], scores[1])
    means = [100 * float(each.mean()) for each in scores]
    a_less_b = means[0] - means[1]
    return PairedScores(metric, means[0], means[1], a_less_b, found.p_value, found.test or "none", None)


def _by_column(references: Sequence[Sequence[str]]) -> Any:
    """Returns references as sacrebleu has them: the first of all answers, and so on."""
    most = max(map(len, references))
    return [[each[column] if column < len(each) else None for each in references] for column in range(most)]


def compared(
    metric: MetricName,
    a: Sequence[str],
    b: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: Tokenizer,
    test: PairedTest,
) -> PairedScores:
    """Returns how two models' answers to the same questions differ.

    The p-value is that of sacrebleu's paired bootstrap (Koehn 2004) or approximate randomisation (Riezler &
    Maxwell 2005).
    """
    from sacrebleu.significance import PairedTest as Paired

    kind = {"bootstrap": "bs", "randomisation": "ar"}[test]
    scorer = _sacrebleu(metric, tokenize, False)
    systems: list[tuple[str, Sequence[str]]] = [("b", b), ("a", a)]
    _, told = Paired(systems, {metric: scorer}, _by_column(references), kind, n_samples=RESAMPLES[test])()
    (of_b, of_a) = next(results for name, results in told.items() if name != "System")
    assert not isinstance(of_a, str) and not isinstance(of_b, str)
    difference = float(of_a.score - of_b.score)
    # sacrebleu counts resamples that differ by more: of equal scores none does, and its p would be .001
    p_value = 1.0 if not difference or of_a.p_value is None else float(of_a.p_value)
    return PairedScores(
        *(metric, float(of_a.score), float(of_b.score), difference, p_value),
        f"{test}, {RESAMPLES[test]:,} samples",
        people_agree(metric, abs(difference)),
    )


def people_agree(metric: str, difference: float) -> float | None:
    """Returns with how many in 100 of people's judgements of translations such a difference goes."""
    if metric not in _AGREEMENT:
        return None
    a, b = _AGREEMENT[metric]
    return max(50.0, a / (1 + math.exp(-b * difference)))
