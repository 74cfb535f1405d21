"""Which benchmarks a command is about: those named, and those of the suites named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from slurmeval.errors import UserError

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])


def benchmark_options(command: AnyCommand) -> AnyCommand:
    """Gives a command the options --benchmark and --suite, as `benchmarks` and `suites`."""
    benchmark = click.option(
        "--benchmark", "benchmarks", multiple=True, help="Only this one; may be given several times."
    )
    suite = click.option(
        "--suite", "suites", multiple=True, help="Only those of this suite of the config; also several times."
    )
    return benchmark(suite(command))


def wanted(results: Path, benchmarks: Sequence[str], suites: Sequence[str]) -> list[str]:
    """Returns the benchmarks named, with those of the suites, as the last run's config has them; empty: all.

    Raises UserError on a suite that this config does not have.
    """
    if not suites:
        return list(benchmarks)
    from slurmeval.cli.run_state import last_run
    from slurmeval.config.of_run import config_of
    from slurmeval.results.frames import results_folder

    folder = results_folder(results)
    known = config_of(last_run(folder)).suites
    for suite in suites:
        if suite not in known:
            raise UserError(
                f"unknown suite '{suite}'; the last run in {folder} has: {', '.join(known) or 'none'}"
            )
    return list(dict.fromkeys([*benchmarks, *(name for suite in suites for name in known[suite])]))
