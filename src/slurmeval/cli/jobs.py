"""The commands that the workflow's rules run; each unpacks its arguments and calls one function."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from slurmeval.progress import to_stderr
from slurmeval.state.records import load, read, write
from slurmeval.state.run_document import RunDocument
from slurmeval.state.runtime_records import EnvironmentRecord, ImageRecord

RUN_FILE = click.argument("run_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


HERE = click.option(
    "--here", is_flag=True, help="Run on this node, also where the site file names nodes with internet."
)

SERVERS_END_S = 30.0
"""Servers end within seconds after their last evaluation, and then their figures are whole."""


def _where_there_is_internet(run: RunDocument, here: bool) -> None:
    """Replaces this process by the same command in a Slurm job, where only some nodes have internet."""
    from slurmeval.config.of_run import site_of
    from slurmeval.slurm.request import staging_command

    site = None if here else site_of(run)
    if site is not None and (command := staging_command(site, os.environ)):
        name, *arguments = sys.argv[1:]
        own = [sys.executable, "-m", "slurmeval", name, "--here", *arguments]
        os.execvp(command[0], [*command, *own])


@click.command()
@RUN_FILE
@click.argument("name")
@click.argument("record", type=click.Path(path_type=Path))
@HERE
def environment(run_file: Path, name: str, record: Path, here: bool) -> None:
    """Makes a locked environment, or finds it made."""
    from slurmeval.environments.environments import ensure
    from slurmeval.project_files import environment_lock
    from slurmeval.scheduling.failures import recorded

    run = load(run_file, RunDocument)
    _where_there_is_internet(run, here)
    environments = run.paths.environments
    with recorded(run, "environment", record, f"making the environment {name}"):
        made = ensure(environment_lock(run.project, name), environments, to_stderr)
    write(record, EnvironmentRecord(folder=made.folder, python=made.python))


@click.command()
@RUN_FILE
@click.argument("name")
@click.argument("record", type=click.Path(path_type=Path))
@HERE
def image(run_file: Path, name: str, record: Path, here: bool) -> None:
    """Pulls an image, or finds it pulled, and verifies it."""
    from slurmeval import secrets
    from slurmeval.config.of_run import config_of, site_of
    from slurmeval.containers.images import Image, ensure, read_lock, read_wanted
    from slurmeval.evaluation.runtimes import apptainer_of
    from slurmeval.project_files import IMAGES, IMAGES_LOCK, images_file
    from slurmeval.scheduling.failures import recorded

    run = load(run_file, RunDocument)
    _where_there_is_internet(run, here)
    paths = run.paths
    secrets.lend(paths.secrets, config_of(run).secrets, secrets.REGISTRY)
    project = run.project
    lock = images_file(project, IMAGES_LOCK)
    site = site_of(run)
    given = None if site is None else site.containers.images.get(name)
    locked = read_lock(lock).get(name) if lock.exists() else None
    file = None if given is None else Path(os.path.expandvars(given))
    wanted = read_wanted(images_file(project, IMAGES)).get(name) if locked is None else None
    with recorded(run, "image", record, f"pulling the image {name}"):
        made = ensure(locked or wanted or Image(name, ""), paths.images, apptainer_of(run), to_stderr, file)
    write(record, load(made, ImageRecord))


@click.command()
@RUN_FILE
@click.argument("benchmark")
@click.argument("manifest", type=click.Path(path_type=Path))
@HERE
def rehearse(run_file: Path, benchmark: str, manifest: Path, here: bool) -> None:
    """Rehearses a benchmark without network. What its harness lacks it fetches first."""
    from slurmeval import secrets
    from slurmeval.config.of_run import config_of
    from slurmeval.evaluation.rehearsal import rehearse

    run = load(run_file, RunDocument)
    _where_there_is_internet(run, here)
    paths = run.paths
    secrets.lend(paths.secrets, config_of(run).secrets, secrets.HUB)
    log = paths.log("rehearse", f"{manifest.stem}-harness")
    given = secrets.take(paths.secrets, config_of(run).benchmarks[benchmark].secrets)
    rehearse(run, benchmark, manifest.absolute(), log, to_stderr, given)


@click.command("try-tokenizer")
@RUN_FILE
@click.argument("model")
@click.argument("key")
@click.argument("output", type=click.Path(path_type=Path))
@HERE
def try_tokenizer(run_file: Path, model: str, key: str, output: Path, here: bool) -> None:
    """Loads a model's tokenizer where harnesses run."""
    from slurmeval.evaluation.tokenizers import try_tokenizer

    run = load(run_file, RunDocument)
    _where_there_is_internet(run, here)
    log = run.paths.log("try_tokenizer", f"{model}~{key}-harness")
    try_tokenizer(run, model, key, output.absolute(), log)


