"""How a run's servers are submitted: under which names, one after another or not, and several in one job."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from slurmeval.errors import NotYet, ServerFailed
from slurmeval.scheduling.replicas import controller_of, replica_specs
from slurmeval.servers import leases
from slurmeval.servers.folder import ServerFolder
from slurmeval.state.lease import Lease
from slurmeval.state.records import write
from slurmeval.state.run_document import RunDocument
from slurmeval.state.server import SharedJob
from slurmeval.state.server_spec import ServerSpec

FIRST = "~first"
"""The lease by which a server is submitted before its evaluations lease it. No benchmark has this name."""


def acquire(
    run: RunDocument,
    model: str,
    spec: ServerSpec,
    lease: str,
    evaluation: Path | None = None,
    above: int = 0,
) -> Lease:
    """`leases.acquire` for a replica of a model of this run. Raises ServerFailed, NotYet."""
    submit = _submission(run, model, spec.replica)
    return leases.acquire(spec, lease, controller_of(run), submit, evaluation=evaluation, above=above)


def _submission(run: RunDocument, model: str, replica: int) -> Callable[[Path], None]:
    if run.site is None:
        return leases.submit_detached
    options = ["--name", run.models[model].job_names[replica - 1]]
    if _are_limited(run):
        options.append("--one-at-a-time")
    return functools.partial(_submit, run, model, options)


def _are_limited(run: RunDocument) -> bool:
    """Whether only so many servers run at once."""
    from slurmeval.config.of_run import config_of  # here, since every lease imports this module

    return config_of(run).server_jobs.max_at_once is not None


def _submit(run: RunDocument, model: str, options: list[str], folder: Path) -> None:
    shared = run.models[model].shared_job
    if shared is not None:
        others = [made for other in shared.models if other != model for made in _prepared(run, other)]
        if others:
            write(ServerFolder(folder).shared_job, SharedJob([str(other) for other in others], shared.job))
    else:
        others = []
    try:
        leases.submit_detached(folder, *options)
    except NotYet:
        for other in others:
            leases.discard(other)
        raise


def _prepared(run: RunDocument, model: str) -> Iterator[Path]:
    """The folder of a model's server that is to share a job, if one is wanted."""
    if not _is_wanted(run, model):
        return
    (spec,) = replica_specs(run, model)
    try:
        folder = leases.prepare(spec, controller_of(run))
    except ServerFailed:
        return
    if folder is not None:
        yield folder


def submit_earlier(run: RunDocument, model: str) -> None:
    """Submits the servers before this one, those that free their GPUs sooner first.

    Where only so many run at once, Slurm takes those of one name in the order of submission. One that nobody
    leases ends itself.
    """
    if run.site is None or not _are_limited(run):
        return
    names = set(run.models[model].job_names)
    for earlier in run.order[: run.order.index(model)]:
        if names.isdisjoint(run.models[earlier].job_names) or not _is_wanted(run, earlier):
            continue
        for spec in replica_specs(run, earlier):
            try:
                acquire(run, earlier, spec, FIRST)
            except ServerFailed:
                continue  # its own evaluations will say so
            leases.release(Path(spec.leases) / f"{FIRST}.json")


def _is_wanted(run: RunDocument, model: str) -> bool:
    """Whether a model is staged, and has evaluations that are not done."""
    if not run.models[model].manifest.exists():
        return False
    pairs = [pair for pair in run.evaluations if run.server_of(*pair) == model]
    # A judge's server is not started before there is something to judge
    return any(not run.paths.evaluation(*pair).exists() and _may_begin(run, *pair) for pair in pairs)


def _may_begin(run: RunDocument, model: str, benchmark: str) -> bool:
    """Whether the answers are there that an evaluation is to judge."""
    from slurmeval.config.of_run import config_of  # here, since every lease imports this module

    if not run.benchmarks[benchmark].judges:
        return True
    return all(run.paths.samples(*pair).exists() for pair in config_of(run).judged(model, benchmark).values())
