"""The tables that a run produces: explicit columns, each with its type, unit and meaning.

Conventions: proportions are 0 to 1, times are UTC in microseconds, durations carry their unit in the name,
hashes are hex sha256, free-form data is JSON in a string. What is not known is null, never 0.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pyarrow as pa

from slurmeval.errors import SlurmevalError
from slurmeval.results import SCHEMA_VERSION

_TEXT, _INT, _FLOAT, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TIME = pa.timestamp("us", tz="UTC")
Column = tuple[str, pa.DataType, str, str]
"""Name, type, unit, meaning."""
_SCORES = pa.list_(
    pa.struct(
        [
            pa.field("metric", _TEXT, nullable=False),
            pa.field("filter", _TEXT),
            pa.field("value", _FLOAT),
            pa.field("correct", _FLAG),
            pa.field("answer", _TEXT),
            pa.field("explanation", _TEXT),
        ]
    )
)


class SchemaDrift(SlurmevalError):
    """A file's columns are not those of this version."""


@dataclass(frozen=True)
class Table:
    """One table: its name, what one row is, its key, and its columns."""

    name: str
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema. Key columns are never null; descriptions and units are the fields' metadata."""
        fields = [
            pa.field(name, kind, name not in self.key, {"description": text, "unit": unit})
            for name, kind, unit, text in self.columns
        ]
        return pa.schema(fields, {"schema_version": str(SCHEMA_VERSION), "table": self.name})

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """The names of the columns."""
        return frozenset(name for name, *_ in self.columns)


_KEY = (
    ("model", _TEXT, "", "The model's id in the config."),
    ("benchmark", _TEXT, "", "The benchmark's id in the config."),
)

EVALUATIONS = Table(
    "evaluations",
    "one benchmark on one model",
    ("model", "benchmark", "status"),
    (
        *_KEY,
        (
            "status",
            _TEXT,
            "",
            "`ok`, `failed` (did not end well), `stopped` (with its run) or `missing` (not ended yet).",
        ),
        ("error_class", _TEXT, "", "Why it failed, as a class; null unless failed or stopped."),
        ("reason", _TEXT, "", "Why it failed, in one sentence; null unless failed or stopped."),
        ("log", _TEXT, "", "Its log, relative to the folder `results`."),
        ("attempt", _INT, "", "The try that this row is about; the first is 1."),
        ("started_at", _TIME, "UTC", "When this try began."),
        ("ended_at", _TIME, "UTC", "When this try ended."),
        ("harness", _TEXT, "", "The program that ran the benchmark."),
        ("harness_version", _TEXT, "", "Its version, as it said itself."),
        ("versions_json", _TEXT, "JSON", "Versions of the harness's packages that alter results."),
        ("environment_sha256", _TEXT, "", "Hash of the lock file of the harness's environment."),
        ("task", _TEXT, "", "The harness's name of the task."),
        ("task_version", _TEXT, "", "The task's version, as the harness said."),
        ("task_sha256", _TEXT, "", "Hash of the task file given in the config."),
        ("datasets_json", _TEXT, "JSON", "Staged datasets: id, revision, sha256."),
        ("model_source", _TEXT, "", "Where the weights came from, or the server that was there already."),
        ("model_revision", _TEXT, "", "The weights' revision."),
        ("model_sha256", _TEXT, "", "Hash over the names and hashes of the model's files."),
        ("served_json", _TEXT, "JSON", "How the model was served, as far as that alters answers."),
        ("answers_key", _TEXT, "", "Hash of all that alters the model's answers."),
        ("endpoint", _TEXT, "", "`chat` or `completions`."),
        ("few_shot", _INT, "examples", "Examples in the prompt; null: the task's own."),
        ("limit", _INT, "samples", "Number of samples that were asked for, from the first; null: all."),
        ("n_repeats", _INT, "answers", "Answers asked for per sample."),
        ("temperature", _FLOAT, "", "Sampling temperature; null: the task's own."),
        ("top_p", _FLOAT, "0–1", "Nucleus sampling; null: the task's own."),
        ("max_tokens", _INT, "tokens", "Longest answer; null: the task's own."),
        ("parameters_json", _TEXT, "JSON", "Parameters of the harness itself."),
        ("n_requested", _INT, "samples", "Samples that the harness was asked for."),
        (
            "n_available",
            _INT,
            "questions",
            "Questions that the task has, whatever the limit; null: the harness does not say.",
        ),
        ("n_samples", _INT, "samples", "Samples that it returned; with repeats, each answer is one."),
        ("n_errored", _INT, "samples", "Samples without an answer."),
        (
            "n_unanswered",
            _INT,
            "samples",
            "Samples that nobody answered in this try, and requests that fit none; null: nobody counted.",
        ),
        (
            "n_unlogged",
            _INT,
            "samples",
            "Samples whose answer is not in the gateway's log; null: most texts are not kept as they came.",
        ),
        ("n_unparsed", _INT, "samples", "Samples whose answer the harness could not read."),
        (
            "n_cut",
            _INT,
            "samples",
            "Samples whose prompt the harness cut to what the model holds; null: not known.",
        ),
        ("n_truncated", _INT, "requests", "Generated answers cut off at the token limit."),
        (
            "n_think_tags",
            _INT,
            "requests",
            "Answers that were scored with `<think>` or `</think>` in them; see `models.<id>.reasoning`.",
        ),
        ("n_requests", _INT, "requests", "Requests that the gateway answered or gave up."),
        ("n_replayed", _INT, "requests", "Requests that were answered from the log of an earlier try."),
        ("n_audited", _INT, "requests", "Requests that were asked once more; see `gateway.noise_audit`."),
        ("n_audit_differ", _INT, "requests", "Of these: other answer; null: none was asked once more."),
        ("prompt_tokens", _INT, "tokens", "Tokens of all prompts."),
        ("completion_tokens", _INT, "tokens", "Tokens of all answers."),
        ("slurmeval_version", _TEXT, "", "The version of slurmeval that wrote this."),
        ("workflow_commit", _TEXT, "", "The git commit of the project; null: no git."),
        ("workflow_dirty", _FLAG, "", "Whether files differed from that commit."),
        ("config_sha256", _TEXT, "", "Hash of the resolved config."),
    ),
)

