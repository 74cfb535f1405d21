"""Evaluations that ended well, though the run that started them may not know it.

An evaluation may outlive its controller. What it found lies in its outputs, which Snakemake then counts as
half-made and deletes. So it is kept in the work folder too (hard links take no space) until the controller
knows of it; a run whose controller died is carried on without asking the model, or for a GPU, again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from slurmeval.state.evaluation import ResultsMark
from slurmeval.state.records import read, write
from slurmeval.state.run_document import RunDocument

MARK = "finished.json"
ANSWERED = "answered.json"
FOLDER = "finished"


def is_there(run: RunDocument, model: str, benchmark: str) -> bool:
    """Whether the evaluation, with just these parameters, has ended well and is kept."""
    mark = run.work(model, benchmark) / MARK
    there = read(mark, ResultsMark)
    if there is None or there != _mark(run, model, benchmark):  # a judge's takes reading all answers
        return False
    return all((mark.parent / FOLDER / name).exists() for name, _ in _partitions(run, model, benchmark))


def keep(run: RunDocument, model: str, benchmark: str) -> None:
    """Keeps the partitions just written."""
    work = run.work(model, benchmark)
    forget(run, model, benchmark)
    (work / FOLDER).mkdir(exist_ok=True)
    for name, partition in _partitions(run, model, benchmark):
        (work / FOLDER / name).unlink(missing_ok=True)
        _link(partition, work / FOLDER / name)
    write(work / MARK, _mark(run, model, benchmark))


def publish(run: RunDocument, model: str, benchmark: str) -> int:
    """Puts what is kept in its place. Returns the number of samples."""
    import pyarrow.parquet as pq  # here, since every lease imports this module

    work = run.work(model, benchmark)
    for name, partition in _partitions(run, model, benchmark):
        partition.parent.mkdir(parents=True, exist_ok=True)
        aside = partition.with_name(f".{partition.name}.kept")
        aside.unlink(missing_ok=True)
        _link(work / FOLDER / name, aside)
        os.utime(aside)  # Snakemake wants outputs that are younger than the lease
        aside.replace(partition)
    return int(pq.read_metadata(run.paths.samples(model, benchmark)).num_rows)


def forget(run: RunDocument, model: str, benchmark: str) -> None:
    """Keeps nothing any more."""
    work = run.work(model, benchmark)
    (work / MARK).unlink(missing_ok=True)
    # Without the mark it counts no more; network file systems keep what someone has open
    shutil.rmtree(work / FOLDER, ignore_errors=True)


# Evaluations whose answers are all stored


def note_answered(run: RunDocument, model: str, benchmark: str) -> None:
    """Notes that every request of the evaluation, with these parameters, has a stored answer."""
    write(run.work(model, benchmark) / ANSWERED, _asked(run, model, benchmark))


def all_answered(run: RunDocument, model: str, benchmark: str) -> bool:
    """Returns whether the evaluation can do without a server.

    It can if it has ended well before, with just these requests, and its gateway's log is there.
    """
    work = run.work(model, benchmark)
    # Inside a server's job it needs that job
    if run.models[run.server_of(model, benchmark)].serving.colocated is not None:
        return False
    if run.benchmarks[benchmark].asks_nobody:
        return True
    there = read(work / ANSWERED, ResultsMark)
    if there is None or there != _asked(run, model, benchmark):
        return False
    return any((work / "gateway").glob("0*.jsonl"))


def forget_answered(run: RunDocument, model: str, benchmark: str) -> None:
    """Has the evaluation lease a server the next time."""
    (run.work(model, benchmark) / ANSWERED).unlink(missing_ok=True)


def _mark(run: RunDocument, model: str, benchmark: str) -> ResultsMark:
    return ResultsMark(run.benchmarks[benchmark].results_key + _judged(run, model, benchmark))


def _asked(run: RunDocument, model: str, benchmark: str) -> ResultsMark:
    return ResultsMark(run.benchmarks[benchmark].requests_key + _judged(run, model, benchmark))


def _judged(run: RunDocument, model: str, benchmark: str) -> str:
    """Names the stored answers that an evaluation judges; empty where it judges none."""
    if not run.benchmarks[benchmark].judges:
        return ""
    from slurmeval.config.of_run import config_of  # here, since every lease imports this module
    from slurmeval.harnesses.stored_answers import answers_sha256

    files = [run.paths.samples(*pair) for pair in config_of(run).judged(model, benchmark).values()]
    # Those that are just made anew are gone
    return " ".join(["", *(answers_sha256(file) if file.exists() else "gone" for file in files)])


def _partitions(run: RunDocument, model: str, benchmark: str) -> Iterator[tuple[str, Path]]:
    for kind in ("metrics", "samples", "requests", "evaluation"):
        yield f"{kind}.parquet", getattr(run.paths, kind)(model, benchmark)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
