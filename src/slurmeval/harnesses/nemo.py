"""NeMo Evaluator: `nemo-evaluator run_eval` with one of the harnesses that it wraps.

A benchmark's task is `harness.task`, such as `lm-evaluation-harness.mmlu`; each wrapped harness has an
environment of its own, `nemo-<harness>`. Written against nemo-evaluator 0.2.8 with nvidia-lm-eval 26.3 and
nvidia-bfcl 26.3; see docs/harnesses.md for what was run.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Any

import yaml

from slurmeval import catalog
from slurmeval.config.models import Benchmark, Model
from slurmeval.environments.package_versions import pinned_versions, version_tuple
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import cuts, nemo_traits, prompts
from slurmeval.harnesses.attempts import begin_attempt, last_attempt
from slurmeval.harnesses.base import GATEWAY_KEY, HARNESS_TIMEOUT_S, Command, Harness, HarnessOutput, Job
from slurmeval.harnesses.job_environment import CODE_ALLOWED, environment_variables, place_files, task_name
from slurmeval.harnesses.lm_eval import MIN_PARALLELISM
from slurmeval.harnesses.logs import has_ended_well
from slurmeval.harnesses.nemo_results import read_output
from slurmeval.harnesses.nemo_traits import LM_EVAL, UNQUALIFIED, traits
from slurmeval.harnesses.runtimes import Runtime
from slurmeval.harnesses.tokenizer_files import client_arguments

OUTPUT = "output"
_RENAMED_KEY = (0, 1, 51)
"""From this version of nemo-evaluator on, `api_key_name` names the key's variable; before, `api_key`."""
_PROBES = (0, 2, 0)
"""From this version on, the endpoint is probed before the start, for what the task needs of it."""
_ADAPTER_PORTS = range(10_000, 30_000)
"""Below the kernel's range for outgoing connections (32768 on), so that none takes the port meanwhile."""


def wrapped_harness(benchmark: Benchmark) -> str:
    """Returns the harness in a task's name: `bfcl` of `bfcl.bfclv3_ast_prompting`."""
    return benchmark.task.partition(".")[0]


def package_of(wrapped: str) -> str:
    """Returns the package of a wrapped harness on the package index, or what it would be called there."""
    entry = catalog.harnesses().get(wrapped)
    return (entry.package if entry else None) or f"nvidia-{wrapped}"


def executes_code(benchmark: Benchmark) -> bool:
    """Returns whether its harness runs programs that the model writes, or evaluates its calls."""
    task = catalog.tasks().get(benchmark.task)
    allowed = "unsafe_code" in str(benchmark.extra)  # lm-eval's own flag for tasks of one's own
    return allowed or (task is not None and (task.executes_code or task.evaluates_calls))


