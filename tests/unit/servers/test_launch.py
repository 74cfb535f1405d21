"""The command line and the environment that a spec becomes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from slurmeval.engines.base import Rank
from slurmeval.engines.vllm import Vllm
from slurmeval.servers.launch import environment, is_secret, launch
from slurmeval.servers.ports import BindAddress
from slurmeval.state.server_spec import ServerSpec
from tests.waiting import wait_for

VLLM = Vllm()


@pytest.fixture
def spec() -> ServerSpec:
    return ServerSpec(
        model="smol",
        served_name="smol",
        weights="/hf/my weights",
        manifest="/m.json",
        python="/env/bin/python",
        servers="/p/results/state/servers/smol",
        leases="/p/results/leases/smol",
        controller="/p/results/state/controller.json",
        slots="/p/results/state/slots",
        dtype="float32",
        max_model_len=2048,
        chat_template="/p/templates/plain.jinja",
        generation={"temperature": 0.0},
        reasoning_parser="deepseek_r1",
        flags={"enforce-eager": None, "max-num-seqs": 8, "attention-backend": "FLASH_ATTN"},
        env={"HF_HUB_OFFLINE": "0", "A": "b"},
    )


def test_command_line_holds_the_config_and_no_key(spec: ServerSpec) -> None:
    assert VLLM.argv(spec, "127.0.0.1", 8123) == [
        *("/env/bin/python", "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", "/hf/my weights", "--served-model-name", "smol"),
        *("--host", "127.0.0.1", "--port", "8123", "--dtype", "float32", "--max-model-len", "2048"),
        *("--chat-template", "/p/templates/plain.jinja"),
        *("--override-generation-config", '{"temperature": 0.0}', "--reasoning-parser", "deepseek_r1"),
        *("--enforce-eager", "--max-num-seqs=8", "--attention-backend=FLASH_ATTN"),
    ]


def test_switches_are_flags_without_value(spec: ServerSpec) -> None:
    changed = replace(spec, flags={"a": True, "b": False, "c": None})
    assert VLLM.argv(changed, "127.0.0.1", 1)[-3:] == ["--a", "--no-b", "--c"]


def test_model_is_split_over_the_gpus_asked_for(spec: ServerSpec) -> None:
    argv = VLLM.argv(replace(spec, gpus=4, flags={}), "h", 1)
    assert argv[-2:] == ["--tensor-parallel-size", "4"]
    assert "--tensor-parallel-size" not in VLLM.argv(replace(spec, gpus=1), "h", 1)


@pytest.mark.parametrize("flag", ["tensor-parallel-size", "data_parallel_size", "pipeline-parallel-size"])
def test_flags_that_split_the_model_are_left_alone(spec: ServerSpec, flag: str) -> None:
    argv = VLLM.argv(replace(spec, gpus=4, nodes=2, flags={flag: 2}), "h", 1)
    assert [argument for argument in argv if "parallel" in argument] == [f"--{flag}=2"]


def test_ranks_share_one_vllm_and_the_first_answers(spec: ServerSpec) -> None:
    spec = replace(spec, gpus=4, nodes=2, flags={})
    first = VLLM.argv(spec, "10.0.0.1", 8123, Rank(0, "10.0.0.1", 7000))
    second = VLLM.argv(spec, "10.0.0.2", 0, Rank(1, "10.0.0.1", 7000))
    shared = ["--tensor-parallel-size", "4", "--pipeline-parallel-size", "2", "--nnodes", "2"]
    assert first[first.index("--tensor-parallel-size") :] == [
        *(*shared, "--node-rank", "0", "--master-addr", "10.0.0.1", "--master-port", "7000"),
        *("--distributed-executor-backend", "mp"),
    ]
    assert second[1:6] == ["-m", "vllm.entrypoints.cli.main", "serve", "/hf/my weights", "--headless"]
    assert "--host" not in second and "--port" not in second
    assert second[second.index("--node-rank") + 1] == "1"


def test_environment_is_the_servers_own(spec: ServerSpec) -> None:
    base = {
        "PATH": "/bin",
        "PYTHONPATH": "/x",
        "PYTHONOPTIMIZE": "2",
        "CUDA_VISIBLE_DEVICES": "",
        "HOME": "/h",
    }
    env = environment(VLLM, spec, base, "secret")
    assert env["VLLM_API_KEY"] == "secret"
    assert env["PATH"] == "/env/bin:/bin"
    assert (env["HF_HUB_OFFLINE"], env["A"], env["HOME"]) == ("0", "b", "/h")
    assert (
        not {"PYTHONPATH", "PYTHONOPTIMIZE", "CUDA_VISIBLE_DEVICES", "VLLM_PORT", "VLLM_CACHE_ROOT"}
        & env.keys()
    )


@pytest.mark.parametrize("devices", ["1", "0,3", "MIG-5c89852c-d268-c3f3-1b07-005d5ae1dc3f"])
def test_devices_that_the_job_was_given_pass_through(spec: ServerSpec, devices: str) -> None:
    env = environment(VLLM, spec, {"CUDA_VISIBLE_DEVICES": devices, "ROCR_VISIBLE_DEVICES": "2"}, "k")
    assert (env["CUDA_VISIBLE_DEVICES"], env["ROCR_VISIBLE_DEVICES"]) == (devices, "2")


def test_secrets_of_the_user_do_not_reach_vllm(spec: ServerSpec) -> None:
    base = dict.fromkeys(("HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GH_TOKEN"), "x")
    env = environment(VLLM, replace(spec, env={"MY_TOKEN": "meant"}), {**base, "NCCL_DEBUG": "INFO"}, "k")
    assert not base.keys() & env.keys()
    assert (env["NCCL_DEBUG"], env["MY_TOKEN"]) == ("INFO", "meant")


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "SSH_AUTH_SOCK", "KEYBOARD"])
def test_ordinary_names_are_no_secrets(name: str) -> None:
    assert not is_secret(name)


def test_servers_that_share_a_node_share_no_ports_and_no_cache(spec: ServerSpec) -> None:
    spec = replace(spec, cluster="slurm", cache="/p/cache")
    envs = [
        environment(VLLM, each, {"SLURM_JOB_ID": job}, "k")
        for job, each in (("1", spec), ("2", replace(spec, servers=f"{spec.servers}@2", replica=2)))
    ]
    assert len({env["VLLM_PORT"] for env in envs}) == 2
    assert [env["VLLM_CACHE_ROOT"] for env in envs] == ["/p/cache/1", "/p/cache/2"]
    assert all(12_000 <= int(env["VLLM_PORT"]) < 32_768 for env in envs)


def test_nothing_that_vllm_and_its_compilers_keep_lies_in_the_home_folder(spec: ServerSpec) -> None:
    of_the_shell = {"HOME": "/home/u", "TRITON_CACHE_DIR": "/home/u/t", "XDG_CACHE_HOME": "/home/u/.cache"}
    spec = replace(spec, cache="/p/cache", env={"CUDA_CACHE_PATH": "/meant"})
    env = environment(VLLM, spec, of_the_shell, "k")
    assert not [name for name, value in env.items() if value.startswith("/home")]
    names = (
        *("VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "FLASHINFER_WORKSPACE_BASE", "XDG_CACHE_HOME", "HOME"),
        *("TORCH_EXTENSIONS_DIR", "DG_JIT_CACHE_DIR", "TILELANG_CACHE_DIR", "HF_MODULES_CACHE"),
    )
    assert all(env[name].startswith("/p/cache/1") for name in names)
    assert env["CUDA_CACHE_PATH"] == "/meant"


@pytest.mark.parametrize("is_long", [False, True])
def test_sockets_of_vllm_lie_in_a_short_folder_that_goes_with_it(
    spec: ServerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_long: bool
) -> None:
    class Opening(Vllm):
        def argv(self, *_: object) -> list[str]:
            return [
                "/bin/sh",
                "-c",
                'echo "$VLLM_RPC_BASE_PATH" && touch "$VLLM_RPC_BASE_PATH/0" && exec sleep 60',
            ]

    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", f"/tmp/{'x' * 70}" if is_long else short)
        log = tmp_path / "log"
        engine = launch(
            Opening(), spec, BindAddress("127.0.0.1", "127.0.0.1"), log, port=1, api_key="k", rank=None
        )
        wait_for(
            lambda: log.read_text().strip() and list(Path(log.read_text().strip()).iterdir()),
            "a socket of the engine",
        )
        sockets = Path(log.read_text().strip())
        assert len(str(sockets)) <= 60 and sockets.is_relative_to("/tmp" if is_long else short)
        engine.kill()
        assert not sockets.parent.exists()


def test_the_config_may_say_where_sockets_lie(spec: ServerSpec, tmp_path: Path) -> None:
    spec = replace(spec, env={"VLLM_RPC_BASE_PATH": "/meant"})
    assert environment(VLLM, spec, {}, "k", None, tmp_path)["VLLM_RPC_BASE_PATH"] == "/meant"