METRICS = Table(
    "metrics",
    "one score of one evaluation",
    ("model", "benchmark", "task", "metric"),
    (
        *_KEY,
        ("task", _TEXT, "", "The task or subtask, as the harness calls it."),
        ("subset", _TEXT, "", "A part of the task, such as a subject; null: the whole task."),
        ("metric", _TEXT, "", "What was measured."),
        ("filter", _TEXT, "", "How answers were read before scoring; null: the harness has no such notion."),
        ("value", _FLOAT, "0–1", "The score; null when there is none, or it is no proportion."),
        ("harness_value", _FLOAT, "harness_scale", "The very number that the harness wrote; null: none."),
        (
            "harness_scale",
            _FLOAT,
            "",
            "What the harness writes for a perfect score: 1 or 100; null: it is no proportion.",
        ),
        ("chance", _FLOAT, "0–1", "What answering at random gives, where the task tells it."),
        ("higher_is_better", _FLAG, "", "Whether more is better."),
        ("is_primary", _FLAG, "", "Whether this is the primary score of the benchmark."),
        ("is_group", _FLAG, "", "Whether the score is put together from several tasks."),
        (
            "mean_of",
            pa.list_(_TEXT),
            "",
            "The tasks that slurmeval took the mean over; null: the harness's own score.",
        ),
        ("parts", pa.list_(_TEXT), "", "The tasks with a group's questions; null: no group, or not known."),
        ("n_items", _INT, "questions", "Questions that were scored."),
        ("n_repeats", _INT, "answers", "Answers per question."),
        ("se", _FLOAT, "as value", "Standard error; null: not known, or 0 (all were equal)."),
        (
            "se_method",
            _TEXT,
            "",
            "Whose: `clusters` (or five tasks or more), `tasks` (fewer), `questions` or `harness`.",
        ),
        ("harness_se", _FLOAT, "as value", "The standard error that the harness wrote; null: none."),
        ("n_clusters", _INT, "clusters", "Clusters that se allows for; null: questions are independent."),
        ("rerun_se", _FLOAT, "as value", "Standard error of asking again; null: each was answered once."),
        ("ci_lo", _FLOAT, "as value", "Lower end of the interval."),
        ("ci_hi", _FLOAT, "as value", "Upper end of the interval."),
        ("ci_level", _FLOAT, "0–1", "Confidence of the interval: 0.95."),
        (
            "ci_method",
            _TEXT,
            "",
            "`wilson`, or `wilson_effective` (of as many questions as give this standard error).",
        ),
        (
            "n_unanswered",
            _INT,
            "samples",
            "Samples of it that nobody answered, and requests that fit none; null: nobody counted.",
        ),
        (
            "value_left_out",
            _FLOAT,
            "0–1",
            "The score without the unanswered; null: there are none, or not known.",
        ),
        ("bound_lo", _FLOAT, "0–1", "The score were all unanswered wrong; null: as above."),
        ("bound_hi", _FLOAT, "0–1", "The score were all unanswered right; null: as above."),
        (
            "recomputed_value",
            _FLOAT,
            "0–1",
            "Mean of the samples' scores; null: they do not carry it.",
        ),
        (
            "mismatch",
            _FLAG,
            "",
            "Whether that mean differs from value by more than rounding, or harness_value is off its scale.",
        ),
    ),
)

