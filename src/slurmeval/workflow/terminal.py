"""What Snakemake says in the terminal, in one line each. Its own log in `.snakemake/log` has all of it."""

from __future__ import annotations

import logging
import time
from typing import Any

from snakemake.logging import ColorizingTextHandler, DefaultFormatter, get_event, logger
from snakemake_interface_logger_plugins.common import LogEvent

LONGEST_REASON = 100
"""Characters of Snakemake's reason for a job."""

_NO_REASON = ("Missing output files", "Input files updated by another job")
"""What is so of every job that runs for the first time."""

_OF_NO_USE = ("Select jobs to execute...", "Execute ", "Removing temporary output ")

_TARGET = "all"
"""The rule that does nothing, and is there to name what is wanted."""

_SAID_BY_US = (
    "At least one job did not complete successfully.",
    "Exiting because a job execution failed. Look above for error messages",
)


def speak_briefly() -> None:
    """Has Snakemake's messages in the terminal be short. `--verbose` leaves them as they are."""
    for handler in logger.handlers:
        if isinstance(handler, ColorizingTextHandler) and logger.level > logging.DEBUG:
            before = handler.formatter
            handler.setFormatter(Brief(before.quiet, before.show_failed_logs))


class Brief(DefaultFormatter):  # type: ignore[misc]
    """Jobs in a line each.

    A job that failed has said why itself, or through the executor: only Snakemake's account of its shell
    command is left out.
    """

    stopping = False
    """Whether somebody has stopped the run: then the jobs that end have not failed."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns what is shown of a log record; nothing where it is of no use."""
        event, text = get_event(record), str(record.msg)
        self.stopping = self.stopping or text.startswith("Terminating processes on user request")
        if event == LogEvent.ERROR and _is_a_job_s_end(getattr(record, "exception", None), text):
            return ""
        if record.levelno == logging.INFO and text.startswith(_OF_NO_USE):
            return ""
        if any(text.strip().endswith(said) for said in _SAID_BY_US) and len(text) < 200:
            return ""
        return str(super().format(record))

    def format_job_info(self, msg: dict[str, Any]) -> str:
        """Returns what is being done, and why."""
        if not msg["rule_msg"]:
            if msg["rule_name"] == _TARGET:
                return ""
            return str(super().format_job_info(msg))
        reason = because(str(msg["reason"]))
        return f"{_now()} {msg['rule_msg']}{f' ({reason})' if reason else ''}"

    def format_job_error(self, msg: dict[str, Any]) -> str:
        """Returns what failed, and its log."""
        if self.stopping:
            return ""
        said = str(msg["rule_msg"] or msg["rule_name"]).strip().removesuffix(".")
        log = f" (log: {', '.join(msg['log'])})" if msg["log"] else ""
        return f"{_now()} Failed: {said}{log}"

    def format_job_finished(self, msg: dict[str, Any]) -> str:
        """Returns nothing: the next line says enough."""
        return ""


def because(reason: str) -> str:
    """Snakemake's reason for a job, where it says something."""
    if "Params have changed" in reason:
        return "its parameters have changed"
    parts = [part for part in reason.split("; ") if not part.startswith(_NO_REASON)]
    text = "; ".join(parts)
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"


def _is_a_job_s_end(exception: str | None, text: str) -> bool:
    """Whether an error says no more than that a job's command ended with a status."""
    return exception == "RuleException" and "CalledProcessError" in text


def _now() -> str:
    return time.strftime("[%H:%M:%S]")
