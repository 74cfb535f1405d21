"""Checks that take several values: the parts of a config fit together, and the files it names exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from slurmeval.config.judging_checks import judging_problems, unknown
from slurmeval.config.messages import Problem
from slurmeval.config.models import Benchmark, Config, Model
from slurmeval.config.serving import EXTERNAL, Serving
from slurmeval.config.sources import Commit, Source
from slurmeval.config.yaml_files import shown
from slurmeval.engines.base import Engine
from slurmeval.engines.flags import FlagRules, flag_problems, misspelt, value_problems, variable_problems
from slurmeval.engines.registry import find_engine
from slurmeval.errors import UserError
from slurmeval.project_files import environment_locks
from slurmeval.state.server_spec import DEFAULT_ENGINE

BenchmarkCheck = Callable[[Benchmark], list[str]]
"""Returns what a benchmark's harness cannot do, each as `key: text` (harnesses.base.Harness.problems)."""


_FOR_CPUS = re.compile(r"^# slurmeval: torch-backend cpu$", re.MULTILINE)
_FOR_GPUS = re.compile(r"^(# slurmeval: torch-backend (?!cpu$)|nvidia-cuda-runtime)", re.MULTILINE)

ConfigCheck = Callable[[Config, Path], Iterable[Problem]]
"""Returns what is wrong with a config's task files and data (harnesses.early.config_problems)."""


PairCheck = Callable[[Model, Benchmark], list[str]]
"""Returns why a benchmark cannot run on a model, in a few words (harnesses.base.Harness.model_problems)."""


CUSTOM, JUDGE, PERPLEXITY, PATCHING = "custom", "judge", "perplexity", "patching"
"""The harnesses that ask questions of one's own, judge stored answers, read texts of one's own, and look
inside the model."""

WITHOUT_TASK = (CUSTOM, JUDGE, PERPLEXITY)

OF_ENGINES = frozenset({"weights", "dtype", "quantization", "chat_template", "flags", "env"})
"""Keys of a model that say how an engine is started."""

OF_ITS_KEEPER = "whoever started it decides on this"

OF_EXTERNAL = frozenset(
    {
        "url",
        "api_key",
        "max_in_flight",
        "budget",
        "ready_timeout_s",
        "time_limit_min",
        "drain_s",
    }
)
"""Keys of a server that is there already."""


def check(
    config: Config,
    project: Path,
    check_benchmark: BenchmarkCheck | None = None,
    check_pair: PairCheck | None = None,
    check_config: ConfigCheck | None = None,
) -> list[Problem]:
    """Yields all that is wrong, in the order of the file."""
    return [
        *_folders(config),
        *_ids(config),
        *_models(config, project),
        *_servers(config, project),
        *_datasets(config, project),
        *(benchmarks := list(_benchmarks(config, project, check_benchmark))),
        *(suites := list(_suites(config))),
        *(_pairs(config, check_pair) if check_pair and not suites and not benchmarks else ()),
        *(check_config(config, project) if check_config else ()),
    ]


def _folders(config: Config) -> Iterator[Problem]:
    for key, folder in (
        (("results",), config.results),
        (("staging", "environments"), config.staging.environments),
        (("staging", "images"), config.staging.images),
        (("staging", "hf_home"), config.staging.hf_home),
    ):
        if folder is not None and Path(folder) in (Path(), Path("/")):
            yield Problem(key, f"{shown(folder)}: expected a folder's name")


def _ids(config: Config) -> Iterator[Problem]:
    """Yields ids that differ in case only: they become file names, and some file systems ignore case."""
    for section in ("models", "servers", "datasets", "benchmarks", "suites"):
        seen: dict[str, str] = {}
        for identifier in getattr(config, section):
            other = seen.setdefault(identifier.lower(), identifier)
            if other != identifier:
                yield Problem((section, identifier), f"differs from '{other}' in upper and lower case only")


def _models(config: Config, project: Path) -> Iterator[Problem]:
    for identifier, model in config.models.items():
        place = ("models", identifier)
        if model.server not in config.servers:
            yield unknown((*place, "server"), "server", model.server, config.servers)
        else:
            yield from _served(place, model, config.servers[model.server])
        kind = "tokenizer" if model.weights is None else "weights"
        yield from _source((*place, kind), model.source, config.staging.pinned, project)
        if model.chat_template is not None:
            yield from _file((*place, "chat_template"), model.chat_template, project)
        engine = engine_of(config, model, project)
        rules = FlagRules("") if engine is None else engine.flag_rules()
        for lacking, reason in ({} if engine is None else engine.lacks).items():
            if lacking in model.model_fields_set:
                yield Problem((*place, lacking), f"cannot be had: {reason}")
        parser = None if model.reasoning is None else model.reasoning.parser
        for key, name, names in (
            (("reasoning", "parser"), parser, rules.reasoning_parsers),
            (("quantization",), model.quantization, rules.quantizations),
        ):
            if name is not None and (misspelling := misspelt(rules, name, names)) is not None:
                yield Problem((*place, *key), misspelling)
        yield from _for_engine(rules, place, model, of_model=True)


