"""The engine of unit tests: vLLM with `stand_in_vllm.py` in the place of its server."""

from __future__ import annotations

from pathlib import Path

from slurmeval.engines.base import EngineSpec, Rank
from slurmeval.engines.vllm import Vllm


class DyingEngine(Vllm):
    """Takes vLLM's command line, and dies as it is ordered to."""

    def argv(self, spec: EngineSpec, bind: str, port: int, rank: Rank | None = None) -> list[str]:
        python, _, _, *arguments = super().argv(spec, bind, port, rank)
        return [python, str(Path(__file__).with_name("stand_in_vllm.py")), *arguments]
