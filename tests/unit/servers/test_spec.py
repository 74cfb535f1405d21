"""The spec and the command line that it becomes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slurmeval.config.models import Model, Server, Weights
from slurmeval.paths import Paths
from slurmeval.servers.spec import ServerSpec, server_spec, vllm_argv, vllm_environment


@pytest.fixture
def spec() -> ServerSpec:
    model = Model(
        weights=Weights(folder="weights"),
        server="cpu",
        dtype="float32",
        max_model_len=2048,
        chat_template="templates/plain.jinja",
        generation={"max_new_tokens": 64},
        flags={"reasoning-parser": "deepseek_r1"},
    )
    server = Server(flags={"enforce-eager": None, "max-num-seqs": 8}, env={"HF_HUB_OFFLINE": "0", "A": "b"})
    return server_spec(
        "smol",
        model,
        server,
        paths=Paths(Path("/p/results"), Path("/p/.environments"), Path("/hf")),
        weights_folder=Path("/hf/my weights"),
        python=Path("/env/bin/python"),
        max_at_once=2,
        project=Path("/p"),
    )


def test_spec_survives_json(spec: ServerSpec) -> None:
    assert ServerSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.servers == "/p/results/state/servers/smol"
    assert spec.leases == "/p/results/leases/smol"


def test_command_line_holds_the_config_and_no_key(spec: ServerSpec) -> None:
    assert vllm_argv(spec, 8123) == [
        *("/env/bin/python", "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", "/hf/my weights", "--served-model-name", "smol"),
        *("--host", "127.0.0.1", "--port", "8123", "--dtype", "float32", "--max-model-len", "2048"),
        *("--chat-template", "/p/templates/plain.jinja"),
        *("--override-generation-config", '{"max_new_tokens": 64}'),
        *("--enforce-eager", "--max-num-seqs=8", "--reasoning-parser=deepseek_r1"),
    ]


def test_switches_are_flags_without_value(spec: ServerSpec) -> None:
    changed = ServerSpec.from_json({**spec.to_json(), "flags": {"a": True, "b": False, "c": None}})
    assert vllm_argv(changed, 1)[-3:] == ["--a", "--no-b", "--c"]


def test_environment_is_the_servers_own(spec: ServerSpec) -> None:
    base = {"PATH": "/bin", "PYTHONPATH": "/x", "CUDA_VISIBLE_DEVICES": "", "HOME": "/h"}
    env = vllm_environment(spec, base, "secret")
    assert env["VLLM_API_KEY"] == "secret"
    assert env["PATH"] == "/env/bin:/bin"
    assert (env["HF_HUB_OFFLINE"], env["A"], env["HOME"]) == ("0", "b", "/h")
    assert "PYTHONPATH" not in env and "CUDA_VISIBLE_DEVICES" not in env
    assert vllm_environment(spec, {**base, "CUDA_VISIBLE_DEVICES": "1"}, "k")["CUDA_VISIBLE_DEVICES"] == "1"