def _served(place: tuple[str, ...], model: Model, server: Serving) -> Iterator[Problem]:
    """Yields what a model has too much or too little for its server."""
    if server.image is not None and model.source.package is not None:
        text = "weights in a package are converted by the server's environment, and it has an image instead"
        yield Problem((*place, "weights", "package"), text)
    if server.url is None:
        if model.weights is None:
            yield Problem((*place, "weights"), "is missing; only a server with a url has weights of its own")
        for key in sorted({"parameters", "served_name", "tokenizer"} & model.model_fields_set):
            yield Problem((*place, key), f"goes with a server that has a url, and {model.server} has none")
    else:
        for key in sorted(OF_ENGINES & model.model_fields_set):
            yield Problem((*place, key), f"the server at {server.url} is there already: {OF_ITS_KEEPER}")
        if model.reasoning is not None and model.reasoning.parser is not None:
            yield Problem((*place, "reasoning", "parser"), f"{OF_ITS_KEEPER}; tags will do")


def _external(config: Config, identifier: str) -> Iterator[Problem]:
    """Yields what does not go together with a server's url, or without one."""
    server, place = config.servers[identifier], ("servers", identifier)
    if server.url is None:
        for key in sorted({"api_key", "max_in_flight", "budget"} & server.model_fields_set):
            yield Problem((*place, key), "goes with url")
        if server.engine == EXTERNAL:
            yield Problem((*place, "url"), f"is missing; the engine {EXTERNAL} needs it")
        return
    if (text := _no_address(server.url)) is not None:
        yield Problem((*place, "url"), text)
    for key in sorted(server.model_fields_set - OF_EXTERNAL):
        yield Problem((*place, key), "does not go with url: that server is there already")
    if server.api_key is not None and server.api_key not in config.secrets:
        yield unknown((*place, "api_key"), "secret", server.api_key, config.secrets)