class Nemo(Harness):
    """The `nemo` harness."""

    def problems(self, benchmark: Benchmark) -> list[str]:
        """Returns what the harness cannot do of a benchmark's config: lines that begin with the key."""
        wrapped, _, task = benchmark.task.partition(".")
        if not task:
            return catalog.problems(benchmark.task, benchmark.endpoint)
        found = [] if benchmark.task_file else catalog.problems(benchmark.task, benchmark.endpoint)
        if benchmark.network and executes_code(benchmark):
            found.append("network: it runs what the model writes, and that gets no network")
        known = None if benchmark.task_file else catalog.tasks().get(benchmark.task)
        if known and known.asks_judge and not benchmark.network and not executes_code(benchmark):
            found.append(f"network: '{benchmark.task}' asks another model: set network: true (docs/tasks.md)")
        found += nemo_traits.problems(wrapped, benchmark)
        return found

    def model_problems(self, model: Model, benchmark: Benchmark) -> list[str]:
        """Returns why the harness cannot run the benchmark on a model, each reason in a few words."""
        task, endpoint = benchmark.task, benchmark.endpoint
        found = catalog.model_problems(task, endpoint, model.endpoints, model.logprobs)
        if wrapped_harness(benchmark) != LM_EVAL:
            found += prompts.no_bos_of_its_own(model, benchmark)
        return found

    def environments(self, benchmark: Benchmark) -> str:
        """Returns the name of its environment's lock."""
        return f"nemo-{wrapped_harness(benchmark)}"

    def starts_early(self, benchmark: Benchmark) -> bool:
        """Returns whether it may start while its server still loads."""
        return traits(wrapped_harness(benchmark)).warm

    def dies_of_refusals(self, benchmark: Benchmark) -> bool:
        """Returns whether one prompt that the server refuses ends it."""
        return wrapped_harness(benchmark) == LM_EVAL

    def loads_tokenizer(self, model: Model, benchmark: Benchmark) -> bool:
        """Returns whether it tokenizes prompts itself."""
        wrapped = wrapped_harness(benchmark)
        if wrapped != LM_EVAL:
            return traits(wrapped).tokenizer
        task = catalog.tasks().get(benchmark.task)
        by_likelihood = task is None or task.needs_logprobs
        return benchmark.endpoint == "completions" and (by_likelihood or model.add_bos_token is not None)

    def versions(self, benchmark: Benchmark, lock: Path) -> dict[str, str]:
        """Returns the pinned versions that alter results, by package."""
        wrapped = wrapped_harness(benchmark)
        return pinned_versions(lock, ("nemo-evaluator", package_of(wrapped)))

    def prepare(self, job: Job) -> Command:
        """Makes the folder of a new attempt and returns the command.

        Raises:
            EvaluationFailed: The job cannot be started.
        """
        program = job.runtime.program("nemo-evaluator", "eval-factory")  # the latter in old images
        attempt = begin_attempt(job.folder)
        place_files(job, attempt)
        (attempt / OUTPUT).mkdir()
        if wrapped_harness(job.benchmark) == LM_EVAL and not _sent_as_tokens(job):
            cuts.none_is_cut(attempt)
        if wrapped_harness(job.benchmark) == "garak":
            _lead_garak(attempt)
        config = run_config(job, _evaluator_version(job.runtime))
        (attempt / "run_config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        env = environment_variables(job, attempt) | {
            "ADAPTER_HOST": "127.0.0.1",
            "ADAPTER_PORT": str(_free_adapter_port()),
            "ADAPTER_SERVER_THREADS": str(parallelism(job) + 8),
            "NEMO_EVALUATOR_TELEMETRY_LEVEL": "0",
            "NEMO_EVALUATOR_SHUTDOWN_TIMEOUT_SECONDS": "10",
        }
        argv = [program, "run_eval", "--run_config", "run_config.yaml"]
        hostile = executes_code(job.benchmark)
        return Command(argv, env | (CODE_ALLOWED if hostile else {}), attempt, hostile)

    def counting_cuts(self, job: Job, command: Command) -> Command | None:
        """Returns the command that counts cut prompts; None: there are none to count."""
        if wrapped_harness(job.benchmark) != LM_EVAL or not (extra := _sent_as_tokens(job)):
            return None
        client = client_arguments(job) | {"tokenizer": extra["tokenizer"]}
        return cuts.counting(command, job.runtime.python, OUTPUT, client)

    def check(self, job: Job, returncode: int, log: Path) -> None:
        """Checks every sign that the last attempt ended well.

        Raises:
            EvaluationFailed: One of them says that it did not.
        """
        output = last_attempt(job.folder) / OUTPUT
        lost = output / ".nemo_evaluator_server_error"
        if lost.exists():
            raise EvaluationFailed(
                ErrorClass.SERVER_LOST,
                lost.read_text(encoding="utf-8", errors="replace").strip() or "the server was lost",
            )
        if (output / ".nemo_evaluator_interrupted").exists():
            raise EvaluationFailed(
                ErrorClass.CANCELLED, "NeMo Evaluator was told to stop before it had finished"
            )
        has_ended_well("NeMo Evaluator", returncode, log, output / "results.yml")

    def read(self, job: Job) -> HarnessOutput:
        """Returns the results of the last attempt.

        Raises:
            EvaluationFailed: They cannot be read, or their number is not what was asked for (bad_result).
        """
        wrapped = wrapped_harness(job.benchmark)
        package = package_of(wrapped)
        version = f"nemo-evaluator {_evaluator_version(job.runtime)}"
        if (found := job.runtime.version(package)) is not None:
            version += f", {package} {found}"
        return read_output(job, wrapped, last_attempt(job.folder) / OUTPUT, version)


def parallelism(job: Job) -> int:
    """Returns how many requests may be under way at once: no more than the wrapped harness takes."""
    return min(job.parallelism, traits(wrapped_harness(job.benchmark)).most_parallelism or job.parallelism)


def _lead_garak(attempt: Path) -> None:
    """Leads garak's reports into the output folder: it takes no relative one, and writes below its home."""
    (attempt / OUTPUT / "garak").mkdir()
    (attempt / "home" / ".local" / "share").mkdir(parents=True)
    (attempt / "home" / ".local" / "share" / "garak").symlink_to(attempt / OUTPUT / "garak")


def _evaluator_version(runtime: Runtime) -> str:
    version = runtime.version("nemo-evaluator")
    if version is None:
        raise EvaluationFailed(ErrorClass.HARNESS_ERROR, "nemo-evaluator is not installed where it is to run")
    return version


