"""Problems of a config's task files and data that are seen before anything is made or staged."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import yaml

from slurmeval import catalog
from slurmeval.config.checks import engine_of
from slurmeval.config.messages import Problem, nearest
from slurmeval.config.models import Benchmark, Config
from slurmeval.config.sources import Dataset
from slurmeval.errors import UserError
from slurmeval.harnesses import harness
from slurmeval.harnesses.context import too_long
from slurmeval.harnesses.inspect import tasks as inspect_tasks
from slurmeval.harnesses.judge.labels import read_labels
from slurmeval.harnesses.judge.rubrics import rubric_of
from slurmeval.harnesses.lm_eval_tasks import LIKELIHOOD_TYPES, TaskLoader
from slurmeval.paths import Paths
from slurmeval.project_files import environment_lock

METRICS = (
    *("acc", "acc_all", "acc_bytes", "acc_mutual_info", "acc_norm", "bits_per_byte", "bleu", "brier_score"),
    *("bypass", "byte_perplexity", "chrf", "chrf++", "exact_match", "f1", "likelihood", "mcc", "perplexity"),
    *("ter", "word_perplexity"),
)
"""lm-eval's own. Others are looked up in the package `evaluate`, so only what is near one is refused."""
TEMPLATE_KEYS = ("doc_to_text", "doc_to_target", "doc_to_choice")
DOCUMENT_KEYS = ("process_docs", "custom_dataset", "dataset_name")
"""Keys of a task file by which documents may have other fields than their file."""
SAMPLED_LINES = 100
"""Of a data file, looked at for its fields."""

_PLACEHOLDER = re.compile(r"\$\{dataset:([^}]*)\}(?:/([^\s\"',\]}]+))?")


def config_problems(config: Config, project: Path) -> Iterator[Problem]:
    """Yields all such problems, in the order of the file."""
    studies = Paths.of_results(project / config.results).humans
    for identifier, model in config.models.items():
        folder, engine = model.source.folder, engine_of(config, model, project)
        if folder is None or engine is None:
            continue
        if (said := too_long(project / folder, model, engine)) is not None:
            key, _, text = said.partition(": ")
            yield Problem(("models", identifier, key), text)
    for identifier, dataset in config.datasets.items():
        yield from _lacking_files(("datasets", identifier), dataset, project)
    for identifier, benchmark in config.benchmarks.items():
        if (benchmark.runtime or config.harness_runtime) == "environment":
            for text in _without_environment(benchmark, project):
                yield Problem(("benchmarks", identifier, "runtime"), text)
        for keys, text in _data(benchmark, config, project):
            yield Problem(("benchmarks", identifier, *keys), text)
        if benchmark.judging is not None:
            try:
                read_labels(benchmark.judging, rubric_of(benchmark.judging, project), project, studies)
            except UserError as error:
                key, _, text = str(error).partition(": ")
                yield Problem(("benchmarks", identifier, *key.split(".")), text)
        file = project / benchmark.task_file if benchmark.task_file else None
        if file is not None and file.is_file():
            place, look = ("benchmarks", identifier), _task_file
            if benchmark.harness == "inspect":
                look = _inspect_file
            for key, text in look(file, benchmark, config, project):
                yield Problem((*place, key), text)


