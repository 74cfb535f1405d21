"""The one exception tree.

SlurmevalError has four kinds: UserError (bad input; ConfigError if it stands in a config file), ServerFailed
(ServerStopped if someone stopped it), NotYet and EvaluationFailed.
"""

from __future__ import annotations

from enum import StrEnum


class ErrorClass(StrEnum):
    """Class of a failure. It decides what is retried, and stands in the report."""

    SERVER_LOST = "server_lost"
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    NODE_FAILURE = "node_failure"
    HARNESS_ERROR = "harness_error"
    BAD_RESULT = "bad_result"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    """The run was stopped before its end: nothing failed, and the next run carries on."""


class SlurmevalError(Exception):
    """Failure that slurmeval foresees. Its text is one line that a person can act on."""


class UserError(SlurmevalError):
    """Bad input. Commands print the text, nothing else, and exit with status 2."""


class ConfigError(UserError):
    """Bad config. The text names the file and the key."""


class ServerFailed(SlurmevalError):
    """Server that cannot start, or is gone for good. The text is the reason, in one sentence."""

    def __init__(self, reason: str, error_class: ErrorClass = ErrorClass.SERVER_LOST) -> None:
        """Takes the reason and its class."""
        super().__init__(reason)
        self.error_class = error_class


class ServerStopped(ServerFailed):
    """Server of this run that someone stopped with `slurmeval stop`."""

    def __init__(self, reason: str) -> None:
        """Takes the reason."""
        super().__init__(reason, ErrorClass.CANCELLED)


class NotYet(SlurmevalError):
    """Job that cannot be submitted now, and may be later. The text is the batch system's words."""


class EvaluationFailed(SlurmevalError):
    """Evaluation that did not end well."""

    def __init__(self, error_class: ErrorClass, reason: str) -> None:
        """Takes the class and the reason."""
        super().__init__(reason)
        self.error_class = error_class
        self.reason = reason
