"""Exporting results to the files of another program: what is exported, and that it appears whole."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import pyarrow as pa

from slurmeval.errors import UserError
from slurmeval.results import frames
from slurmeval.results.records import read_record

Row = dict[str, Any]
Pair = tuple[str, str]
"""A model and a benchmark."""
NAMES_LIMIT = 10
"""Names that one line of remarks has at most."""


@dataclass(frozen=True)
class Run:
    """The results that are exported, as rows of the tables in docs/tables.md."""

    results: Path
    evaluations: Sequence[Row]
    """In the order of the config, with those that did not end well."""
    metrics: Sequence[Row]

    @cached_property
    def ended(self) -> list[Row]:
        """The evaluations that ended well."""
        return [row for row in self.evaluations if row["status"] == "ok"]

    @cached_property
    def metrics_of(self) -> Mapping[Pair, list[Row]]:
        """The metrics by model and benchmark."""
        found: dict[Pair, list[Row]] = defaultdict(list)
        for row in self.metrics:
            found[row["model"], row["benchmark"]].append(row)
        return found

    def primary(self, model: str, benchmark: str) -> Row | None:
        """Returns the metric by which the benchmark is known; None: there is none."""
        rows = self.metrics_of.get((model, benchmark), ())
        return next((row for row in rows if row["is_primary"]), None)

    def sample_groups(self, model: str, benchmark: str) -> Iterator[pa.Table]:
        """Yields an evaluation's samples, a row group in memory at a time. Raises as `frames.load` does."""
        return frames.sample_groups(self.results / "samples" / model / f"{benchmark}.parquet")

    def samples(self, model: str, benchmark: str) -> Iterator[Row]:
        """Yields an evaluation's samples as rows. Raises as `frames.load` does."""
        for group in self.sample_groups(model, benchmark):
            for batch in group.to_batches(max_chunksize=256):
                yield from batch.to_pylist()

    def left_out(self) -> Iterator[str]:
        """Yields a line for each status but `ok`: how many evaluations have it, and which."""
        by_status: dict[str, list[str]] = defaultdict(list)
        for row in self.evaluations:
            if row["status"] != "ok":
                by_status[row["status"]].append(f"{row['model']} on {row['benchmark']}")
        for status, names in by_status.items():
            yield f"left out, {status}: {listed(names)}"


class _Format(Protocol):
    """A module of `slurmeval.results.exports`."""

    def export(self, run: Run, folder: Path) -> Iterable[str]:
        """Writes the files into the folder, which is empty. Returns remarks: what the format cannot say."""


@dataclass(frozen=True)
class Exported:
    """What an export has written."""

    folder: Path
    files: Sequence[Path]
    """Relative to the folder."""
    remarks: Sequence[str]
    """What was left out, a line each."""


def export(
    name: str,
    folder: Path,
    out: Path | None = None,
    models: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
) -> Exported:
    """Writes results in the format `name`. Every file appears whole, and none if the export fails.

    Args:
        name: One of `slurmeval.results.exports.formats()`.
        folder: The run's results folder, or the project folder that holds it as `results`.
        out: Where the files go; None: `exports/<name>` in the results folder. Files of the same names are
            replaced, others stay.
        models: Ids of the models to export; none: all.
        benchmarks: Ids of the benchmarks to export; none: all.

    Raises:
        UserError: There are no results, or names are unknown, or `out` is no folder, or a package is missing.
        SchemaDrift: The results are of another version.
    """
    run = load(folder, models, benchmarks)
    out = run.results / "exports" / name if out is None else out
    for there in (out, *out.parents):
        if there.exists() and not there.is_dir():
            raise UserError(f"{there}: expected a folder to write to, not a file")
    if _is_a_run_s(out, run.results):
        raise UserError(f"{out}: holds a run's own tables or report; name another folder")
    module = importlib.import_module(f"slurmeval.results.exports.{name.replace('-', '_')}")
    target = out.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as aside:
        try:
            remarks = [*run.left_out(), *cast("_Format", module).export(run, Path(aside))]
        except ModuleNotFoundError as error:
            raise UserError(
                f"--to {name} needs the package {error.name}, which is not in slurmeval's environment: "
                f"`.venv/bin/python -m pip install {error.name}`"
            ) from error
        return Exported(out, _move(Path(aside), target), remarks)


def _is_a_run_s(folder: Path, results: Path) -> bool:
    """Whether files of a run have names there that an export writes."""
    own = (results.resolve(), (results / "report").resolve())
    return folder.resolve() in own or (folder / "state" / "runs").is_dir()


def load(folder: Path, models: Sequence[str] = (), benchmarks: Sequence[str] = ()) -> Run:
    """Reads what `export` is asked for. Raises as it does."""
    results = frames.results_folder(folder)
    evaluations = frames.read_combined("evaluations", results).to_pylist()
    wanted = {"model": models, "benchmark": benchmarks}
    for column, names in wanted.items():
        known = dict.fromkeys(row[column] for row in evaluations)
        for unknown in (name for name in names if name not in known):
            raise UserError(f"unknown {column} '{unknown}'; in {results}: {', '.join(known) or 'none'}")

    def is_wanted(row: Row) -> bool:
        return all(not names or row[column] in names for column, names in wanted.items())

    metrics = frames.read_combined("metrics", results).to_pylist()
    run = Run(results, [*filter(is_wanted, evaluations)], [*filter(is_wanted, metrics)])
    if not run.ended:
        raise UserError(f"{results}: no evaluation has ended well, so there is nothing to export")
    return run


