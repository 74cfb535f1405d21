"""The law by which a plan estimates what has never run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from slurmeval.config.gpus import CPU_CORE, gpus
from slurmeval.config.site import Site
from slurmeval.planning import law
from slurmeval.planning.gpu_memory import cache_per_token
from slurmeval.planning.law import Size, Span, Work

ROOT = Path(__file__).parents[3]
EIGHT_B = Size(weight_bytes=16e9, parameters=8e9, active=1.0, cache_bytes=131072)


def batching() -> ModuleType:
    """The stand-in engine with a known law (timings/batching.py)."""
    spec = importlib.util.spec_from_file_location("batching", ROOT / "timings" / "batching.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_gpu_has_figures_and_a_source() -> None:
    for name, gpu in gpus().items():
        assert gpu.source and gpu.memory_gb > 0 and gpu.tflops > 0, name
        # between a core and the fastest there is
        assert 1 <= gpu.bandwidth_gb_s <= 10_000, name


def test_a_pool_with_another_gpu_has_another_memory() -> None:
    pools = {"small": {"gpu": "T4"}, "same": {"partition": "other"}}
    servers = {"gpu": "A100-40GB", "gpu_memory_gb": 39, "pools": pools}
    site = Site.model_validate({"version": 1, "servers": servers})
    memory = [site.servers.of(pool).memory_of_gpu_gb for pool in (None, "small", "same")]
    assert memory == [39, 16, 39]
    with pytest.raises(ValueError, match="'A1000' is not known; expected one of A100-40GB"):
        Site.model_validate({"version": 1, "servers": {"gpu": "A1000"}})


def test_a_step_reads_the_weights_or_computes() -> None:
    gpu = gpus()["A100-80GB"]
    alone = law.step_s(EIGHT_B, gpu, 1, sequences=1, context=0)
    assert alone == pytest.approx(law.STEP_S + 16e9 / (2039e9 * 0.6))
    # two GPUs read twice as fast
    assert law.step_s(EIGHT_B, gpu, 2, 1, 0) == pytest.approx(law.STEP_S + 16e9 / (2 * 2039e9 * 0.6))
    many = law.step_s(EIGHT_B, gpu, 1, sequences=2000, context=0)
    assert many == pytest.approx(law.STEP_S + 2 * 8e9 * 2000 / (312e12 * 0.4))
    long = law.step_s(EIGHT_B, gpu, 1, sequences=100, context=4000)
    assert long == pytest.approx(law.STEP_S + (16e9 + 100 * 4000 * 131072) / (2039e9 * 0.6))


def test_of_a_mixture_of_experts_only_some_compute() -> None:
    sparse = Size(16e9, 8e9, 0.25, 0)
    gpu = gpus()["A100-80GB"]
    assert law.step_s(sparse, gpu, 1, 4000, 0) - law.STEP_S == pytest.approx(
        (law.step_s(EIGHT_B, gpu, 1, 4000, 0) - law.STEP_S) / 4
    )


@pytest.mark.parametrize("benchmarks", [1, 2, 4, 10])
def test_it_agrees_with_an_engine_of_known_law_within_three(benchmarks: int) -> None:
    engine = batching()
    sizes = [engine.QUESTIONS // (k + 1) for k in range(benchmarks)]
    seconds, _ = engine.simulate(engine.lengths_of(sizes), 256, engine.of_each)
    tokens = sum(sizes) * engine.TOKENS
    work = Work(sum(sizes), sum(sizes) * 200, Span(tokens / 4, tokens))
    found = law.answering_s(EIGHT_B, gpus()["A100-80GB"], 1, work, slots=256)
    assert 1 / 3 < found.high / seconds < 3
    assert found.low / 3 < seconds < found.high * 3


def test_loading_takes_longer_the_larger_the_weights() -> None:
    small, large = law.starting_s(EIGHT_B), law.starting_s(Size(140e9, 70e9, 1.0, 0))
    assert (small.low, small.high) == (38.0, 260.0)
    assert (large.low, large.high) == (100.0, 880.0)


def test_nothing_asked_takes_nothing() -> None:
    none = Work(0, 0, Span(0, 0))
    assert law.answering_s(EIGHT_B, gpus()[CPU_CORE], 4, none, 8) == Span(0.0, 0.0)


def test_a_kv_cache_that_differs_by_layer_is_not_guessed() -> None:
    model = {
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": 4096,
    }
    assert cache_per_token(model) == EIGHT_B.cache_bytes
    assert cache_per_token(model, gpus=16) == EIGHT_B.cache_bytes / 8
    for key in model:
        assert cache_per_token(model | {key: [8] * 32}) is None
    assert cache_per_token(model | {"head_dim": 64}) == EIGHT_B.cache_bytes / 2
