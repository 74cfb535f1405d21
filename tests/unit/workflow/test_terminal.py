"""What a run says in the terminal."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from slurmeval.errors import SlurmevalError
from slurmeval.files import read_json, write_json
from slurmeval.paths import Paths
from slurmeval.scheduling.failures import recorded
from slurmeval.state.run_document import RunDocument
from slurmeval.workflow import progress
from slurmeval.workflow.terminal import Brief, because
from tests.run_documents import benchmark_entry, config_for, model_entry, run_document

KEY = "a" * 64


def record(text: str, level: int = logging.ERROR, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, __file__, 1, text, None, None)
    vars(made).update(more)
    return made


def job_error(**more: Any) -> logging.LogRecord:
    facts = {"rule_name": "evaluate", "rule_msg": None, "log": ["results/logs/evaluate/m/b.log"]}
    return record("Error in rule", event=LogEvent.JOB_ERROR, **{**facts, **more})


def test_a_failed_job_is_one_line() -> None:
    brief = Brief()
    account = "RuleException:\nCalledProcessError in file rules.smk, line 9:\nCommand 'set -euo pipefail; …"
    assert brief.format(record(account, event=LogEvent.ERROR, exception="RuleException")) == ""
    line = brief.format(job_error(rule_msg="m on b: server_lost: no memory. "))
    assert line.endswith("Failed: m on b: server_lost: no memory (log: results/logs/evaluate/m/b.log)")
    assert brief.format(job_error()).endswith("Failed: evaluate (log: results/logs/evaluate/m/b.log)")


def test_the_rule_that_only_names_the_targets_is_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DefaultFormatter, "format_job_info", lambda *_: "whole")
    for rule, said in {"all": "", "mine": "whole"}.items():
        facts = {"rule_msg": None, "rule_name": rule, "reason": ""}
        assert Brief().format(record("", logging.INFO, event=LogEvent.JOB_INFO, **facts)) == said


def test_errors_that_are_no_job_s_end_are_left_whole() -> None:
    for text, exception in (
        ("RuleException:\nKeyError: 'x'", "RuleException"),
        ("WorkflowError:\nno", "WorkflowError"),
    ):
        assert Brief().format(record(text, event=LogEvent.ERROR, exception=exception)) == text


def test_what_ends_after_ctrl_c_has_not_failed() -> None:
    brief = Brief()
    brief.format(record("Terminating processes on user request, this might take some time.", logging.INFO))
    assert brief.format(job_error()) == ""


def test_changed_parameters_are_a_few_words() -> None:
    reason = (
        "Params have changed since last execution: Union of exclusive params before and now: " + "{x}" * 500
    )
    assert because(reason) == "its parameters have changed"
    assert because("Missing output files: a; Input files updated by another job: b") == ""
    assert len(because("z" * 500)) == 101


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path, tmp_path / "e", tmp_path / "h", tmp_path / "i")


def run_of(paths: Paths, benchmarks: list[str]) -> RunDocument:
    asked = {"harness": "nemo", "task": "x.y"}
    config = config_for(
        ["m"],
        benchmarks,
        benchmarks={name: {**asked, "datasets": ["d"] if name == "b0" else []} for name in benchmarks},
        datasets={"d": {"folder": "/data"}},
    )
    return run_document(
        paths,
        {"m": model_entry(paths, "m", answers_key=KEY, manifest=Path("/m"))},
        {name: benchmark_entry() for name in benchmarks},
        datasets={"d": Path("/d")},
        config=config.model_dump(mode="json"),
    )


def under_way(paths: Paths, benchmark: str, phase: str, **gateway: int) -> None:
    work = paths.work("m", benchmark, KEY)
    write_json(paths.lock_file("m", benchmark, KEY), {})
    write_json(work / "progress.json", {"phase": phase, "requests_expected": 20})
    write_json(work / "gateway" / "progress.json", gateway)


def test_an_evaluation_that_runs_has_a_line_with_its_speed(paths: Paths) -> None:
    told = progress.Telling(run_of(paths, ["b0", "b1"]), print)
    assert told.lines(0.0) == []
    under_way(paths, "b0", "running", answered=2, completion_tokens=50)
    under_way(paths, "b1", "waiting for the server")
    assert told.lines(0.0) == ["m: waits for its server", "m on b0: 2 of 20"]
    under_way(paths, "b0", "running", answered=12, completion_tokens=1100)
    write_json(paths.servers_of("m") / "0001" / "state.json", {"status": "starting"})
    assert told.lines(30.0) == ["m: its server is starting", "m on b0: 12 of 20, 35 tokens/s"]


def test_a_server_that_does_not_start_says_why(paths: Paths) -> None:
    under_way(paths, "b0", "waiting for the server")
    reason = "seen last: the server cannot be reached: \x1b[2Jno route"
    write_json(paths.servers_of("m") / "0001" / "state.json", {"status": "starting", "reason": reason})
    said = "m: its server is starting (seen last: the server cannot be reached: �[2Jno route)"
    assert progress.Telling(run_of(paths, ["b0"]), print).lines(0.0) == [said]
    ago = (datetime.now(UTC) - timedelta(seconds=185)).isoformat()
    write_json(paths.servers_of("m") / "0001" / "state.json", {"status": "starting", "changed_at": ago})
    said = "m: its server is starting for 3 min"
    assert progress.Telling(run_of(paths, ["b0"]), print).lines(0.0) == [said]


def test_an_evaluation_that_began_before_its_server_answers_waits_for_it(paths: Paths) -> None:
    told = progress.Telling(run_of(paths, ["b0", "b1"]), print)
    for name in ("b0", "b1"):
        under_way(paths, name, "running", answered=0)
    write_json(paths.servers_of("m") / "0001" / "state.json", {"status": "starting"})
    assert told.lines(0.0) == ["m: its server is starting"]
    under_way(paths, "b0", "running", answered=12, stored=12, replayed=12, completion_tokens=90)
    assert "m: its server is starting" in told.lines(10.0)
    assert told.lines(20.0) == ["m: its server is starting"]
    write_json(paths.servers_of("m") / "0001" / "state.json", {"status": "ready"})
    assert told.lines(30.0) == ["m on b0: 12 of 20, 0 tokens/s", "m on b1: 0 of 20, 0 tokens/s"]


def test_many_evaluations_have_one_line_together(paths: Paths) -> None:
    names = [f"b{number}" for number in range(500)]
    told = progress.Telling(run_of(paths, names), print)
    for name in names:
        under_way(paths, name, "running", answered=3)
    assert told.lines(0.0) == ["500 evaluations run: 1,500 requests answered, 0 tokens/s"]


def test_answers_that_are_kept_are_counted_once(paths: Paths) -> None:
    under_way(paths, "b0", "running", stored=24, answered=30, replayed=24)
    under_way(paths, "b1", "running", stored=0, answered=30, replayed=0)
    write_json(paths.evaluation("m", "b2"), {})
    under_way(paths, "b2", "running", stored=7, answered=7, replayed=7)
    assert progress.answers_kept(run_of(paths, ["b0", "b1", "b2"])) == 60


def test_what_cannot_be_staged_is_the_reason_of_all_that_need_it(paths: Paths) -> None:
    run = run_of(paths, ["b0", "b1"])
    with pytest.raises(SlurmevalError), recorded(run, "stage_dataset", Path("/d"), "staging the dataset d"):
        raise SlurmevalError("no file q.jsonl")
    failure = read_json(paths.failure("m", "b0"))
    assert failure["reason"] == "staging the dataset d: no file q.jsonl"
    assert failure["log"] == "logs/stage_dataset/d.log"
    assert not paths.failure("m", "b1").exists()
    with pytest.raises(OSError), recorded(run, "stage_model", Path("/m"), "staging the model m"):
        raise OSError("disk full")
    assert json.loads(paths.failure("m", "b1").read_bytes())["error_class"] == "harness_error"
