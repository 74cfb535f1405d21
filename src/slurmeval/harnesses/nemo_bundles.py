"""Bundles: results of NeMo Evaluator 0.3 and later (`nel`, another program than 0.1 and 0.2).

A bundle is `eval-<time>-<benchmark>.json`, with config and scores, beside `results.jsonl`, one answer a line.
A run's folder has one, or one in a folder for each benchmark. Bundles of containers (the harnesses of 0.1 and
0.2, which `nel` starts) have the scores of `results.yml`, and answers only of NeMo Skills.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from slurmeval.config.yaml_files import shown
from slurmeval.errors import UserError
from slurmeval.files import sha256_of_file
from slurmeval.harnesses import scales
from slurmeval.harnesses.base import HarnessOutput, Metric
from slurmeval.harnesses.nemo_bundle_lines import BundleSamples, Mapped, clean, parsed
from slurmeval.harnesses.nemo_containers import container_metrics
from slurmeval.harnesses.scores import bad_result, mark_primary, number, proportion
from slurmeval.statistics.intervals import pass_at_k

HARNESS = "nel"
BUNDLE_PATTERN = "eval-*.json"
_NO_SCORES = ("summary", "breakdowns", "runtime", "failures")
"""Entries of `scores` that are statistics."""
_HEADLINES = ("mean_reward", "pass@1")
"""The mean of all rewards, averaged by problem: `pass@1` where all are 0 or 1."""
_PASS = re.compile(r"pass@(\d{1,6})")
_ROUNDING = 5e-5 + 1e-9
"""`nel` writes four digits."""
_NOT_KEPT = ("api_key", "api-key", "base_url")
"""Of the config: secrets, and an address that meant something during the run only."""


@dataclass(frozen=True)
class Bundle:
    """Bundle whose counts and scores were checked against its answers."""

    path: Path
    identity: dict[str, str]
    """Name of the run, sha256 of the bundle's two files: equal for the same bundle only."""
    benchmark: str
    """Its name of the benchmark, such as `gsm8k` or `container/simple_evals.mgsm`."""
    model: str | None
    """The name by which it asked for the model; None: it does not say."""
    output: HarnessOutput
    """The samples are read anew from the disk at each pass."""
    known: dict[str, Any]
    """Fields of `results.evaluation.Evaluation`."""


