"""A server that slurmeval did not start, behind a process that passes requests on to it (forwarder.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

from slurmeval.engines import readiness
from slurmeval.engines.base import Engine, EngineSpec, Figures, Rank, metric_sums
from slurmeval.engines.failures import known
from slurmeval.engines.readiness import Nonsense, NotReady
from slurmeval.state.records import encode

PROGRAM = ("-m", "slurmeval.engines.forwarder")
KEY_VARIABLE = "SLURMEVAL_FORWARDER_KEY"
"""The variable with the key that the forwarder asks for."""
READY_PATH = "/ready"
"""Where it answers whether the server will do."""

METRICS = ("generated_tokens_total", "prompt_tokens_total", "requests_in_flight", "requests_total")


class External(Engine):
    """Any server with OpenAI's HTTP API: an API that costs money, or a vLLM that someone else keeps."""

    name = "the server at servers.<id>.url"
    package = "slurmeval"
    program = "slurmeval"
    api_key_variable = KEY_VARIABLE
    caches: ClassVar[Mapping[str, str]] = {}
    known_failures = (
        known(r"^E: (the budget of .+)$", r"\1: raise servers.<id>.budget, or leave it", final=True),
        known(r"^E: (the server .+)$", r"\1", final=True),
    )

    def argv(self, spec: EngineSpec, bind: str, port: int, rank: Rank | None = None) -> list[str]:
        """Returns the command line of the forwarder."""
        assert spec.external is not None, "a server without an address"
        description = json.dumps(encode(spec.external))
        return [spec.python, *PROGRAM, description, spec.served_name, bind, str(port)]

    def figures(self, metrics: str) -> Figures:
        """Returns what the forwarder counted since it started."""
        return Figures(*metric_sums(metrics, [f"forwarder_{name}" for name in METRICS]))

    def check_ready(self, url: str, api_key: str, served_name: str) -> None:
        """Raises NotReady, or Nonsense, unless the server takes the key and lists the model.

        It is asked for no text: that may cost money.
        """
        status, data = readiness.request(url, READY_PATH, api_key, timeout_s=readiness.COMPLETION_TIMEOUT_S)
        if status != HTTPStatus.OK:
            kind = Nonsense if status < HTTPStatus.INTERNAL_SERVER_ERROR else NotReady
            raise kind(data.decode(errors="replace"))
