"""An evaluation that does not reach a server that says it answers shows it."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from slurmeval.errors import EvaluationFailed
from slurmeval.evaluation import evaluate
from slurmeval.state.evaluation import GatewayProgress


def test_server_that_answers_elsewhere_only_is_said_at_once_and_fails_after_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, phases, progress = [1000.0], [], GatewayProgress()
    evaluation: Any = SimpleNamespace(out_of_reach_since=None, phase=phases.append)
    gateway: Any = SimpleNamespace(progress=lambda: progress)
    monkeypatch.setattr(evaluate, "_server_answers", lambda *_: True)
    monkeypatch.setattr(evaluate.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(evaluate.socket, "gethostname", lambda: "cpu7")
    for reaches in (True, False, False, True):
        progress.reaches = reaches
        evaluate._check_reach(evaluation, gateway)
    assert phases == ["running, but cpu7 does not reach the server", "running"]
    progress.reaches = False
    evaluate._check_reach(evaluation, gateway)
    now[0] += evaluate.OUT_OF_REACH_S + 1
    with pytest.raises(EvaluationFailed, match="the server answers, but not to cpu7"):
        evaluate._check_reach(evaluation, gateway)


def test_file_system_that_is_away_for_a_moment_fails_no_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    for name in ("held", "lease_files"):
        monkeypatch.setattr(evaluate.replicas, name, stale)
    monkeypatch.setattr(evaluate.leasing, "check", stale)
    evaluation: Any = SimpleNamespace(
        on_cluster=True, run={}, model="m", benchmark_id="b", out_of_reach_since=None, answered_before=False
    )
    gateway: Any = SimpleNamespace(failure=lambda: None, progress=lambda: None)
    assert not evaluate._server_answers(evaluation)
    evaluate._check_surroundings(evaluation, gateway)
