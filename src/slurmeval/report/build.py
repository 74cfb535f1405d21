"""Building the report. Every file appears whole; `index.html` comes last: what it links to is there."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from slurmeval.config.models import Report
from slurmeval.config.of_run import config_of
from slurmeval.files import write_atomically
from slurmeval.report import board, chat_templates, rendering, samples, tables
from slurmeval.report.chart import chart
from slurmeval.report.material import Material
from slurmeval.report.provenance import RunInfo, collect, of_project, staged
from slurmeval.report.scripts import write_script
from slurmeval.report.sections import pairs, rendered
from slurmeval.report.sections.scores import CHART
from slurmeval.report.usage import job_words
from slurmeval.results import exporting, schema
from slurmeval.results.doubts import Doubts
from slurmeval.results.exports import csv, latex

if TYPE_CHECKING:
    from slurmeval.config.models import Config
    from slurmeval.paths import Paths
    from slurmeval.state.run_document import RunDocument

# What bounds the first page: beyond these a table is shortened, and says where the rest is.
MAX_FULL_CELLS = 2000
MAX_MODEL_CHART = 60

COUNTS = {
    "n_unanswered": "Unanswered",
    "n_unparsed": "Unparsed",
    "n_cut": "Prompts cut",
    "n_truncated": "Cut off",
    "n_requests": "Requests",
    "n_replayed": "Replayed",
    "prompt_tokens": "Tokens in",
    "completion_tokens": "Tokens out",
}
"""Of a model's evaluations, on its page; those that are 0 or not known in all are left out."""

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
    about = {"config": config, "staged": staged(run, config), "shown_config": shown}
    return _write(paths, config.report, collect(run, config), config, about, run)


def build_imported(paths: Paths, project: Path) -> Path:
    """Writes the report of imported results: there is no run, no config, and nothing was staged."""
    return _write(paths, Report(title="Imported results"), of_project(project), None, {}, None)


def _write(
    paths: Paths,
    settings: Report,
    info: RunInfo,
    config: Config | None,
    about: dict[str, Any],
    document: RunDocument | None,
) -> Path:
    """Writes all pages. `about`: what else is known of the run (`Material`)."""
    run = tables.load(paths)
    title = settings.title
    doubts = Doubts(paths.results)
    matrices, left_out = pairs.shown(paths, run, config.suites if config else {}, doubts)
    written = _write_samples(paths, run, settings, document)
    write_script(paths.report / "pairs.js", "pairs", pairs.sentences(matrices))
    for model in run.models:
        page = paths.report / "models" / f"{model}.html"
        values = _model_page(run, model, title, written.links)
        write_atomically(page, rendering.render("model.html.j2", **values))
        written.files.add(page)
    write_atomically(paths.report / "metrics.csv", csv.text(schema.METRICS, run.metrics))
    exported = exporting.Run(paths.results, run.evaluations, run.metrics)
    write_atomically(paths.report / "scores.tex", latex.text(exported))
    full = len(run.scores) <= MAX_FULL_CELLS
    shown = board.of_run(paths, run, matrices, doubts) if full else None
    material = Material(paths, run, info, matrices, left_out, shown, written, **about)
    sections = list(rendered(material))
    drawn = next(section.values["chart"] for section, _ in sections if section.id == "scores")
    write_atomically(paths.report / CHART, NO_CHART if drawn is None else drawn.svg)
    index = paths.report / "index.html"
    page_text = rendering.render("index.html.j2", title=title, run=run, info=info, sections=sections)
    write_atomically(index, page_text)
    _remove_others(paths.report, written.files)
    return index


def _write_samples(
    paths: Paths, run: tables.Tables, settings: Report, document: RunDocument | None
) -> samples.Written:
    """Writes the page of samples and the scripts that it loads."""
    written = samples.Written()
    evaluations: dict[str, list[str]] = {}
    questions: dict[str, samples.SharedQuestions] = defaultdict(samples.SharedQuestions)
    for row in run.of_status("ok"):
        model, benchmark = row["model"], row["benchmark"]
        if paths.samples(model, benchmark).exists():
            metric = tables.primary(run.metrics_by_evaluation.get((model, benchmark), []))
            template = None if document is None else chat_templates.of_evaluation(document, row)
            files = samples.write_samples(paths, row, metric, questions[benchmark], template)
            written.files.update(files)
            written.links[model, benchmark] = samples.link(benchmark, model)
            evaluations.setdefault(benchmark, []).append(model)
    page = rendering.render(
        "samples.html.j2",
        title=settings.title,
        per_page=settings.samples_per_page,
        models=[model for model in run.models if any(model in models for models in evaluations.values())],
        benchmarks=list(evaluations),
        evaluations=json.dumps(evaluations),
        per_file=samples.SAMPLES_PER_FILE,
    )
    write_atomically(paths.report / samples.PAGE, page)
    return written


def _model_page(
    run: tables.Tables, model: str, title: str, links: dict[tuple[str, str], str]
) -> dict[str, Any]:
    evaluations = [row for row in run.evaluations if row["model"] == model]
    return {
        "title": title,
        "model": model,
        "run": run,
        "evaluations": evaluations,
        "metrics": [row for row in run.metrics if row["model"] == model],
        "counts": [each for each in COUNTS.items() if any(row[each[0]] for row in evaluations)],
        "on_slurm": any(row["slurm_state"] for row in evaluations),
        "has_gpus": any(row["gpus"] for row in run.servers if row["model"] == model),
        "job_words": job_words,
        "settings": exporting.settings,
        "chart": chart([run.scores[model, row["benchmark"]] for row in evaluations], MAX_MODEL_CHART),
        "sample_links": links,
    }


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
