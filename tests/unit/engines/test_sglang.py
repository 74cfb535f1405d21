"""SGLang as its sources have it: `sglang/` holds texts made by its sources' formats, not recorded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slurmeval.engines import failures
from slurmeval.engines.base import EngineSpec, Figures, Rank
from slurmeval.engines.registry import find_engine
from slurmeval.engines.sglang import SgLang
from slurmeval.environments.locks import read_lock
from slurmeval.errors import ErrorClass
from slurmeval.project_files import DATA, LOCKS
from tests.unit.config.test_bad_input import Refusal

FOLDER = Path(__file__).parent / "sglang"
ENGINE = SgLang()


def argv(rank: Rank | None = None, **given: Any) -> list[str]:
    return ENGINE.argv(EngineSpec(served_name="m", weights="/w", python="py", **given), "::1", 8000, rank)


def test_the_command_line_is_that_of_its_parser() -> None:
    found = argv(max_model_len=4096, gpus=4, reasoning_parser="qwen3", flags={"log-level": "info"})
    assert found[:2] == ["py", "-c"] and "'--api-key', os.environ.pop('SGLANG_API_KEY')" in found[2]
    assert found[3:] == [
        *("--model-path", "/w", "--served-model-name", "m", "--host", "::1", "--port", "8000"),
        *("--dtype", "auto", "--enable-metrics", "--context-length", "4096"),
        *("--reasoning-parser", "qwen3", "--tp-size", "4", "--log-level=info"),
    ]


def test_a_config_may_split_the_model_itself() -> None:
    assert "--tp-size" not in argv(gpus=4, flags={"dp-size": 4})


def test_every_node_gets_its_rank() -> None:
    found = argv(Rank(1, "node1", 4711), gpus=2, nodes=3)
    assert found[found.index("--tp-size") :] == [
        *("--tp-size", "2", "--pp-size", "3", "--nnodes", "3", "--node-rank", "1"),
        *("--dist-init-addr", "node1:4711"),
    ]


def test_its_figures_are_read() -> None:
    assert ENGINE.figures((FOLDER / "metrics.txt").read_text()) == Figures(340, 1200, 5, 17)


@pytest.mark.parametrize(
    ("log", "reason", "error_class"),
    [
        ("no_cache_memory", "no memory is left for the KV cache", ErrorClass.OUT_OF_MEMORY),
        ("unknown_architecture", "does not know the model's architecture ['Frob", ErrorClass.SERVER_LOST),
        ("context_length", "max_model_len 1000000 is greater than the 8192", ErrorClass.SERVER_LOST),
    ],
)
def test_its_failures_are_told(log: str, reason: str, error_class: ErrorClass) -> None:
    found = failures.classify(
        (FOLDER / f"{log}.log").read_text(),
        1,
        engine=SgLang.name,
        known_failures=SgLang.known_failures,
        consequences=SgLang.consequences,
    )
    assert reason in found.reason and found.error_class is error_class


def test_a_config_names_it(good: dict[str, Any], refusal: Refusal) -> None:
    assert isinstance(find_engine("sglang"), SgLang)
    server = good["servers"]["cpu"]
    server.clear()
    server |= {"engine": "sglang", "gpus": 1}
    next(iter(good["models"].values()))["generation"] = {"max_new_tokens": 8}
    assert "cannot be had: SGLang has no defaults of sampling" in refusal(good)


def test_its_lock_has_it_for_cuda() -> None:
    lock = read_lock(DATA / LOCKS / "sglang-cuda.lock")
    versions = ENGINE.versions(lock.packages)
    assert {"sglang", "torch", "transformers", "sglang-kernel", "xgrammar"} <= set(versions)
    assert "nvidia-cuda-runtime" in lock.packages
