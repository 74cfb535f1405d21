"""States of jobs, as Slurm's queue and accounting call them, and what they mean."""

from __future__ import annotations

from slurmeval.errors import ErrorClass

PENDING, RUNNING, COMPLETING = "PENDING", "RUNNING", "COMPLETING"
CANCELLED, FAILED, REQUEUED = "CANCELLED", "FAILED", "REQUEUED"
LAUNCH_FAILED = "LAUNCH_FAILED"
UNKNOWN = "UNKNOWN"
"""Not Slurm's: nobody says how the job ended."""

WAITING = frozenset({PENDING, REQUEUED, "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
"""States of a job in the queue that does not run."""

ERROR_CLASSES = {
    "OUT_OF_MEMORY": ErrorClass.OUT_OF_MEMORY,
    "TIMEOUT": ErrorClass.TIME_LIMIT,
    "DEADLINE": ErrorClass.TIME_LIMIT,
    "NODE_FAIL": ErrorClass.NODE_FAILURE,
    "BOOT_FAIL": ErrorClass.NODE_FAILURE,
    "PREEMPTED": ErrorClass.NODE_FAILURE,
    CANCELLED: ErrorClass.CANCELLED,
}
"""Why a job ended that Slurm ended; in any other state its program ended by itself."""

ENDED = frozenset({*ERROR_CLASSES, "COMPLETED", FAILED, LAUNCH_FAILED, "RECONFIG_FAIL", REQUEUED, "REVOKED"})
"""States of a job's run that is over. (REQUEUED: this job run; the job has another.)"""

BY_OTHERS = frozenset({*ERROR_CLASSES, LAUNCH_FAILED, UNKNOWN}) - {"OUT_OF_MEMORY"}
"""States that say nothing against starting another job like it."""
