"""How jobs ended that have left the queue: Slurm's daemon remembers for some minutes, accounting for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slurmeval.slurm import commands
from slurmeval.slurm.commands import JobRun, SlurmAway

MOST_SHOWN = 50
"""Jobs that the daemon is asked about at once, one by one; of more, accounting is asked alone."""


@dataclass
class Ends:
    """What Slurm says of ended jobs."""

    no_accounting: bool = False
    """Whether the cluster has none: nothing more will ever be known."""

    def of(self, job_ids: Sequence[str]) -> dict[str, JobRun]:
        """The last job run of each job, as far as it is known.

        Accounting lags behind: it may tell of one that has not ended.
        """
        found: dict[str, JobRun] = {}
        try:
            for job_id in job_ids[:MOST_SHOWN]:
                if (job_run := commands.end_of(job_id)) is not None:
                    found[job_id] = job_run
            left = [job_id for job_id in job_ids if job_id not in found]
            known = {} if self.no_accounting else commands.job_runs(left)
        except SlurmAway as error:
            self.no_accounting = self.no_accounting or error.for_good
            return found
        return found | {job_id: job_runs[-1] for job_id, job_runs in known.items() if job_runs}
