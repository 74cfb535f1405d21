"""What a probe says of the node that it runs on."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from slurmeval.files import write_json
from slurmeval.servers.ports import bind_address
from slurmeval.site_check import probe
from slurmeval.site_check.facts import Gpu, Listening, NodeFacts, Reached
from slurmeval.site_check.probe import Order
from slurmeval.state.records import encode, load
from tests.waiting import wait_for

CONTAINERS = {"program": "/nowhere/apptainer"}


def order(folder: Path, name: str = "server-", **given: object) -> Order:
    places = {"results": str(folder), "HF_HOME": str(folder / "gone")}
    return Order(
        **{"name": name, "places": places, "token": "mark", "containers": CONTAINERS, "scratch": None} | given
    )  # type: ignore[arg-type]


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, table: str, gpus: str = "") -> None:
    """A stand-in for nvidia-smi, first on PATH."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncase $1 in --list-gpus) printf '{gpus}' ;; *) printf '{table}' ;; esac\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_a_node_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    monkeypatch.setenv("PATH", "/nowhere")
    (tmp_path / "mark").touch()
    file = tmp_path / "server-.order.json"
    write_json(file, encode(order(tmp_path, scratch="$NOT_SET_ANYWHERE/x")))
    monkeypatch.setattr(probe.sys, "argv", ["probe", str(file)])
    probe.main()
    facts = load(probe.facts_file(tmp_path, "server-"), NodeFacts)
    assert (facts.places["results"].same, facts.places["results"].writable) == (True, True)
    assert (facts.places["HF_HOME"].same, facts.places["HF_HOME"].writable) == (False, False)
    assert facts.internet is not None and "refused" in facts.internet
    assert facts.devices == ["0", "3"]
    assert facts.gpus_unknown == "there is no nvidia-smi on this node"
    assert facts.containers == ""
    assert (facts.scratch_usable, facts.scratch) == (
        False,
        "$NOT_SET_ANYWHERE/x: the variable is not set in this job",
    )


def test_gpus_are_those_of_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "NVIDIA A100-SXM4-80GB, 81920, 580.65.06, 8.0\\n" * 2)
    gpu = Gpu("NVIDIA A100-SXM4-80GB", 81920.0, "580.65.06", "8.0")
    assert probe._gpus() == ([gpu, gpu], None)


def test_a_part_of_a_gpu_has_its_own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = (
        "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)\\n"
        "  MIG 3g.20gb     Device  0: (UUID: MIG-a)\\n  MIG 1g.5gb      Device  1: (UUID: MIG-b)\\n"
    )
    nvidia_smi(tmp_path, monkeypatch, "NVIDIA A100-SXM4-40GB, [N/A], 580.65.06, 8.0\\n", listed)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-b")
    assert probe._gpus() == ([Gpu("NVIDIA A100-SXM4-40GB, MIG 1g.5gb", 5120.0, "580.65.06", "8.0")], None)


def test_a_broken_driver_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "NVIDIA-SMI has failed\\n")
    assert probe._gpus() == ([], "nvidia-smi is there, and does not answer as expected")


def test_scratch_in_memory_is_of_no_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "file_system", lambda folder: "tmpfs")
    found, usable = probe._scratch(str(tmp_path))
    assert not usable and found is not None and found.endswith("it is in memory")


def test_an_evaluations_probe_reaches_a_servers(tmp_path: Path) -> None:
    server = order(tmp_path, "server-", address="127.0.0.1")
    listening = threading.Thread(target=probe.listen, args=(tmp_path, server, 20.0))
    listening.start()
    probe.reach(tmp_path, order(tmp_path, "evaluations", reaches=("server-",), wait_s=20.0))
    listening.join(20)
    assert load(probe.reached_file(tmp_path, "server-"), Reached).fault is None
    assert not listening.is_alive(), "it listens on although it has been reached"


def test_a_port_that_is_closed_is_said(tmp_path: Path) -> None:
    write_json(probe.listening_file(tmp_path, "server-"), encode(Listening("127.0.0.1", 9)))
    probe.reach(tmp_path, order(tmp_path, "evaluations", reaches=("server-",), wait_s=20.0))
    assert "refused" in (load(probe.reached_file(tmp_path, "server-"), Reached).fault or "")


def test_another_that_listens_is_no_server(tmp_path: Path) -> None:
    other = order(tmp_path, "other", address="127.0.0.1", token="another")
    thread = threading.Thread(target=probe.listen, args=(tmp_path, other, 20.0))
    thread.start()
    file = probe.listening_file(tmp_path, "other")
    wait_for(file.exists, "it to listen", 20)
    there = load(file, Listening)
    assert probe._unreachable(there, b"mark...") == "something else listens there"
    write_json(probe.reached_file(tmp_path, "other"), {})
    thread.join(20)


def test_a_name_that_does_not_resolve_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "bind_address", lambda address: bind_address(address, timeout_s=0.1))
    probe.listen(tmp_path, order(tmp_path, address="{host}.nowhere.invalid"))
    fault = load(probe.listening_file(tmp_path, "server-"), Listening).fault
    assert fault is not None and "cannot resolve" in fault
