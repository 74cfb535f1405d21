"""What a dry run says when Snakemake has said its part: the summary of what it has planned.

`slurmeval plan` is a dry run too, in which the cluster's queue is asked as well.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmeval.ownership import live_owner
from slurmeval.planning.fitting import Request, crowded_out, requests, unfit
from slurmeval.planning.outlook import unmeasured, visible
from slurmeval.planning.summary import Summary, lines, summarize, wrapped
from slurmeval.scheduling import finished
from slurmeval.wording import counted

if TYPE_CHECKING:
    from slurmeval.config.site import Site
    from slurmeval.planning.plan import Plan

FULL_PLAN = "SLURMEVAL_PLAN"
"""The environment variable with which `slurmeval plan` asks for the queue too: the file to write to."""

SCRIPT = "#!/bin/sh\n"
SBATCH = ": sbatch "
"""Begins a command, after what it is for."""

MOST_KINDS = 8
"""Kinds of jobs that the queue is asked about."""


def tell_at_exit(workflow: Any, plan: Plan) -> None:
    """Has Snakemake's dry run end with a summary: what it has planned is known only then."""
    atexit.register(_tell, workflow, plan)


def _tell(workflow: Any, plan: Plan) -> None:
    # The scheduler is made once the jobs are known, in a dry run too, and not where that failed
    if not workflow.dryrun or getattr(workflow, "scheduler", None) is None:
        return
    jobs = list(workflow.dag.needrun_jobs(exclude_finished=False))
    planned = [(job.wildcards.model, job.wildcards.benchmark) for job in jobs if job.rule.name == "evaluate"]
    file = os.environ.get(FULL_PLAN)
    if file is None:
        with contextlib.suppress(BrokenPipeError):
            print("", *text(plan, planned, ask=False), sep="\n", flush=True)
        return
    rules = Counter(job.rule.name for job in jobs)
    numbers = ", ".join(f"{count} {rule}" for rule, count in sorted(rules.items()))
    found = text(plan, planned, ask=True)
    found += wrapped(f"Snakemake's jobs: {rules.total()} in all{f' ({numbers})' if numbers else ''}.")
    Path(file).write_text("\n".join(found) + "\n", encoding="utf-8")


def text(plan: Plan, planned: Iterable[tuple[str, str]], *, ask: bool) -> list[str]:
    """Returns the lines on a run of these evaluations. `ask`: whether Slurm and the hub are asked too."""
    places = {pair: place for place, pair in enumerate(plan.evaluations)}
    pairs = sorted(planned, key=places.__getitem__)
    left = set(_finished(plan, pairs))
    to_run = [pair for pair in pairs if pair not in left]
    answered = set(_answered(plan, to_run))
    summary = summarize(
        plan.config,
        plan.site,
        plan.forecast,
        to_run,
        finished=len(left),
        answered=answered,
        in_all=len(places),
    )
    found = lines(summary)
    owner = live_owner(plan.absolute.controller)
    if owner is not None:
        found += wrapped(f"A run is under way in this folder ({owner}): what it does is not counted here.")
    if not summary.evaluations:
        return found
    for line in unmeasured(plan, [pair for pair in to_run if pair not in answered], ask_hub=ask):
        found += wrapped(line)
    for line in visible(plan, to_run, ask_hub=ask):
        found += wrapped(line)
    if ask:
        cluster = [] if plan.site is None else _cluster(plan, plan.site, summary)
        checks = [*cluster, *_lacking_secrets(plan), *_hub(plan)]
    else:
        asked = "the hub" if plan.site is None else "Slurm and the hub"
        checks = [*_lacking_secrets(plan), f"`slurmeval plan`, with the same options, also asks {asked}."]
    # A command can be copied only whole
    return found + [part for line in checks for part in ([line] if SBATCH in line else wrapped(line))]


def _lacking_secrets(plan: Plan) -> list[str]:
    """Returns a line for each token or key that a run would refuse to begin without."""
    from slurmeval import secrets
    from slurmeval.config.messages import dotted

    lacking = secrets.problems(plan.config, plan.project, secrets.needed(plan.config, plan.benchmarks))
    return [f"Will not begin: {dotted(problem.key)}: {problem.text}." for problem in lacking]


def _hub(plan: Plan) -> list[str]:
    """Returns what the hub would refuse, and what it says of the rest."""
    from slurmeval.planning.preflight import hub_says

    said = hub_says(plan)
    return [*(f"Will not begin: {line}." for line in said.refused), *said.warnings]


def _answered(plan: Plan, pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yields those whose answers are all stored."""
    keys = {model: plan.answers_key(model) for model in plan.models}
    for model, benchmark in pairs:
        key = keys[plan.config.server_of(model, benchmark)]
        mark = plan.absolute.work(model, benchmark, key) / finished.ANSWERED
        if mark.exists() and finished.all_answered(plan.document, model, benchmark):
            yield model, benchmark


def _finished(plan: Plan, pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Those that an earlier run has left finished: they need no server."""
    keys = {model: plan.answers_key(model) for model in plan.models}
    for model, benchmark in pairs:
        key = keys[plan.config.server_of(model, benchmark)]
        mark = plan.absolute.work(model, benchmark, key) / finished.MARK
        if mark.exists() and finished.is_there(plan.document, model, benchmark):
            yield model, benchmark


def _cluster(plan: Plan, site: Site, summary: Summary) -> list[str]:
    """Returns what is asked of the cluster, and what it says of it."""
    from slurmeval.slurm.commands import SlurmAway, limits_of_jobs, partitions

    asked = requests(site, plan.config, [row.model for row in summary.rows], summary.limits_min)
    command_lines = _command_lines(asked)
    try:
        there = partitions()
    except SlurmAway as error:
        away = f"Limits and queue of the cluster are not known: Slurm does not answer here ({error})."
        return [*command_lines, away]
    reasons = ((request, unfit(request, there)) for request in asked)
    found = [f"Will not fit: {request.title}: {reason}." for request, reason in reasons if reason]
    found = found or ["All jobs fit the limits of their partitions."]
    with contextlib.suppress(SlurmAway):  # without accounting there are no such limits
        servers = sum(plan.replicas(row.model) for row in summary.rows)
        crowded = crowded_out(site, limits_of_jobs(), servers, plan.config.server_jobs.max_at_once)
        found += [f"Warning: {crowded}."] if crowded else []
    return [*command_lines, *found, *_queue(asked)]


def _command_lines(asked: Sequence[Request]) -> list[str]:
    """What Slurm is asked for, as sbatch takes it."""
    servers = [request for request in asked if request.kind == "server"]
    evaluations = [request for request in asked if request.kind == "evaluation"]
    shown = [*servers[:MOST_KINDS], *evaluations[:1]]
    lines = (f"  {request.title}{SBATCH}{shlex.join(request.flags)}" for request in shown)
    return ["What Slurm is asked for:", *lines]


def _queue(asked: Sequence[Request]) -> list[str]:
    """When Slurm would start a server of each kind and one evaluation."""
    from slurmeval.slurm.commands import SlurmAway, queue, would_start

    servers = [request for request in asked if request.kind == "server"]
    evaluations = [request for request in asked if request.kind == "evaluation"]
    try:
        jobs = queue()
        running = sum(job.runs for job in jobs)
        found = [f"Queue: {counted(len(jobs), 'job')} of yours, {running} running. If submitted now (UTC):"]
        for request in [*servers[:MOST_KINDS], *evaluations[:1]]:
            found.append(f"  {request.title}: {would_start(request.flags, SCRIPT)}")
    except SlurmAway as error:
        return [f"The queue is not known: Slurm does not answer ({error})."]
    return found
