"""Reads the catalog: the launcher's data, and what `own.yaml` says of the tasks that its patterns name."""

from __future__ import annotations

import fnmatch
import functools
import importlib.resources
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Loader of libyaml, ten times as fast as Python's, where it is installed."""

OTHER = "other"
"""Group of a task that no pattern of own.yaml names."""
NEEDS = ("logprobs", "judge", "hf-token")
"""What a task may need beside a model that answers."""


@dataclass(frozen=True, slots=True)
class HarnessEntry:
    """Harness of NeMo Evaluator, and the image that it comes in."""

    name: str
    full_name: str
    image: str
    """The image's reference without its tag."""
    tag: str
    digest: str
    """`sha256:…` of what the tag named when the launcher was released."""
    architectures: tuple[str, ...]
    """amd64, arm64."""
    module: str | None
    """The Python module that NeMo Evaluator loads."""
    package: str | None
    """The package of the package index that holds the harness; None: there is only the image."""
    url: str | None
    """Where the harness comes from."""

    @property
    def reference(self) -> str:
        """Returns the image with its tag, such as `nvcr.io/nvidia/eval-factory/bfcl:26.03`."""
        return f"{self.image}:{self.tag}"


@dataclass(frozen=True, slots=True)
class Task:
    """Task of a harness."""

    harness: str
    name: str
    endpoints: tuple[str, ...]
    """How it asks: chat, completions, embedding."""
    native: str | None
    """The harness's own name of the task; None: the harness has no such name, or it is `name`."""
    capabilities: tuple[str, ...]
    """What NeMo Evaluator demands of the endpoint: logprobs."""
    env: tuple[str, ...]
    """Variables with keys of other models that its definition names: judges, simulated users."""
    about: str
    """What it is, in the launcher's words."""
    group: str
    executes_code: bool
    """Whether it runs programs that the model has written."""
    evaluates_calls: bool
    """Whether it puts function calls of the model through Python's eval, which an answer could misuse."""
    asks_judge: bool
    """Whether it asks another model, to judge answers or to play the user."""
    image_only: bool
    """Whether its definition loads packages that its harness's lock does not have."""
    gated: str | None
    """Dataset on the Hugging Face hub whose terms must be accepted; downloading it takes a token."""

    @property
    def full_name(self) -> str:
        """Returns `harness.task`."""
        return f"{self.harness}.{self.name}"

    @property
    def needs_logprobs(self) -> bool:
        """Returns whether it scores the log-probabilities of given texts."""
        return "logprobs" in self.capabilities

    @property
    def needs_hf_token(self) -> bool:
        """Returns whether its data take a token of the Hugging Face hub."""
        return self.gated is not None or "HF_TOKEN" in self.env

    @property
    def needs(self) -> tuple[str, ...]:
        """Returns those of NEEDS that it has."""
        has = (self.needs_logprobs, self.asks_judge, self.needs_hf_token)
        return tuple(need for need, given in zip(NEEDS, has, strict=True) if given)


@dataclass(frozen=True)
class Catalog:
    """Harnesses and tasks of one version of the launcher."""

    launcher: str
    """The version of nemo-evaluator-launcher."""
    harnesses: dict[str, HarnessEntry]
    tasks: dict[str, Task]
    removed: dict[str, str]
    """Full names of tasks that were there, with the version of the launcher that had them no more."""

    def candidates(self, bare: str) -> list[Task]:
        """Returns the tasks whose name without the harness is `bare`."""
        return [task for task in self.tasks.values() if task.name == bare]

    def of_harness(self, harness: str) -> list[Task]:
        """Returns a harness's tasks."""
        return [task for task in self.tasks.values() if task.harness == harness]


@functools.cache
def catalog() -> Catalog:
    """Returns the catalog that comes with slurmeval."""
    return build(package_data("nemo.yaml"), package_data("own.yaml"))


def package_data(name: str) -> dict[str, Any]:
    """Returns the content of one of this package's YAML files."""
    return read_data(importlib.resources.files("slurmeval.catalog").joinpath(name).read_text("utf-8"))


def read_data(text: str) -> dict[str, Any]:
    """Returns the content of a catalog's YAML file."""
    values = yaml.load(text, _Loader)
    assert isinstance(values, dict)
    return values


def build(launcher: Mapping[str, Any], own: Mapping[str, Any]) -> Catalog:
    """Returns the catalog of the launcher's data (as in nemo.yaml) and our own (as in own.yaml)."""
    rules = Rules.of(own)
    harnesses, tasks = {}, {}
    for name, entry in launcher["harnesses"].items():
        harnesses[name] = HarnessEntry(
            name=name,
            full_name=entry["full_name"],
            image=entry["image"],
            tag=entry["tag"],
            digest=entry["digest"],
            architectures=tuple(entry["architectures"]),
            module=entry.get("module"),
            package=own["packages"].get(name),
            url=entry.get("url"),
        )
        for task_name, values in entry["tasks"].items():
            task = _task(name, task_name, values, rules)
            tasks[task.full_name] = task
    return Catalog(launcher["launcher"]["version"], harnesses, tasks, launcher["removed"] or {})


def _task(harness: str, name: str, values: Mapping[str, Any], rules: Rules) -> Task:
    full_name = f"{harness}.{name}"
    env = tuple(values.get("env", ()))
    return Task(
        harness=harness,
        name=name,
        # `vlm` is how launchers before 0.2 spell chat with images
        endpoints=tuple(dict.fromkeys("chat" if each == "vlm" else each for each in values["endpoints"])),
        native=values.get("native"),
        capabilities=tuple(values.get("capabilities", ())),
        env=env,
        about=values.get("about", ""),
        group=first_fitting(rules.groups, full_name) or OTHER,
        executes_code=rules.executes_code.match(full_name) is not None,
        evaluates_calls=rules.evaluates_calls.match(full_name) is not None,
        asks_judge=rules.asks_judge.match(full_name) is not None
        or any("JUDGE" in each or "USER_" in each for each in env),
        image_only=rules.image_only.match(full_name) is not None,
        gated=first_fitting(rules.gated, full_name),
    )


@dataclass(frozen=True)
class Rules:
    """Patterns of own.yaml: shell wildcards over full names; of several that fit the first counts."""

    groups: dict[str, re.Pattern[str]]
    gated: dict[str, re.Pattern[str]]
    executes_code: re.Pattern[str]
    evaluates_calls: re.Pattern[str]
    asks_judge: re.Pattern[str]
    image_only: re.Pattern[str]

    @classmethod
    def of(cls, own: Mapping[str, Any]) -> Rules:
        """Returns the rules in own.yaml's content."""
        named = ("executes_code", "evaluates_calls", "asks_judge", "image_only")
        return cls(
            groups={name: matcher(patterns) for name, patterns in own["groups"].items()},
            gated={repository: matcher(patterns) for repository, patterns in own["gated"].items()},
            **{key: matcher(own[key]) for key in named},
        )


def first_fitting(patterns: Mapping[str, re.Pattern[str]], full_name: str) -> str | None:
    """Returns the name of the first pattern that a task fits."""
    return next((name for name, pattern in patterns.items() if pattern.match(full_name)), None)


def matcher(patterns: Iterable[str]) -> re.Pattern[str]:
    """Returns an expression that matches what any of the patterns fits."""
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or "(?!)")