SAMPLES = Table(
    "samples",
    "one answer to one question",
    ("model", "benchmark", "sample_uid", "repeat_idx"),
    (
        *_KEY,
        (
            "sample_uid",
            _TEXT,
            "",
            "Hash of task, dataset revision, input, reference: pairs models. Equal questions are numbered.",
        ),
        ("repeat_idx", _INT, "", "Which answer to the question; the first is 0."),
        ("native_id", _TEXT, "", "The harness's own id of the question."),
        ("task", _TEXT, "", "The task or subtask."),
        ("category", _TEXT, "", "A part of the task, such as a subject."),
        ("cluster", _TEXT, "", "What questions of one passage share; null: nothing, or not known."),
        ("input", _TEXT, "", "The question."),
        ("choices", pa.list_(_TEXT), "", "The choices offered; null: none."),
        ("reference", _TEXT, "", "The right answer."),
        ("output", _TEXT, "", "What the model answered."),
        ("reasoning", _TEXT, "", "What it thought before, which is not scored; null: nothing."),
        (
            "scores",
            _SCORES,
            "",
            "Records of metric, filter, value, correct, answer, explanation.",
        ),
        ("status", _TEXT, "", "`ok`, `error` (no answer) or `unparsed` (the harness could not read it)."),
        ("cut", _FLAG, "", "Whether the harness cut its prompt to what the model holds; null: not known."),
        ("n_requests", _INT, "requests", "Requests found for this sample; 0: none could be told."),
        (
            "finish_reason",
            _TEXT,
            "",
            "Why the answer ended, as the server said (last request); null: nothing was to be generated.",
        ),
        ("prompt_tokens", _INT, "tokens", "Tokens of the prompts of its requests."),
        ("completion_tokens", _INT, "tokens", "Tokens of the answers to its requests."),
        ("latency_ms", _FLOAT, "ms", "Sum over its requests, from sending to the whole answer."),
        ("metadata_json", _TEXT, "JSON", "What else the harness wrote."),
    ),
)

REQUESTS = Table(
    "requests",
    "one request to the model's server",
    ("model", "benchmark", "request_id"),
    (
        *_KEY,
        ("request_id", _TEXT, "", "The gateway's id of the request."),
        ("sample_uid", _TEXT, "", "The sample it was for; null: could not be told."),
        ("repeat_idx", _INT, "", "The sample's repeat; null: as above."),
        ("endpoint", _TEXT, "", "Path of the endpoint."),
        ("attempt", _INT, "", "How often it was sent; 0: never, the server was lost before."),
        ("server_id", _TEXT, "", "The server that answered."),
        ("engine_run", _INT, "", "Number of the engine run of that server."),
        ("started_at", _TIME, "UTC", "When it was sent to the server, the last time."),
        (
            "waited_ms",
            _FLOAT,
            "ms",
            "From the harness's asking until then: waiting, earlier tries; null: not known, in latency.",
        ),
        ("ttft_ms", _FLOAT, "ms", "From then to the first token; null: not streamed."),
        ("latency_ms", _FLOAT, "ms", "From then to the whole answer."),
        ("prompt_tokens", _INT, "tokens", "Tokens of the prompt, as the server counted."),
        ("completion_tokens", _INT, "tokens", "Tokens of the answer, as the server counted."),
        ("finish_reason", _TEXT, "", "Why the answer ended."),
        ("http_status", _INT, "", "What the harness was answered; 499: it hung up."),
        ("error", _TEXT, "", "What went wrong; null: nothing."),
        ("replayed", _INT, "times", "How often the stored answer was given again to a later try."),
        ("request_key", _TEXT, "", "Hash of path and canonical body: equal for identical requests."),
        ("response_sha256", _TEXT, "", "Hash of the response's body as it came; null: there was none."),
    ),
)

