"""Interface of a harness: how it is started, whether it ended well, what it found.

A harness is one module with a class derived from `Harness`, or from `own_programs.OwnProgram` where it is a
program of slurmeval's own; `slurmeval.harnesses.harness(name)` finds it. Nothing outside this package knows a
harness's files or flags.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from slurmeval.config.models import Benchmark, Model
from slurmeval.harnesses.runtimes import Runtime

GATEWAY_KEY = "SLURMEVAL_GATEWAY_KEY"
"""The environment variable with the gateway's key. It never stands on a command line or in a file."""

HARNESS_TIMEOUT_S = 7 * 24 * 3600
"""The time-out of a harness that must have one. The gateway bounds each request and slurmeval the evaluation;
a harness that starts while its server still loads waits for as long as that takes."""


DEFAULT_PARALLELISM = 8
"""Requests under way at once where nobody says."""


@dataclass(frozen=True)
class Job:
    """One evaluation, as its harness sees it."""

    model: str
    benchmark_id: str
    benchmark: Benchmark
    runtime: Runtime
    """Where the harness runs."""
    folder: Path
    """The harness's own folder, kept between tries; each try makes a folder of its own in it."""
    base_url: str
    """The gateway, such as `http://127.0.0.1:PORT`, without `/v1`."""
    api_key: str = field(repr=False)
    served_name: str
    tokenizer: Path
    """Folder of the staged model."""
    model_entry: Model | None = None
    """The model as the config has it; None: nothing is known of it."""
    chat_template: Path | None = None
    """The file that replaces the model's chat template."""
    context: int | None = None
    """Tokens that the model holds, prompt and answer together; None: not known."""
    datasets: Mapping[str, Path] = field(default_factory=dict)
    """Folders of the staged datasets by id."""
    prepared: Path | None = None
    """The folders `home` and `cache` as the benchmark's rehearsal left them: what the harness fetches."""
    hub: Path | None = None
    """The Hugging Face hub's cache, shared by all; None: the harness has no use for it."""
    online: bool = False
    """Whether it may fetch what it lacks: in a rehearsal only."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables with tokens and keys that the benchmark names."""
    task_file: Path | None = None
    judged: Mapping[str, Path] = field(default_factory=dict)
    """For a judge: tables of samples with the answers that it judges, by what they are to it."""
    project: Path = Path()
    """The project folder, which files in the config are relative to."""

    @property
    def parallelism(self) -> int:
        """Returns how many requests may be under way at once: as planned, or the few of a rehearsal."""
        return self.benchmark.parallelism or DEFAULT_PARALLELISM


@dataclass(frozen=True)
class Command:
    """Command line that starts a harness. `env` is the whole environment: nothing is inherited."""

    argv: list[str]
    env: dict[str, str] = field(repr=False)
    cwd: Path
    hostile: bool = False
    """Whether it runs what the model writes."""
    own: bool = False
    """Whether it is slurmeval's own program, which contains by itself what it runs."""


@dataclass
class Metric:
    """Score of one task."""

    task: str
    metric: str
    value: float | None
    """A proportion, 0..1; None: not measured, or no proportion."""
    harness_value: float | None
    """Exactly what the harness wrote; None: no finite number, or the value is slurmeval's (`mean_of`)."""
    subset: str | None = None
    filter: str | None = None
    harness_scale: int | None = 1
    """What the harness writes for a perfect score; None: what it writes is no proportion."""
    se: float | None = None
    """Standard error on the scale of `value`, as the harness gave it."""
    n_items: int | None = None
    n_repeats: int = 1
    higher_is_better: bool | None = True
    is_primary: bool = False
    is_group: bool = False
    """An average over several tasks or categories."""
    mean_of: list[str] | None = None
    """The tasks that slurmeval took the mean over, where the harness has no total; None: harness's own."""
    chance: float | None = None
    """The share that is right by chance, where the task tells it."""
    parts: list[str] | None = None
    """The tasks with the questions of a group; None: no group, or not known."""


@dataclass(slots=True)
class Score:
    """Value of one metric for one sample."""

    metric: str
    value: float | None
    filter: str | None = None
    correct: bool | None = None
    answer: str | None = None
    """What was extracted from the output and compared."""
    explanation: str | None = None


