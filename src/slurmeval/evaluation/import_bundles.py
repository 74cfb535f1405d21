"""Results that another program made, put into the tables: bundles of NeMo Evaluator, and runs of HELM."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from slurmeval import __version__
from slurmeval.config.messages import ID_RULE
from slurmeval.config.sources import Identifier
from slurmeval.config.yaml_files import shown
from slurmeval.errors import UserError
from slurmeval.harnesses import helm_runs, nemo_bundles
from slurmeval.harnesses.nemo_bundles import Bundle
from slurmeval.ownership import LockFile
from slurmeval.paths import Paths
from slurmeval.results import history, partitions, schema
from slurmeval.results.aggregate import aggregate
from slurmeval.results.evaluation import EvaluationRecord

_ID: TypeAdapter[str] = TypeAdapter(Identifier)


HARNESSES = (nemo_bundles.HARNESS, helm_runs.HARNESS)


class Reader(Protocol):
    """Module that reads one program's results: `harnesses.nemo_bundles`, `harnesses.helm_runs`."""

    def find(self, place: Path) -> list[Path]:
        """Returns the results in a folder. Raises UserError where there are none."""

    def read(self, path: Path) -> Bundle:
        """Reads one of them. Raises EvaluationFailed (bad_result) where it cannot be read."""


@dataclass(frozen=True)
class Imported:
    """One bundle of an import. `new`: it was not there before."""

    bundle: Bundle
    model: str
    benchmark: str
    new: bool


def import_bundles(
    reader: Reader,
    paths: Paths,
    places: Iterable[Path],
    model: str | None = None,
    benchmark: str | None = None,
) -> list[Imported]:
    """Writes a partition for each bundle in `places` that is new, and the tables over all imported ones.

    The tables lie in `paths.results`. `model` and `benchmark` are ids to use instead of those that follow
    from the bundles. Raises UserError and EvaluationFailed (bad_result) before anything is written.
    """
    for name, given in (("--model", model), ("--as", benchmark)):
        if given is not None and not _is_id(given):
            raise UserError(f"{name}: {shown(given)} is not an id; {ID_RULE}")
    if any(place.exists() for place in (paths.staged, paths.leases, paths.servers)):
        raise UserError(f"{paths.results}: holds a run's results; imports go into a folder of their own")
    files = dict.fromkeys(path.resolve() for place in places for path in reader.find(place))
    bundles = [reader.read(path) for path in files]
    wanted = _named(bundles, model, benchmark)
    lock_file = LockFile(paths.controller)
    if (owner := lock_file.take()) is not None:
        raise UserError(f"{paths.results}: in use by {owner}")
    try:
        there = _there(paths)
        if model is None:
            _check_models(wanted, there)
        done = [_compared(each, there) for each in wanted]
        for each in done:
            if each.new:
                evaluation = EvaluationRecord(**each.bundle.known, slurmeval_version=__version__)
                partitions.write(paths, each.model, each.benchmark, evaluation, each.bundle.output, None)
                history.keep(paths, each.model, each.benchmark)
        aggregate(paths, sorted(_pairs(paths)))
    finally:
        lock_file.release()
    return done


def _is_id(text: str) -> bool:
    try:
        _ID.validate_python(text)
    except ValidationError:
        return False
    return True


def _id_of(text: str, what: str, bundle: Bundle) -> str:
    """An id that follows from a name: `acme/Model 1` becomes `acme-Model-1`."""
    made = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    made = re.sub(r"\.\.+", ".", made).strip("-_.")
    if not _is_id(made):
        raise UserError(f"{bundle.path}: {shown(text)} makes no id ({ID_RULE}): give one with {what}")
    return made


def _named(bundles: Sequence[Bundle], model: str | None, benchmark: str | None) -> list[Imported]:
    """The bundles with their ids. Raises UserError where two would have the same."""
    names = sorted({bundle.model for bundle in bundles if bundle.model is not None})
    if model is not None and len(names) > 1:
        raise UserError(f"--model is for one model; these bundles are of {', '.join(map(shown, names))}")
    if benchmark is not None and len(bundles) > 1:
        raise UserError(f"--as is for one bundle; there are {len(bundles)}")
    found: dict[tuple[str, str], Imported] = {}
    for bundle in bundles:
        if model is None and bundle.model is None:
            raise UserError(f"{bundle.path}: config.model is missing: give the model's id with --model")
        own = model or _id_of(str(bundle.model), "--model", bundle)
        pair = (own, benchmark or _id_of(bundle.benchmark, "--as", bundle))
        other = found.setdefault(pair, Imported(bundle, *pair, new=True)).bundle
        if other is not bundle:
            both = f"{bundle.path} and {other.path} are both {pair[1]} of {pair[0]}"
            raise UserError(f"{both}: import one of them with another --as or --model")
    return list(found.values())


def _pairs(paths: Paths) -> list[tuple[str, str]]:
    """Model and benchmark of every partition that is there."""
    pattern = paths.evaluation("*", "*").relative_to(paths.results)
    return [
        (file.parent.name, file.name.removesuffix(".parquet")) for file in paths.results.glob(str(pattern))
    ]


def _there(paths: Paths) -> dict[tuple[str, str], dict[str, Any]]:
    """The bundles that were imported before: their `bundle` and `config`, by model and benchmark."""
    found = {}
    for pair in _pairs(paths):
        (row,) = partitions.read_rows(paths.evaluation(*pair), schema.EVALUATIONS).to_pylist()
        if row["harness"] not in HARNESSES:
            raise UserError(f"{paths.results}: holds a run's results; imports go into a folder of their own")
        found[pair] = json.loads(row["parameters_json"])
    return found


def _check_models(wanted: Sequence[Imported], there: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Raises UserError where two models' names, such as `a/b` and `a-b`, come to the same id."""
    names = {model: known["config"].get("model") for (model, _), known in there.items()}
    for each in wanted:
        other = names.setdefault(each.model, each.bundle.model)
        if other not in (None, each.bundle.model):
            both = f"{shown(each.bundle.model)} and {shown(other)} are both {each.model}"
            raise UserError(f"{each.bundle.path}: {both}: say with --model which model's it is")


def _compared(each: Imported, there: dict[tuple[str, str], dict[str, Any]]) -> Imported:
    """With `new` as it is. Raises UserError where another bundle, or another model's, has the id."""
    before = there.get((each.model, each.benchmark))
    if before is not None and before["bundle"] != each.bundle.identity:
        reason = f"{each.benchmark} of {each.model} is there already, from {before['bundle']['run_id']}"
        raise UserError(f"{each.bundle.path}: {reason}: give another --as, --model or --results")
    return Imported(each.bundle, each.model, each.benchmark, new=before is None)
