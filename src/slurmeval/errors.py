"""The one exception tree.

SlurmevalError
├── UserError            what was given is wrong; the message is one line: what, where, what is allowed
│   └── ConfigError      … in a config file: file and key
├── ServerFailed         a model's server cannot come up or was lost for good, with the reason
│   └── ServerStopped    … because someone said `slurmeval stop`
├── NotYet               a job cannot be submitted at the moment, and may be later
└── EvaluationFailed     one evaluation did not end well; carries an ErrorClass
"""

from __future__ import annotations

from enum import StrEnum


class ErrorClass(StrEnum):
    """Why something failed. The class decides what is retried, and stands in the report."""

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
    """Any failure that slurmeval foresees. Its text is one line a person can act on."""


class UserError(SlurmevalError):
    """Bad input. Commands print the text, nothing else, and exit with status 2."""


class ConfigError(UserError):
    """Bad config; the text names the file and the key."""


class ServerFailed(SlurmevalError):
    """A server cannot come up, or is gone for good. The text is the reason, in one sentence."""

    def __init__(self, reason: str, error_class: ErrorClass = ErrorClass.SERVER_LOST) -> None:
        super().__init__(reason)
        self.error_class = error_class


class ServerStopped(ServerFailed):
    """Someone stopped this run's server with `slurmeval stop`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, ErrorClass.CANCELLED)


class NotYet(SlurmevalError):
    """A job cannot be submitted at the moment, and may be later. The text is the batch system's words."""


class EvaluationFailed(SlurmevalError):
    """One evaluation did not end well."""

    def __init__(self, error_class: ErrorClass, reason: str) -> None:
        super().__init__(reason)
        self.error_class = error_class
        self.reason = reason
