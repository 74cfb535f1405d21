"""The gate as a command: exit statuses, the table, and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slurmeval.cli import main
from tests.unit.results.test_comparison import Results
from tests.unit.results.test_gating import add


@pytest.fixture
def results(tmp_path: Path) -> Results:
    made = Results(tmp_path / "results")
    add(made, "sums", (400, 150, 50, 400))
    add(made, "facts", (500, 5, 10, 485))
    add(made, "words", (40, 6, 5, 49))
    return made


def gated(results: Results, policy: str, *options: str) -> int:
    file = results.folder.parent / "policy.yaml"
    file.write_text(policy)
    models = ["--candidate", "new", "--baseline", "old"]
    return main.run(["gate", str(file), *models, "--results", str(results.folder), *options])


@pytest.mark.parametrize(
    ("gating", "status", "said"),
    [
        ("facts", 0, "GO: new against old\nthe only check passed\n"),
        ("sums", 1, "NO-GO: new against old\nsums [critical] against old: drop +0.100 (0.550 → 0.450; "),
        ("words", 2, "INCONCLUSIVE: new against old\nwords [critical] against old: drop +0.010 "),
        ("none", 2, "INCONCLUSIVE: new against old\nnone [critical] against old: not run"),
    ],
)
def test_exit_status_is_the_decision(
    results: Results, capsys: pytest.CaptureFixture[str], gating: str, status: int, said: str
) -> None:
    policy = f"{{defaults: {{tier: advisory}}, benchmarks: {{{gating}: {{tier: critical}}}}}}"
    assert gated(results, policy) == status
    printed = capsys.readouterr().out
    assert printed.startswith(said)
    assert "sums" in printed and "breach" in printed


def test_json_is_for_programs(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    assert gated(results, "defaults: {max_drop: 0.01}", "--format", "json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["decision"], found["candidate"], found["baselines"]) == ("NO-GO", "new", ["old"])
    check = found["checks"][0]
    assert (check["benchmark"], check["finding"], check["limit"]) == ("sums", "BREACH", "max_drop")
    assert check["drop"] == pytest.approx(0.1)
    assert check["interval"]["low"] > 0.01


def test_bad_input_is_one_line_and_no_go_ahead(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    assert gated(results, "limits: {}") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "policy.yaml: limits: unknown key; " in captured.err


def test_names_that_a_terminal_would_obey_are_shown_harmless(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gated(results, '{benchmarks: {"a\\eb,<script>": {}}}') == 1
    assert "\x1b" not in capsys.readouterr().out


def test_a_share_that_is_no_number_is_refused(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    assert gated(results, "version: 1", "--min-paired", "nan") == 2
    assert "Invalid value for '--min-paired': nan is not in the range 0<=x<=1." in capsys.readouterr().err


def test_remarks_on_answers_stand_once_where_two_limits_hold(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in ("old", "new"):
        results.add(model, "read", [1.0] * 20, status=["unparsed"] * 20)
    gated(results, "benchmarks: {read: {max_relative_drop: 0.1}}")
    assert capsys.readouterr().out.count("read against old: could not be read: 40 of the answers") == 1
