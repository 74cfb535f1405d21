"""The engine of tests of whole runs: vLLM with `stand_in_engine.py` in the place of its server."""

from __future__ import annotations

from slurmeval.engines.base import EngineSpec, Rank
from slurmeval.engines.vllm import Vllm


class AnsweringEngine(Vllm):
    """Takes vLLM's command line, and answers what a stand-in for a model says."""

    def argv(self, spec: EngineSpec, bind: str, port: int, rank: Rank | None = None) -> list[str]:
        python, _, _, *arguments = super().argv(spec, bind, port, rank)
        return [python, "-m", "tests.stand_ins.stand_in_engine", *arguments]
