"""Reasons for which a job waits in the queue, as squeue calls them."""

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
    """Returns whether there is more to it than a busy cluster."""
    return reason not in _ORDINARY


def is_hopeless(reason: str) -> bool:
    """Returns whether the job will not start as it is, unless an administrator changes something."""
    return launch_failed(reason) or _HOPELESS.search(reason) is not None


def launch_failed(reason: str) -> bool:
    """Returns whether a node could not start the job, which was requeued and held: another job may start."""
    return _LAUNCH_FAILED.search(reason) is not None


def is_limit(reason: str) -> bool:
    """Returns whether the job waits until others of the user, or of the account, have ended."""
    return not is_hopeless(reason) and _LIMIT.search(reason) is not None


def is_of_group(reason: str) -> bool:
    """Returns whether those others may be other users'."""
    return _GROUP.search(reason) is not None


def may_be_behind_a_limit(reason: str) -> bool:
    """Returns whether a job may wait for a limit that squeue names for another job.

    The scheduler does not look at such a job at all.
    """
    return is_limit(reason) or reason in ("", "None", "Priority")