def find(place: Path) -> list[Path]:
    """Returns the bundles in a run's folder, or the one that is named.

    Raises:
        UserError: There is none.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UserError(f"{place}: no such file or folder")
    found: list[Path] = []
    for folder in (place, *sorted(path for path in place.iterdir() if path.is_dir())):
        inside = sorted(folder.glob(BUNDLE_PATTERN))
        if len(inside) > 1:
            names = ", ".join(path.name for path in inside)
            reason = f"{len(inside)} bundles ({names}) with one results.jsonl, which is of the last"
            raise UserError(f"{folder}: {reason}; name that file instead of the folder")
        found += inside
    if not found:
        raise UserError(f"{place}: no {BUNDLE_PATTERN} in it or in the folders in it")
    return found


def read(path: Path) -> Bundle:
    """Reads a bundle. Its `results.jsonl` is read once, line by line.

    Raises:
        EvaluationFailed: Something is not as expected: the message has file, line or key, and what was
            expected (bad_result).
    """
    results = path.with_name("results.jsonl")
    later = [
        other.name
        for other in path.parent.glob(BUNDLE_PATTERN)
        if path.match(BUNDLE_PATTERN) and other > path
    ]
    if later:
        raise bad_result(f"{path}: results.jsonl beside it is of {max(later)}, which was written later")
    content = Mapped(str(path), parsed(str(path), path.read_bytes()))
    config, benchmark = content.part("config"), content.part("benchmark")
    name, scores = clean(benchmark.text("name")), benchmark.part("scores")
    contained = config.get("framework") == "container"
    lines = BundleSamples(results, name, _carried(scores, benchmark, contained), contained)
    if results.exists() or not contained:
        lines.tally()
    if contained:
        _same(content, "n_results", len(lines), default=0)
        metrics = container_metrics(scores, config.values, name)
    else:
        _check_counts(content, lines)
        metrics = _metrics(benchmark, lines)
    if not metrics:
        raise bad_result(f"{path}: benchmark.scores: has no score")
    identity = {"run_id": clean(content.text("run_id")), "sha256": sha256_of_file(path)}
    if results.exists():
        identity["results_sha256"] = sha256_of_file(results)
    known = {"task": name, **_known(content)}
    public = {k: v for k, v in config.values.items() if not k.startswith("_") and k not in _NOT_KEPT}
    known["parameters"] = {"bundle": identity, "config": public}
    version = f"nemo-evaluator {clean(content.text('sdk_version'))}"
    # How many questions a container's harness was to ask is not known: `samples` may be a limit
    output = HarnessOutput(metrics, lines, None if contained else benchmark.count("samples"), version, None)
    model = clean(config.text("model")) if config.get("model") is not None else None
    return Bundle(path, identity, name, model, output, known)


def _carried(scores: Mapped, benchmark: Mapped, contained: bool) -> list[str]:
    """Returns the scores that are means of the rewards, and so are checked against them."""
    if contained:
        return ["reward"]
    by_category = ["mean_reward"] if benchmark.get("categories") else []
    return list(dict.fromkeys([*(name for name in _HEADLINES if name in scores.values), *by_category]))


def _same(file: Mapped, key: str, found: int, default: int | None = None) -> None:
    if file.count(key, default=default) != found:
        raise file.wrong(key, f"{found}, by results.jsonl")


def _check_counts(content: Mapped, lines: BundleSamples) -> None:
    """Checks that every problem has each of its repeats.

    Raises:
        EvaluationFailed: One is missing (bad_result).
    """
    benchmark, config = content.part("benchmark"), content.part("config")
    repeats = benchmark.count("repeats", least=1)
    _same(content, "n_results", len(lines))
    _same(benchmark, "samples", len(lines.rewards))
    for problem, answers in lines.rewards.items():
        if sorted(answers) != list(range(repeats)):
            found = shown(sorted(answers))
            reason = f"problem_idx {shown(problem)[1:-1]} has the repeats {found}, of {repeats}"
            raise bad_result(f"{lines.path}: {reason} (benchmark.repeats)")
    if config.get("shuffle") is not None:
        asked = config.part("shuffle").maybe("ds_effective_size", whole=True)
        if asked not in (None, len(lines.rewards)):
            reason = f"{len(lines.rewards)} of {asked} problems: of a run in shards, import what"
            raise bad_result(f"{content.where}: benchmark.samples: {reason} `nel eval merge` makes of all")


def _metrics(benchmark: Mapped, lines: BundleSamples) -> list[Metric]:
    """Returns the scores in their order, then those of categories.

    Rewards are 0 to 1 as a rule. Where one is not, their means are no proportions.
    """
    scores, repeats = benchmark.part("scores"), benchmark.count("repeats", least=1)
    within = all(0 <= reward <= 1 for answers in lines.rewards.values() for reward in answers.values())

    def row(name: str, written: float, n_items: int | None, subset: str | None = None) -> Metric:
        scale = scales.scale(lines.task, name)
        if name in _HEADLINES:
            scale = scales.PROPORTION if within else None
        return Metric(
            task=lines.task,
            metric=clean(name),
            value=proportion(written, scale),
            harness_value=written,
            harness_scale=scale,
            subset=subset,
            n_items=n_items,
            n_repeats=repeats,
        )

    metrics = []
    for name in scores.values:
        if name in _NO_SCORES or "value" not in (entry := scores.part(name)).values:
            continue
        written = entry.real("value")
        if (found := _PASS.fullmatch(name)) and int(found[1]) > 1:
            _check_pass(entry, int(found[1]), lines)
        metrics.append(row(name, written, len(lines.scorers.get(clean(name), lines.rewards))))
    headline = next((metric for metric in metrics if metric.metric in _HEADLINES), None)
    if headline is not None:
        headline.is_primary = True
    else:
        mark_primary(metrics, lines.task)
    if metrics and benchmark.get("categories") is not None:
        categories = benchmark.part("categories")
        for name in categories.values:
            entry, problems = categories.part(name), lines.categories.get(clean(name), set())
            if problems:
                _same(entry, "n", sum(len(lines.rewards[problem]) for problem in problems))
            metrics.append(row("mean_reward", entry.real("mean_reward"), len(problems) or None, clean(name)))
    return metrics


def _check_pass(entry: Mapped, k: int, lines: BundleSamples) -> None:
    """Checks pass@k: the tables compare means only, and pass@k is none."""
    counts = [(len(a), sum(reward > 0 for reward in a.values())) for a in lines.rewards.values()]
    values = [pass_at_k(n, right, k) for n, right in counts if n >= k]
    mean = math.fsum(values) / len(values) if values else None
    if mean is None or abs(mean - entry.real("value")) > _ROUNDING:
        raise entry.wrong("value", f"{mean}, by results.jsonl")


def _known(content: Mapped) -> dict[str, Any]:
    """Returns fields of `results.evaluation.Evaluation`. The time is that of the end."""
    config, benchmark = content.part("config"), content.part("benchmark")
    runtime = benchmark.part("scores").get("runtime")
    elapsed_s = number(runtime.get("elapsed_seconds")) if isinstance(runtime, dict) else None
    try:
        ended = datetime.fromisoformat(content.text("timestamp"))
        if ended.tzinfo is None:
            raise ValueError("no time zone")
        ended = ended.astimezone(UTC)
        started = None if elapsed_s is None else ended - timedelta(seconds=elapsed_s)
    except (ValueError, OverflowError) as error:
        raise content.wrong("timestamp", "a time with its zone (ISO 8601)") from error
    config_sha256 = re.fullmatch(r"sha256:([0-9a-f]{64})", str(content.get("config_hash")))
    return {
        "attempt": 1,
        "started_at": started,
        "ended_at": ended,
        "harness": HARNESS,
        "endpoint": None,
        "limit": config.maybe("max_problems", whole=True),
        "n_repeats": benchmark.count("repeats", least=1),
        "temperature": config.maybe("temperature"),
        "top_p": config.maybe("top_p"),
        "max_tokens": config.maybe("max_tokens", whole=True),
        "config_sha256": config_sha256[1] if config_sha256 else None,
    }
