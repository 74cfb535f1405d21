"""`slurmeval rescore`: results anew from what is on disk."""

from __future__ import annotations

from pathlib import Path

import click

from slurmeval.cli.naming import about_results


@click.command()
@click.argument("model", required=False)
@click.argument("benchmark", required=False)
@about_results
def rescore(model: str | None, benchmark: str | None, results: Path) -> int:
    """Writes results anew, without a server: those of MODEL on BENCHMARK, or all.

    What the harness left is read again. Where that was deleted, the harness runs once more, and gets the
    stored answers; what was never answered is refused. Tables and report follow. Exits with 1 where something
    could not be rescored: its results stay as they are.
    """
    from slurmeval.cli.run_state import last_run, owner_of
    from slurmeval.errors import UserError
    from slurmeval.evaluation.aggregating import gather
    from slurmeval.evaluation.rescoring import rescore_all
    from slurmeval.planning.untracked import disown
    from slurmeval.report import build

    run = last_run(results)
    paths = run.paths
    if owner_of(paths.controller) is not None:
        raise UserError(f"a run is under way in {results}; wait for it or stop it")
    for given, known in ((model, run.models), (benchmark, run.benchmarks)):
        if given is not None and given not in known:
            raise UserError(f"unknown '{given}'; the last run in {results} has: {', '.join(known)}")
    pairs = [(m, b) for m, b in run.evaluations if model in (None, m) and benchmark in (None, b)]
    ended = [pair for pair in pairs if paths.evaluation(*pair).exists()]
    if not ended:
        raise UserError(f"no evaluation of {model or 'any model'} has ended well in {results}")
    failed = rescore_all(run, ended, click.echo)
    disown(paths)
    gather(run, click.echo)
    click.echo(f"report: {build(paths, run)}")
    return 1 if failed else 0
