"""Evaluations' jobs that an earlier run has left in the queue."""

from __future__ import annotations

from dataclasses import dataclass

from slurmeval.paths import Paths
from slurmeval.slurm import commands
from slurmeval.slurm.commands import QueuedJob
from slurmeval.state.evaluation import EvaluationSubmission
from slurmeval.state.records import read_lines


@dataclass
class LeftOver:
    """Those of a project, by the name of its evaluations' jobs."""

    paths: Paths
    name: str
    over: set[str]
    """Jobs whose evaluations have ended: they are about to leave the queue."""
    _jobs: dict[str, QueuedJob] | None = None

    def forget(self) -> None:
        """The queue is asked again: there may be more in it."""
        self._jobs = None

    def take(self, model: str, benchmark: str, wanted: str) -> str | None:
        """Returns the job of this evaluation with the comment `wanted`.

        One with another comment, so for other parameters, is cancelled. Raises SlurmAway. Some sites
        overwrite comments: then what we noted of the job counts.
        """
        if self._jobs is None:
            named = [job for job in commands.queue() if job.name == self.name]
            here = [job for job in named if not job.is_ending and job.job_id not in self.over]
            self._jobs = {job.job_id: job for job in here}
        noted = self._noted(model, benchmark) if self._jobs else {}
        found = None
        for job in list(self._jobs.values()):
            if job.comment.split()[:2] == [model, benchmark]:
                comment = job.comment
            elif job.job_id in noted:
                comment = noted[job.job_id]
            else:
                continue
            del self._jobs[job.job_id]
            if comment == wanted and found is None:
                found = job.job_id
            else:
                commands.cancel([job.job_id])
        return found

    def _noted(self, model: str, benchmark: str) -> dict[str, str]:
        """By job, the comment with which it was submitted."""
        submitted = read_lines(self.paths.evaluation_jobs(model, benchmark), EvaluationSubmission)
        return {each.job_id: str(each.comment) for each in submitted}
