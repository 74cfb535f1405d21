"""What a run will do, worked out from the config alone: evaluations, and what makes each run again.

Pure but for reading locks, task files and the sizes of local weights; makes nothing, so that a dry run can
use it. Its `document` is what jobs read (`results/state/runs/<hash>.json`).
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from slurmeval.config.models import Benchmark, Config, Model
from slurmeval.config.site import Site
from slurmeval.config.sources import NO_SOURCE, Source
from slurmeval.engines import registry
from slurmeval.engines.base import Engine
from slurmeval.files import sha256_of_file, sha256_of_json
from slurmeval.harnesses import harness
from slurmeval.harnesses.judge.labels import labels_file
from slurmeval.paths import Paths
from slurmeval.planning import untracked
from slurmeval.planning.document import document_of
from slurmeval.planning.forecast import Forecast
from slurmeval.planning.runtime_refs import KEY, RuntimeRef, RuntimeRefs
from slurmeval.results import ANSWERS_VERSION, SCHEMA_VERSION
from slurmeval.staging import hub_lock
from slurmeval.staging.repository import Repository
from slurmeval.state.records import encode
from slurmeval.state.run_document import RunDocument
from slurmeval.state.server_spec import DEFAULT_ENGINE

NOT_IN_MODEL = {"server", "endpoints", "logprobs"}
OF_SCORING = {"scorers", "reference", "category"}
"""Keys of `questions` that no request depends on."""
NOT_IN_REHEARSAL = {"limit", "repeats", "temperature", "top_p", "max_tokens", "answers_version"}
NOT_IN_BENCHMARK: Any = {
    **dict.fromkeys(("parallelism", "request_timeout_s", "time_limit_min"), True),
    **dict.fromkeys(("runtime", "network", "secrets", "rehearse", "max_unanswered", "dimension"), True),
    "judging": {"labels"},
}


class Plan:
    """A config in a project folder. Raises ConfigError where a file it names is missing."""

    def __init__(self, config: Config, project: Path, hf_home: Path, site: Site | None = None) -> None:
        """`site`: the cluster; None: one machine."""
        self.config = config
        self.site = site
        self.project = project
        # As the rules name them: relative to the project folder, unless the config says otherwise
        staging = config.staging
        self.paths = Paths(Path(config.results), Path(staging.environments), hf_home, Path(staging.images))
        self.absolute = Paths(*(project / place for place in vars(self.paths).values()))
        self.runtime_refs = RuntimeRefs(config, project, self.paths, site)

    @cached_property
    def models(self) -> list[str]:
        """The models that have servers: those that are evaluated, and judges."""
        return self.config.served_models

    @cached_property
    def benchmarks(self) -> list[str]:
        """Returns the benchmarks to run, each once, in the order of `evaluate`."""
        return self.config.planned_benchmarks

    @property
    def evaluations(self) -> list[tuple[str, str]]:
        """Model and benchmark of each evaluation."""
        return self.config.evaluations

    def judged(self, model: str, benchmark: str) -> list[Path]:
        """The stored answers or verdicts that an evaluation reads; none but for judges."""
        return [self.paths.samples(*pair) for pair in self.config.judged(model, benchmark).values()]

    def lease(self, model: str, benchmark: str) -> Path:
        """An evaluation's lease of its model's server, or of its judge's."""
        judge = self.config.benchmarks[benchmark].judge
        if judge is None:
            return self.paths.lease(model, benchmark)
        return self.paths.lease(judge, f"{benchmark}~{model}")

    # What is made once lies under a name with a hash of what it is made from. Made anew under one name, it
    # would hide all that depends on it from Snakemake's plan, since those read it as `ancient`.

    def staged_model(self, model: str) -> Path:
        """Returns the manifest of a model's staged weights."""
        return self.paths.staged_model(model, self._source_key(self.config.models[model].source))

    def staged_dataset(self, dataset: str) -> Path:
        """Returns the manifest of a staged dataset."""
        return self.paths.staged_dataset(dataset, self._source_key(self.config.datasets[dataset]))

    def _source_key(self, source: Source) -> str:
        return sha256_of_json(self._source_params(source))[:KEY]

    def rehearsal(self, benchmark: str) -> Path:
        """Returns the manifest of what a benchmark's harness fetches."""
        return self.paths.rehearsal(benchmark, self.rehearsal_key(benchmark)[:KEY])

    def rehearsal_key(self, benchmark: str) -> str:
        """Hash of all that alters what a harness fetches by itself: the task, where it runs, its data."""
        params = json.loads(self.benchmark_params[benchmark])
        altering = {key: value for key, value in params.items() if key not in NOT_IN_REHEARSAL}
        entry = self.config.benchmarks[benchmark]
        return sha256_of_json(
            [altering, self.harness_runtime(benchmark).sha256, entry.network, entry.rehearse]
        )

    def server_runtime(self, model: str) -> RuntimeRef | None:
        """Returns what a model's server runs in; None: it is there already."""
        return self.runtime_refs.of_server(self.config.models[model])

    def _server_record(self, model: str) -> list[Path]:
        """The record of what a model's server runs in; none where the server is there already."""
        runtime = self.server_runtime(model)
        return [] if runtime is None else [runtime.record]

    def harness_runtime(self, benchmark: str) -> RuntimeRef:
        """Returns what a benchmark's harness runs in."""
        return self.runtime_refs.of_harness(self.config.benchmarks[benchmark])

    @property
    def missing(self) -> list[Path]:
        """What is gone of evaluations that a report tells of.

        Snakemake does not make a missing file again that only finished jobs have read, so these are
        targets (and only these: it is slow with many).
        """
        if not (self.project / self.paths.report / "index.html").exists():
            return []
        kinds = (self.paths.evaluation, self.paths.metrics, self.paths.samples, self.paths.requests)
        partitions = ([kind(*pair) for kind in kinds] for pair in self.evaluations)
        gone = ([file for file in files if not (self.project / file).exists()] for files in partitions)
        return [files[0] for files in gone if files]

    # What jobs read

    def places_for(self, model: str, benchmark: str) -> list[Path]:
        """The records of what an evaluation runs in: the server's and the harness's environment or image."""
        server = self.config.server_of(model, benchmark)
        records = [*self._server_record(server), self.harness_runtime(benchmark).record]
        return list(dict.fromkeys(records))

    def staging_places(self, model: str) -> list[Path]:
        """Weights that are converted when staged need what the server runs in."""
        if self.config.models[model].source.package is None:
            return []
        return self._server_record(model)

    @property
    def tokenizer_model(self) -> str:
        """Returns the model whose tokenizer rehearsals use: the first that has one."""
        return next((m for m in self.models if self.config.models[m].source != NO_SOURCE), self.models[0])

    def rehearsal_inputs(self, benchmark: str) -> list[Path]:
        """A rehearsal needs what the harness runs in, the benchmark's data, and a model's tokenizer."""
        tokenizer = self.staged_model(self.tokenizer_model)
        return [self.harness_runtime(benchmark).record, tokenizer, *self.datasets_for(benchmark)]

    def tokenizers(self, model: str, benchmark: str) -> list[Path]:
        """What says that the model's tokenizer can be loaded; empty: the harness loads none.

        It is loaded where the benchmark's harness does so.
        """
        return [self.paths.tokenizer(model, key) for key in self._tokenizer_keys(model, benchmark)]

    def tokenizer_inputs(self, model: str, key: str) -> list[Path]:
        """What is needed to load it."""
        benchmark = self.tokenizer_users[f"{model}~{key}"][0]
        return [self.harness_runtime(benchmark).record, self.staged_model(model)]

    @cached_property
    def tokenizer_users(self) -> dict[str, list[str]]:
        """The benchmarks that load one, by model and key."""
        found: dict[str, list[str]] = {}
        for model, benchmark in self.evaluations:
            for key in self._tokenizer_keys(model, benchmark):
                found.setdefault(f"{model}~{key}", []).append(benchmark)
        return found

    def _tokenizer_keys(self, model: str, benchmark: str) -> list[str]:
        entry, asking = self.config.models[model], self.config.benchmarks[benchmark]
        if not asking.rehearse or not harness(asking.harness).loads_tokenizer(entry, asking):
            return []
        template = sha256_of_file(self.project / entry.chat_template) if entry.chat_template else None
        altering = [entry.trust_remote_code, entry.add_bos_token, template]
        place = self.harness_runtime(benchmark).sha256
        return [sha256_of_json([self._source_key(entry.source), *altering, place])[:KEY]]

    @property
    def staged(self) -> list[Path]:
        """All that lies on disk before a server is asked for."""
        models = [file for m in self.models for file in (*self._server_record(m), self.staged_model(m))]
        rehearsals = [self.rehearsal(benchmark) for benchmark in self.benchmarks]
        tokenizers = [file for pair in self.evaluations for file in self.tokenizers(*pair)]
        return list(dict.fromkeys([*models, *rehearsals, *tokenizers]))

    @property
    def read_as_ancient(self) -> list[Path]:
        """What jobs read as `ancient`, but for leases: all that a run makes before it leases a server."""
        harnesses = [self.harness_runtime(benchmark).record for benchmark in self.benchmarks]
        datasets = [file for benchmark in self.benchmarks for file in self.datasets_for(benchmark)]
        return list(dict.fromkeys([*self.staged, *harnesses, *datasets]))

    def datasets_for(self, benchmark: str) -> list[Path]:
        """Returns the manifests of a benchmark's datasets."""
        return [self.staged_dataset(name) for name in self.config.benchmarks[benchmark].datasets]

    @property
    def datasets(self) -> list[str]:
        """Every dataset of the benchmarks, once."""
        entries = self.config.benchmarks
        return list(dict.fromkeys(name for b in self.benchmarks for name in entries[b].datasets))

    # What makes a job run again

    @cached_property
    def evaluations_params(self) -> str:
        """The evaluations whose results are gathered, the version of the tables, and people's labels."""
        labels = [
            [name, labels.random, sha256_of_file(file) if file.exists() else None]
            for name in self.benchmarks
            if (judging := self.config.benchmarks[name].judging) is not None
            and (labels := judging.labels) is not None
            and (file := labels_file(labels, self.project, self.absolute.humans))
        ]
        gathered = [self.evaluations, SCHEMA_VERSION, untracked.token(self.absolute)]
        return sha256_of_json([*gathered, labels] if labels else gathered)

    @cached_property
    def report_params(self) -> str:
        """All that makes the report be written again."""
        # What people and metrics of texts said since is a reason to write the report again
        results = self.absolute.results
        files = sorted([*results.glob("humans/*/summary.json"), *results.glob("texts/*.json")])
        later = [sha256_of_file(file) for file in files]
        token = untracked.token(self.absolute)
        return _canonical([self.config.report.model_dump(mode="json"), token, *later])

    def _source_params(self, source: Source) -> str:
        content = [source.model_dump(mode="json", exclude_defaults=True), self._fingerprint(source)]
        return _canonical([*content, *self._locked(source)])

    @cached_property
    def _hub_lock(self) -> hub_lock.HubLock:
        """Which commits branches were resolved to."""
        return hub_lock.read(self.project)

    def _locked(self, source: Source) -> list[str]:
        """The commit of a source that names a branch; nothing for others, and before it is resolved."""
        asked = Repository.of(source)
        found = self._hub_lock.pinned(asked) if asked and not asked.is_commit else None
        return [found.revision] if found else []

    # What makes an evaluation run again

    @cached_property
    def model_params(self) -> dict[str, str]:
        """By model: JSON of all that alters its answers. It changes: all of the model's evaluations run."""
        return {name: _canonical(self._model_params(self.config.models[name])) for name in self.models}

    @cached_property
    def benchmark_params(self) -> dict[str, str]:
        """By benchmark: JSON of all that alters its results. It changes: its evaluations run."""
        entries = self.config.benchmarks
        return {name: _canonical(self._benchmark_params(entries[name])) for name in self.benchmarks}

    def request_params(self, benchmark: str) -> str:
        """JSON of what alters a benchmark's requests: its parameters but for how answers are scored."""
        params = json.loads(self.benchmark_params[benchmark])
        if "questions" not in params:
            return self.benchmark_params[benchmark]
        asked = {key: value for key, value in params["questions"].items() if key not in OF_SCORING}
        return _canonical(params | {"questions": asked})

    def answers_key(self, model: str) -> str:
        """Hash of all that alters a model's answers; stored answers count only under the same key."""
        return sha256_of_json(self.model_params[model])

    def _model_params(self, model: Model) -> dict[str, Any]:
        template = model.chat_template
        return {
            **model.model_dump(mode="json", exclude=NOT_IN_MODEL, exclude_defaults=True),
            "engine": self._engine_versions(model),
            "chat_template": sha256_of_file(self.project / template) if template else None,
            "files": self._fingerprint(model.source),
            **({"commit": locked[0]} if (locked := self._locked(model.source)) else {}),
        }

    def _engine_versions(self, model: Model) -> dict[str, str]:
        engine, runtime = self.engine(model), self.runtime_refs.of_server(model)
        if runtime is None:
            return {"url": str(self.config.servers[model.server].url)}
        versions = runtime.versions_of(engine)
        # Keys of answers from before there were other engines stay as they are
        return versions if engine.package == DEFAULT_ENGINE else {"name": engine.name} | versions

    def engine(self, model: Model) -> Engine:
        """Returns the engine that serves a model."""
        return registry.find_engine(self.config.servers[model.server].engine_name, self.project)

    def _benchmark_params(self, benchmark: Benchmark) -> dict[str, Any]:
        datasets = {name: self.config.datasets[name] for name in benchmark.datasets}
        rubric = None if benchmark.judging is None else benchmark.judging.rubric_file
        return {
            **benchmark.model_dump(mode="json", exclude=NOT_IN_BENCHMARK, exclude_defaults=True),
            **({} if rubric is None else {"rubric_sha": sha256_of_file(self.project / rubric)}),
            "versions": self._versions(benchmark),
            "task_sha": sha256_of_file(self.project / benchmark.task_file) if benchmark.task_file else None,
            "data": {name: self._source_params(entry) for name, entry in datasets.items()},
            "answers_version": ANSWERS_VERSION,
        }

    def _versions(self, benchmark: Benchmark) -> dict[str, str]:
        place = self.runtime_refs.of_harness(benchmark)
        named = {} if place.lock is None else harness(benchmark.harness).versions(benchmark, place.lock.path)
        return named | place.versions

    def _fingerprint(self, source: Source) -> str | None:
        """Names, sizes and times of the files in a local folder; None for sources pinned by name."""
        if source.folder is None:
            return None
        folder = self.project / source.folder
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        stats = [(path, path.stat()) for path in files]
        return sha256_of_json(
            [(str(path.relative_to(folder)), s.st_size, s.st_mtime_ns) for path, s in stats]
        )

    @cached_property
    def forecast(self) -> Forecast:
        """What it will take, going by earlier runs."""
        return Forecast(self.config, self.benchmarks, self.absolute)

    @cached_property
    def order(self) -> list[str]:
        """The models, in the order that frees GPUs soonest."""
        return self.forecast.order(self.models)

    def replicas(self, model: str) -> int:
        """Returns how many servers a model has at once."""
        return self.config.servers[self.config.models[model].server].replicas

    @cached_property
    def document(self) -> RunDocument:
        """All that jobs need."""
        return document_of(self)

    @property
    def retries(self) -> int:
        """How often Snakemake may try an evaluation again; the executor decides whether it does."""
        return 0 if self.site is None else self.site.evaluations.retries

    @cached_property
    def run_file(self) -> Path:
        """The file with the document, named by its hash."""
        return self.absolute.state / "runs" / f"{sha256_of_json(encode(self.document))[:12]}.json"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
