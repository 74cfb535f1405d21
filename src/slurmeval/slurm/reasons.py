"""Why a job waits in the queue, by squeue's word for it."""

from __future__ import annotations

import re

_ORDINARY = frozenset({"", "None", "Priority", "Resources", "Dependency", "BeginTime", "Cleaning", "Prolog"})

_HOPELESS = re.compile(
    r"PerJob|MaxWallDuration|BadConstraints|JobHeldAdmin|DependencyNeverSatisfied|PartitionTimeLimit"
    r"|Invalid(Account|QOS)|(Account|QOS)NotAllowed|(QOS|Assoc)Min"
)

_LAUNCH_FAILED = re.compile(r"launch.failed.requeued.held", re.IGNORECASE)

_LIMIT = re.compile(r"(Assoc|QOS)\w*(Max|Grp)|(Association|QOS)(Job|Resource)Limit|MaxGRESPerAccount")

_GROUP = re.compile(r"Grp|PerAccount")


def is_worth_saying(reason: str) -> bool:
    """Whether there is more to it than a cluster that is busy."""
    return reason not in _ORDINARY


def is_hopeless(reason: str) -> bool:
    """Whether the job as it is will not start, unless an administrator changes something."""
    return launch_failed(reason) or _HOPELESS.search(reason) is not None


def launch_failed(reason: str) -> bool:
    """Whether a node could not start the job, which was put back and held: another job may do."""
    return _LAUNCH_FAILED.search(reason) is not None


def is_limit(reason: str) -> bool:
    """Whether the job waits until others of the user, or of the account, have ended."""
    return not is_hopeless(reason) and _LIMIT.search(reason) is not None


def is_of_group(reason: str) -> bool:
    """Whether those others may be other users'."""
    return _GROUP.search(reason) is not None


def may_be_behind_a_limit(reason: str) -> bool:
    """Whether a job may wait for a limit that squeue names of another: the scheduler does not look at all."""
    return is_limit(reason) or reason in ("", "None", "Priority")
