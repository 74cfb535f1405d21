"""Records of failures: why an evaluation failed when it was last tried. Light, since leases import it."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from slurmeval.errors import ErrorClass, EvaluationFailed, ServerFailed, SlurmevalError
from slurmeval.slurm.parsing import is_slurms
from slurmeval.state.evaluation import FailureRecord, read_failure
from slurmeval.state.records import write
from slurmeval.state.run_document import RunDocument


def no_server(failure: ServerFailed) -> EvaluationFailed:
    """What it means for an evaluation that there is no server for it."""
    told = (ErrorClass.CANCELLED, ErrorClass.OUT_OF_MEMORY)
    return EvaluationFailed(
        failure.error_class if failure.error_class in told else ErrorClass.SERVER_LOST, str(failure)
    )


def unforeseen(error: Exception) -> EvaluationFailed:
    """What it means for an evaluation that its start failed by an error that nobody foresaw.

    Prints the traceback.
    """
    if isinstance(error, SlurmevalError | OSError):
        return EvaluationFailed(ErrorClass.CANCELLED, str(error))
    traceback.print_exception(error)
    return EvaluationFailed(ErrorClass.HARNESS_ERROR, f"{type(error).__name__}: {error}")


def record(
    path: Path,
    failure: EvaluationFailed,
    model: str,
    benchmark: str,
    started_at: datetime,
    log: str | None,
) -> None:
    """Writes the record of an evaluation's failure, counting the attempts. `log`: relative to the results."""
    made = FailureRecord(
        model=model,
        benchmark=benchmark,
        error_class=failure.error_class,
        reason=failure.reason,
        started_at=started_at.isoformat(),
        ended_at=datetime.now(UTC).isoformat(),
        attempt=1 + failed_attempts(path),
        log=log,
    )
    write(path, made)


@contextlib.contextmanager
def recorded(run: RunDocument, rule: str, made: Path, what: str) -> Iterator[None]:
    """Records what fails inside for every evaluation that needs the file `made` and has no result.

    None of them will start. `what`: what is being done, in a word or two.
    """
    paths, started_at = run.paths, datetime.now(UTC)
    try:
        yield
    except (SlurmevalError, OSError) as error:
        failure = EvaluationFailed(ErrorClass.HARNESS_ERROR, f"{what}: {error}")
        log = str(paths.log(rule, made.stem).relative_to(paths.results))
        for model, benchmark in run.evaluations:
            if _needs(run, model, benchmark, made) and not paths.evaluation(model, benchmark).exists():
                record(paths.failure(model, benchmark), failure, model, benchmark, started_at, log)
        raise


def _needs(run: RunDocument, model: str, benchmark: str, made: Path) -> bool:
    from slurmeval.config.of_run import config_of  # here, since every lease imports this module

    entries = (run.models[model], run.models[run.server_of(model, benchmark)])
    served = [file for entry in entries for file in (entry.manifest, entry.environment)]
    datasets = [run.datasets[name] for name in config_of(run).benchmarks[benchmark].datasets]
    return made.absolute() in [*served, run.benchmarks[benchmark].environment, *datasets]


def failed_attempts(path: Path) -> int:
    """How often the evaluation has failed since it last ended well."""
    failure = read_failure(path)
    return failure.attempt if failure else 0


def last_words(logs: Iterable[Path]) -> str:
    """The last line in these logs that is the job's own, else Slurm's last."""
    texts = (log.read_text(encoding="utf-8", errors="replace") for log in logs)
    lines = [line.strip() for text in texts for line in reversed(text.split("\n")) if line.strip()]
    own = (line for line in lines if not is_slurms(line))
    return next(own, lines[0] if lines else "")[:300]
