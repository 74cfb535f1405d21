"""What a config needs of this machine beyond slurmeval itself: the hub, Apptainer, GPUs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from slurmeval import secrets
from slurmeval.cli.machine import Check
from slurmeval.config.messages import dotted
from slurmeval.errors import SlurmevalError
from slurmeval.planning.estimate import rehearsed
from slurmeval.planning.plan import Plan
from slurmeval.planning.preflight import hub_says
from slurmeval.site_check.probe import hub_out_of_reach
from slurmeval.slurm import commands

if TYPE_CHECKING:
    from slurmeval.config.models import Config
    from slurmeval.paths import Paths

NAMES_LIMIT = 4


def needs(config: Config, project: Path, paths: Paths, offline: bool) -> Iterator[Check]:
    """Checks for what this config's models and benchmarks need. `offline`: the hub is not asked."""
    try:
        plan = Plan(config, project, paths.hf_home)
        in_images = [
            *(
                name
                for name in plan.models
                if (place := plan.runtime_refs.of_server(config.models[name])) and place.kind == "image"
            ),
            *(
                b
                for b in plan.benchmarks
                if plan.runtime_refs.of_harness(config.benchmarks[b]).kind == "image"
            ),
        ]
    except SlurmevalError as error:
        yield Check("plan", "bad", str(error), "mend it; slurmeval plan says what a run would do")
        return
    if in_images and not any(shutil.which(name) for name in ("apptainer", "singularity")):
        found = f"absent, and needed: {_named(in_images)} run in images"
        yield Check("Apptainer", "bad", found, "install it, or give them `runtime: environment`")
    with_gpus = [name for name in plan.models if config.servers[config.models[name].server].gpus]
    if with_gpus and not shutil.which("nvidia-smi") and not commands.is_here():
        advice = "run on a cluster (profiles/slurm), or name a server without GPUs"
        yield Check("GPUs", "bad", f"none here, and needed: {_named(with_gpus)}", advice)
    for problem in secrets.problems(config, project, secrets.needed(config, plan.benchmarks)):
        yield Check(dotted(problem.key), "bad", problem.text, "no run begins without it (docs/secrets.md)")
    if not offline:
        yield hub(plan)
        yield from _servers(plan)


def hub(plan: Plan) -> Check:
    """Checks whether the hub gives this machine the weights and data of a plan that are not staged yet."""
    try:
        said = hub_says(plan)
    except SlurmevalError as error:
        return Check("Hugging Face hub", "bad", str(error))
    if said.refused or said.warnings:
        found = "; ".join([*said.refused, *said.warnings][:NAMES_LIMIT])
        advice = "stage where there is internet (docs/staging.md), or set HF_TOKEN for what is gated"
        return Check("Hugging Face hub", "bad", found, advice)
    fetching = [name for name in plan.benchmarks if _may_fetch(plan, name)]
    if fetching and (reason := hub_out_of_reach()) is not None:
        found = f"cannot be reached ({reason}), and rehearsals fetch data from it: {_named(fetching)}"
        advice = "begin where there is internet, or name the data under `datasets` (docs/staging.md)"
        return Check("Hugging Face hub", "bad", found, advice)
    return Check("Hugging Face hub", "ok", "gives all that is not staged yet, or nothing is needed of it")


def _may_fetch(plan: Plan, benchmark: str) -> bool:
    """Whether a benchmark's data come from the hub with its first rehearsal: it names none itself."""
    entry = plan.config.benchmarks[benchmark]
    fetches = entry.harness in ("lm-eval", "inspect") or (entry.task or "").startswith(
        "lm-evaluation-harness."
    )
    return fetches and not entry.datasets and rehearsed(plan, benchmark) is None


def _servers(plan: Plan) -> Iterator[Check]:
    """Asks servers that are there already whether they will do."""
    import asyncio

    from slurmeval.engines import api_check

    config = plan.config
    for name in plan.models:
        server = plan.document.models[name].serving.external
        entry = config.servers[config.models[name].server]
        if server is None:
            continue
        needed = [] if entry.api_key is None else [entry.api_key]
        if secrets.problems(config, plan.project, needed):
            continue  # said already
        key = next(iter(secrets.values(config, plan.project, needed).values()), None)
        fault = asyncio.run(api_check.fault_of(server, key))
        if fault is None:
            yield Check(f"server of {name}", "ok", f"{server.url} knows {server.model}")
        else:
            yield Check(f"server of {name}", "bad", fault.text, "docs/external.md says what to do")


def _named(names: Iterable[str]) -> str:
    some = list(names)
    more = f" and {len(some) - NAMES_LIMIT} more" if len(some) > NAMES_LIMIT else ""
    return f"{', '.join(some[:NAMES_LIMIT])}{more}"