SERVERS = Table(
    "servers",
    "one engine run within one run of a job; or a job's run in which vLLM never started",
    ("model", "server_id", "restart", "engine_run"),
    (
        ("model", _TEXT, "", "The model's id in the config."),
        ("server_id", _TEXT, "", "The server: `<model>/<number>`; `<model>@<n>/<number>` for replica n."),
        ("restart", _INT, "", "Number of the job's run: 0 is the first, 1 that after its first requeue."),
        ("engine_run", _INT, "", "Number of the engine run; the first is 1, 0: vLLM never started."),
        ("status", _TEXT, "", "The server's status when this was written; `gone`: it ended without a word."),
        ("error_class", _TEXT, "", "Why the server failed, as a class; null: it did not."),
        ("reason", _TEXT, "", "Why the server is in this status, in one sentence."),
        ("job_id", _TEXT, "", "The job it runs in."),
        ("cluster", _TEXT, "", "Where the job was submitted: `slurm` or `local`."),
        ("slurm_state", _TEXT, "", "How the job's run ended, as Slurm says; null: no accounting."),
        ("nodes", _TEXT, "", "The job's nodes, as Slurm writes them."),
        ("gpus", _INT, "", "The job's GPUs, on all nodes."),
        ("dtype", _TEXT, "", "Number format of the weights, as asked for."),
        ("quantization", _TEXT, "", "Quantization, as asked for."),
        ("max_model_len", _INT, "tokens", "Longest prompt and answer, as asked for."),
        ("submitted_at", _TIME, "UTC", "When the job was submitted."),
        ("job_started_at", _TIME, "UTC", "When this run of the job began, as Slurm says."),
        ("job_ended_at", _TIME, "UTC", "When this run of the job ended, as Slurm says."),
        ("started_at", _TIME, "UTC", "When this engine run began."),
        ("ready_at", _TIME, "UTC", "When it answered first."),
        ("ended_at", _TIME, "UTC", "When it ended; null: it still runs, or nobody saw it end."),
        ("queued_s", _FLOAT, "s", "From submission or requeue to its start; null for later engine runs."),
        ("elapsed_s", _FLOAT, "s", "Of the job's time: the sum of the next four."),
        ("starting_s", _FLOAT, "s", "Until the first answer, what came before vLLM's start included."),
        ("busy_s", _FLOAT, "s", "Ready, with requests under way."),
        ("idle_s", _FLOAT, "s", "Ready, with none."),
        ("ending_s", _FLOAT, "s", "The rest: draining, ending, until the next engine run; or unobserved."),
        ("environment_s", _FLOAT, "s", "Of starting_s, what is in none of the next three: Python, imports."),
        ("weights_s", _FLOAT, "s", "Of starting_s: reading weights; null: the engine's log does not say."),
        (
            "compile_s",
            _FLOAT,
            "s",
            "Of starting_s: compiling, profiling, KV cache, CUDA graphs; null: the same.",
        ),
        ("first_answer_s", _FLOAT, "s", "Of starting_s: from when the engine listens to its first answer."),
        ("gpu_s", _FLOAT, "s", "GPU-seconds: elapsed_s times gpus."),
        ("exit_reason", _TEXT, "", "Why this engine run ended."),
        ("requests", _INT, "requests", "Requests answered."),
        ("prompt_tokens", _INT, "tokens", "Tokens of all prompts."),
        ("generated_tokens", _INT, "tokens", "Tokens generated."),
        ("tokens_per_s", _FLOAT, "tokens/s", "Tokens generated per busy second."),
    ),
)

COSTS = (
    ("job_id", _TEXT, "", "Its job, the last one; null: it was none of its own."),
    ("slurm_state", _TEXT, "", "How that job ended, as Slurm says; null: no accounting."),
    ("job_runs", _INT, "", "Runs of all its jobs: 1, plus one for each requeue or further try."),
    ("node", _TEXT, "", "The node of the last run."),
    ("queued_s", _FLOAT, "s", "From submission or requeue to start, for the last run."),
    ("elapsed_s", _FLOAT, "s", "How long the last run took."),
    ("cpu_s", _FLOAT, "s", "CPU time of the last run."),
    ("max_rss_mb", _FLOAT, "MB", "Largest memory of a step of the last run, as Slurm sampled it."),
    ("server_s", _FLOAT, "s", "Its share of its servers' busy seconds: equal parts for all in flight."),
    ("gpu_s", _FLOAT, "s", "The same in GPU-seconds: times the server's GPUs."),
)
"""What an evaluation took: only in the table over all evaluations, since it is known after its end."""

ALL_EVALUATIONS = Table("evaluations", EVALUATIONS.row, EVALUATIONS.key, (*EVALUATIONS.columns, *COSTS))

TABLES = (EVALUATIONS, METRICS, SAMPLES, REQUESTS, SERVERS)


def check(table: Table, found: pa.Schema, where: object) -> None:
    """Raises SchemaDrift, naming the first difference, unless `found` is the table's schema."""
    if found.equals(table.schema, check_metadata=True):
        return
    version = (found.metadata or {}).get(b"schema_version", b"none").decode()
    if version != str(SCHEMA_VERSION):
        raise SchemaDrift(f"{where}: schema version {version}, not {SCHEMA_VERSION} (slurmeval rescore)")
    for field in table.schema:
        index = found.get_field_index(field.name)
        if index < 0:
            raise SchemaDrift(f"{where}: the column {field.name} of {table.name} is not there")
        if found.field(index).type != field.type:
            was = found.field(index).type
            raise SchemaDrift(f"{where}: column {field.name} is {was}, not {field.type}")
    extra = [name for name in found.names if name not in table.names]
    if extra:
        raise SchemaDrift(f"{where}: {table.name} has no column {extra[0]}")
