"""The one line of a log that says why a harness failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmeval.errors import ErrorClass
from slurmeval.harnesses.logs import failure, telling_line

REFUSED = (
    "Requesting API:   0%| | 0/4\r2026-11-22:15:19:15 WARNING  [models.api_models:521] API request failed! "
    'Status code: {status}, Response text: {{"error": {{"type": "{kind}", "message": "{message}"}}}}. '
    "Retrying...\n"
    "aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected\n"
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "its log is empty"),
        ("one\ntwo\n\n", "two"),
        ("Error: no such task\nbye\n", "Error: no such task"),
        (
            "Traceback (most recent call last):\nValueError: first\n"
            "RuntimeError: Evaluation failed! Please consult\n"
            "Traceback\nImportError: pyarrow requires NumPy 2.0\nmore\n",
            "ImportError: pyarrow requires NumPy 2.0",
        ),
        ("  | a.b.HTTPError: 404\n  +----\n", "a.b.HTTPError: 404"),
        ("\x1b[31m│ KeyError: 'x' │\x1b[0m\n", "KeyError: 'x'"),
        (
            "RuntimeError: Evaluation failed! Logs below:\nbfcl: command not found\n",
            "bfcl: command not found",
        ),
    ],
)
def test_the_telling_line_is_found(tmp_path: Path, text: str, line: str) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    assert telling_line(log) == line


def test_a_long_line_is_cut_and_a_missing_log_is_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ValueError: " + "x" * 1000)
    assert len(telling_line(log)) == 300
    assert telling_line(tmp_path / "none") == "its log is empty"


def test_a_refused_request_tells_more_than_what_followed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(REFUSED.format(status=400, kind="BadRequestError", message="too long"))
    assert telling_line(log).startswith("Status code: 400, Response text:")
    assert failure("lm-eval", 1, log).error_class is ErrorClass.HARNESS_ERROR


def test_the_gateways_word_that_the_server_is_lost_is_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(REFUSED.format(status=503, kind="server_lost", message="out of memory: needs 40 GiB"))
    error = failure("lm-eval", 1, log)
    assert (error.error_class, error.reason) == (ErrorClass.SERVER_LOST, "out of memory: needs 40 GiB")
