"""What slurmeval needs to know of an inference engine. docs/engines.md says how to add one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from slurmeval.engines import readiness
from slurmeval.engines.failures import KnownFailure
from slurmeval.engines.flags import FlagRules
from slurmeval.state.server_spec import EngineSpec as EngineSpec
from slurmeval.state.server_spec import Scalar as Scalar

TORCH_CACHES = {
    "HOME": "home",
    "XDG_CACHE_HOME": "home/.cache",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_EXTENSIONS_DIR": "torch-extensions",
    "CUDA_CACHE_PATH": "cuda",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "DG_JIT_CACHE_DIR": "deep-gemm",
    "TILELANG_CACHE_DIR": "tilelang",
    "NUMBA_CACHE_DIR": "numba",
    "HF_MODULES_CACHE": "modules",
    "MIOPEN_USER_DB_PATH": "miopen",
    "MIOPEN_CUSTOM_CACHE_DIR": "miopen",
}
"""Variables that say where torch and its compilers keep what they make, and the folder for each."""


@dataclass(frozen=True)
class Rank:
    """The part of a server that runs on one of its nodes."""

    number: int
    """0 answers requests."""
    master: str
    """Address of rank 0."""
    master_port: int


@dataclass(frozen=True)
class Figures:
    """An engine's counters at one moment."""

    generated_tokens: int = 0
    prompt_tokens: int = 0
    requests_running: int = 0
    """Under way in the engine or waiting for it."""
    requests: int | None = None
    """Ended since the engine started, whatever the reason; None: it does not count them."""


class Engine(ABC):
    """A program that serves a model by OpenAI's HTTP API."""

    name: ClassVar[str]
    """As its makers write it, for messages."""
    package: ClassVar[str]
    """Its distribution, as a lock names it; that for CPUs is `<package>-cpu`."""
    program: ClassVar[str]
    """Its command. Images are looked into for it: its interpreter's packages are the image's."""
    answer_packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers", "flashinfer")
    """Beginnings of the names of further packages that compute a model's answers."""
    variable_prefixes: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the engine's own variables, which pass from the job into an image."""
    api_key_variable: ClassVar[str]
    """The variable that holds the server's key: other users read command lines."""
    sockets_variable: ClassVar[str] = ""
    """The variable that names the folder of its sockets; that is removed with them. Empty: there is none."""
    caches: ClassVar[Mapping[str, str]] = TORCH_CACHES
    """Variables that name folders for what the engine keeps, and the folder for each."""
    known_failures: ClassVar[Sequence[KnownFailure]] = ()
    """Errors that it is known to print. The first that matches wins."""
    consequences: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the texts of exceptions that only tell of another one."""
    start_lines: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Lines of its log that tell how long `weights_s` and `compile_s` took (starting.py)."""
    max_sequences: ClassVar[tuple[str, int]] = ("", 256)
    """The flag that bounds the sequences in one step, and its default."""
    copies_flag: ClassVar[str] = ""
    """The flag that says how many copies of the model one server has."""
    lacks: ClassVar[Mapping[str, str]] = {}
    """Keys of a model's entry that it cannot do, each with the reason."""
    health_path: ClassVar[str] = "/health"
    metrics_path: ClassVar[str] = "/metrics"

    @abstractmethod
    def argv(self, spec: EngineSpec, bind: str, port: int, rank: Rank | None = None) -> list[str]:
        """Returns the command line that serves `spec` at `bind`:`port`, without the key.

        `rank`: the part to run, for a server on several nodes.
        """

    @abstractmethod
    def figures(self, metrics: str) -> Figures:
        """Returns the counters in the engine's metrics, in Prometheus' text format."""

    def environment(
        self, inherited: Mapping[str, str], *, address: str | None, first_port: int | None
    ) -> dict[str, str]:
        """Returns variables to set unless the config does.

        `inherited` are those that pass from the job; `address` is this node's, for a server on several; from
        `first_port` on LAUNCH_PORTS ports are for this server alone (None: it has the machine to itself).
        """
        return {}

    def without_gpus(self, flags: Mapping[str, object], memory_gb: float) -> dict[str, str]:
        """Returns variables to set, unless the config does, where it serves on cores with so much memory."""
        return {}

    def flag_rules(self) -> FlagRules:
        """Returns what is known of its flags and variables.

        By default nothing: then all flags count as altering answers, and belong to the model.
        """
        return FlagRules(self.name)

    def allows_longer_context(self, flags: Mapping[str, object], env: Mapping[str, str]) -> bool:
        """Returns whether a config lets the model serve more tokens than it was made for."""
        return False

    def check_health(self, url: str, api_key: str) -> None:
        """Raises NotReady unless the engine says that it is well."""
        readiness.check_health(url, self.health_path, api_key)

    def check_ready(self, url: str, api_key: str, served_name: str) -> None:
        """Raises NotReady, or Nonsense, unless the engine is well and completes a prompt with sense."""
        self.check_health(url, api_key)
        readiness.check_answers(url, api_key, served_name, self.token_logprobs)

    def token_logprobs(self, choice: Mapping[str, Any]) -> Sequence[float]:
        """Returns the log-probabilities of the tokens in a choice of `/v1/completions`, as OpenAI has them.

        KeyError and TypeError say that it has none.
        """
        found: Sequence[float] = choice["logprobs"]["token_logprobs"]
        return found

    def switches(self, flags: Mapping[str, Scalar | None]) -> list[str]:
        """Returns the command line's form of a config's flags: `--name`, `--no-name` and `--name=value`."""
        return [_switch(name, value) for name, value in flags.items()]

    def read_figures(self, url: str, api_key: str) -> Figures:
        """Returns the engine's counters now. Raises NotReady."""
        return self.figures(readiness.read_text(url, self.metrics_path, api_key))

    def versions(self, packages: Mapping[str, str]) -> dict[str, str]:
        """Returns those of a lock's packages that compute a model's answers."""
        names = (self.package, *self.answer_packages)
        return {name: version for name, version in packages.items() if name.startswith(names)}

    def is_among(self, packages: Mapping[str, str]) -> bool:
        """Returns whether a lock's packages have the engine, or a build of it such as `<package>-cpu`."""
        return any(name == self.package or name.startswith(f"{self.package}-") for name in packages)


def metric_sums(text: str, names: Sequence[str]) -> Iterator[int]:
    """Yields the value of each metric in Prometheus' text format, summed over its labels; 0 where absent."""
    sums = dict.fromkeys(names, 0.0)
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in sums:
            sums[name] += float(line.rpartition(" ")[2])
    yield from (int(value) for value in sums.values())


def _switch(name: str, value: Scalar | None) -> str:
    if value is None or value is True:
        return f"--{name}"
    return f"--no-{name}" if value is False else f"--{name}={value}"
