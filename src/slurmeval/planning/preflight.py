"""What can be found out before anything starts: whether paths will do, the hub gives what is needed, and all
fits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from slurmeval.config.models import Config, Model, Source
from slurmeval.engines.base import Engine
from slurmeval.errors import UserError
from slurmeval.files import read_json
from slurmeval.harnesses.context import too_long
from slurmeval.planning.plan import Plan
from slurmeval.progress import Progress
from slurmeval.staging import access, disk_space, hub_lock
from slurmeval.staging.local import foreign_code
from slurmeval.staging.repository import Repository

_ODD = re.compile(r"[%{}\\\r\n]")


def need_plain_paths(plan: Plan) -> None:
    """Raises UserError for a place whose path would be taken for something else: by Snakemake (braces),
    submitit and Slurm (percent signs, backslashes), or shell scripts (line breaks)."""
    places = {
        "the project folder": plan.project,
        "results": plan.paths.results,
        "staging.environments": plan.paths.environments,
        "staging.hf_home (or HF_HOME)": plan.paths.hf_home,
        "staging.images": plan.paths.images,
    }
    for name, path in places.items():
        if _ODD.search(str(path)):
            odd = f"{str(path)!r} has one of % {{ }} \\ or a line break in it"
            raise UserError(f"{name}: {odd}, which Slurm or Snakemake takes for something else: take another")


def resolve_branches(config: Config, project: Path, hf_home: Path, progress: Progress) -> None:
    """Writes into `config/hub.lock.yaml` which commits the planned models' and benchmarks' branches are, as
    far as it does not say yet. Raises UserError or SlurmevalError."""
    if config.staging.pinned:
        return
    models = config.evaluate.models or config.models
    benchmarks = {name for suite in config.evaluate.suites for name in config.suites[suite]}
    datasets = {name for benchmark in benchmarks for name in config.benchmarks[benchmark].datasets}
    sources: list[Source] = [config.models[name].weights for name in models]
    sources += [config.datasets[name] for name in sorted(datasets)]
    hub_lock.resolve(project, _branches(sources), hf_home, progress)


def _branches(sources: Iterable[Source]) -> list[Repository]:
    named = (Repository.of(source) for source in sources)
    return list(dict.fromkeys(found for found in named if found is not None and not found.is_commit))


def need_servable(name: str, entry: Model, manifest: Path, engine: Engine) -> None:
    """Raises UserError where a staged model cannot be served as the config says: with more context than it
    was made for, or by code that is not staged."""
    try:
        staged = read_json(manifest) or {}
        folder, own = Path(staged["folder"]), staged["source"].get("repo")
    except (ValueError, KeyError, OSError):
        return  # not staged yet, or half
    other = foreign_code(folder) if entry.trust_remote_code else None
    if other is not None and other != own:
        raise UserError(
            f"models.{name}: its code is in another repository, {other}, which is not staged: take a folder "
            "that has the code beside the weights (weights.folder), and names it without the repository"
        )
    if (said := too_long(folder, entry, engine)) is not None:
        raise UserError(f"models.{name}.{said}")


def _hub_items(plan: Plan) -> list[disk_space.HubItem]:
    models = {name: plan.config.models[name].weights for name in plan.models}
    datasets = {name: plan.config.datasets[name] for name in plan.datasets}
    return disk_space.hub_items(models, datasets, hub_lock.read(plan.project))


def hub_says(plan: Plan) -> access.Access:
    """Whether the hub gives what is not staged yet. Asks nobody where all is."""
    return access.check([item.repository for item in _hub_items(plan)], plan.absolute.hf_home)


def require_access_and_space(plan: Plan, progress: Progress) -> None:
    """Raises UserError where the hub refuses something, or all that is to be staged does not fit. Where jobs
    stage, the hub may be out of reach here: then nothing is known."""
    found = hub_says(plan)
    for warning in found.warnings:
        progress(f"slurmeval: {warning}")
    if found.refused:
        more = f" (and {len(found.refused) - 1} more: slurmeval plan)" if len(found.refused) > 1 else ""
        raise UserError(f"{found.refused[0]}{more}")
    if not found.warnings and (plan.site is None or plan.site.staging.where == "controller"):
        disk_space.require_space_for_all(_hub_items(plan), plan.absolute.hf_home, progress)
