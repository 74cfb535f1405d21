"""The one line of a log that says why a harness failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmeval.errors import ErrorClass
from slurmeval.harnesses.logs import failure, may_lack_network, telling_line

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


CHAIN = """Traceback (most recent call last):
  File "json.py", line 291, in _generate_tables
pyarrow.lib.ArrowInvalid: JSON parse error: Missing a name for object member. in row 6

{between}

Traceback (most recent call last):
  File "lm_eval", line 12, in <module>
datasets.exceptions.DatasetGenerationError: An error occurred while generating the dataset
"""


@pytest.mark.parametrize(
    "between",
    [
        "The above exception was the direct cause of the following exception:",
        "During handling of the above exception, another exception occurred:",
    ],
)
def test_what_led_to_the_last_error_is_said_with_it(tmp_path: Path, between: str) -> None:
    log = tmp_path / "log"
    log.write_text(CHAIN.format(between=between))
    assert telling_line(log) == (
        "datasets.exceptions.DatasetGenerationError: An error occurred while generating the dataset "
        "(after: pyarrow.lib.ArrowInvalid: JSON parse error: Missing a name for object member. in row 6)"
    )


def test_an_error_that_led_to_nothing_is_not_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Traceback\nValueError: mended\nTraceback\nOSError: the last\n")
    assert telling_line(log) == "OSError: the last"


def test_a_vague_error_is_said_with_what_the_program_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "2026-11-29:15:03:16 ERROR    [api.registry:637] exact_mach not found in the evaluate library!\n"
        "Traceback\nKeyError: None\n"
    )
    assert telling_line(log) == "KeyError: None (after: exact_mach not found in the evaluate library!)"


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("Traceback\njinja2.exceptions.UndefinedError: 'qestion' is undefined\n", False),
        ("see https://huggingface.co\nTraceback\nValueError: Tasks not found: gms8k\n", False),
        (CHAIN.format(between="The above exception was the direct cause of the following exception:"), False),
        ("Traceback\nTypeError: 'NoneType' object is not callable\n", False),
        ("lm_eval: error: unrecognized arguments: --nonsense\n", False),
        (
            "Traceback\nConnectionError: Couldn't reach 'openai/gsm8k' on the Hub (OfflineModeIsEnabled)\n",
            True,
        ),
        ("Traceback\nLookupError: Resource punkt not found.\n", True),
        ("cannot reach the hub, going on\nTraceback\nTypeError: 'NoneType' object is not callable\n", True),
        ("it says nothing that is known\n", True),
        ("", True),
    ],
)
def test_only_what_a_network_may_mend_is_tried_with_one(tmp_path: Path, text: str, may: bool) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    assert may_lack_network(log) is may
