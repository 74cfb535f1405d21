"""Whether a model may replace others: its scores held against theirs, by the limits of a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from slurmeval.errors import UserError
from slurmeval.results import frames
from slurmeval.results.comparison import MIN_PAIRED, ended_well
from slurmeval.results.gate_checks import Finding, GateCheck, check, missing, settle
from slurmeval.results.questions import Row

if TYPE_CHECKING:
    from slurmeval.config.policy import GateLimits, GatePolicy

_PRIMARY = ("mean_reward", "pass@1")
"""NeMo Evaluator's names of a score; where no metric has that name, the primary one is meant."""


class Decision(StrEnum):
    """What a gate says of the candidate."""

    GO = "GO"
    NO_GO = "NO-GO"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Gate:
    """A decision and the checks that it rests on."""

    decision: Decision
    reasons: tuple[str, ...]
    candidate: str
    baselines: tuple[str, ...]
    checks: tuple[GateCheck, ...]


def gate(
    results: Path,
    policy: GatePolicy,
    candidate: str | None = None,
    baselines: Sequence[str] = (),
    min_paired: float = MIN_PAIRED,
) -> Gate:
    """Holds a candidate against baselines of a results folder.

    NO-GO if a check that decides found a breach; else INCONCLUSIVE if one lacks evidence or a result, or if
    nothing decides; else GO.

    Args:
        results: The results folder, or the project folder that holds it as `results`.
        policy: The limits.
        candidate: The model to judge, instead of the policy's.
        baselines: The models to hold it against, instead of the policy's.
        min_paired: Share of the questions that must be paired, 0 to 1.

    Raises:
        UserError: No models are given, one is unknown, or a limit does not fit its metric.
        SchemaDrift: The results are of another version.
    """
    results = frames.results_folder(results)
    pairs = frames.read_combined("evaluations", results).select(["model", "benchmark"]).to_pylist()
    judged, others = _models(policy, candidate, baselines, list(dict.fromkeys(row["model"] for row in pairs)))
    of_either = dict.fromkeys(row["benchmark"] for row in pairs if row["model"] in (judged, *others))
    ended = ended_well(results)
    metrics: dict[tuple[str, str], list[Row]] = {}
    for row in frames.read_combined("metrics", results).to_pylist():
        # Where one part of a task ran alone, its score is the one that the benchmark is known by
        if not row["subset"] or row["is_primary"]:
            metrics.setdefault((row["model"], row["benchmark"]), []).append(row)
    checks: list[GateCheck] = []
    for benchmark in dict.fromkeys([*policy.benchmarks, *of_either]):
        limits = policy.limits(benchmark)
        for baseline in others:
            both = [(model, benchmark) for model in (judged, baseline)]
            if lacking := [model for model, _ in both if (model, benchmark) not in ended]:
                checks += missing(benchmark, baseline, limits, lacking)
                continue
            found = {pair: _metric(metrics.get(pair, []), pair, limits) for pair in both}
            primary = {pair: metric for pair, metric in found.items() if metric is not None}
            checks += check(results, (ended[both[0]], ended[both[1]]), primary, limits, min_paired)
    settled = settle(checks)
    return Gate(*_decide(settled), judged, tuple(others), settled)


def _models(
    policy: GatePolicy, candidate: str | None, baselines: Sequence[str], known: Sequence[str]
) -> tuple[str, list[str]]:
    judged, others = candidate or policy.candidate, list(dict.fromkeys(baselines or policy.baselines))
    if judged is None:
        raise UserError("no candidate: name it with --candidate, or as candidate in the policy")
    if not others:
        raise UserError("no baseline: name one with --baseline, or as baselines in the policy")
    for model in (judged, *others):
        if model not in known:
            raise UserError(f"unknown model '{model}'; the results have: {', '.join(known) or 'none'}")
    if judged in others:
        raise UserError(f"'{judged}' is held against itself; name another baseline")
    return judged, others


def _metric(rows: Sequence[Row], pair: tuple[str, str], limits: GateLimits) -> Row | None:
    """Returns the metric that limits are about; None: they name none, and none stands for the whole.

    Raises UserError if there is none of the name, or they do not fit.
    """
    of, name = f"{pair[1]} on {pair[0]}", limits.metric
    primary = [row for row in rows if row["is_primary"]]
    named = [row for row in rows if row["metric"] == name]
    if name is None or (not named and name in _PRIMARY):
        found = primary
    else:
        found = [row for row in named if row["is_primary"]] or named
    if not found and name in (None, *_PRIMARY):
        return None
    if not found:
        metrics = ", ".join(dict.fromkeys(row["metric"] for row in rows)) or "none"
        raise UserError(f"{of}: no metric '{name}'; it has: {metrics}")
    if len(found) > 1:
        raise UserError(f"{of}: {len(found)} scores are called '{name}'; only a primary metric can be told")
    row, direction = found[0], limits.direction
    less = row["higher_is_better"] is False
    says = "lower_is_better" if less else "higher_is_better"
    if row["higher_is_better"] is not None and direction not in (None, says):
        raise UserError(f"{of}: the policy says {direction}; {row['metric']} is {says}")
    if row["value"] is not None and limits.max_drop is not None and limits.max_drop > 1:
        raise UserError(
            f"{of}: max_drop {limits.max_drop:g} is beyond the scale of 0 to 1 (0.01 is one point)"
        )
    return row if direction is None else row | {"higher_is_better": direction == "higher_is_better"}


def _decide(checks: Sequence[GateCheck]) -> tuple[Decision, tuple[str, ...]]:
    deciding = [each for each in checks if each.decides]
    breaches = [each.said for each in deciding if each.finding is Finding.BREACH]
    if breaches:
        return Decision.NO_GO, tuple(dict.fromkeys(breaches))
    if not deciding:
        return Decision.INCONCLUSIVE, ("nothing is gated: no benchmark is critical or supporting",)
    open_ones = [each.said for each in deciding if each.finding is not Finding.PASS]
    if open_ones:
        return Decision.INCONCLUSIVE, tuple(dict.fromkeys(open_ones))
    passed = "the only check" if len(deciding) == 1 else f"all {len(deciding)} checks"
    return Decision.GO, (f"{passed} passed",)
