"""`slurmeval doctor`: what this machine, or a cluster, lacks, in plain words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurmeval.cli.check import DEFAULT_CONFIG
from slurmeval.cli.naming import configfile_option, results_option
from slurmeval.slurm import commands

if TYPE_CHECKING:
    from slurmeval.cli.machine import Check
    from slurmeval.config.models import Config
    from slurmeval.paths import Paths

MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "bad": ("bad", "red")}


@click.command()
@configfile_option
@results_option
@click.option("--offline", is_flag=True, help="Do not ask the hub and the package index.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.option(
    "--site",
    "profile",
    type=click.Path(path_type=Path),
    help="Ask the nodes of a cluster: a Snakemake profile for Slurm, such as profiles/slurm.",
)
@click.option(
    "--all-pools", is_flag=True, help="With --site: also the pools that no server of the config uses."
)
@click.option(
    "--wait",
    "wait_min",
    type=click.FloatRange(0, min_open=True),
    default=15.0,
    show_default=True,
    help="With --site: the longest to wait for the jobs, in minutes.",
)
def doctor(
    configfiles: tuple[Path, ...],
    results: Path | None,
    offline: bool,
    as_json: bool,
    profile: Path | None,
    all_pools: bool,
    wait_min: float,
) -> int:
    """Says what this machine or cluster lacks, and what to do.

    Without --configfile it is about config/config.yaml: its folders, and what its models and benchmarks need.

    Exits with 1 if something is missing that a run on this machine (profiles/local) needs. What only a
    cluster needs may be absent.

    With --site one small job is submitted to each kind of node that the config's servers, evaluations and
    staging use. It says what is there: GPUs, driver and memory against what the config needs, file systems,
    ports between nodes, internet, Apptainer, scratch, and how long it waited. Ctrl-C cancels the jobs.
    """
    checks: list[Check] = []
    if profile is None:
        found = _checks(configfiles, results, offline)
    else:
        found = _site_checks(profile, configfiles, results, all_pools, wait_min * 60, offline)
    for check in found:
        checks.append(check)
        if not as_json:
            _print(check)
    bad = [check.name for check in checks if check.level == "bad"]
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        warnings = sum(check.level == "warn" for check in checks)
        verdict = f"Not ready: {', '.join(bad)}." if bad else "Ready to run here."
        if profile is not None:
            lacking = f"Not ready, or not known: {', '.join(bad)}."
            verdict = lacking if bad else f"Ready to run by {profile}."
        noun = "warning" if warnings == 1 else "warnings"
        click.echo(f"{verdict} {warnings} {noun}." if warnings else verdict)
    return 1 if bad else 0


def _checks(files: tuple[Path, ...], results: Path | None, offline: bool) -> Iterator[Check]:
    from slurmeval.cli import machine
    from slurmeval.cli.needs import needs

    project = Path.cwd()
    yield machine.python()
    yield machine.python_path()
    packages = list(machine.packages())
    yield from packages
    if any(check.level == "bad" for check in packages):
        return  # what follows needs them
    config, check = _config(files or (DEFAULT_CONFIG,), results)
    yield check
    paths = _paths(project, config)
    yield machine.uv()
    yield from machine.disk_space(paths)
    yield machine.home_quota(paths)
    yield machine.caches()
    yield machine.memory()
    yield machine.cores()
    yield machine.shared_memory()
    yield machine.environments(project, paths.environments)
    yield machine.containment()
    yield machine.clock(paths.results)
    yield machine.git(project)
    yield machine.slurm()
    yield machine.containers()
    if not offline:
        yield machine.index()
    if config is not None:
        yield from needs(config, project, paths, offline)


def _site_checks(
    profile: Path,
    files: tuple[Path, ...],
    results: Path | None,
    all_pools: bool,
    wait_s: float,
    offline: bool,
) -> Iterator[Check]:
    from slurmeval.cli import machine, site

    project = Path.cwd()
    cluster = site.load(profile, project)
    config, check = _config(files or (DEFAULT_CONFIG,), results)
    yield check
    if not commands.is_here():
        yield machine.Check("Slurm", "bad", "no sbatch is here", "run this on a login node of the cluster")
        return
    yield machine.slurm()
    paths = _paths(project, config)
    yield from site.checks(
        cluster, config, project, paths, every_pool=all_pools, wait_s=wait_s, offline=offline
    )


def _config(files: tuple[Path, ...], results: Path | None) -> tuple[Config | None, Check]:
    """Returns the config, None where it will not do, and what there is to say of it."""
    from slurmeval.cli.check import checked
    from slurmeval.cli.machine import Check
    from slurmeval.errors import ConfigError

    try:
        config = checked(files, results)
    except ConfigError as error:
        return None, Check("config", "bad", str(error), "mend it; docs/config.md explains every key")
    return config, Check("config", "ok", ", ".join(map(str, files)))


def _paths(project: Path, config: Config | None) -> Paths:
    from slurmeval.config.models import Staging
    from slurmeval.paths import Paths, hf_home

    staging = config.staging if config else Staging()
    return Paths(
        results=project / (config.results if config else "results"),
        environments=project / staging.environments,
        hf_home=hf_home(staging.hf_home, project),
        images=project / staging.images,
    )


def _print(check: Check) -> None:
    mark, colour = MARKS[check.level]
    advice = f" — {check.advice}" if check.advice else ""
    click.echo(f"{click.style(f'{mark:<4}', fg=colour)} {check.name}: {check.found}{advice}")