def _data(benchmark: Benchmark, config: Config, project: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields what is wrong with data of one's own, as far as their folder is here, under its key."""
    dataset = config.datasets.get(benchmark.datasets[0]) if benchmark.datasets else None
    if dataset is None or dataset.folder is None or not (project / dataset.folder).is_dir():
        return
    asking = harness(benchmark.harness)
    try:
        asking.check_data(benchmark, project / dataset.folder)
    except UserError as error:
        key, _, text = str(error).partition(": ")
        if key.startswith(asking.section):
            yield tuple(key.split(".")), text
        else:
            yield (asking.section,), str(error)


def _without_environment(benchmark: Benchmark, project: Path) -> Iterator[str]:
    """Yields why a benchmark's harness cannot run in a locked environment of this project."""
    known = catalog.tasks().get(benchmark.task) if benchmark.harness == "nemo" else None
    if known is None or benchmark.task_file is not None:
        return
    if known.image_only:
        yield f"'{benchmark.task}' loads packages that only its harness's image has: set runtime: image"
    elif not environment_lock(project, f"nemo-{known.harness}").exists():
        yield f"there is no lock of {known.harness} (nemo-{known.harness}.lock): set runtime: image"


def _lacking_files(place: tuple[str, ...], dataset: Dataset, project: Path) -> Iterator[Problem]:
    if dataset.folder is None or not dataset.files or not (project / dataset.folder).is_dir():
        return
    folder = project / dataset.folder
    for index, name in enumerate(dataset.files):
        if not (folder / name).is_file() and not any(path.is_file() for path in folder.glob(name)):
            yield Problem((*place, "files", str(index)), f"'{name}': no such file in {dataset.folder}")


def _task_file(file: Path, benchmark: Benchmark, config: Config, project: Path) -> Iterator[tuple[str, str]]:
    """Yields the benchmark's key and the text of each problem of a task file."""
    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.load(text, TaskLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        yield "task_file", f"{benchmark.task_file}{where}: {getattr(error, 'problem', None) or error}"
        return
    if not isinstance(content, dict):
        return
    if benchmark.endpoint == "chat" and content.get("output_type") in LIKELIHOOD_TYPES:
        kind = content["output_type"]
        yield "endpoint", f"{kind} scores log-probabilities, which no chat gives: set endpoint: completions"
    wrong = [*_placeholders(text, benchmark, config, project), *_metrics(content)]
    for line in wrong or _templates(content, text, config, project):
        yield "task_file", f"{benchmark.task_file}: {line}"


def _inspect_file(
    file: Path, benchmark: Benchmark, config: Config, project: Path
) -> Iterator[tuple[str, str]]:
    """Yields the benchmark's key and the text of each problem of a file with Inspect's tasks."""
    for line in inspect_tasks.file_problems(file, benchmark.task):
        yield "task_file", f"{benchmark.task_file}{line}"
    arguments = json.dumps(benchmark.extra.get("task_args", {}))
    for line in _placeholders(arguments, benchmark, config, project):
        yield "extra.task_args", line


def _placeholders(text: str, benchmark: Benchmark, config: Config, project: Path) -> Iterator[str]:
    for name, path in dict.fromkeys(_PLACEHOLDER.findall(text)):
        dataset = config.datasets.get(name)
        if name not in benchmark.datasets:
            listed = f"; {nearest(name, config.datasets)}" if dataset is None else ""
            yield f"${{dataset:{name}}} is not among the benchmark's datasets{listed}"
        elif dataset is not None and path and not _may_have(dataset, path, project):
            yield f"${{dataset:{name}}}/{path}: the dataset has no such file"


def _may_have(dataset: Dataset, path: str, project: Path) -> bool:
    if dataset.files and not any(path == name or fnmatch.fnmatch(path, name) for name in dataset.files):
        return any(name.startswith(f"{path}/") for name in dataset.files) or "*" in path
    if dataset.folder is None or "*" in path or not (project / dataset.folder).is_dir():
        return True
    return (project / dataset.folder / path).exists()


def _metrics(content: dict[str, Any]) -> Iterator[str]:
    listed = content.get("metric_list")
    if "process_results" in content or not isinstance(listed, list):
        return
    for entry in listed:
        name = entry.get("metric") if isinstance(entry, dict) else None
        if isinstance(name, str) and name not in METRICS:
            near = nearest(name, METRICS)
            if near.startswith("did you mean"):
                yield f"unknown metric '{name}'; {near}"


def _templates(content: dict[str, Any], text: str, config: Config, project: Path) -> Iterator[str]:
    """Yields fields that templates name and no record of the data has; nothing where that cannot be told."""
    fields = _fields(text, config, project)
    if not fields or any(key in content for key in DOCUMENT_KEYS) or "include" in content:
        return
    for key in TEMPLATE_KEYS:
        template = content.get(key)
        if not isinstance(template, str) or "{" not in template:
            continue
        environment = jinja2.Environment()
        environment.filters["regex_replace"] = str
        try:
            named = jinja2.meta.find_undeclared_variables(environment.parse(template))
        except jinja2.TemplateSyntaxError as error:
            yield f"{key}: {error.message}"
            continue
        except jinja2.TemplateError:
            continue
        for name in sorted(named - fields):
            if not re.search(rf"\b{re.escape(name)}\s+is\s+(not\s+)?defined", template):
                yield f"{key}: the data have no field '{name}'; {nearest(name, sorted(fields))}"


def _fields(text: str, config: Config, project: Path) -> set[str]:
    """Returns the fields of the local JSON lines that a task file reads.

    There are none where it reads anything else too.
    """
    fields: set[str] = set()
    for name, path in set(_PLACEHOLDER.findall(text)):
        dataset = config.datasets.get(name)
        file = project / dataset.folder / path if dataset is not None and dataset.folder and path else None
        if file is None or file.suffix != ".jsonl" or not file.is_file():
            return set()
        try:
            with file.open(encoding="utf-8") as stream:
                for line in islice(stream, SAMPLED_LINES):
                    record = json.loads(line) if line.strip() else {}
                    if not isinstance(record, dict):
                        return set()
                    fields |= record.keys()
        except (OSError, ValueError):
            return set()  # staging or the harness says what is wrong with it
    return fields
