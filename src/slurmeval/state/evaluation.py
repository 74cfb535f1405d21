"""The files of an evaluation: how far it is, what its gateway has done, and why it failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slurmeval.errors import ErrorClass
from slurmeval.state.records import Unreadable, load


@dataclass(frozen=True, kw_only=True)
class EvaluationProgress:
    """`progress.json`: how far an evaluation is."""

    phase: str
    """waiting for the server, running, scoring, done, failed; what holds it up may follow."""
    samples_expected: int | None = None
    requests_expected: int | None = None
    started_at: str | None = None
    """ISO UTC."""


@dataclass(kw_only=True)
class GatewayProgress:
    """`gateway/progress.json`: what this gateway process has done so far. It counts here."""

    answered: int = 0
    """Answers of status 200, from the server or the log."""
    replayed: int = 0
    """… of them from the log."""
    errors: int = 0
    """Requests that ended in any other way."""
    prompt_tokens: int = 0
    """Of all answers, replayed ones included."""
    completion_tokens: int = 0
    in_flight: int = 0
    """At the server, or waiting for one that is away."""
    holding: int = 0
    """Waiting for a server that is away."""
    reaches: bool = False
    """Whether any server answers."""
    away: str | None = None
    """Why none does."""
    stored: int = 0
    """Answers of earlier tries in the log."""
    failure: str | None = None
    """Why the evaluation cannot end well any more."""
    failure_class: ErrorClass | None = None
    failing: str | None = None
    """What the last requests failed of."""

    @property
    def answered_by_model(self) -> int:
        """Returns how many answers of the model there are, of all tries."""
        return self.stored + self.answered - self.replayed


@dataclass(frozen=True, kw_only=True)
class EvaluationSubmission:
    """A line for each job that was submitted for an evaluation."""

    job_id: str
    submitted_at: str | None = None
    """ISO UTC."""
    comment: str | None = None
    """The job's, as we gave it."""


@dataclass(frozen=True)
class ResultsMark:
    """`finished.json`, `answered.json`: with which parameters an evaluation has ended well."""

    results_key: str
    """In `answered.json` that of its requests."""


@dataclass(frozen=True, kw_only=True)
class FailureRecord:
    """Why an evaluation failed when it was last tried."""

    model: str = ""
    benchmark: str = ""
    error_class: ErrorClass | None = None
    reason: str | None = None
    started_at: str | None = None
    """ISO UTC."""
    ended_at: str | None = None
    attempt: int = 0
    """How often it has failed since it last ended well."""
    log: str | None = None
    """Relative to the results."""


def read_failure(path: Path) -> FailureRecord | None:
    """Returns the record of a failure; None if there is none. A damaged one is a failure without a reason."""
    try:
        return load(path, FailureRecord)
    except FileNotFoundError:
        return None
    except Unreadable:
        return FailureRecord()
