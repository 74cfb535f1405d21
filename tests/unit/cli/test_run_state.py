"""`slurmeval status`: what it makes of a run's files, whole, missing or half-written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from slurmeval.cli import main
from slurmeval.cli import status as status_module
from slurmeval.cli.run_state import ShownEvaluation, ShownServer, live_servers, read_run
from slurmeval.paths import Paths
from slurmeval.processes import identity
from slurmeval.state.records import write
from tests.run_documents import benchmark_entry, model_entry, run_document

KEY = "a" * 64
BENCHMARKS = ["done", "going", "queued", "broken"]


def put(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def ended_process() -> dict[str, Any]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = asdict(identity(process.pid))
    process.communicate(b"\n")
    return owner


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(results=tmp_path, environments=tmp_path, hf_home=tmp_path, images=tmp_path)


@pytest.fixture
def run(paths: Paths) -> Paths:
    """One model with an evaluation in each state; run, server and one evaluation live in this process."""
    put(paths.controller, {**asdict(identity()), "since": "2026-01-02T03:04:05Z"})
    models = {"tiny": model_entry(paths, "tiny", answers_key=KEY)}
    document = run_document(paths, models, {name: benchmark_entry() for name in BENCHMARKS})
    write(paths.state / "runs" / "abc.json", document)
    server = paths.servers_of("tiny") / "0002"
    put(paths.servers_of("tiny") / "0001" / "state.json", {"status": "failed", "reason": "an earlier one"})
    put(server / "job.json", {"job_id": "17", "cluster": "local"})
    put(
        server / "state.json",
        {
            "status": "ready",
            "reason": None,
            "engine_run": 2,
            "owner": asdict(identity()),
            "changed_at": "2026-01-02T03:05:00+00:00",
            "tokens_per_s": 81.25,
            "requests_running": 3,
            "under_way": {"engine_run": 2, "starting_s": 61.2, "weights_s": 20.4, "first_answer_s": 0.9},
        },
    )
    for table in (paths.evaluation("tiny", "done"), paths.samples("tiny", "done")):
        table.parent.mkdir(parents=True)
        pq.write_table(pa.table({"a": list(range(40))}), table)
    work = paths.work("tiny", "going", KEY)
    put(work / "owner.json", asdict(identity()))
    put(work / "progress.json", {"phase": "running", "samples_expected": 20, "requests_expected": 80})
    put(work / "gateway" / "progress.json", {"answered": 57, "replayed": 7})
    failure = {"error_class": "time_limit", "reason": "not done within\n10 min [red]"}
    put(paths.failure("tiny", "broken"), failure)
    return paths


def shown(results: Path) -> str:
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(status_module.render(read_run(results), results))
    return console.export_text()


def test_every_state_is_told(run: Paths) -> None:
    states = {each.benchmark: each for each in read_run(run.results).evaluations}
    assert states["done"] == ShownEvaluation("tiny", "done", "ok", samples=40, samples_expected=40)
    assert states["going"] == ShownEvaluation(
        "tiny", "going", "running", phase="running", samples_expected=20, requests=57, requests_expected=80
    )
    assert states["queued"] == ShownEvaluation("tiny", "queued", "waiting")
    assert states["broken"].state == "failed"
    assert states["broken"].error_class == "time_limit"


def test_newest_server_of_each_model_is_told(run: Paths) -> None:
    assert read_run(run.results).servers == [
        ShownServer(
            model="tiny",
            server_id="tiny/0002",
            status="ready",
            engine_run=2,
            tokens_per_s=81.25,
            requests_running=3,
            since="2026-01-02T03:05:00+00:00",
            node=identity().host,
            job_id="17",
            starting_s=61.2,
            weights_s=20.4,
            first_answer_s=0.9,
        )
    ]


def test_tables_show_it_in_one_look(run: Paths) -> None:
    text = shown(run.results)
    assert f"A run is under way: process {os.getpid()} on " in text
    assert "4 evaluations: 1 ok, 1 running, 1 waiting, 1 failed." in text
    assert re.search(r"tiny/0002 +ready .* 2 +81\.2 +3 +started in 61 s: weights 20, first answer 1", text)
    assert re.search(r"tiny +done +ok +40 of 40", text)
    assert re.search(r"tiny +going +running +of 20 +57 of 80", text)
    assert "tiny on broken failed (time_limit): not done within�10 min [red]" in text


def test_rows_for_a_file_are_not_broken(run: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    put(run.failure("tiny", "broken"), {"error_class": "time_limit", "reason": "word " * 30 + "end"})
    assert main.run(["status", "--results", str(run.results)]) == 0
    assert re.search(r"^tiny on broken failed \(time_limit\): (word ){30}end$", capsys.readouterr().out, re.M)


def test_no_head_is_cut_in_eighty_columns(run: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.servers / "tiny").rename(run.servers / "a-model-with-a-long-name-of-fifty-characters-or-so")
    monkeypatch.setenv("COLUMNS", "80")
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(status_module.render(read_run(run.results), run.results))
    lines = console.export_text().splitlines()
    heads = " ".join(next(line for line in lines if "tokens/s" in line).split())
    assert heads == "server status for node run tokens/s requests reason"


def test_dead_owner_is_no_server_and_no_run(run: Paths) -> None:
    gone = ended_process()
    put(run.controller, gone)
    put(run.servers_of("tiny") / "0002" / "state.json", {"status": "ready", "owner": gone})
    put(run.work("tiny", "going", KEY) / "owner.json", gone)
    state = read_run(run.results)
    assert state.controller is None
    assert (state.servers[0].status, state.servers[0].reason) == ("gone", "its process ended without a word")
    assert [each.state for each in state.evaluations] == ["ok", "not run", "not run", "failed"]
    assert live_servers(run) == []
    assert "No run is under way." in shown(run.results)


def test_evaluation_that_is_tried_again_is_not_shown_as_failed(run: Paths) -> None:
    put(run.work("tiny", "broken", KEY) / "owner.json", asdict(identity()))
    put(run.work("tiny", "broken", KEY) / "progress.json", {"phase": "waiting for the server"})
    broken = read_run(run.results).evaluations[3]
    assert (broken.state, broken.phase) == ("waiting", "waiting for the server")


def test_submitted_server_without_a_process_is_pending(paths: Paths) -> None:
    put(
        paths.servers_of("tiny") / "0001" / "job.json",
        {"job_id": "5", "submitted_at": "2026-01-02T03:04:05Z"},
    )
    assert read_run(paths.results).servers[0].status == "pending"
    assert live_servers(paths) == [paths.servers_of("tiny") / "0001"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "7", '{"evaluations": 3, "models": []}', '{"status": {}}']
)
def test_half_written_files_never_make_it_fail(run: Paths, content: str) -> None:
    for path in list(run.results.rglob("*.json")):
        kept = path.read_text()
        path.write_text(content)
        shown(run.results)
        path.write_text(kept)
    for path in list(run.results.rglob("*.*")):
        if path.is_file():
            path.write_text(content)
    shown(run.results)


def test_missing_files_never_make_it_fail(run: Paths) -> None:
    for path in sorted(run.results.rglob("*.*")):
        if path.is_file():
            path.unlink()
            shown(run.results)
    assert shown(run.results) == f"Nothing has run here yet ({run.results}).\n"


def test_nothing_has_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["status", "--results", str(tmp_path)]) == 0
    assert "Nothing has run here yet" in capsys.readouterr().out


def test_json_has_all_of_it(run: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["status", "--json", "--results", str(run.results)]) == 0
    state = json.loads(capsys.readouterr().out)
    assert state["controller"]["pid"] == os.getpid()
    assert [server["status"] for server in state["servers"]] == ["ready"]
    assert [each["benchmark"] for each in state["evaluations"]] == BENCHMARKS


@pytest.fixture
def fast_redraws(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Redraws at once; the event is set when one is waited for."""
    waits = threading.Event()

    def sleep(_: float) -> None:
        waits.set()
        threading.Event().wait(0.01)

    monkeypatch.setattr(status_module.time, "sleep", sleep)
    yield waits


def test_watch_ends_with_the_run(
    run: Paths, fast_redraws: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    def end_run() -> None:
        fast_redraws.wait(20)
        run.controller.unlink()

    ending = threading.Thread(target=end_run)
    ending.start()
    assert main.run(["status", "--watch", "--results", str(run.results)]) == 0
    ending.join()
    assert "No run is under way." in capsys.readouterr().out


def test_watch_ends_quietly_with_ctrl_c(
    run: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status_module.time, "sleep", interrupted)
    assert main.run(["status", "--watch", "--results", str(run.results)]) == 0
    assert capsys.readouterr().err == ""