@dataclass(slots=True)
class Sample:
    """One question and one answer."""

    native_id: str
    """The harness's own number or name of the question."""
    task: str
    input: str
    output: str | None
    repeat_idx: int = 0
    category: str | None = None
    cluster: str | None = None
    """What questions of one passage or template share; None: they share nothing, or it is not known."""
    reference: str | None = None
    choices: list[str] | None = None
    scores: list[Score] = field(default_factory=list)
    status: Literal["ok", "error", "unparsed"] = "ok"
    """error: there is no answer. unparsed: the harness could not read the answer, and scored it as wrong."""
    cut: bool | None = None
    """Whether the harness cut a prompt of it to what the model holds; None: not known."""
    metadata: dict[str, Any] = field(default_factory=dict)
    prompts: Sequence[str] = ()
    """The texts of its requests, where they are not the input alone or with one of the choices. Not kept."""


class Samples(Protocol):
    """Samples of an evaluation: a list or, where they may be many, what reads the files anew at each pass."""

    def __len__(self) -> int:
        """Returns their number."""

    def __iter__(self) -> Iterator[Sample]:
        """Yields them in the harness's order."""


@dataclass
class HarnessOutput:
    """Results of one evaluation."""

    metrics: list[Metric]
    samples: Samples
    n_requested: int | None
    """Questions that were to be asked, by the limit and the dataset; None where the harness does not say."""
    harness_version: str
    task_version: str | None
    keeps_answers: bool = False
    """Whether the samples' outputs are the answers as they came: each must be in the gateway's log."""
    n_available: int | None = None
    """Questions that the task has, whatever the limit; None: the harness does not say."""


class Harness(ABC):
    """A program that runs benchmarks. What is not abstract here holds for most, and others override it."""

    @abstractmethod
    def problems(self, benchmark: Benchmark) -> list[str]:
        """Returns what this harness cannot do of a benchmark's config: lines that begin with the key.

        `benchmark.runtime` says where the harness is to run.
        """

    section: ClassVar[str] = "datasets"
    """The key of a benchmark under which problems of its data stand that name no other."""

    def check_data(self, benchmark: Benchmark, folder: Path) -> None:
        """Reads data of one's own before anything is staged, to see early what is wrong with them.

        Raises:
            UserError: They will not do. The text may begin with a key of the benchmark.
        """
        return

    def model_problems(self, model: Model, benchmark: Benchmark) -> list[str]:
        """Returns why the benchmark cannot run on the model, each reason in a few words."""
        return []

    @abstractmethod
    def environments(self, benchmark: Benchmark) -> str:
        """Returns the name of the lock of its environment, which is also that of its image."""

    def starts_early(self, benchmark: Benchmark) -> bool:
        """Returns whether the harness may start while its server still loads.

        Such a harness asks for nothing but answers, and waits for them for as long as it takes
        (docs/harnesses.md).
        """
        return False

    def dies_of_refusals(self, benchmark: Benchmark) -> bool:
        """Returns whether one prompt that the server refuses ends the harness.

        It is then sent an empty answer, which counts as unanswered.
        """
        return False

    def loads_tokenizer(self, model: Model, benchmark: Benchmark) -> bool:
        """Returns whether the harness tokenizes prompts itself, with the model's tokenizer."""
        return False

    @abstractmethod
    def versions(self, benchmark: Benchmark, lock: Path) -> dict[str, str]:
        """Returns the pinned versions that alter results, by package."""

    @abstractmethod
    def prepare(self, job: Job) -> Command:
        """Makes the folder of a new attempt with all files that the harness reads, and returns its command.

        Raises:
            EvaluationFailed: The job cannot be started.
            UserError: What the config names will not do.
        """

    def counting_cuts(self, job: Job, command: Command) -> Command | None:
        """Returns a command that counts the prompts that the harness cut to the model's context.

        It runs after the harness, which `command` started. None: the harness cuts no prompts, or nobody can
        tell.
        """
        return None

    @abstractmethod
    def check(self, job: Job, returncode: int, log: Path) -> None:
        """Checks every sign that the last attempt ended well.

        Raises:
            EvaluationFailed: One of them says that it did not.
        """

    @abstractmethod
    def read(self, job: Job) -> HarnessOutput:
        """Returns the results of the last attempt.

        Raises:
            EvaluationFailed: Files are missing, do not parse, or hold another number of samples than was
                asked for (bad_result).
        """
