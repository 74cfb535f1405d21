"""An evaluation that is told to stop: by Ctrl-C on one machine, by its job's end on a cluster."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from slurmeval.errors import ErrorClass, EvaluationFailed


@contextlib.contextmanager
def ended_by_signals(on_cluster: bool) -> Iterator[None]:
    """SIGTERM and SIGINT raise EvaluationFailed, so that all is put in order.

    On one machine they mean that the run was stopped; on a cluster that the evaluation's job was
    cancelled.
    """
    error_class = ErrorClass.CANCELLED if on_cluster else ErrorClass.STOPPED

    def end(signum: int, _frame: object) -> None:
        raise EvaluationFailed(error_class, f"stopped by {signal.Signals(signum).name}")

    before = {signum: signal.signal(signum, end) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