def number_of(metric: Row) -> float | None:
    """Returns a metric's number: a proportion, or what the harness wrote if it is none; None: not known."""
    is_proportion = metric["value"] is not None or metric["harness_scale"] is not None
    number: float | None = metric["value"] if is_proportion else metric["harness_value"]
    return number


def served(row: Row) -> dict[str, Any]:
    """Returns how an evaluation's model was served, without what names this machine's places."""
    known = json.loads(row["served_json"] or "{}") or {}
    engine = {name: value for name, value in (known.get("engine") or {}).items() if name != "url"}
    private = ("weights", "tokenizer", "files", "env", "engine")
    return {name: value for name, value in known.items() if name not in private} | {"engine": engine}


def is_external(row: Row) -> bool:
    """Returns whether the model's server was there already (docs/external.md)."""
    known = json.loads(row["served_json"] or "{}") or {}
    return "url" in (known.get("engine") or {})


def repository(row: Row) -> str | None:
    """Returns the repository of an evaluation's weights; None: they come from elsewhere."""
    kind, _, name = (row["model_source"] or "").partition(" ")
    return name if kind == "repo" else None


def hub_dataset(run: Run, row: Row) -> tuple[str | None, str | None]:
    """Returns repository and revision of the one dataset that an evaluation read, if it is of the Hub."""
    datasets = json.loads(row["datasets_json"] or "[]")
    if len(datasets) != 1:
        return None, None
    (known,) = datasets
    for path in sorted((run.results / "staged" / "datasets").glob(f"{known['id']}~*.json")):
        manifest = read_record(path) or {}
        repo = (manifest.get("source") or {}).get("repo")
        if repo is not None and manifest.get("revision") == known["revision"]:
            return repo, known["revision"]
    return None, None


def tracked(run: Run) -> Iterator[tuple[str, dict[str, Any], dict[str, float]]]:
    """Yields each model with its settings and its numbers, as experiment trackers want them.

    Settings are by benchmark. Numbers are named `<benchmark>/<metric>`, and have the interval beside them.
    """
    for model in dict.fromkeys(row["model"] for row in run.ended):
        config: dict[str, Any] = {}
        numbers: dict[str, float] = {}
        for row in (row for row in run.ended if row["model"] == model):
            benchmark = row["benchmark"]
            names = ("harness", "harness_version", "task", "task_version", "limit", "few_shot", "temperature")
            config[benchmark] = {name: row[name] for name in names if row[name] is not None}
            config |= {"model_repository": repository(row), "model_revision": row["model_revision"]}
            metric = run.primary(model, benchmark)
            if metric is None or (number := number_of(metric)) is None:
                continue
            numbers[f"{benchmark}/{metric['metric']}"] = number
            beside = {"ci_lower": metric["ci_lo"], "ci_upper": metric["ci_hi"], "n": metric["n_items"]}
            numbers |= {f"{benchmark}/{name}": each for name, each in beside.items() if each is not None}
        yield model, config, numbers


def listed(names: Sequence[str]) -> str:
    """Returns names for one line: the first ones, and how many more there are."""
    more = len(names) - NAMES_LIMIT
    return ", ".join(names[:NAMES_LIMIT]) + (f" and {more} more" if more > 0 else "")


def settings(row: Row) -> str:
    """Returns in words how much was asked, and the settings that are not the task's own."""
    parts = [*filter(None, [_asked(row)])]
    if row["few_shot"] is not None:
        parts.append(f"{row['few_shot']}-shot")
    if row["temperature"] is not None:
        parts.append(f"temperature {row['temperature']:g}")
    if row["top_p"] is not None:
        parts.append(f"top-p {row['top_p']:g}")
    if row["max_tokens"] is not None:
        parts.append(f"max {row['max_tokens']:,} tokens")
    if (row["n_repeats"] or 1) > 1:
        parts.append(f"{row['n_repeats']} answers each")
    return ", ".join(parts) or "the task's own settings"


def _asked(row: Row) -> str:
    """Returns which of the task's questions were asked: `the first 200 of 1,319`; empty: not known."""
    limit, whole = row["limit"], row["n_available"]
    asked = (row["n_requested"] or 0) // (row["n_repeats"] or 1)
    if limit is None or (whole is not None and asked == whole):
        return "" if whole is None else f"all {whole:,}"
    if asked > limit:
        return f"the first {limit:,} of each part ({asked:,}{'' if whole is None else f' of {whole:,}'})"
    return f"the first {limit:,}" + ("" if whole is None else f" of {whole:,}")


def _move(source: Path, target: Path) -> list[Path]:
    """Moves the files of one folder into another on the same disk. Returns their names, relative to it."""
    found = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    for name in found:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).replace(target / name)
    return found
