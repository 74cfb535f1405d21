"""The spec of a server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from slurmeval.config.models import Generation, Model, Reasoning
from slurmeval.config.serving import Serving
from slurmeval.config.site import Site
from slurmeval.config.sources import Weights
from slurmeval.paths import Paths
from slurmeval.servers.spec import server_spec
from slurmeval.state.records import decode, encode
from slurmeval.state.server_spec import JobParameters, ServerSpec

SLURM = Site(version=1)


def make_spec(server: Serving, **changed: Any) -> ServerSpec:
    model = Model(
        weights=Weights(folder="weights"),
        server="cpu",
        dtype="float32",
        chat_template="templates/plain.jinja",
        flags={"attention-backend": "FLASH_ATTN"},
        generation=Generation(temperature=0, max_new_tokens=64),
        reasoning=Reasoning(parser="deepseek_r1"),
        env={"VLLM_FLOAT32_MATMUL_PRECISION": "high"},
    )
    arguments: dict[str, Any] = {
        "paths": Paths(Path("/p/results"), Path("/p/.environments"), Path("/hf"), Path("/p/.images")),
        "manifest": Path("/p/results/staged/models/smol.json"),
        "weights_folder": Path("/hf/my weights"),
        "python": Path("/env/bin/python"),
        "max_at_once": None,
        "project": Path("/p"),
    }
    return server_spec("smol", model, server, **{**arguments, **changed})


def test_spec_survives_json() -> None:
    spec = make_spec(Serving(flags={"enforce-eager": None, "max-num-seqs": 8}))
    assert decode(json.loads(json.dumps(encode(spec))), ServerSpec) == spec
    assert spec.servers == "/p/results/state/servers/smol"
    assert spec.leases == "/p/results/leases/smol"
    assert spec.chat_template == "/p/templates/plain.jinja"
    assert spec.flags == {"enforce-eager": None, "max-num-seqs": 8, "attention-backend": "FLASH_ATTN"}
    assert spec.reasoning_parser == "deepseek_r1"


def test_what_the_model_says_of_vllm_comes_after_what_its_server_says() -> None:
    server = Serving(flags={"attention_backend": "x", "max_num_seqs": 8}, env={"A": "1"})
    spec = make_spec(server, site=SLURM)
    assert spec.flags == {"attention-backend": "FLASH_ATTN", "max-num-seqs": 8}
    own = {"VLLM_CPU_KVCACHE_SPACE": "8"}
    assert spec.env == {"A": "1", "VLLM_FLOAT32_MATMUL_PRECISION": "high"} | own


def test_a_server_on_cores_takes_its_share_of_memory_and_not_the_nodes() -> None:
    def kv_cache(server: Serving, site: Site | None = SLURM) -> str | None:
        return make_spec(server, site=site).env.get("VLLM_CPU_KVCACHE_SPACE")

    assert kv_cache(Serving(memory_gb=10)) == "2"
    assert kv_cache(Serving(memory_gb=2)) == "1"
    assert kv_cache(Serving(memory_gb=10, env={"VLLM_CPU_KVCACHE_SPACE": "3"})) == "3"
    assert kv_cache(Serving(memory_gb=10, flags={"gpu_memory_utilization": 0.5})) is None
    assert kv_cache(Serving(memory_gb=64, gpus=1)) is None
    machine_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    assert kv_cache(Serving(memory_gb=100_000), site=None) == str(max(1, int(machine_gb / 4)))


def test_vllm_is_not_told_the_longest_answer_which_it_would_take_for_a_ceiling() -> None:
    assert make_spec(Serving()).generation == {"temperature": 0}


def test_one_machine_runs_one_server_at_once_and_has_the_gpus_it_has() -> None:
    spec = make_spec(Serving(gpus=4, nodes=2))
    assert (spec.max_at_once, spec.gpus, spec.nodes, spec.cluster) == (1, 0, 1, "local")
    assert spec.host == "127.0.0.1" and spec.job == JobParameters()
    assert make_spec(Serving(), max_at_once=3).max_at_once == 3


def test_cluster_is_asked_for_what_the_server_needs() -> None:
    site = Site.model_validate(
        {
            "version": 1,
            "servers": {
                "account": "P1",
                "gpus": "--gpus-per-node=A100:{gpus}",
                "memory": None,
                "address": "{host}i",
                "max_time_min": 600,
                "setup": ["module load CUDA"],
            },
        }
    )
    spec = make_spec(Serving(gpus=4, nodes=2, cpus=16), site=site, max_at_once=3)
    assert (spec.cluster, spec.gpus, spec.nodes, spec.host) == ("slurm", 4, 2, "{host}i")
    assert spec.max_at_once is None, "Slurm sees to it"
    assert spec.time_limit_min == spec.job.timeout_min == 600
    assert (spec.job.nodes, spec.job.tasks_per_node) == (2, 1)
    assert "module load CUDA" in spec.job.slurm_setup
    flags = spec.job.slurm_additional_parameters
    assert (flags["account"], flags["gpus-per-node"], flags["cpus-per-task"]) == ("P1", "A100:4", "16")
    assert "mem" not in flags
    assert spec.cache == "/p/results/state/vllm-cache/smol"


def test_a_server_that_is_there_already_is_not_waited_for_as_one_that_loads_weights() -> None:
    api = {"url": "http://127.0.0.1:9/v1"}
    assert make_spec(Serving.model_validate(api)).ready_timeout_s == 120
    assert make_spec(Serving.model_validate(api | {"ready_timeout_s": 1800})).ready_timeout_s == 1800
    assert make_spec(Serving()).ready_timeout_s == 1800
