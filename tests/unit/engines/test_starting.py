"""What an engine's log says of its start.

The lines are as vLLM 0.32 and SGLang 0.5 write them, by their sources. tests/serving/test_real_server.py has
the real vLLM.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmeval.engines.base import Engine
from slurmeval.engines.sglang import SgLang
from slurmeval.engines.starting import start_parts
from slurmeval.engines.vllm import Vllm

LOGS = Path(__file__).with_name("starting")


@pytest.mark.parametrize(
    ("engine", "log", "parts"),
    [
        (Vllm, "vllm_two_ranks.log", {"weights_s": 14.5, "compile_s": 40.06}),
        (Vllm, "vllm_cpu.log", {"weights_s": 0.52, "compile_s": 1.5}),
        (Vllm, "none.log", {}),
        (SgLang, "sglang.log", {"weights_s": 99.3, "compile_s": 30.56}),
        (Engine, "vllm_cpu.log", {}),
    ],
)
def test_parts_of_a_start_are_read_from_the_log(
    engine: type[Engine], log: str, parts: dict[str, float]
) -> None:
    """Ranks work side by side; kinds of graphs are captured one after another."""
    assert start_parts(engine.start_lines, (LOGS / log).read_text()) == parts


def test_a_line_that_two_processes_wrote_into_ends_no_start() -> None:
    log = "Loading weights took 1.2.5 s\nLoading weights took ... s\nLoading weights took 3.5 s\n"
    assert start_parts(Vllm.start_lines, log) == {"weights_s": 3.5}
