"""Jobs of Slurm in the tables: every second that accounting counted is in one row, and nobody's twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmeval.files import append_json, write_json
from slurmeval.paths import Paths
from slurmeval.results import job_runs, schema
from slurmeval.results.aggregate import aggregate
from slurmeval.results.partitions import read_rows, write
from slurmeval.servers.accounting import CUT_OFF
from slurmeval.slurm.commands import JobRun, SlurmAway
from tests.report import example

START = example.START
PARTS = ("starting_s", "busy_s", "idle_s", "ending_s")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return example.paths_in(tmp_path)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def job_run(begin: float | None, end: float | None, state: str = "COMPLETED", **more: Any) -> JobRun:
    started = None if begin is None else at(begin)
    values: dict[str, Any] = {
        "job_id": "7",
        "state": state,
        "exit_code": "0:0",
        "submitted": at((begin or 0) - 30),
        "eligible": None,
        "started": started,
        "ended": None if end is None else at(end),
        "elapsed_s": 0 if begin is None or end is None else int(end - begin),
        "nodes": "" if started is None else "gpu1",
        "gpus": 0 if started is None else 4,
        "max_rss_mb": None,
        "cpu_s": None,
        "restart": 0,
        "reason": "",
    }
    return JobRun(**values | more)


def vllm_life(
    number: int, started: float, ready: float | None, ended: float | None, busy: float = 0, idle: float = 0
) -> dict[str, Any]:
    line = {
        "engine_run": number,
        "started_at": at(started).isoformat(),
        "ready_at": None if ready is None else at(ready).isoformat(),
        "busy_s": busy,
        "idle_s": idle,
        "requests": 10,
        "generated_tokens": 100,
        "prompt_tokens": 50,
    }
    return line | (
        {} if ended is None else {"ended_at": at(ended).isoformat(), "exit_reason": "no lease is left"}
    )


def write_server(
    paths: Paths,
    engine_runs: Sequence[dict[str, Any]] = (),
    folder: str = "m/0001",
    job_id: str = "7",
    **more: Any,
) -> Path:
    path = paths.servers / folder
    gpus = more.pop("gpus", 4)
    write_json(path / "spec.json", {"model": "m", "gpus": gpus, "nodes": 1})
    job = {"job_id": job_id, "cluster": "slurm", "submitted_at": at(-30).isoformat()}
    write_json(path / "job.json", job)
    write_json(path / "state.json", {"status": "stopped", "reason": "no lease is left"} | more)
    (path / "engine_runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in engine_runs))
    return path


def rows(paths: Paths, *of_job: JobRun, models: Sequence[str] = ("m",)) -> list[dict[str, Any]]:
    def ask(ids: Sequence[str]) -> dict[str, list[JobRun]]:
        return {job_id: own for job_id in ids if (own := [each for each in of_job if each.job_id == job_id])}

    aggregate(paths, [(model, "b") for model in models], ask, settle_s=0)
    found: list[dict[str, Any]] = read_rows(paths.all_servers, schema.SERVERS).to_pylist()
    return found


def seconds(row: dict[str, Any]) -> tuple[float, ...]:
    return tuple(row[name] for name in PARTS)


# Servers


def test_a_job_that_served_and_ended(paths: Paths) -> None:
    write_server(paths, [vllm_life(1, 2, 62, 170, busy=80, idle=20)])
    (row,) = rows(paths, job_run(0, 175))
    assert seconds(row) == (62.0, 80.0, 20.0, 13.0)
    assert (row["elapsed_s"], row["gpus"], row["gpu_s"], row["queued_s"]) == (175.0, 4, 700.0, 30.0)
    assert (row["slurm_state"], row["nodes"], row["restart"], row["engine_run"]) == (
        "COMPLETED",
        "gpu1",
        0,
        1,
    )
    assert (row["job_started_at"], row["job_ended_at"]) == (at(0), at(175))
    assert (row["started_at"], row["ended_at"]) == (at(2), at(170))
    assert row["exit_reason"] == "no lease is left"


def test_what_a_start_went_into(paths: Paths) -> None:
    """What the engine tells in no part is the environment's, unless it tells too little."""
    told = {"weights_s": 20.0, "compile_s": 30.5, "first_answer_s": 0.5}
    silent = {"first_answer_s": 0.5}
    of_runs = [vllm_life(1, 2, 62, 100) | told, vllm_life(2, 104, 160, 195) | silent]
    write_server(paths, of_runs)
    one, two = rows(paths, job_run(0, 200))
    names = ("environment_s", "weights_s", "compile_s", "first_answer_s")
    assert [one[name] for name in names] == [11.0, 20.0, 30.5, 0.5]
    assert one["starting_s"] == 62.0, "what came before vLLM's start included"
    assert [two[name] for name in names] == [None, None, None, 0.5]


