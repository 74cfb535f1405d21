"""Which flags and variables of vLLM may stand where."""

from __future__ import annotations

from typing import Any

import pytest

from slurmeval.engines.flags import flag_problems, variable_problems
from slurmeval.engines.vllm import Vllm
from tests.unit.config.test_bad_input import Refusal

RULES = Vllm().flag_rules()


def said(flag: str, *, of_model: bool) -> str | None:
    return dict(flag_problems(RULES, [flag], of_model=of_model)).get(flag)


@pytest.mark.parametrize("of_model", [True, False])
@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("dtype", "dtype belongs to models.<id>.dtype"),
        ("max-model-len", "max-model-len belongs to models.<id>.max_model_len"),
        ("max_model_len", "max-model-len belongs to models.<id>.max_model_len"),
        ("--max-model-len", "max-model-len belongs to models.<id>.max_model_len"),
        ("q", "quantization belongs to models.<id>.quantization"),
        ("override-generation-config", "override-generation-config belongs to models.<id>.generation"),
        ("override_generation_config.temperature", "override-generation-config belongs to models.<id>.gen"),
        ("no-trust-remote-code", "trust-remote-code belongs to models.<id>.trust_remote_code"),
        ("reasoning-parser", "reasoning-parser belongs to models.<id>.reasoning.parser"),
        ("tokenizer", "tokenizer belongs to models.<id>.weights"),
        ("nnodes", "nnodes belongs to servers.<id>.nodes"),
        ("served-model-name", "slurmeval sets served-model-name itself"),
        ("port", "slurmeval sets port itself"),
        ("-n", "nnodes belongs to servers.<id>.nodes"),
        ("config", "cannot be set: flags in a file of their own are seen by nobody"),
        ("ssl_keyfile", "cannot be set: the gateway speaks plain HTTP on the path /v1"),
        ("tp", "write it as tensor-parallel-size"),
        ("--max-num-seqs", "write it as max-num-seqs"),
        ("ma", "no flag of vLLM; in full it may be: mamba-backend, mamba-block-size, mamba-cache-dtype, …"),
        ("max-model", "no flag of vLLM; in full it may be: max-model-len"),
        ("no-enable-prefix", "no flag of vLLM; in full it may be: enable-prefix-caching"),
    ],
)
def test_a_flag_that_slurmeval_sets_is_refused_with_its_key(flag: str, text: str, of_model: bool) -> None:
    assert (said(flag, of_model=of_model) or "").startswith(text)


@pytest.mark.parametrize("flag", ["kv-cache-dtype", "seed", "load_format", "hf-overrides.x", "new-in-vllm-9"])
def test_a_flag_that_may_alter_answers_belongs_to_the_model(flag: str) -> None:
    assert said(flag, of_model=True) is None
    assert said(flag, of_model=False) == "may alter answers; put it into models.<id>.flags"


@pytest.mark.parametrize(
    "flag",
    [
        *("max-num-seqs", "max_num_seqs", "gpu-memory-utilization", "enforce-eager", "swap-space"),
        *(
            "enable-prefix-caching",
            "no-enable-prefix-caching",
            "max-num-batched-tokens",
            "tensor-parallel-size",
        ),
    ],
)
def test_a_flag_that_alters_no_answer_may_stand_with_the_server(flag: str) -> None:
    assert said(flag, of_model=False) is None


def test_a_misspelt_flag_is_told_what_is_near() -> None:
    assert "did you mean max-num-seqs" in (said("max-num-sqes", of_model=False) or "")


def test_one_flag_in_two_spellings_is_refused() -> None:
    found = dict(flag_problems(RULES, ["seed", "block-size", "block_size"], of_model=True))
    assert found == {"block_size": "is the same flag as block-size"}


@pytest.mark.parametrize("name", ["VLLM_FLOAT32_MATMUL_PRECISION", "VLLM_NEW", "NVIDIA_TF32_OVERRIDE"])
def test_a_variable_that_may_alter_answers_belongs_to_the_model(name: str) -> None:
    assert dict(variable_problems(RULES, [name], of_model=True)) == {}
    assert dict(variable_problems(RULES, [name], of_model=False)) == {
        name: "may alter answers; put it into models.<id>.env"
    }


@pytest.mark.parametrize(
    "name",
    [
        *("VLLM_CPU_KVCACHE_SPACE", "VLLM_LOGGING_LEVEL", "VLLM_ENGINE_READY_TIMEOUT_S", "NCCL_DEBUG"),
        *("VLLM_CACHE_ROOT", "TORCHDYNAMO_DISABLE", "OMP_NUM_THREADS", "LD_LIBRARY_PATH"),
    ],
)
def test_a_variable_that_alters_no_answer_may_stand_with_the_server(name: str) -> None:
    assert dict(variable_problems(RULES, [name], of_model=False)) == {}


def test_the_servers_key_is_slurmevals_own() -> None:
    for of_model in (True, False):
        assert dict(variable_problems(RULES, ["VLLM_API_KEY"], of_model=of_model)) == {
            "VLLM_API_KEY": "slurmeval sets it itself"
        }


def test_each_flag_is_in_one_list() -> None:
    assert not RULES.harmless & (RULES.ours.keys() | RULES.refused.keys())
    assert {"dtype", "max-num-seqs", "kv-cache-dtype"} <= RULES.names


def test_the_config_is_refused_in_one_line(refusal: Refusal, good: dict[str, Any]) -> None:
    good["servers"]["cpu"]["flags"] = {"dtype": "bfloat16", "max_model_len": 100}
    line = refusal(good)
    assert "servers.cpu.flags.dtype: dtype belongs to models.<id>.dtype (and 1 more: servers.cpu" in line
    good["servers"]["cpu"]["flags"] = {}
    good["models"]["tiny"]["flags"] = {"dtype": "bfloat16"}
    assert "models.tiny.flags.dtype: dtype belongs to models.<id>.dtype" in refusal(good)
