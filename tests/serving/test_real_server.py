"""A lease, submitit, the supervisor and the real vLLM together."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurmeval.engines.readiness import request
from slurmeval.files import read_json, write_json
from slurmeval.processes import identity, is_alive
from slurmeval.servers.engine_process import session_members
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.leases import acquire, release
from slurmeval.state.records import load, write
from slurmeval.state.server import ServerJob
from slurmeval.state.server_spec import ServerSpec
from tests.engine_runs import engine_runs_of
from tests.waiting import wait_for

pytestmark = [pytest.mark.serving, pytest.mark.timeout(1200)]

READY_S = 420.0
"""Longest start of the real vLLM on two busy cores; 25 to 56 s have been seen on idle ones."""


class Place:
    """Where one model's servers and leases lie."""

    def __init__(self, root: Path, python: Path, weights: Path, **flags: str | int | None) -> None:
        self.controller = replace(identity(), token="run-1")
        write(root / "controller.json", self.controller)
        self.spec = ServerSpec(
            model="tiny",
            served_name="tiny",
            weights=str(weights),
            manifest=str(root / "tiny.json"),
            python=str(python),
            servers=str(root / "servers"),
            leases=str(root / "leases"),
            controller=str(root / "controller.json"),
            slots=str(root / "slots"),
            dtype="float32",
            max_model_len=256,
            flags={"enforce-eager": None, "max-num-seqs": 4, **flags},
            env={"TORCHDYNAMO_DISABLE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
            ready_timeout_s=READY_S,
            drain_s=10,
            cache=str(root / "vllm-cache"),
        )
        self.lease_path = root / "leases" / "arc.json"
        self.folder = ServerFolder(acquire(self.spec, "arc", self.controller).server)

    def wait_for_engine_run(self, engine_run: int) -> dict[str, Any]:
        """The endpoint of an engine run of vLLM."""

        def found() -> dict[str, Any] | None:
            state = read_json(self.folder.state) or {}
            assert state.get("status") != "failed", state["reason"]
            endpoint = read_json(self.folder.endpoint)
            return endpoint if endpoint and endpoint["engine_run"] == engine_run else None

        return wait_for(found, f"engine run {engine_run}", READY_S)  # type: ignore[no-any-return]

    def wait_for_end(self, deadline_s: float) -> dict[str, Any]:
        """The state in which the server ended, with its job gone."""

        def ended() -> bool:
            status = (read_json(self.folder.state) or {}).get("status")
            process = load(self.folder.job, ServerJob).process
            return status in ("stopped", "failed") and process is not None and not is_alive(process)

        wait_for(ended, "the server's end", deadline_s)
        return read_json(self.folder.state)  # type: ignore[no-any-return]

    def vllm(self) -> int:
        """The process of vLLM, which is also its group's."""
        line = [line for line in self.folder.supervisor_log.read_text().splitlines() if ": process " in line]
        return int(line[-1].split(": process ")[1].split(",")[0])


@pytest.fixture
def place(tmp_path: Path, vllm_python: Path, tiny_model: Path) -> Iterator[Callable[..., Place]]:
    places = []

    def make(**flags: str | int | None) -> Place:
        places.append(Place(tmp_path, vllm_python, tiny_model, **flags))
        return places[-1]

    yield make
    for made in places:
        release(made.lease_path)
        made.wait_for_end(60)


def answers(endpoint: dict[str, Any]) -> bool:
    body = {"model": "tiny", "prompt": "def", "max_tokens": 2}
    return request(endpoint["url"], "/v1/completions", endpoint["api_key"], body, 60)[0] == 200


def test_server_serves_survives_a_kill_and_goes_with_its_lease(
    place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/sys")  # it cannot be written: nothing may want to
    here = place()
    first = here.wait_for_engine_run(1)
    assert answers(first)
    assert request(first["url"], "/v1/models", "another key")[0] == 401

    killed = here.vllm()
    os.kill(killed, signal.SIGKILL)
    second = here.wait_for_engine_run(2)
    assert answers(second)
    assert second["api_key"] != first["api_key"]
    assert session_members(killed) == []

    group = here.vllm()
    assert len(session_members(group)) > 1, "vLLM has workers"
    started = time.monotonic()
    release(here.lease_path)
    state = here.wait_for_end(20)
    print(f"released in {time.monotonic() - started:.1f} s")
    assert state["status"] == "stopped"
    assert session_members(group) == []
    assert not here.folder.endpoint.exists()
    engine_runs = engine_runs_of(here.folder)
    print(f"starting took {[engine_run['starting_s'] for engine_run in engine_runs]} s")
    for engine_run in engine_runs:  # its log tells what the start went into
        told = [engine_run[name] for name in ("weights_s", "compile_s", "first_answer_s")]
        assert None not in told and sum(told) <= engine_run["starting_s"]
    assert [engine_run["exit_reason"] for engine_run in engine_runs] == [
        "vLLM was killed by SIGKILL",
        "no lease is left",
    ]


def test_bad_flag_fails_with_vllms_own_reason(place: Callable[..., Place]) -> None:
    here = place(**{"no-such-flag": 3})
    state = here.wait_for_end(READY_S)
    assert state["status"] == "failed"
    assert state["reason"] == "vLLM refuses its command line: unrecognized arguments: --no-such-flag=3"
    assert len(engine_runs_of(here.folder)) == 1


def test_killed_supervisor_leaves_no_vllm(place: Callable[..., Place]) -> None:
    here = place()
    here.wait_for_engine_run(1)
    group = here.vllm()
    os.kill(read_json(here.folder.state)["owner"]["pid"], signal.SIGKILL)
    try:
        wait_for(lambda: not session_members(group), "vLLM's end", 30)
    finally:
        write_json(here.folder.state, {**read_json(here.folder.state), "status": "failed"})