def test_vllm_that_was_started_again_within_a_job(paths: Paths) -> None:
    write_server(paths, [vllm_life(1, 2, 62, 100, 20, 18), vllm_life(2, 104, 160, 195, 30, 5)])
    one, two = rows(paths, job_run(0, 200))
    assert (one["elapsed_s"], two["elapsed_s"]) == (104.0, 96.0)
    assert seconds(one) == (62.0, 20.0, 18.0, 4.0)
    assert seconds(two) == (56.0, 30.0, 5.0, 5.0)
    assert (one["queued_s"], two["queued_s"]) == (30.0, None)


def test_a_job_that_was_requeued_before_vllm_had_started(paths: Paths) -> None:
    write_server(paths, [vllm_life(1, 201, 260, 290, 20, 10)])
    first, second = rows(paths, job_run(0, 100, "NODE_FAIL"), job_run(200, 300))
    assert (first["restart"], first["engine_run"], first["slurm_state"]) == (0, 0, "NODE_FAIL")
    assert seconds(first) == (100.0, 0.0, 0.0, 0.0)
    assert first["exit_reason"] == "the job ended: NODE_FAIL"
    assert (second["restart"], second["engine_run"], second["elapsed_s"]) == (1, 1, 100.0)
    assert second["gpu_s"] == first["gpu_s"] == 400.0


def test_an_engine_run_that_was_killed_is_known_by_its_last_heartbeat(paths: Paths) -> None:
    """The node went down: nobody wrote the engine run's line; Slurm noticed after a while."""
    told = vllm_life(1, 2, 62, None, 50, 10) | {"seen_at": at(125).isoformat()}
    path = write_server(paths, status="ready", reason=None, under_way=told)
    write_json(path / "gone", {"state": "NODE_FAIL", "reason": "its node went down"})
    (row,) = rows(paths, job_run(0, 200, "NODE_FAIL"))
    assert seconds(row) == (62.0, 50.0, 10.0, 78.0)
    assert (row["status"], row["reason"]) == ("gone", "its node went down")
    assert (row["ended_at"], row["exit_reason"]) == (at(200), "the job ended: NODE_FAIL")


def test_a_killed_life_that_the_next_supervisor_booked(paths: Paths) -> None:
    cut = vllm_life(1, 2, 62, None, 30, 8) | {"ended_at": None, "seen_at": at(100).isoformat()}
    cut["exit_reason"] = CUT_OFF
    write_server(paths, [cut, vllm_life(2, 203, 260, 290, 20, 10)])
    one, two = rows(paths, job_run(0, 120, "PREEMPTED"), job_run(200, 300))
    assert (one["restart"], one["engine_run"], two["restart"], two["engine_run"]) == (0, 1, 1, 2)
    assert seconds(one) == (62.0, 30.0, 8.0, 20.0)
    assert (one["ended_at"], one["exit_reason"]) == (at(120), "the job ended: PREEMPTED")


def test_a_job_that_was_cancelled_while_it_waited(paths: Paths) -> None:
    write_server(paths, status="pending")
    engine_run = job_run(None, 60, "CANCELLED", submitted=at(0), reason="cancelled by user 1000")
    (row,) = rows(paths, engine_run)
    assert (row["elapsed_s"], row["gpus"], row["gpu_s"], row["queued_s"]) == (0.0, 0, 0.0, 60.0)
    assert row["exit_reason"] == "the job ended: CANCELLED (cancelled by user 1000)"


def test_an_engine_run_says_which_run_of_its_job_it_was_in(paths: Paths) -> None:
    """The node's clock was 20 s behind: most of the second engine run seems to lie in the first."""
    line = vllm_life(1, 185, 190, 208, 10, 5) | {"job_id": "7", "restart": 1, "node": "gpu2"}
    write_server(paths, [line])
    first, second = rows(paths, job_run(0, 200, "PREEMPTED"), job_run(201, 230))
    assert (first["engine_run"], second["engine_run"], second["restart"]) == (0, 1, 1)


def test_clocks_that_differ_do_not_make_time(paths: Paths) -> None:
    write_server(paths, [vllm_life(1, -3, 40, 104, 70, 20)])
    (row,) = rows(paths, job_run(0, 100))
    assert seconds(row) == (40.0, 60.0, 0.0, 0.0)


