"""Where everything lies. No other module builds these names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """All places of one project folder. Every field is absolute."""

    results: Path
    environments: Path
    hf_home: Path
    images: Path

    @classmethod
    def of(cls, places: Mapping[str, str]) -> Paths:
        """From a run document's `paths`."""
        return cls(**{name: Path(path) for name, path in places.items()})

    @classmethod
    def of_results(cls, results: Path) -> Paths:
        """Returns the places of a results folder, for those that look at nothing else."""
        return cls(results=results, environments=results, hf_home=results, images=results)

    # What a run produces
    def metrics(self, model: str, benchmark: str) -> Path:
        """One evaluation's scores."""
        return self.results / "metrics" / model / f"{benchmark}.parquet"

    def samples(self, model: str, benchmark: str) -> Path:
        """One evaluation's samples."""
        return self.results / f"samples/{model}/{benchmark}.parquet"

    def requests(self, model: str, benchmark: str) -> Path:
        """One evaluation's requests."""
        return self.results / "requests" / model / f"{benchmark}.parquet"

    def evaluation(self, model: str, benchmark: str) -> Path:
        """One evaluation's row."""
        return self.results / "evaluations" / model / f"{benchmark}.parquet"

    @property
    def history(self) -> Path:
        """Every evaluation that ended well, also those that are no longer in the tables."""
        return self.results / "history"

    def past_evaluation(self, model: str, benchmark: str, key: str) -> Path:
        """Score and pins of an evaluation. `key` names all that alters results."""
        return self.history / model / benchmark / f"{key}.json"

    @property
    def all_metrics(self) -> Path:
        """The scores of all evaluations."""
        return self.results / "metrics.parquet"

    @property
    def all_evaluations(self) -> Path:
        """A row for each evaluation."""
        return self.results / "evaluations.parquet"

    @property
    def all_servers(self) -> Path:
        """A row for each engine run."""
        return self.results / "servers.parquet"

    @property
    def judged(self) -> Path:
        """Scores by judges, with what they leave open; there where something was judged."""
        return self.results / "judged.parquet"

    @property
    def judge_card(self) -> Path:
        """How far each judge can be trusted; there where something was judged."""
        return self.results / "judge_card.parquet"

    @property
    def report(self) -> Path:
        """The folder of the report."""
        return self.results / "report"

    @property
    def humans(self) -> Path:
        """Studies with people, a folder each."""
        return self.results / "humans"

    # What is staged
    @property
    def staged(self) -> Path:
        """The manifests of what is staged."""
        return self.results / "staged"

    def staged_model(self, model: str, key: str) -> Path:
        """The manifest of a staged model. `key` names its source."""
        return self.staged / "models" / f"{model}~{key}.json"

    def staged_dataset(self, dataset: str, key: str) -> Path:
        """The manifest of a staged dataset. `key` names its source."""
        return self.staged / "datasets" / f"{dataset}~{key}.json"

    def environment_record(self, environment: str, key: str) -> Path:
        """Says where an environment lies, once it is made. `key` names its lock's content."""
        return self.environments / f"{environment}~{key}.json"

    def image_record(self, image: str, key: str) -> Path:
        """Says where an image lies and what is in it, once it is pulled. `key` names its content."""
        return self.images / f"{image}~{key}.json"

    def rehearsal(self, benchmark: str, key: str) -> Path:
        """The manifest of what a benchmark's harness fetches by itself: it has been rehearsed.

        `key` names all that alters what that is.
        """
        return self.staged / "benchmarks" / f"{benchmark}~{key}.json"

    def tokenizer(self, model: str, key: str) -> Path:
        """Says that a model's tokenizer can be loaded where harnesses run.

        `key` names where, and what alters it.
        """
        return self.staged / "tokenizers" / f"{model}~{key}.json"

    # What a run keeps to carry on
    @property
    def state(self) -> Path:
        """What processes of a run exchange."""
        return self.results / "state"

    @property
    def gathered(self) -> Path:
        """What was read of the partitions, so that it is read once."""
        return self.state / "gathered"

    @property
    def disowned(self) -> Path:
        """Changes each time that tables and report are made outside Snakemake's sight."""
        return self.state / "disowned.json"

    @property
    def secrets(self) -> Path:
        """Tokens and keys for the jobs that need them, each in a file that only its owner reads."""
        return self.state / "secrets"

    @property
    def controller(self) -> Path:
        """Who runs Snakemake here: exists while a run is under way; its mtime is the run's heartbeat."""
        return self.state / "controller.json"

    @property
    def leases(self) -> Path:
        """The leases, a folder for each model."""
        return self.results / "leases"

    def lease(self, model: str, benchmark: str) -> Path:
        """An evaluation's lease."""
        return self.leases / model / f"{benchmark}.json"

    @property
    def servers(self) -> Path:
        """The servers' folders, by model."""
        return self.state / "servers"

    def servers_of(self, model: str) -> Path:
        """One folder `0001`, `0002`, … for each server this model has had."""
        return self.servers / model

    @property
    def slots(self) -> Path:
        """One file for each server that runs, so that no more than allowed run at once."""
        return self.state / "slots"

    def failure(self, model: str, benchmark: str) -> Path:
        """Why an evaluation failed when it was last tried; absent once it has succeeded."""
        return self.state / "failures" / model / f"{benchmark}.json"

    def evaluation_jobs(self, model: str, benchmark: str) -> Path:
        """One line for each job that was submitted for an evaluation, oldest first."""
        return self.state / "jobs" / "evaluations" / model / f"{benchmark}.jsonl"

    def work(self, model: str, benchmark: str, answers_key: str) -> Path:
        """An evaluation's own folder: the gateway's log and the harness's files.

        `answers_key` names all that alters a model's answers, so that answers of another model are
        never replayed.
        """
        return self.results / "work" / model / benchmark / answers_key[:16]

    def lock_file(self, model: str, benchmark: str, answers_key: str) -> Path:
        """By which a running evaluation is the only one of its kind; its mtime is the heartbeat."""
        return self.work(model, benchmark, answers_key) / "owner.json"

    def log(self, rule: str, *parts: str) -> Path:
        """A rule's log; `parts` are its wildcards."""
        *folders, name = parts
        return (self.results / "logs" / rule).joinpath(*folders, f"{name}.log")


def hf_home(configured: str | None, project: Path) -> Path:
    """HF_HOME: the config's, else the variable's, else in the project folder; never the home folder's."""
    return project / (configured or os.environ.get("HF_HOME") or ".cache/huggingface")