@click.command("stage-model")
@RUN_FILE
@click.argument("model")
@click.argument("manifest", type=click.Path(path_type=Path))
@HERE
def stage_model(run_file: Path, model: str, manifest: Path, here: bool) -> None:
    """Stages a model's weights and writes their manifest."""
    from slurmeval import secrets
    from slurmeval.config.of_run import config_of, site_of
    from slurmeval.planning.preflight import need_servable
    from slurmeval.scheduling.failures import recorded
    from slurmeval.staging.models import stage_model

    run = load(run_file, RunDocument)
    _where_there_is_internet(run, here)
    config, paths = config_of(run), run.paths
    entry = config.models[model]
    secrets.lend(paths.secrets, config.secrets, secrets.HUB)
    environment = run.models[model].environment
    made = None if environment is None else read(environment, EnvironmentRecord)
    python = made.python if made else None
    with recorded(run, "stage_model", manifest, f"staging the model {model}"):
        project = run.project
        stage_model(model, entry.source, manifest.absolute(), paths.hf_home, project, python, to_stderr)
        need_servable(config, model, manifest, project, site_of(run))


@click.command("stage-dataset")
@RUN_FILE
@click.argument("dataset")
@click.argument("manifest", type=click.Path(path_type=Path))
@HERE
def stage_dataset(run_file: Path, dataset: str, manifest: Path, here: bool) -> None:
    """Stages a dataset and writes its manifest."""
    from slurmeval import secrets
    from slurmeval.config.of_run import config_of
    from slurmeval.scheduling.failures import recorded
    from slurmeval.staging.datasets import stage_dataset

    run = load(run_file, RunDocument)
    _where_there_is_internet(run, here)
    entry, paths = config_of(run).datasets[dataset], run.paths
    secrets.lend(paths.secrets, config_of(run).secrets, secrets.HUB)
    with recorded(run, "stage_dataset", manifest, f"staging the dataset {dataset}"):
        stage_dataset(dataset, entry, manifest.absolute(), paths.hf_home, run.project, to_stderr)


@click.command()
@RUN_FILE
@click.argument("model")
@click.argument("benchmark")
def lease(run_file: Path, model: str, benchmark: str) -> None:
    """Leases a model's server for an evaluation; submits the server if there is none."""
    from slurmeval.scheduling.leasing import lease_for_rule

    lease_for_rule(load(run_file, RunDocument), model, benchmark)


@click.command()
@RUN_FILE
@click.argument("model")
@click.argument("benchmark")
def evaluate(run_file: Path, model: str, benchmark: str) -> None:
    """Runs one benchmark on one model and writes its results."""
    from slurmeval.cli.run_state import score_of
    from slurmeval.evaluation.evaluate import evaluate
    from slurmeval.results import partitions, reasoning, schema

    run = load(run_file, RunDocument)
    samples = evaluate(run, model, benchmark)
    paths = run.paths
    score = score_of(paths, model, benchmark)
    scored = f", {score.metric} {score.words}" if score else ""
    replayed = partitions.evaluation_row(paths.evaluation(model, benchmark)).get("n_replayed")
    kept = f", {replayed} answers of earlier tries" if replayed else ""
    to_stderr(f"{model} on {benchmark}: {samples} samples{scored}{kept}")
    written = paths.evaluation(model, benchmark)
    for row in partitions.read_rows(written, schema.EVALUATIONS).to_pylist():
        if (warning := reasoning.warning(row)) is not None:
            to_stderr(warning)


@click.command()
@RUN_FILE
def aggregate(run_file: Path) -> None:
    """Gathers the results of all evaluations."""
    from slurmeval.cli.run_state import live_servers
    from slurmeval.evaluation.aggregating import gather

    run = load(run_file, RunDocument)
    deadline = time.monotonic() + SERVERS_END_S
    while live_servers(run.paths) and time.monotonic() < deadline:
        time.sleep(0.2)
    gather(run, to_stderr)


@click.command()
@RUN_FILE
def report(run_file: Path) -> None:
    """Writes the report, and says the scores."""
    from slurmeval.cli import scores
    from slurmeval.evaluation.aggregating import gather
    from slurmeval.report import build, tables
    from slurmeval.results.aggregate import are_of

    run = load(run_file, RunDocument)
    if not are_of(run.paths, run.evaluations):
        gather(run, to_stderr)  # the tables tell of another config's run
    page = build(run.paths, run)
    for line in scores.lines(tables.load(run.paths)):
        to_stderr(line)
    to_stderr(f"report: {page}")
