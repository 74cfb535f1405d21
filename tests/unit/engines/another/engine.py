"""An engine that shares nothing with vLLM: what a project writes to have one of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slurmeval.engines.base import Engine, EngineSpec, Figures, Rank, Scalar, metric_sums
from slurmeval.engines.failures import known
from slurmeval.engines.flags import FlagRules


class Another(Engine):
    """Serves by `server.py` beside this file."""

    name = "Another"
    package = "another-llm"
    program = "another"
    api_key_variable = "ANOTHER_KEY"
    variable_prefixes = ("ANOTHER_",)
    health_path = "/alive"
    metrics_path = "/figures"
    known_failures = (known(r"^E: no such model: (.+)$", r"{engine} does not know the model \1"),)

    def argv(self, spec: EngineSpec, bind: str, port: int, rank: Rank | None = None) -> list[str]:
        server = Path(__file__).with_name("server.py")
        return [spec.python, str(server), spec.served_name, bind, str(port), *self.switches(spec.flags)]

    def figures(self, metrics: str) -> Figures:
        made, running = metric_sums(metrics, ("another_tokens", "another_running"))
        return Figures(generated_tokens=made, requests_running=running)

    def token_logprobs(self, choice: Mapping[str, Any]) -> Sequence[float]:
        return [token["logprob"] for token in choice["logprobs"]["content"]]

    def switches(self, flags: Mapping[str, Scalar | None]) -> list[str]:
        return list(flags)

    def flag_rules(self) -> FlagRules:
        return FlagRules(self.name, harmless=frozenset({"fast"}), ours={"port": None})
