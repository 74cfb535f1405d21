"""An evaluation that does not reach a server that says it answers shows it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from slurmeval.errors import EvaluationFailed
from slurmeval.evaluations import run


def test_server_that_answers_elsewhere_only_is_said_at_once_and_fails_after_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, phases, progress = [1000.0], [], {}
    evaluation: Any = SimpleNamespace(out_of_reach_since=None, phase=phases.append)
    gateway: Any = SimpleNamespace(progress=lambda: progress)
    monkeypatch.setattr(run, "_server_answers", lambda *_: True)
    monkeypatch.setattr(run.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(run.socket, "gethostname", lambda: "cpu7")
    for reaches in (True, False, False, True):
        progress["reaches"] = reaches
        run._check_reach(evaluation, gateway)
    assert phases == ["running, but cpu7 does not reach the server", "running"]
    progress["reaches"] = False
    run._check_reach(evaluation, gateway)
    now[0] += run.OUT_OF_REACH_S + 1
    with pytest.raises(EvaluationFailed, match="the server answers, but not to cpu7"):
        run._check_reach(evaluation, gateway)