def _no_address(url: str) -> str | None:
    """Returns why a server's url will not do. It may hold a password, so no text repeats it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "is no address"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "expected an address that begins with http:// or https://"
    if parts.username or parts.password or parts.query or parts.fragment:
        return "expected an address without user, password and parameters; a key goes into api_key"
    for path in ("/chat/completions", "/completions", "/responses", "/models"):
        if parts.path.endswith(path):
            return f"expected an address up to and with the version, without {path}"
    return None


def _servers(config: Config, project: Path) -> Iterator[Problem]:
    locks = environment_locks(project)
    for identifier, server in config.servers.items():
        yield from _external(config, identifier)
        if server.url is not None:
            continue
        engine = None
        try:
            engine = find_engine(server.engine_name, project)
        except UserError as error:
            yield Problem(("servers", identifier, "engine"), str(error))
        if server.image is None and server.lock not in locks:
            problem = unknown(("servers", identifier, "environment"), "environment", server.lock, locks)
            yield replace(problem, text=f"{problem.text}; locks for GPUs: docs/slurm.md#locks-for-gpus")
        elif server.image is None:
            yield from _device(("servers", identifier), server, locks[server.lock], engine)
        if engine is not None:
            rules = engine.flag_rules()
            yield from _for_engine(rules, ("servers", identifier), server, of_model=False)
        limit = config.server_jobs.max_at_once
        if limit is not None and server.replicas > limit:
            text = f"is {server.replicas}, but server_jobs.max_at_once lets {limit} run at once"
            yield Problem(("servers", identifier, "replicas"), text)


def engine_of(config: Config, model: Model, project: Path) -> Engine | None:
    """Returns the engine that serves a model; None where the config names one that is not there."""
    server = config.servers.get(model.server)
    try:
        return find_engine(DEFAULT_ENGINE if server is None else server.engine_name, project)
    except UserError:
        return None


def _device(place: tuple[str, ...], server: Serving, lock: Path, engine: Engine | None) -> Iterator[Problem]:
    """Yields servers with GPUs and an environment for CPUs, and the reverse."""
    text = lock.read_text(encoding="utf-8", errors="replace")
    build = engine is not None and re.search(rf"^{re.escape(engine.package)}-cpu==", text, re.MULTILINE)
    if server.gpus and (build or _FOR_CPUS.search(text)):
        found = f"is {server.gpus}, and the environment {server.lock} computes on CPUs"
        yield Problem(
            (*place, "gpus"),
            f"{found}: set environment: {server.default_lock(1)} (docs/slurm.md#locks-for-gpus)",
        )
    elif not server.gpus and _FOR_GPUS.search(text):
        found = f"is 0, and the environment {server.lock} needs GPUs"
        yield Problem((*place, "gpus"), f"{found}: set gpus: 1, or environment: {server.default_lock(0)}")


def _for_engine(
    rules: FlagRules, place: tuple[str, ...], section: Model | Serving, *, of_model: bool
) -> Iterator[Problem]:
    for name, text in flag_problems(rules, section.flags, of_model=of_model):
        yield Problem((*place, "flags", name), text)
    for name, text in value_problems(rules, section.flags):
        yield Problem((*place, "flags", name), text)
    for name, text in variable_problems(rules, section.env, of_model=of_model):
        yield Problem((*place, "env", name), text)


def _datasets(config: Config, project: Path) -> Iterator[Problem]:
    for identifier, dataset in config.datasets.items():
        yield from _source(("datasets", identifier), dataset, config.staging.pinned, project)


def _benchmarks(config: Config, project: Path, check_benchmark: BenchmarkCheck | None) -> Iterator[Problem]:
    for identifier, benchmark in config.benchmarks.items():
        place = ("benchmarks", identifier)
        for index, dataset in enumerate(benchmark.datasets):
            if dataset not in config.datasets:
                yield unknown((*place, "datasets", index), "dataset", dataset, config.datasets)
        if benchmark.harness in WITHOUT_TASK and benchmark.task:
            yield Problem((*place, "task"), f"the harness {benchmark.harness} has none")
        if benchmark.harness not in WITHOUT_TASK and not benchmark.task:
            yield Problem((*place, "task"), "is missing")
            continue
        sections = {"questions": CUSTOM, "judging": JUDGE, "perplexity": PERPLEXITY, "patching": PATCHING}
        for key, name in sections.items():
            if benchmark.harness != name and getattr(benchmark, key) is not None:
                yield Problem((*place, key), f"goes with harness: {name}")
        yield from judging_problems(config, identifier, project)
        if benchmark.task_file is not None:
            yield from _file((*place, "task_file"), benchmark.task_file, project)
        for index, secret in enumerate(benchmark.secrets):
            if secret not in config.secrets:
                yield unknown((*place, "secrets", index), "secret", secret, config.secrets)
        # Its harness sees where it is to run
        runtime = benchmark.runtime or config.harness_runtime
        placed = benchmark.model_copy(update={"runtime": runtime})
        for line in check_benchmark(placed) if check_benchmark else ():
            key, _, text = line.partition(": ")
            yield Problem((*place, key), text)


def _suites(config: Config) -> Iterator[Problem]:
    for identifier, benchmarks in config.suites.items():
        yield from _names(("suites", identifier), "benchmark", benchmarks, config.benchmarks)
    evaluate = config.evaluate
    if not evaluate.suites and not evaluate.benchmarks:
        yield Problem(("evaluate",), "names nothing to run; expected suites: [...] or benchmarks: [...]")
    yield from _names(("evaluate", "suites"), "suite", evaluate.suites, config.suites)
    yield from _names(("evaluate", "benchmarks"), "benchmark", evaluate.benchmarks, config.benchmarks)
    yield from _names(("evaluate", "models"), "model", evaluate.models, config.models)


def _pairs(config: Config, check_pair: PairCheck) -> Iterator[Problem]:
    """Yields what keeps a benchmark of the planned suites from a planned model."""
    asked = {(config.server_of(model, name), name): None for model, name in config.evaluations}
    for identifier, name in asked:
        for text in check_pair(config.models[identifier], config.benchmarks[name]):
            yield Problem(("benchmarks", name), f"{text} (model {identifier})")


def _names(
    place: tuple[str, ...], noun: str, names: Iterable[str], known: Mapping[str, object]
) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name not in known:
            yield unknown((*place, index), noun, name, known)
        elif name in seen:
            yield Problem((*place, index), f"'{name}' is there twice")
        seen.add(name)


def _source(place: tuple[str, ...], source: Source, pinned: bool, project: Path) -> Iterator[Problem]:
    if source.folder is not None:
        if not source.folder or not (project / source.folder).is_dir():
            is_file = (project / source.folder).is_file()
            why = "is a file; name the folder that it is in" if is_file else f"no such folder in {project}"
            yield Problem((*place, "folder"), f"{shown(source.folder)}: {why}")
    elif source.repo is not None and pinned:
        if source.revision is None:
            yield Problem((*place, "revision"), "is missing; expected a commit of 40 hex digits")
        elif not Commit.fullmatch(source.revision):
            yield Problem(
                (*place, "revision"),
                f"{shown(source.revision)} is no commit; expected 40 hex digits (or staging.pinned: false)",
            )


def _file(key: tuple[str, ...], name: str, project: Path) -> Iterator[Problem]:
    if not name or not (project / name).is_file():
        yield Problem(key, f"{shown(name)}: no such file")