def test_accounting_that_does_not_count_gpus(paths: Paths) -> None:
    write_server(paths, [vllm_life(1, 2, 62, 100)], gpus=2)
    (row,) = rows(paths, job_run(0, 100, gpus=0))
    assert (row["gpus"], row["gpu_s"]) == (2, 200.0)


def test_servers_that_share_a_job_have_all_of_its_gpus(paths: Paths) -> None:
    write_server(paths, [vllm_life(1, 2, 62, 100)], gpus=1)
    write_server(paths, [vllm_life(1, 2, 50, 100)], "m@2/0001", gpus=2)
    one, two = rows(paths, job_run(0, 100))
    assert (one["server_id"], two["server_id"]) == ("m/0001", "m@2/0001")
    assert (one["model"], two["model"]) == ("m", "m")
    assert (one["gpus"], two["gpus"]) == (2, 2)
    assert one["gpu_s"] + two["gpu_s"] == 400.0


def test_without_accounting_rows_go_by_their_own_clock(paths: Paths) -> None:
    write_server(paths, [vllm_life(1, 2, 62, 170, busy=80, idle=20) | {"node": "gpu2", "restart": 1}])

    def away(ids: Sequence[str]) -> dict[str, list[JobRun]]:
        raise SlurmAway("sacct: Connection refused")

    aggregate(paths, [("m", "b")], away, settle_s=0)
    (row,) = read_rows(paths.all_servers, schema.SERVERS).to_pylist()
    assert seconds(row) == (60.0, 80.0, 20.0, 8.0)
    assert (row["elapsed_s"], row["gpu_s"], row["queued_s"]) == (168.0, 672.0, 32.0)
    assert (row["slurm_state"], row["job_started_at"]) == (None, None)
    assert (row["nodes"], row["restart"]) == ("gpu2", 1)


def test_a_job_number_that_was_used_before(paths: Paths) -> None:
    write_server(paths, [vllm_life(1, 2, 62, 100)])
    old = job_run(-90_000_000, -89_999_000, "FAILED")
    assert [row["slurm_state"] for row in rows(paths, old, job_run(0, 100))] == ["COMPLETED"]


def test_a_job_of_the_same_number_on_another_cluster_is_a_strangers(paths: Paths) -> None:
    write_server(paths, [vllm_life(1, 2, 62, 100)])
    strangers = job_run(50_000, 60_000, "OUT_OF_MEMORY")
    assert [row["slurm_state"] for row in rows(paths, strangers)] == [None]


SPANS = st.lists(st.integers(1, 500), min_size=2, max_size=8)


