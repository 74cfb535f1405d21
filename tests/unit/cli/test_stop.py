"""`slurmeval stop`: asks, waits, and with --now ends exactly the process that is meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from slurmeval.cli import main
from slurmeval.cli.stop import terminate, wait_until_stopped
from slurmeval.processes import identity
from slurmeval.state.owner import Owner

OBEYS = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
print("ready", flush=True)
while not (folder / "stop").exists():
    time.sleep(0.02)
state = json.loads((folder / "state.json").read_text())
(folder / "new").write_text(json.dumps({**state, "status": "stopped"}))
(folder / "new").rename(folder / "state.json")
"""
DEAF = "print('ready', flush=True); import time; time.sleep(600)"


def server_folder(results: Path, model: str, owner: dict[str, Any] | None, **job: Any) -> Path:
    folder = results / "state" / "servers" / model / "0001"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"status": "ready", "owner": owner}))
    (folder / "job.json").write_text(json.dumps({"job_id": "17", "cluster": "local", **job}))
    return folder


class Started:
    """Server processes of a test; none outlives it."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.processes: list[subprocess.Popen[bytes]] = []

    def server(self, model: str, program: str) -> tuple[Path, subprocess.Popen[bytes]]:
        folder = self.results / "state" / "servers" / model / "0001"
        process = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE)
        self.processes.append(process)
        server_folder(self.results, model, asdict(identity(process.pid)))
        assert process.stdout is not None
        process.stdout.readline()
        return folder, process


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    started = Started(tmp_path)
    yield started
    for process in started.processes:
        process.kill()
        process.communicate()


def stop(results: Path, *arguments: str) -> int:
    return main.run(["stop", "--results", str(results), *arguments])


@pytest.mark.parametrize("arguments", [[], ["--now"], ["--no-wait"]])
def test_nothing_runs_is_a_fine_answer(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert stop(tmp_path, *arguments) == 0
    assert capsys.readouterr().out == "No server runs.\n"


def test_asks_and_waits(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    started.server("tiny", OBEYS)
    started.server("small", OBEYS)
    assert stop(started.results) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["small/0001: asked to stop", "tiny/0001: asked to stop"]
    assert sorted(lines[2:]) == ["small/0001: stopped", "tiny/0001: stopped"]


def test_stops_only_the_named_models(started: Started) -> None:
    started.server("tiny", OBEYS)
    small, process = started.server("small", OBEYS)
    assert stop(started.results, "tiny") == 0
    assert not (small / "stop").exists()
    assert process.poll() is None


def test_unknown_model_is_refused(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = started.server("tiny", OBEYS)
    assert stop(started.results, "tinny") == 2
    assert "no server of a model 'tinny' in " in capsys.readouterr().err
    assert not (folder / "stop").exists()


def test_does_not_wait_when_told_so(started: Started) -> None:
    folder, process = started.server("tiny", DEAF)
    assert stop(started.results, "--no-wait") == 0
    assert (folder / "stop").exists()
    assert process.poll() is None


def test_says_what_does_not_stop(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    started.server("tiny", DEAF)
    assert stop(started.results, "--timeout-s", "0.1") == 1
    assert capsys.readouterr().err == "tiny/0001: still ready after 0.1 s (--now ends it)\n"


def test_now_ends_the_process(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    _, process = started.server("tiny", DEAF)
    assert stop(started.results, "--now", "--no-wait") == 0
    assert process.wait(20) == -15
    assert f"tiny/0001: process {process.pid} told to end" in capsys.readouterr().out


def test_now_spares_a_process_that_has_only_the_number(started: Started) -> None:
    _, process = started.server("tiny", DEAF)
    assert terminate(replace(identity(process.pid), started=1)) is False
    assert process.poll() is None


def test_now_finds_no_process_of_an_impossible_number() -> None:
    assert terminate(Owner("h", 2**22 + 7, 1)) is False


@pytest.mark.parametrize("owner", [{}, {"pid": "x"}, {"pid": 7, "host": 3}])
def test_now_survives_an_odd_owner(
    tmp_path: Path, owner: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    server_folder(tmp_path, "tiny", owner)
    assert stop(tmp_path, "--now", "--no-wait") == 0
    assert "has no process yet" in capsys.readouterr().out


def test_now_leaves_another_hosts_process_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server_folder(tmp_path, "tiny", {"host": "elsewhere", "pid": os.getpid(), "started": 1})
    assert stop(tmp_path, "--now", "--no-wait") == 0
    assert "runs on elsewhere; run this there" in capsys.readouterr().err


def test_now_cancels_the_slurm_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scancel = tmp_path / "bin" / "scancel"
    scancel.parent.mkdir()
    scancel.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/cancelled\n')
    scancel.chmod(0o755)
    monkeypatch.setenv("PATH", str(scancel.parent), prepend=os.pathsep)
    server_folder(tmp_path / "results", "tiny", None, cluster="slurm", job_id="4711")
    assert stop(tmp_path / "results", "--now", "--no-wait") == 0
    assert (tmp_path / "cancelled").read_text() == "-- 4711\n"
    assert "tiny/0001: job 4711 cancelled" in capsys.readouterr().out


def test_server_that_dies_without_a_word_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    folder = server_folder(tmp_path, "tiny", asdict(identity(gone.pid)))
    gone.communicate(b"\n")
    assert wait_until_stopped([folder], 10) == 0
    assert capsys.readouterr().out == "tiny/0001: gone\n"


def test_run_that_is_under_way_is_mentioned(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    started.server("tiny", OBEYS)
    (started.results / "state" / "controller.json").write_text(json.dumps(asdict(identity())))
    assert stop(started.results) == 0
    assert f"A run is under way (process {os.getpid()} on " in capsys.readouterr().err


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server whose supervisor says nothing any more, though its job runs; the results."""
    from slurmeval.slurm.commands import job_name

    results = tmp_path / "results"
    name = job_name(results, "serve-tiny")
    fields = ("353", "RUNNING", "N/A", "N/A", "0", "None", "gpu1", "(null)", name, "/", "(null)")
    (tmp_path / "queue").write_text("\x1f".join(fields) + "\x1e")
    programs = tmp_path / "bin"
    programs.mkdir()
    for program, does in (("squeue", f"cat {tmp_path}/queue"), ("scancel", f": > {tmp_path}/queue")):
        (programs / program).write_text(f"#!/bin/sh\n{does}\n")
        (programs / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr("slurmeval.cli.queued.CACHE_LIFETIME_S", 0.0)
    owner = {"host": "gpu1", "pid": 1, "started": 1}
    folder = server_folder(results, "tiny", owner, cluster="slurm", job_id="353")
    os.utime(folder / "state.json", (0, 0))
    return results


def test_a_frozen_server_is_seen_by_its_job(frozen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["status", "--json", "--results", str(frozen)]) == 0
    (server,) = json.loads(capsys.readouterr().out)["servers"]
    assert server["status"] == "silent"
    assert server["reason"] == "its supervisor is silent, and its job 353 is RUNNING"
    assert stop(frozen, "--timeout-s", "0.3") == 1
    assert "still silent after 0.3 s (--now ends it)" in capsys.readouterr().err
    assert stop(frozen, "--now", "--timeout-s", "5") == 0
    said = capsys.readouterr().out
    assert "tiny/0001: job 353 cancelled" in said and "tiny/0001: gone" in said


def test_a_job_that_no_server_is_known_of_is_named(frozen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (frozen / "state" / "servers" / "tiny" / "0001" / "job.json").write_text(
        '{"job_id": "7", "cluster": "slurm"}'
    )
    assert stop(frozen) == 1
    assert "is still RUNNING: scancel 353" in capsys.readouterr().err


def test_status_says_why_a_job_waits(frozen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slurmeval.cli.queued import queued, why_it_waits
    from slurmeval.paths import Paths

    paths = Paths(frozen, frozen, frozen, frozen)
    queue = frozen.parent / "queue"
    waits = (
        queue.read_text().replace("RUNNING", "PENDING").replace("\x1fNone\x1f", "\x1fAssocMaxJobsLimit\x1f")
    )
    queue.write_text(waits)
    jobs = paths.evaluation_jobs("tiny", "first")
    jobs.parent.mkdir(parents=True)
    jobs.write_text('{"job_id": "12"}\n{"job_id": "353"}\n')
    assert why_it_waits(paths, "tiny", "first", queued(paths)) == "AssocMaxJobsLimit"
    queue.write_text(waits.replace("AssocMaxJobsLimit", "Priority"))
    assert why_it_waits(paths, "tiny", "first", queued(paths)) is None
