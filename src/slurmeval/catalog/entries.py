"""Reading the catalog: the launcher's data, and what `own.yaml` says of the tasks that its patterns name."""

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
"""libyaml's, ten times as fast, where it is there."""

OTHER = "other"
"""The group of a task that no pattern of own.yaml names."""
NEEDS = ("logprobs", "judge", "hf-token")
"""What a task may need beside a model that answers."""


@dataclass(frozen=True, slots=True)
class HarnessEntry:
    """A harness of NeMo Evaluator's, and the image that it comes in."""

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
        """`nvcr.io/nvidia/eval-factory/bfcl:26.03`."""
        return f"{self.image}:{self.tag}"

    @property
    def image_id(self) -> str:
        """Its image's id in the lock of images, and its locked environment's name."""
        return f"nemo-{self.name}"


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a harness."""

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
    """It runs programs that the model has written."""
    evaluates_calls: bool
    """It puts function calls of the model through Python's eval, which a malicious answer could misuse."""
    asks_judge: bool
    """It asks another model: to judge answers, or to play the user."""
    image_only: bool
    """Its definition loads packages that its harness's lock does not have."""
    gated: str | None
    """The dataset on the Hugging Face hub whose terms must be accepted; downloading it takes a token."""

    @property
    def full_name(self) -> str:
        return f"{self.harness}.{self.name}"

    @property
    def needs_logprobs(self) -> bool:
        """It scores the log-probabilities of given texts."""
        return "logprobs" in self.capabilities

    @property
    def needs_hf_token(self) -> bool:
        return self.gated is not None or "HF_TOKEN" in self.env

    @property
    def needs(self) -> tuple[str, ...]:
        """Those of NEEDS that it has."""
        has = (self.needs_logprobs, self.asks_judge, self.needs_hf_token)
        return tuple(need for need, given in zip(NEEDS, has, strict=True) if given)


@dataclass(frozen=True)
class Catalog:
    """All harnesses and tasks of one version of the launcher."""

    launcher: str
    """The version of nemo-evaluator-launcher."""
    harnesses: dict[str, HarnessEntry]
    tasks: dict[str, Task]
    removed: dict[str, str]
    """Full names of tasks that were there, with the version of the launcher that had them no more."""

    def candidates(self, bare: str) -> list[Task]:
        """The tasks whose name without the harness is `bare`."""
        return [task for task in self.tasks.values() if task.name == bare]

    def of_harness(self, harness: str) -> list[Task]:
        """A harness's tasks."""
        return [task for task in self.tasks.values() if task.harness == harness]


@functools.cache
def catalog() -> Catalog:
    """The catalog that comes with slurmeval."""
    return build(package_data("nemo.yaml"), package_data("own.yaml"))


def package_data(name: str) -> dict[str, Any]:
    """The content of one of this package's YAML files."""
    return read_data(importlib.resources.files("slurmeval.catalog").joinpath(name).read_text("utf-8"))


def read_data(text: str) -> dict[str, Any]:
    """The content of a catalog's YAML file."""
    values = yaml.load(text, _Loader)
    assert isinstance(values, dict)
    return values


def build(launcher: Mapping[str, Any], own: Mapping[str, Any]) -> Catalog:
    """The catalog of the launcher's data (as in nemo.yaml) and our own (as in own.yaml)."""
    rules = Rules(own)
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
        group=rules.group(full_name),
        executes_code=rules.executes_code(full_name),
        evaluates_calls=rules.evaluates_calls(full_name),
        asks_judge=rules.asks_judge(full_name) or any("JUDGE" in each or "USER_" in each for each in env),
        image_only=rules.image_only(full_name),
        gated=rules.gated(full_name),
    )


class Rules:
    """own.yaml's patterns: shell wildcards over full names; of several that fit the first counts."""

    def __init__(self, own: Mapping[str, Any]) -> None:
        self._groups = [(name, matcher(patterns)) for name, patterns in own["groups"].items()]
        self._gated = [(repo, matcher(patterns)) for repo, patterns in own["gated"].items()]
        self._code = matcher(own["executes_code"])
        self._calls = matcher(own["evaluates_calls"])
        self._judge = matcher(own["asks_judge"])
        self._image_only = matcher(own["image_only"])

    def group(self, full_name: str) -> str:
        return next((name for name, fits in self._groups if fits.match(full_name)), OTHER)

    def gated(self, full_name: str) -> str | None:
        return next((repo for repo, fits in self._gated if fits.match(full_name)), None)

    def executes_code(self, full_name: str) -> bool:
        return self._code.match(full_name) is not None

    def evaluates_calls(self, full_name: str) -> bool:
        return self._calls.match(full_name) is not None

    def image_only(self, full_name: str) -> bool:
        return self._image_only.match(full_name) is not None

    def asks_judge(self, full_name: str) -> bool:
        return self._judge.match(full_name) is not None


def matcher(patterns: Iterable[str]) -> re.Pattern[str]:
    """Fits what any of the patterns fits."""
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or "(?!)")
