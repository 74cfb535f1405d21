"""One check of a gate: a candidate and a baseline on one benchmark, by one limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from slurmeval import wording
from slurmeval.results.comparison import BenchmarkComparison, compare_benchmark
from slurmeval.results.questions import Row, read_questions
from slurmeval.statistics import families, power
from slurmeval.statistics.intervals import LEVEL, ROUNDING_ERROR, Interval
from slurmeval.statistics.pairs import p_below
from slurmeval.wording import signed

if TYPE_CHECKING:
    from slurmeval.config.policy import GateLimits

ALPHA = (1 - LEVEL) / 2
"""A drop beyond its limit is believed at this level, one-sided: what one end of a 95 % interval says."""
LimitName = Literal["max_drop", "max_relative_drop"]


class Finding(StrEnum):
    """What a check found."""

    PASS = "PASS"
    """Surely within the limit: the whole interval of the drop is."""
    BREACH = "BREACH"
    """Surely beyond the limit, also after the correction for the number of checks."""
    INSUFFICIENT_EVIDENCE = "INSUFFICIENT_EVIDENCE"
    """Neither is sure."""
    MISSING = "MISSING"
    """One of the two has no result."""


@dataclass(frozen=True)
class GateCheck:
    """The candidate held against one baseline on one benchmark, by one limit."""

    benchmark: str
    baseline: str
    tier: str
    limit: LimitName
    allowed: float
    finding: Finding
    reason: str
    metric: str | None = None
    baseline_score: float | None = None
    """Mean over the paired questions."""
    candidate_score: float | None = None
    drop: float | None = None
    """By how much the candidate is worse: a score, or a share of the baseline's; below 0: it is better."""
    interval: Interval | None = None
    """95 % interval of the drop."""
    n: int = 0
    p_value: float | None = None
    """One-sided, against a drop within the limit."""
    p_holm: float | None = None
    """The same, corrected for the number of checks that decide."""
    needed: int | None = None
    """Questions that would tell with 80 % power; None: it is told, or that is not known."""
    remarks: tuple[str, ...] = ()

    @property
    def decides(self) -> bool:
        """Whether it counts for the decision."""
        return self.tier != "advisory"

    @property
    def said(self) -> str:
        """What was found, in one line."""
        return f"{self.benchmark} [{self.tier}] against {self.baseline}: {self.reason}"


def missing(benchmark: str, baseline: str, limits: GateLimits, lacking: Sequence[str]) -> Iterator[GateCheck]:
    """Yields the check of a benchmark that was not run."""
    why = f"not run, or not ended well: no result of {' or '.join(lacking)}"
    allowed = limits.max_drop or 0.0
    yield GateCheck(benchmark, baseline, limits.tier or "", "max_drop", allowed, Finding.MISSING, why)


def check(
    results: Path,
    evaluations: tuple[Row, Row],
    metrics: dict[tuple[str, str], Row],
    limits: GateLimits,
    min_paired: float,
) -> Iterator[GateCheck]:
    """Yields a check for each limit that counts. What is found stands only after `settle`.

    Args:
        results: The results folder.
        evaluations: Rows of the candidate and the baseline.
        metrics: The metric's row of both, by model and benchmark.
        limits: All that is asked of the benchmark.
        min_paired: Share of the questions that must be paired.
    """
    candidate, baseline = evaluations
    key = baseline["model"], baseline["benchmark"]
    less = key in metrics and metrics[key]["higher_is_better"] is False
    # The first minus the second is by how much the candidate is better
    order = (baseline, candidate) if less else (candidate, baseline)
    read = partial(read_questions, results)

    def compared(share: float) -> BenchmarkComparison:
        factors = (1 + share, 1.0) if less else (1.0, 1 - share)
        return compare_benchmark(order, metrics, read, 0.0, min_paired, factors)

    plain = compared(0.0)
    scores = (plain.mean_a, plain.mean_b) if less else (plain.mean_b, plain.mean_a)
    start = GateCheck(
        benchmark=key[1],
        baseline=key[0],
        tier=limits.tier or "",
        limit="max_drop",
        allowed=limits.max_drop or 0.0,
        finding=Finding.INSUFFICIENT_EVIDENCE,
        reason="",
        metric=plain.metric,
        baseline_score=scores[0],
        candidate_score=scores[1],
        n=plain.certificate.paired,
        remarks=tuple(_remarks(plain)),
    )
    yield _against(start, plain, 0.0, 1.0)
    share, below, score = limits.max_relative_drop, limits.relative_guard_below, scores[0]
    if share is None or score is None or (below is not None and score >= below):
        return
    relative = replace(start, limit="max_relative_drop", allowed=share)
    yield _against(relative, compared(share), share, score)


