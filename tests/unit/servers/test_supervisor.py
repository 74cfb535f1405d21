"""The supervisor around a stand-in for vLLM: real processes, short times, faults that are caused."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from slurmeval.engines.vllm import Vllm
from slurmeval.errors import ServerFailed
from slurmeval.files import read_json
from slurmeval.processes import identity
from slurmeval.servers.engine_process import session_members
from slurmeval.servers.leases import acquire, release
from slurmeval.state.records import encode, write
from tests.engine_runs import engine_runs_of
from tests.stand_ins.stand_in_vllm import is_known
from tests.unit.servers.conftest import Bench
from tests.waiting import wait_for

RECORDED = Path(__file__).parents[1] / "engines" / "vllm"


def endpoint_of_life(bench: Bench, engine_run: int) -> dict[str, object]:
    def found() -> dict[str, object] | None:
        endpoint = read_json(bench.folder().endpoint)
        return endpoint if endpoint and endpoint["engine_run"] == engine_run else None

    return wait_for(found, f"the endpoint of engine_run {engine_run}")  # type: ignore[no-any-return]


def test_leased_server_becomes_ready_and_publishes_its_endpoint(bench: Bench) -> None:
    bench.lease()
    state = bench.wait_for_status("ready")
    endpoint = endpoint_of_life(bench, 1)
    (engine_run,) = bench.engine_runs()
    assert endpoint == {
        "format": 1,
        "url": f"http://127.0.0.1:{engine_run['port']}",
        "api_key": engine_run["key"],
        "model": "smol",
        "engine_run": 1,
    }
    assert stat.S_IMODE(bench.folder().endpoint.stat().st_mode) == 0o600
    assert state["server_id"] == "smol/0001"
    assert state["owner"]["pid"] == bench.supervisors[0].pid
    assert not any(engine_run["key"] in argument for argument in engine_run["argv"])


def test_ready_server_says_what_its_start_went_into(bench: Bench) -> None:
    bench.order({"log": str(RECORDED.parent / "starting" / "vllm_cpu.log")})
    bench.lease()
    told = bench.wait_for_status("ready")["under_way"]
    assert (told["weights_s"], told["compile_s"]) == (0.52, 1.5)
    assert 0 <= told["first_answer_s"] <= told["starting_s"]


def test_server_without_leases_stops_and_leaves_nothing_behind(bench: Bench) -> None:
    bench.lease("arc")
    bench.lease("gsm8k")
    bench.wait_for_status("ready")
    bench.lease_path("arc").unlink()
    release(bench.lease_path("gsm8k"))
    assert bench.wait_for_exit() == 0
    assert bench.state()["status"] == "stopped"
    assert bench.state()["reason"] == "no lease is left"
    assert bench.folder().closed.exists()
    assert not bench.folder().endpoint.exists()
    assert bench.leftovers() == []


def test_server_stays_while_one_lease_is_left(bench: Bench) -> None:
    bench.lease("arc")
    bench.lease("gsm8k")
    bench.wait_for_status("ready")
    release(bench.lease_path("arc"))
    heartbeats = bench.folder().state.stat().st_mtime_ns
    wait_for(lambda: bench.folder().state.stat().st_mtime_ns > heartbeats + 800_000_000, "four heartbeats")
    assert bench.state()["status"] == "ready"


def test_server_says_how_many_evaluations_run(bench: Bench) -> None:
    """Those that lease it and live: their gateways share its seats."""
    bench.timing["count_s"] = 0.1
    lock_files = [bench.root / f"{name}.owner.json" for name in ("arc", "gsm8k")]
    for file in lock_files:
        lease = acquire(
            bench.spec, file.name.partition(".")[0], bench.controller, bench.submit, evaluation=file
        )
        assert lease.server == bench.folder().path
    bench.wait_for_status("ready")
    assert bench.state()["evaluations"] == 0
    for file in lock_files:
        write(file, identity())
    wait_for(lambda: bench.state()["evaluations"] == 2, "both to be counted", 20)
    write(lock_files[0], replace(identity(), started=1))  # killed: its lock file and its lease stay
    wait_for(lambda: bench.state()["evaluations"] == 1, "one to be counted", 20)
    write(lock_files[0], identity())
    wait_for(lambda: bench.state()["evaluations"] == 2, "both to be counted", 20)
    release(bench.lease_path("arc"))
    wait_for(lambda: bench.state()["evaluations"] == 1, "one to be counted", 20)


def test_server_of_a_dead_controller_stops(bench: Bench) -> None:
    bench.controller = replace(bench.controller, started=1)
    bench.lease()
    assert bench.wait_for_exit() == 0
    assert bench.state()["reason"] == "no lease is left"


def test_killed_vllm_is_started_again_with_a_new_key(bench: Bench) -> None:
    bench.lease()
    first = endpoint_of_life(bench, 1)
    os.kill(bench.engine_runs()[0]["pid"], signal.SIGKILL)
    second = endpoint_of_life(bench, 2)
    assert second["api_key"] != first["api_key"]
    bench.wait_for_status("ready")
    (line,) = engine_runs_of(bench.folder())
    assert line["exit_reason"] == "vLLM was killed by SIGKILL"
    assert session_members(bench.engine_runs()[0]["pid"]) == [], "a worker outlived its vLLM"


def test_hanging_vllm_is_replaced(bench: Bench) -> None:
    bench.order({}, {})
    bench.lease()
    endpoint_of_life(bench, 1)
    bench.order({"health": 500, "deaf": True}, {})
    endpoint_of_life(bench, 2)
    (line,) = engine_runs_of(bench.folder())
    assert "hangs" in line["exit_reason"] and "/health answers 500" in line["exit_reason"]


def test_restarts_are_bounded_and_the_reason_is_kept(bench: Bench) -> None:
    bench.order({"exit": 7})
    bench.lease()
    assert bench.wait_for_exit() == 0
    state = bench.state()
    assert state["status"] == "failed"
    assert state["reason"] == "vLLM ended with status 7 and no error in its log (after 2 restarts)"
    assert len(bench.engine_runs()) == len(engine_runs_of(bench.folder())) == 3
    assert bench.leftovers() == []


def test_stand_in_takes_every_flag_of_vllm_and_no_other(bench: Bench) -> None:
    assert all(is_known(f"--{name}=1") and is_known(f"--no-{name}") for name in Vllm().flag_rules().names)
    bench.lease(flags={"max-num-sequences": 8})
    with pytest.raises(AssertionError, match=r"ended before it was ready.*arguments: --max-num-sequences"):
        bench.wait_for_status("ready")


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("bad_flag", "vLLM refuses its command line: unrecognized arguments: --no-such-flag"),
        ("unknown_architecture", "does not know the model's architecture 'FrobnicatorForCausalLM'"),
        ("no_weights", "the model's folder has no weights"),
        ("kv_cache_too_small", "the KV cache is too small"),
    ],
)
def test_fatal_failure_is_not_tried_again(bench: Bench, log: str, reason: str) -> None:
    bench.order({"log": str(RECORDED / f"{log}.log"), "exit": 1})
    bench.lease()
    bench.wait_for_exit()
    assert bench.state()["status"] == "failed"
    assert reason in bench.state()["reason"]
    assert len(bench.engine_runs()) == 1


def test_taken_port_is_given_up_for_another_and_counts_as_no_restart(bench: Bench) -> None:
    taken = {"log": str(RECORDED / "port_in_use.log"), "exit": 1}
    bench.order(taken, taken, taken, {})
    bench.lease()
    bench.wait_for_status("ready")
    assert len({engine_run["port"] for engine_run in bench.engine_runs()}) == 4


def test_stranger_on_the_port_is_never_taken_for_our_server(bench: Bench) -> None:
    bench.order({"stranger": True, "start_s": 60}, {})
    bench.lease()
    endpoint = endpoint_of_life(bench, 2)
    first, second = bench.engine_runs()
    os.kill(first["stranger"], signal.SIGKILL)
    (line,) = engine_runs_of(bench.folder())
    assert line["exit_reason"] == f"another process listens on the server's port {first['port']}"
    assert line["ready_at"] is None
    assert endpoint["url"] == f"http://127.0.0.1:{second['port']}"


def test_endpoint_is_withdrawn_as_soon_as_vllm_has_ended(bench: Bench) -> None:
    bench.timing |= {"poll_s": 5.0, "backoff_s": 5.0}
    bench.lease()
    endpoint_of_life(bench, 1)
    time.sleep(0.3)  # the first look is over
    os.kill(bench.engine_runs()[0]["pid"], signal.SIGKILL)
    killed = time.monotonic()
    wait_for(lambda: not bench.folder().endpoint.exists(), "the endpoint to go", 3)
    assert time.monotonic() - killed < 1


@pytest.mark.parametrize(
    ("orders", "reason"),
    [
        ({"name": "another"}, "the server serves another, not smol"),
        ({"text": ""}, "the server completes a prompt with nothing"),
        ({"logprob": "NaN"}, "log probabilities are not finite"),
    ],
)
def test_healthy_but_wrong_server_is_never_published(
    bench: Bench, orders: dict[str, object], reason: str
) -> None:
    bench.order(orders)
    bench.lease()
    bench.wait_for_exit()
    assert bench.state()["status"] == "failed"
    assert bench.state()["error_class"] == "bad_result"
    assert reason in bench.state()["reason"]
    assert bench.state()["ready_at"] is None


def test_slow_start_ends_at_the_deadline_with_what_was_seen_last(bench: Bench) -> None:
    bench.spec = replace(bench.spec, ready_timeout_s=1)
    bench.order({"health": 503})
    bench.lease()
    bench.wait_for_exit()
    assert bench.state()["reason"] == "vLLM was not ready within 1 s; seen last: /health answers 503"
    assert bench.state()["error_class"] == "time_limit"


def test_what_a_server_that_starts_answers_is_shown(bench: Bench) -> None:
    bench.timing["heartbeat_s"] = 0.1
    bench.order({"health": 503})
    bench.lease()
    wait_for(lambda: bench.state().get("reason") == "seen last: /health answers 503", "the reason")
    assert bench.state()["status"] == "starting"
    bench.order({})
    assert bench.wait_for_status("ready")["reason"] is None


def test_name_that_does_not_resolve_on_the_node_ends_the_server_in_seconds(bench: Bench) -> None:
    bench.spec = replace(bench.spec, host="{host}.nowhere.invalid")
    bench.lease()
    bench.wait_for_exit()
    assert bench.state()["status"] == "failed"
    assert "servers.address in site.yaml gives" in bench.state()["reason"]
    assert bench.engine_runs() == [], "vLLM is not started"


def test_leases_that_go_while_vllm_starts_end_it(bench: Bench) -> None:
    bench.order({"start_s": 60})
    bench.lease()
    wait_for(bench.engine_runs, "vLLM's start")
    release(bench.lease_path())
    assert bench.wait_for_exit() == 0
    assert bench.state()["status"] == "stopped"
    assert bench.leftovers() == []


@pytest.mark.parametrize("how", ["signal", "file"])
def test_server_that_is_told_to_stop_lets_requests_end(bench: Bench, how: str) -> None:
    bench.lease()
    bench.wait_for_status("ready")
    bench.order({"running": 1})
    wait_for(lambda: bench.state()["requests_running"] == 1, "the request to be seen")
    if how == "signal":
        bench.supervisors[0].send_signal(signal.SIGTERM)
    else:
        bench.folder().stop.touch()
    bench.wait_for_status("draining")
    assert not bench.folder().endpoint.exists()
    assert bench.leftovers()
    bench.order({"running": 0})
    assert bench.wait_for_exit() == 0
    assert bench.state()["status"] == "stopped"
    assert bench.leftovers() == []


def test_draining_ends_at_its_limit_and_a_deaf_vllm_is_killed(bench: Bench) -> None:
    bench.spec = replace(bench.spec, drain_s=0.3)
    bench.lease()
    bench.wait_for_status("ready")
    bench.order({"running": 1, "deaf": True})
    bench.folder().stop.touch()
    assert bench.wait_for_exit() == 0
    assert bench.leftovers() == []


def test_killed_supervisor_takes_vllm_with_it(bench: Bench) -> None:
    bench.lease()
    bench.wait_for_status("ready")
    bench.supervisors[0].kill()
    bench.supervisors[0].wait()
    wait_for(lambda: not bench.leftovers(), "vLLM's end")
    assert bench.lease("gsm8k") == bench.folder(2).path, "a dead server is not used again"


def test_failed_server_fails_its_run_at_once_and_not_the_next(bench: Bench) -> None:
    bench.order({"log": str(RECORDED / "bad_flag.log"), "exit": 2}, {})
    bench.lease("arc")
    bench.wait_for_exit()
    with pytest.raises(ServerFailed, match="--no-such-flag"):
        bench.lease("gsm8k")
    assert read_json(bench.lease_path("gsm8k"))["released"] is True
    assert not bench.folder(2).path.exists()
    bench.begin_run("run-2")
    assert bench.lease("gsm8k") == bench.folder(2).path
    bench.wait_for_status("ready", number=2)


def test_server_waits_for_a_slot_and_takes_that_of_a_dead_one(bench: Bench) -> None:
    bench.lease("arc")
    bench.wait_for_status("ready")
    other = bench.lease("gsm8k", max_model_len=64)
    assert other == bench.folder(2).path, "another spec is another server"
    bench.wait_for_status("pending", number=2)
    heartbeat = bench.folder(2).state.stat().st_mtime_ns
    wait_for(lambda: bench.folder(2).state.stat().st_mtime_ns > heartbeat, "a heartbeat while it waits")
    assert len(bench.engine_runs()) == 1
    bench.supervisors[0].kill()
    bench.supervisors[0].wait()
    bench.wait_for_status("ready", number=2)


def test_idle_server_gives_way_to_one_that_waits_for_its_slot(bench: Bench) -> None:
    bench.timing["give_way_s"] = 0.3
    bench.lease("arc")
    bench.wait_for_status("ready")
    bench.lease("gsm8k", max_model_len=64)
    bench.wait_for_status("ready", number=2)
    assert "another server waited" in bench.wait_for_status("stopped")["reason"]
    assert not list((Path(bench.spec.slots) / "waiting").iterdir())


def test_busy_server_does_not_give_way(bench: Bench) -> None:
    bench.timing["give_way_s"] = 0.3
    bench.order({"running": 1})
    bench.lease("arc")
    bench.wait_for_status("ready")
    bench.lease("gsm8k", max_model_len=64)
    bench.wait_for_status("pending", number=2)
    heartbeats: set[int] = set()

    def beaten() -> bool:
        heartbeats.add(bench.folder(2).state.stat().st_mtime_ns)
        return len(heartbeats) > 4

    wait_for(beaten, "heartbeats while it waits")
    assert bench.state()["status"] == "ready"


def test_waiting_server_whose_leases_go_stops_without_starting(bench: Bench) -> None:
    bench.lease("arc")
    bench.wait_for_status("ready")
    bench.lease("gsm8k", max_model_len=64)
    bench.wait_for_status("pending", number=2)
    release(bench.lease_path("gsm8k"))
    assert bench.wait_for_exit(2) == 0
    assert bench.state(2)["status"] == "stopped"
    assert len(bench.engine_runs()) == 1


def test_tokens_and_busy_time_are_counted_over_lives(bench: Bench) -> None:
    bench.order({"running": 1, "tokens": 5}, {"tokens": 7})
    bench.lease()
    wait_for(lambda: bench.state().get("generated_tokens") == 5, "the first engine run's tokens")
    os.kill(bench.engine_runs()[0]["pid"], signal.SIGKILL)
    wait_for(lambda: bench.state().get("generated_tokens") == 12, "both runs' tokens")
    started = time.monotonic()
    release(bench.lease_path())
    bench.wait_for_exit()
    assert time.monotonic() - started < 10
    first, second = engine_runs_of(bench.folder())
    assert first["busy_s"] > 0 and first["idle_s"] == 0
    assert second["idle_s"] > 0 and second["busy_s"] == 0
    assert [first["generated_tokens"], second["prompt_tokens"]] == [5, 14]


def test_no_key_is_left_on_disk(bench: Bench) -> None:
    bench.lease()
    bench.wait_for_status("ready")
    key = bench.engine_runs()[0]["key"].encode()
    release(bench.lease_path())
    bench.wait_for_exit()
    for path in bench.folder().path.rglob("*"):
        assert not path.is_file() or key not in path.read_bytes(), path
    assert json.loads(bench.folder().spec.read_text()) == encode(bench.spec)