@given(data=st.data(), spans=SPANS)
def test_rows_sum_to_what_accounting_counted(
    data: st.DataObject, spans: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever engine runs there were, wherever they lay, and whatever they say of themselves."""
    paths = example.paths_in(tmp_path_factory.mktemp("run"))
    moments = [sum(spans[: index + 1]) for index in range(len(spans))]
    of_job = [job_run(a, b) for a, b in zip(moments[::2], moments[1::2], strict=False)]
    begun = sorted(data.draw(st.lists(st.floats(0, 2000), max_size=5, unique=True)))
    own = [
        vllm_life(
            n, begin, begin + data.draw(st.floats(0, 300)), begin + data.draw(st.floats(0, 900)), busy, 9
        )
        for n, begin in enumerate(begun, 1)
        for busy in [data.draw(st.floats(0, 500))]
    ]
    write_server(paths, own)
    found = rows(paths, *of_job)
    assert len({(row["restart"], row["engine_run"]) for row in found}) == len(found)
    for index, run in enumerate(of_job):
        of_run = [row for row in found if row["restart"] == index]
        assert sum(row["elapsed_s"] for row in of_run) == pytest.approx(run.elapsed_s, abs=0.01)
        assert sum(row["gpu_s"] for row in of_run) == pytest.approx(run.elapsed_s * 4, abs=0.04)
    for row in found:
        assert sum(seconds(row)) == pytest.approx(row["elapsed_s"], abs=0.01)
        assert min(seconds(row)) >= 0


# Evaluations


def evaluations(paths: Paths) -> dict[str, dict[str, Any]]:
    found = read_rows(paths.all_evaluations, schema.ALL_EVALUATIONS).to_pylist()
    return {row["benchmark"]: row for row in found}


def test_what_an_evaluations_jobs_took(paths: Paths) -> None:
    example.write_evaluation(paths, "m", "b", [True])
    for job_id in ("8", "9"):
        line = {"job_id": job_id, "submitted_at": at(0).isoformat()}
        append_json(paths.evaluation_jobs("m", "b"), line)
    took = {"gpus": 0, "nodes": "cpu1", "cpu_s": 3.5, "max_rss_mb": 250.0, "job_id": "9"}
    rows(
        paths,
        job_run(0, 50, "OUT_OF_MEMORY", job_id="8"),
        job_run(100, 110, "PREEMPTED", **took),
        job_run(150, 190, **took, submitted=at(120)),
    )
    row = evaluations(paths)["b"]
    assert (row["job_id"], row["job_runs"], row["node"], row["slurm_state"]) == ("9", 3, "cpu1", "COMPLETED")
    assert (row["queued_s"], row["elapsed_s"], row["cpu_s"], row["max_rss_mb"]) == (30.0, 40.0, 3.5, 250.0)


def test_accounting_is_asked_once_for_all(paths: Paths) -> None:
    write_server(paths)
    append_json(paths.evaluation_jobs("m", "a"), {"job_id": "8"})
    append_json(paths.evaluation_jobs("m", "b"), {"job_id": "9"})
    asked = []

    def ask(ids: Sequence[str]) -> dict[str, list[JobRun]]:
        asked.append(list(ids))
        return {}

    aggregate(paths, [("m", "a"), ("m", "b")], ask, settle_s=0)
    assert asked == [["7", "8", "9"]]
    found = evaluations(paths)
    assert (found["a"]["job_id"], found["a"]["slurm_state"], found["a"]["job_runs"]) == ("8", None, None)


def test_on_one_machine_nobody_is_asked(paths: Paths) -> None:
    example.write_server(paths, "m")

    def ask(ids: Sequence[str]) -> dict[str, list[JobRun]]:
        raise AssertionError(ids)

    aggregate(paths, [("m", "b")], ask)
    assert evaluations(paths)["b"]["job_id"] is None


def test_accounting_that_lags_behind_is_waited_for() -> None:
    answers = [{}, {"7": [job_run(0, 90, "RUNNING", ended=None)]}, {"7": [job_run(0, 100)]}]
    job = job_runs.AccountedJob("7", at(-30), over=True)
    assert job_runs.accounted([job], lambda ids: answers.pop(0), settle_s=0.5)["7"][0].elapsed_s == 100
    assert not answers


def test_a_job_that_runs_on_is_not_waited_for() -> None:
    asked = []

    def ask(ids: Sequence[str]) -> dict[str, list[JobRun]]:
        asked.append(ids)
        return {"7": [job_run(0, 90, "RUNNING", ended=None)]}

    job_runs.accounted([job_runs.AccountedJob("7", None, over=False)], ask, settle_s=60)
    assert len(asked) == 1


def test_busy_time_is_shared_by_the_evaluations_in_flight(paths: Paths) -> None:
    """a asks from 70 s to 110 s, b from 90 s to 110 s; the server was busy for 44 s of its own sampling."""
    write_server(paths, [vllm_life(1, 2, 62, 170, busy=44, idle=60)])
    made = example.samples("t", [True])
    for benchmark, began in (("a", 70), ("b", 90)):
        asked = [
            example.record(0, "x", "y", started_at=at(began).timestamp(), latency_ms=20_000.0, **by)
            for by in (
                {"server_id": "m/0001"},
                {"server_id": "m/0009"},
                {"server_id": None, "engine_run": None},
            )
        ]
        late = example.record(1, "x", "y", started_at=at(90).timestamp(), latency_ms=20_000.0)
        write(paths, "m", benchmark, example.evaluation(), example.output(made, "t"), [*asked, late])
    aggregate(paths, [("m", "a"), ("m", "b")], lambda ids: {"7": [job_run(0, 175)]}, settle_s=0)
    found = evaluations(paths)
    assert found["a"]["server_s"] == pytest.approx(33.0)
    assert found["b"]["server_s"] == pytest.approx(11.0)
    assert found["a"]["gpu_s"] + found["b"]["gpu_s"] == pytest.approx(44 * 4)


def test_waiting_for_a_server_is_no_use_of_it(paths: Paths) -> None:
    """b asked long before the server was ready, a only then."""
    write_server(paths, [vllm_life(1, 2, 62, 170, busy=20, idle=60)])
    made = example.samples("t", [True])
    for benchmark, began in (("a", 62), ("b", 0)):
        record = example.record(
            0, "x", "y", started_at=at(began).timestamp(), latency_ms=(72 - began) * 1000.0
        )
        write(paths, "m", benchmark, example.evaluation(), example.output(made, "t"), [record])
    aggregate(paths, [("m", "a"), ("m", "b")], lambda ids: {"7": [job_run(0, 175)]}, settle_s=0)
    assert {name: row["server_s"] for name, row in evaluations(paths).items()} == {"a": 10.0, "b": 10.0}
