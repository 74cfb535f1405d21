"""Building the report. Every file appears whole; `index.html` comes last: what it links to is there."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from slurmeval.config.models import Report
from slurmeval.config.of_run import config_of
from slurmeval.files import write_atomically
from slurmeval.report import board, pairs, rendering, samples, tables
from slurmeval.report.chart import chart
from slurmeval.report.provenance import RunInfo, collect, of_project, staged
from slurmeval.report.usage import job_words, usage
from slurmeval.results import exporting, reasoning, schema
from slurmeval.results.exports import csv, latex

if TYPE_CHECKING:
    from slurmeval.paths import Paths
    from slurmeval.results.matrix import Matrix
    from slurmeval.state.run_document import RunDocument

# What bounds the first page: beyond these a table is shortened, and says where the rest is.
MAX_FULL_CELLS = 2000
MAX_METRIC_ROWS = 1000
MAX_OTHER_ROWS = 500
MAX_MODEL_CHART = 60

NO_CHART = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="320" height="40"><text y="24">no scores</text></svg>'
)


def build(paths: Paths, run: RunDocument) -> Path:
    """Writes `results/report/` from the combined tables, and returns the first page.

    It has `index.html`, a page for each model, one for all samples, and `metrics.csv`, `scores.tex` and
    `scores.svg` for other programs. Raises SchemaDrift on tables of another version.
    """
    config = config_of(run)
    shown = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return _write(paths, config.report, collect(run, config), staged(run, config), shown)


def build_imported(paths: Paths, project: Path) -> Path:
    """Writes the report of imported results: there is no run, no config, and nothing was staged."""
    return _write(paths, Report(title="Imported results"), of_project(project), [], None)


def _write(
    paths: Paths, settings: Report, info: RunInfo, staged: list[dict[str, Any]], config: str | None
) -> Path:
    """Writes all pages. `config` is shown as it is; None: there is none."""
    run = tables.load(paths)
    title = settings.title
    matrices, left_out = pairs.shown(paths, run)
    written = _write_samples(paths, run, settings)
    samples.write_script(paths.report / "pairs.js", "pairs", pairs.sentences(matrices))
    for model in run.models:
        page = paths.report / "models" / f"{model}.html"
        values = _model_page(run, model, title, written, paths)
        write_atomically(page, rendering.render("model.html.j2", **values))
        written.add(page)
    write_atomically(paths.report / "metrics.csv", csv.text(schema.METRICS, run.metrics))
    exported = exporting.Run(paths.results, run.evaluations, run.metrics)
    write_atomically(paths.report / "scores.tex", latex.text(exported))
    index = paths.report / "index.html"
    more = {"title": title, "info": info, "staged": staged, "config": config}
    more |= {"left_out": left_out}
    values = _index(run, paths, written, matrices)
    write_atomically(
        paths.report / "scores.svg", NO_CHART if values["chart"] is None else values["chart"].svg
    )
    write_atomically(index, rendering.render("index.html.j2", **values, **more))
    _remove_others(paths.report, written)
    return index


def _write_samples(paths: Paths, run: tables.Tables, settings: Report) -> set[Path]:
    """Writes the page of samples and the scripts that it loads."""
    written: set[Path] = set()
    evaluations: dict[str, list[str]] = {}
    for row in run.of_status("ok"):
        model, benchmark = row["model"], row["benchmark"]
        if paths.samples(model, benchmark).exists():
            metric = tables.primary(run.metrics_by_evaluation.get((model, benchmark), []))
            written.update(samples.write_samples(paths, model, benchmark, metric))
            evaluations.setdefault(benchmark, []).append(model)
    page = rendering.render(
        "samples.html.j2",
        title=settings.title,
        per_page=settings.samples_per_page,
        models=[model for model in run.models if any(model in models for models in evaluations.values())],
        benchmarks=list(evaluations),
        evaluations=json.dumps(evaluations),
    )
    write_atomically(paths.report / samples.PAGE, page)
    return written


def _index(run: tables.Tables, paths: Paths, written: set[Path], matrices: list[Matrix]) -> dict[str, Any]:
    full = len(run.scores) <= MAX_FULL_CELLS
    shown = board.of_run(paths, run, matrices) if full else None
    models = run.models if shown is None else list(shown.board.models)
    by_model = len(run.benchmarks) <= board.MAX_BENCHMARKS or len(models) >= len(run.benchmarks)
    return {
        "matrices": matrices,
        "board": shown,
        "run": run,
        "down": models if by_model else run.benchmarks,
        "across": run.benchmarks if by_model else models,
        "by_model": by_model,
        "full": full,
        "notes": _notes(run, shown),
        "means": bool(shown and shown.board.standings),
        "max_metrics": MAX_METRIC_ROWS,
        "max_rows": MAX_OTHER_ROWS,
        "failed": run.of_status("failed"),
        "stopped": run.of_status("stopped"),
        "missing": run.of_status("missing"),
        "warnings": [line for row in run.of_status("ok") if (line := reasoning.warning(row)) is not None],
        "mismatches": [row for row in run.metrics if row["mismatch"]],
        "chart": chart(
            [run.scores[key] for key in itertools.product(models, run.benchmarks) if key in run.scores]
        ),
        "sample_links": _sample_links(run, paths, written),
        "samples_link": samples.link,
        "server_sums": _server_sums(run),
        "usage": usage(run),
        "on_slurm": any(row["slurm_state"] for row in run.servers),
        "job_words": job_words,
        "harnesses": _harness_versions(run),
    }


def _model_page(
    run: tables.Tables, model: str, title: str, written: set[Path], paths: Paths
) -> dict[str, Any]:
    evaluations = [row for row in run.evaluations if row["model"] == model]
    return {
        "title": title,
        "model": model,
        "run": run,
        "evaluations": evaluations,
        "metrics": [row for row in run.metrics if row["model"] == model],
        "on_slurm": any(row["slurm_state"] for row in evaluations),
        "has_gpus": any(row["gpus"] for row in run.servers if row["model"] == model),
        "job_words": job_words,
        "settings": exporting.settings,
        "chart": chart([run.scores[model, row["benchmark"]] for row in evaluations], MAX_MODEL_CHART),
        "sample_links": _sample_links(run, paths, written),
    }


def _sample_links(run: tables.Tables, paths: Paths, written: set[Path]) -> dict[tuple[str, str], str]:
    """Returns the link to each evaluation's samples, relative to the report's folder."""
    links = {}
    for model, benchmark in run.scores:
        if paths.report / "samples" / model / samples.file_name(benchmark, 0) in written:
            links[model, benchmark] = samples.link(benchmark, model)
    return links


def _notes(run: tables.Tables, shown: board.Board | None) -> dict[str, str]:
    """Returns each benchmark's primary metric, as its first score says, and its settings."""
    names: dict[str, str] = {}
    for score in run.scores.values():
        if score.metric is not None:
            parts = f", mean of {len(score.mean_of)} tasks" if score.mean_of else ""
            names.setdefault(score.benchmark, score.metric + parts)
    if shown is not None:
        return {name: "; ".join(filter(None, [text, shown.asked.get(name)])) for name, text in names.items()}
    return names


def _harness_versions(run: tables.Tables) -> list[tuple[str, str, str, int]]:
    """Returns harness, its version, versions of its packages, and how many evaluations it ran."""
    counts: dict[tuple[str, str, str], int] = {}
    for row in run.of_status("ok"):
        key = (row["harness"] or "", row["harness_version"] or "", row["versions_json"] or "{}")
        counts[key] = counts.get(key, 0) + 1
    return [(*key, count) for key, count in sorted(counts.items())]


def _server_sums(run: tables.Tables) -> dict[str, float]:
    names = ("prompt_tokens", "generated_tokens")
    return {name: sum(row[name] or 0 for row in run.servers) for name in names}


def _remove_others(report: Path, written: set[Path]) -> None:
    """Removes the files of evaluations and models that are no longer in the run."""
    for page in list(_pages(report)):
        if page not in written:
            page.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the last page of a model
                page.parent.rmdir()


def _pages(report: Path) -> Iterator[Path]:
    yield from (report / "models").glob("*.html")
    yield from (report / "samples").glob("*/*.*")
