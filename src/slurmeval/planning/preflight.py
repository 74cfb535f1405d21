"""What can be found out before anything starts.

That is whether paths will do, the hub gives what is needed, and all fits.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from slurmeval.config.models import Config
from slurmeval.config.site import Site
from slurmeval.config.sources import Source
from slurmeval.engines.registry import find_engine
from slurmeval.errors import UserError
from slurmeval.harnesses.context import too_long
from slurmeval.planning.gpu_memory import too_large
from slurmeval.planning.plan import Plan
from slurmeval.progress import Progress
from slurmeval.staging import access, disk_space, hub_lock
from slurmeval.staging.local import foreign_code
from slurmeval.staging.repository import HUB_LOCK, Repository
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import Unreadable, load

BRANCHES_NAMED = 3
"""Branches that a message names."""

_ODD = re.compile(r"[%{}\\\r\n]")


def need_plain_paths(plan: Plan) -> None:
    """Raises UserError for a place whose path would be taken for something else.

    Snakemake takes braces so, submitit and Slurm percent signs and backslashes, shell scripts line
    breaks.
    """
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


def need_commits(plan: Plan, config_files: Sequence[Path]) -> None:
    """Raises UserError where a planned model or dataset is at a branch whose commit is not known yet.

    Weights and data are staged by commit, so the plan of a run depends on it.
    """
    sources: list[Source] = [plan.config.models[name].source for name in plan.models]
    sources += [plan.config.datasets[name] for name in plan.datasets]
    lock = hub_lock.read(plan.project)
    unknown = [branch for branch in _branches(sources) if lock.pinned(branch) is None]
    if unknown:
        named = ", ".join(f"{branch.name} {branch.revision}" for branch in unknown[:BRANCHES_NAMED])
        more = f" and {len(unknown) - BRANCHES_NAMED} more" if len(unknown) > BRANCHES_NAMED else ""
        options = "".join(f" --configfile {shlex.quote(str(file))}" for file in config_files)
        raise UserError(
            f"the config names branches whose commits are not known yet ({named}{more}): "
            f"`slurmeval stage lock{options}` asks the hub, and writes them into {HUB_LOCK}"
        )


def _branches(sources: Iterable[Source]) -> list[Repository]:
    named = (Repository.of(source) for source in sources)
    return list(dict.fromkeys(found for found in named if found is not None and not found.is_commit))


def need_servable(config: Config, name: str, manifest: Path, project: Path, site: Site | None) -> None:
    """Raises UserError where a staged model cannot be served as the config says.

    That is with more context than it was made for, by code that is not staged, or on GPUs that are too
    small.
    """
    entry = config.models[name]
    server = config.servers[entry.server]
    engine = find_engine(server.engine_name, project)
    try:
        staged = load(manifest, Manifest)
    except (Unreadable, OSError):
        return  # not staged yet, or half
    other = foreign_code(staged.folder) if entry.trust_remote_code else None
    if other is not None and other != staged.source.get("repo"):
        raise UserError(
            f"models.{name}: its code is in another repository, {other}, which is not staged: take a folder "
            "that has the code beside the weights (weights.folder), and names it without the repository"
        )
    if (said := too_long(staged.folder, entry, engine)) is not None:
        raise UserError(f"models.{name}.{said}")
    memory = None if site is None else site.servers.of(server.pool).memory_of_gpu_gb
    if (said := too_large(staged.folder, staged.files, entry, server, memory)) is not None:
        raise UserError(f"models.{name}: {said}")


def _hub_items(plan: Plan) -> list[disk_space.HubItem]:
    models = {name: plan.config.models[name].source for name in plan.models}
    datasets = {name: plan.config.datasets[name] for name in plan.datasets}
    return disk_space.hub_items(models, datasets, hub_lock.read(plan.project))


def hub_says(plan: Plan) -> access.Access:
    """Whether the hub gives what is not staged yet. Asks nobody where all is."""
    return access.check([item.repository for item in _hub_items(plan)], plan.absolute.hf_home)


def require_access_and_space(plan: Plan, progress: Progress) -> None:
    """Raises UserError where the hub refuses something, or all that is to be staged does not fit.

    Where jobs stage, the hub may be out of reach here: then nothing is known.
    """
    found = hub_says(plan)
    for warning in found.warnings:
        progress(f"slurmeval: {warning}")
    if found.refused:
        more = f" (and {len(found.refused) - 1} more: slurmeval plan)" if len(found.refused) > 1 else ""
        raise UserError(f"{found.refused[0]}{more}")
    if not found.warnings and (plan.site is None or plan.site.staging.where == "controller"):
        disk_space.require_space_for_all(_hub_items(plan), plan.absolute.hf_home, progress)