def _free_adapter_port() -> int:
    """Returns a port for NeMo's adapter on which nobody listens.

    It is a new one at each start: a port that was used within the last minute counts as taken, and NeMo's
    default is shared by all on this host.
    """
    for port in random.sample(_ADAPTER_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise EvaluationFailed(
        ErrorClass.HARNESS_ERROR, "no free port for NeMo's adapter among 100 that were tried"
    )


def run_config(job: Job, evaluator_version: str) -> dict[str, Any]:
    """Returns the run configuration in the schema of this version of nemo-evaluator.

    Paths are relative to the attempt's folder, because the wrapped harness's command line takes them
    unquoted.
    """
    benchmark = job.benchmark
    route = "chat/completions" if benchmark.endpoint == "chat" else "completions"
    task = task_name(job) if benchmark.task in UNQUALIFIED else benchmark.task
    version = version_tuple(evaluator_version)
    key = "api_key_name" if version >= _RENAMED_KEY else "api_key"
    # No probe: its fixed time-out of 30 s would end the evaluation while the server loads, and of its answer
    # comes nothing but a warning.
    no_probe: dict[str, Any] = {"required_capabilities": []} if version >= _PROBES else {}
    return {
        "config": {"type": task, "output_dir": OUTPUT, "params": _params(job), **no_probe},
        "target": {
            "api_endpoint": {
                "url": f"{job.base_url}/v1/{route}",
                "model_id": job.served_name,
                "type": benchmark.endpoint,
                key: GATEWAY_KEY,
                "adapter_config": {
                    # The gateway logs and replays; the adapter only passes on and counts.
                    "interceptors": [
                        {"name": "endpoint"},
                        {
                            "name": "response_stats",
                            "config": {"cache_dir": f"{OUTPUT}/response_stats", "save_individuals": False},
                        },
                    ],
                },
            }
        },
    }


def _params(job: Job) -> dict[str, Any]:
    benchmark = job.benchmark
    extra = dict(benchmark.extra)
    params: dict[str, Any] = {"parallelism": parallelism(job)}
    given = {
        "task": extra.pop("task", None),
        "limit_samples": None if "limit" in traits(wrapped_harness(benchmark)).cannot else benchmark.limit,
        "temperature": benchmark.temperature,
        "top_p": benchmark.top_p,
        "max_new_tokens": benchmark.max_tokens,
    }
    params |= {key: value for key, value in given.items() if value is not None}
    wrapped = wrapped_harness(benchmark)
    if traits(wrapped).patient:
        params["request_timeout"] = HARNESS_TIMEOUT_S
    params |= {key: extra.pop(key) for key in ("request_timeout", "max_retries") if key in extra}
    if wrapped == LM_EVAL:
        params["parallelism"] = max(MIN_PARALLELISM, parallelism(job))
        extra = _lm_eval_extra(job) | extra
        if job.task_file is not None:
            params.setdefault("task", task_name(job))
            own = benchmark.extra.get("args", "")
            extra["args"] = f"--include_path task {own}".strip()
    elif traits(wrapped).tokenizer:
        extra = {"tokenizer": "./tokenizer"} | extra
    if extra:
        params["extra"] = extra
    return params


def _lm_eval_extra(job: Job) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if job.benchmark.few_shot is not None:
        extra["num_fewshot"] = job.benchmark.few_shot
    if job.benchmark.endpoint == "completions" and _sends_tokens(job):
        # What else its client is told of the model goes in beside the backend: nemo-evaluator writes that
        # into lm-eval's model_args as it stands, and has no parameter for it.
        client = [f"{key}={value}" for key, value in client_arguments(job).items()]
        backend = ",".join(["huggingface", *client])
        extra |= {"tokenizer": "./tokenizer", "tokenizer_backend": backend, "tokenized_requests": True}
    return extra


def _sent_as_tokens(job: Job) -> dict[str, Any]:
    """Returns `extra` of the run configuration where lm-eval tokenizes its prompts; else nothing."""
    extra: dict[str, Any] = _params(job).get("extra", {})
    return extra if extra.get("tokenizer") and extra.get("tokenized_requests") else {}


def _sends_tokens(job: Job) -> bool:
    """Returns whether prompts are sent as tokens.

    Log-likelihoods need the prompt's tokens, and so the model's own tokenizer. Text, which NeMo sends
    otherwise, begins as the server's tokenizer has it.
    """
    if job.model_entry is not None and job.model_entry.add_bos_token is not None:
        return True
    if job.task_file is not None:
        return prompts.scores_likelihoods(job.task_file)
    task = catalog.tasks().get(job.benchmark.task)
    return task is None or task.needs_logprobs
