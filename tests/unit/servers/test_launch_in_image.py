"""An engine in an image: what of the machine its container gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slurmeval.config.site import Containers
from slurmeval.engines.vllm import Vllm
from slurmeval.servers.launch import environment, in_image, inherited
from slurmeval.state.server_spec import ServerSpec

VLLM = Vllm()


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerSpec:
    programs = tmp_path / "programs"
    programs.mkdir()
    program = programs / "apptainer"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    blobs, weights = tmp_path / "blobs", tmp_path / "snapshots" / "c0ffee"
    blobs.mkdir()
    weights.mkdir(parents=True)
    (blobs / "1").write_text("weights")
    (weights / "model.safetensors").symlink_to(blobs / "1")
    names = ("manifest", "servers", "leases", "controller", "slots")
    return ServerSpec(
        model="m",
        served_name="m",
        weights=str(weights),
        python="/usr/bin/python3",
        **{name: str(tmp_path / name) for name in names},
        image=str(tmp_path / "vllm.sif"),
        containers=Containers(binds=["/sw:/sw:ro"]).model_dump(mode="json"),
        gpus=2,
        cache=str(tmp_path / "cache"),
    )


def start(spec: ServerSpec) -> tuple[list[str], dict[str, str]]:
    env = environment(VLLM, spec, inherited(VLLM, spec), "the-key")
    return in_image(VLLM, spec, VLLM.argv(spec, "127.0.0.1", 8000), env)


def test_it_sees_its_weights_and_its_gpus(spec: ServerSpec, tmp_path: Path) -> None:
    argv, _ = start(spec)
    mounts = [argv[place + 1] for place, flag in enumerate(argv) if flag == "--mount"]
    seen = {
        field.removeprefix("source=") for mount in mounts for field in mount.split(",") if "source=" in field
    }
    assert seen == {"/tmp", spec.weights, str(tmp_path / "blobs"), f"{spec.cache}/1"}
    assert [mount for mount in mounts if mount.endswith(",ro")]
    assert "--nv" in argv
    assert "/sw:/sw:ro" in argv
    assert argv[argv.index(str(spec.image)) + 1] == "/usr/bin/python3"
    assert "--net" not in argv  # it is to be reached


def test_without_gpus_none_are_asked_for(spec: ServerSpec) -> None:
    assert "--nv" not in start(replace(spec, gpus=0))[0]


def test_its_key_is_on_no_command_line_and_nothing_else_of_the_user_gets_in(
    spec: ServerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    monkeypatch.setenv("PYTHONSTARTUP", "/home/x")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    argv, env = start(spec)
    inside = {
        name.removeprefix("APPTAINERENV_"): value
        for name, value in env.items()
        if name.startswith("APPTAINERENV_")
    }
    assert inside["VLLM_API_KEY"] == "the-key"
    assert inside["CUDA_VISIBLE_DEVICES"] == "MIG-1"
    assert inside["HF_HUB_OFFLINE"] == "1"
    assert not {"HF_TOKEN", "PYTHONSTARTUP", "PATH", "HOME"} & set(inside)
    assert "the-key" not in " ".join(argv)


def test_an_environment_is_started_as_it_is(spec: ServerSpec) -> None:
    native = replace(spec, image=None)
    argv, env = ["vllm"], {"A": "1"}
    assert in_image(VLLM, native, argv, env) == (argv, env)