def _against(start: GateCheck, compared: BenchmarkComparison, share: float, scale: float) -> GateCheck:
    """Holds a gain against its limit: `share` of the baseline's score `scale`, which the gain is without."""
    found = compared.difference
    refusal = compared.refusal or (found.refusal if found else None)
    if found is None or found.interval is None or found.se is None or not scale:
        return replace(start, reason=refusal or "the baseline's score is 0")
    limit = 0.0 if share else -start.allowed
    interval = Interval(
        share - found.interval.high / scale, share - found.interval.low / scale, found.interval.method
    )
    beyond = abs(found.value - limit)
    needed = None
    if found.se**2 >= ROUNDING_ERROR and beyond >= ROUNDING_ERROR:
        needed = int(power.needed(beyond, found.se**2 * found.n)) + 1
    return replace(
        start,
        finding=Finding.PASS if found.interval.low >= limit else Finding.INSUFFICIENT_EVIDENCE,
        drop=share - found.value / scale,
        interval=interval,
        p_value=p_below(found, limit, compared.n_clusters),
        needed=needed,
    )


def _remarks(compared: BenchmarkComparison) -> Iterator[str]:
    """Yields what a reader has to know of a check before believing it."""
    certificate = compared.certificate
    if unpaired := certificate.only_a + certificate.only_b + certificate.errored:
        yield f"not paired: {unpaired:,} of the questions"
    if unparsed := certificate.unparsed_a + certificate.unparsed_b:
        yield f"could not be read: {unparsed:,} of the answers"
    if compared.settings:
        yield f"not run alike: {'; '.join(compared.settings)}"


def settle(checks: Sequence[GateCheck]) -> tuple[GateCheck, ...]:
    """Returns checks with what they found, after Holm's correction over those that decide."""
    family = [index for index, each in enumerate(checks) if each.decides and each.p_value is not None]
    p_values = [each.p_value for each in checks if each.decides and each.p_value is not None]
    corrected: Mapping[int, float] = dict(zip(family, families.holm(p_values), strict=True))
    return tuple(_settled(each, corrected.get(index), len(family)) for index, each in enumerate(checks))


def _settled(each: GateCheck, p_holm: float | None, n_checks: int) -> GateCheck:
    if each.drop is None or each.interval is None or each.p_value is None:
        return each
    p_value = each.p_value if p_holm is None else p_holm
    finding = Finding.BREACH if p_value < ALPHA else each.finding
    needed = each.needed if finding is Finding.INSUFFICIENT_EVIDENCE else None
    found = replace(each, p_holm=p_holm, finding=finding, needed=needed)
    return replace(found, reason=_reason(found, p_value, 1 if p_holm is None else n_checks))


def _reason(found: GateCheck, p_value: float, n_checks: int) -> str:
    assert found.drop is not None and found.interval is not None
    of = "" if found.limit == "max_drop" else " of the baseline's score"
    scores = f"{found.baseline_score:.3f} → {found.candidate_score:.3f}"
    interval = f"95 % interval {signed(found.interval.low)} … {signed(found.interval.high)}"
    text = f"drop {signed(found.drop)}{of} ({scores}; {interval}), allowed {found.allowed:g}"
    if found.finding is Finding.BREACH:
        over = f", Holm over {n_checks} checks" if n_checks > 1 else ""
        return f"{text}: surely more ({wording.p_value(p_value)}{over})"
    if found.finding is Finding.PASS:
        return f"{text}: surely within"
    return f"{text}: cannot tell" + (f"; n ≈ {found.needed:,} would" if found.needed else "")
