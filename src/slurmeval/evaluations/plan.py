"""What a run will do, worked out from the config alone: evaluations, and what makes each run again.

Pure but for reading locks, task files and the sizes of local weights; makes nothing, so that a dry run can
use it. Its `document` is what jobs read (`results/state/runs/<hash>.json`)."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from slurmeval.config.models import Benchmark, Config, Model, Source
from slurmeval.files import sha256_of_file, sha256_of_json
from slurmeval.harnesses import harness
from slurmeval.paths import Paths
from slurmeval.results import SCHEMA_VERSION
from slurmeval.runtime.locks import Lock, read_lock
from slurmeval.servers.spec import server_spec

NOT_IN_MODEL = {"server"}
NOT_IN_BENCHMARK = {"parallelism", "request_timeout_s", "time_limit_min"}


class Plan:
    """A config in a project folder. Raises ConfigError where a file it names is missing."""

    def __init__(self, config: Config, project: Path, hf_home: Path) -> None:
        self.config = config
        self.project = project
        # As the rules name them: relative to the project folder, unless the config says otherwise
        self.paths = Paths(Path(config.results), Path(config.staging.environments), hf_home)
        self.absolute = Paths(*(project / place for place in vars(self.paths).values()))

    @cached_property
    def models(self) -> list[str]:
        return list(self.config.evaluate.models or self.config.models)

    @cached_property
    def benchmarks(self) -> list[str]:
        """Every benchmark of the suites, once, in their order."""
        suites = self.config.evaluate.suites
        return list(dict.fromkeys(name for suite in suites for name in self.config.suites[suite]))

    @property
    def evaluations(self) -> list[tuple[str, str]]:
        return [(model, benchmark) for model in self.models for benchmark in self.benchmarks]

    def lock(self, environment: str) -> Path:
        return self.project / "containers" / "locks" / f"{environment}.lock"

    def environment_record(self, environment: str) -> Path:
        """Says where the environment of this name lies, once it is made."""
        return self.paths.environments / f"{environment}.json"

    def server_environment(self, model: str) -> str:
        return self.config.servers[self.config.models[model].server].environment

    def harness_environment(self, benchmark: str) -> str:
        entry = self.config.benchmarks[benchmark]
        return harness(entry.harness).environments(entry)

    @property
    def missing(self) -> list[Path]:
        """What is gone of evaluations that a report tells of. Snakemake does not make a missing file again
        that only finished jobs have read, so these are targets (and only these: it is slow with many)."""
        if not (self.project / self.paths.report / "index.html").exists():
            return []
        kinds = (self.paths.evaluation, self.paths.metrics, self.paths.samples, self.paths.requests)
        partitions = ([kind(*pair) for kind in kinds] for pair in self.evaluations)
        gone = ([file for file in files if not (self.project / file).exists()] for files in partitions)
        return [files[0] for files in gone if files]

    # What jobs read

    def environments_for(self, model: str, benchmark: str) -> list[Path]:
        """The records of the environments that an evaluation needs: the server's and the harness's."""
        names = [self.server_environment(model), self.harness_environment(benchmark)]
        return [self.environment_record(name) for name in dict.fromkeys(names)]

    def staging_environments(self, model: str) -> list[Path]:
        """Weights that are converted when staged need the server's environment."""
        if self.config.models[model].weights.package is None:
            return []
        return [self.environment_record(self.server_environment(model))]

    def datasets_for(self, benchmark: str) -> list[Path]:
        return [self.paths.staged_dataset(name) for name in self.config.benchmarks[benchmark].datasets]

    # What makes a job run again

    def lock_sha(self, environment: str) -> str:
        return self._locks[environment].sha256

    def weights_params(self, model: str) -> str:
        return self._source_params(self.config.models[model].weights)

    def dataset_params(self, dataset: str) -> str:
        return self._source_params(self.config.datasets[dataset])

    @cached_property
    def evaluations_params(self) -> str:
        """The set of evaluations whose results are gathered."""
        return sha256_of_json(self.evaluations)

    @cached_property
    def report_params(self) -> str:
        return _canonical(self.config.report.model_dump(mode="json"))

    def _source_params(self, source: Source) -> str:
        return _canonical([source.model_dump(mode="json", exclude_defaults=True), self._fingerprint(source)])

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

    def answers_key(self, model: str) -> str:
        """Hash of all that alters a model's answers; stored answers count only under the same key."""
        return sha256_of_json(self.model_params[model])

    def _model_params(self, model: Model) -> dict[str, Any]:
        packages = self._locks[self.config.servers[model.server].environment].packages
        engines = {name: version for name, version in packages.items() if name.startswith("vllm")}
        template = model.chat_template
        return {
            **model.model_dump(mode="json", exclude=NOT_IN_MODEL, exclude_defaults=True),
            "engine": engines,
            "chat_template": sha256_of_file(self.project / template) if template else None,
            "files": self._fingerprint(model.weights),
        }

    def _benchmark_params(self, benchmark: Benchmark) -> dict[str, Any]:
        program = harness(benchmark.harness)
        datasets = {name: self.config.datasets[name] for name in benchmark.datasets}
        return {
            **benchmark.model_dump(mode="json", exclude=NOT_IN_BENCHMARK, exclude_defaults=True),
            "versions": program.versions(benchmark, self.lock(program.environments(benchmark))),
            "task_sha": sha256_of_file(self.project / benchmark.task_file) if benchmark.task_file else None,
            "data": {name: self._source_params(entry) for name, entry in datasets.items()},
            "results_schema": SCHEMA_VERSION,
        }

    @cached_property
    def _locks(self) -> dict[str, Lock]:
        """Every lock that the run needs. Raises UserError where one is missing or is no lock."""
        names = [self.server_environment(model) for model in self.models]
        harnesses = [self.harness_environment(benchmark) for benchmark in self.benchmarks]
        return {name: read_lock(self.lock(name)) for name in dict.fromkeys([*names, *harnesses])}

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

    # What is written down for jobs

    @cached_property
    def document(self) -> dict[str, Any]:
        """All that jobs need, as JSON: the same config gives the same document, on every machine that sees
        the same folders."""
        return {
            "project": str(self.project),
            "paths": {name: str(place) for name, place in vars(self.absolute).items()},
            "config": self.config.model_dump(mode="json"),
            "evaluations": self.evaluations,
            "models": {
                name: {
                    "answers_key": self.answers_key(name),
                    "params": json.loads(self.model_params[name]),
                    "manifest": str(self.absolute.staged_model(name)),
                    "environment": self._absolute_record(self.server_environment(name)),
                    "serving": self._serving(name),
                }
                for name in self.models
            },
            "benchmarks": {
                name: {
                    "environment": self._absolute_record(self.harness_environment(name)),
                    "environment_sha256": self.lock_sha(self.harness_environment(name)),
                    "versions": json.loads(self.benchmark_params[name])["versions"],
                }
                for name in self.benchmarks
            },
        }

    def _absolute_record(self, environment: str) -> str:
        return str(self.project / self.environment_record(environment))

    def _serving(self, model: str) -> dict[str, Any]:
        """The server's spec but for `weights` and `python`, which are known once they are staged and made."""
        entry = self.config.models[model]
        spec = server_spec(
            model,
            entry,
            self.config.servers[entry.server],
            paths=self.absolute,
            weights_folder=Path(),
            python=Path(),
            max_at_once=self.config.server_jobs.max_at_once,
            project=self.project,
        )
        return spec.to_json()

    @property
    def run_file(self) -> Path:
        return self.absolute.state / "runs" / f"{sha256_of_json(self.document)[:12]}.json"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
