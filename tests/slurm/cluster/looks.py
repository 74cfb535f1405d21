"""What can be seen of a cluster: its nodes, jobs, accounts of jobs, processes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.slurm.cluster import processes
from tests.slurm.cluster.commands import ClusterError, run, wait_until
from tests.slurm.cluster.layout import NODES, Layout

Job = dict[str, str]
JOB_FIELDS = {
    "id": "%i",
    "state": "%T",
    "reason": "%r",
    "partition": "%P",
    "nodes": "%N",
    "user": "%u",
    "name": "%j",
}
SEPARATOR = "\x1f"  # a comment may hold any character that can be typed
SACCT_FIELDS = (
    "JobID,JobIDRaw,JobName,User,Account,Partition,QOS,State,ExitCode,DerivedExitCode,Submit,Start,End,ElapsedRaw,"
    "TimelimitRaw,NodeList,AllocTRES,ReqTRES,MaxRSS,Comment,Reason"
)


class Looks:
    """Questions to a cluster, as asked on its login host. They change nothing."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def ask(self, argv: Sequence[str | Path]) -> str:
        """Standard output of a command on the login host that must succeed."""
        return run([self._layout.login, *argv])

    def node_states(self) -> dict[str, str]:
        """By node, as sinfo says it: "idle", "mixed", "down"; with "*" when the node does not answer."""
        lines = self.ask(["sinfo", "--Node", "--noheader", "--format=%N %T"]).splitlines()
        return dict(line.split() for line in lines)

    def jobs(self) -> list[Job]:
        """Jobs that are not over, as squeue lists them; keys as in JOB_FIELDS."""
        lines = self.ask(
            ["squeue", "--array", "--noheader", f"--format={'|'.join(JOB_FIELDS.values())}"]
        ).splitlines()
        # The name is last: it may hold any character
        return [dict(zip(JOB_FIELDS, line.split("|", len(JOB_FIELDS) - 1), strict=True)) for line in lines]

    def scontrol_show_job(self, job_id: str) -> Job:
        """What the controller knows of a job, for 5 minutes after its end."""
        told = self.ask(["scontrol", "--oneliner", "show", "job", job_id])
        return dict(re.findall(r"(\S+?)=(.*?)(?=\s+[\w:/]+=|\s*$)", told.splitlines()[0]))

    def sacct(self, job_id: str, *, steps: bool = False, deadline_s: float = 20) -> list[Job]:
        """One row for each run of the job (with `steps`, for each step too), by sacct's own names of the
        fields. Waits until accounting knows the job, and its end if it has ended."""
        which = [] if steps else ["--allocations"]
        question = [
            "sacct",
            "--duplicates",
            "--parsable2",
            f"--delimiter={SEPARATOR}",
            f"--jobs={job_id}",
            f"--format={SACCT_FIELDS}",
            *which,
        ]

        def rows() -> list[Job]:
            over = not any(job["id"].split("_")[0] == job_id.split("_")[0] for job in self.jobs())
            header, *lines = (line.split(SEPARATOR) for line in self.ask(question).splitlines())
            found = [dict(zip(header, line, strict=True)) for line in lines]
            # A job's end may be written before its start, and for a moment that is all there is
            job_runs = [row for row in found if "." not in row["JobID"]]
            unfinished = any(
                row["State"] in ("RUNNING", "PENDING") or not row["Partition"] for row in job_runs
            )
            return [] if over and unfinished else found

        return wait_until(rows, f"accounting of job {job_id}", deadline_s)

    def processes_of_jobs(self) -> dict[str, list[processes.Process]]:
        """By node: processes other than the node's own. Empty when no job left anything running."""
        return processes.of_jobs(self._layout)

    def wait_idle(self, deadline_s: float = 60) -> None:
        """Waits until no job is left and all nodes are idle."""

        def idle() -> bool:
            states = self.node_states()
            return not self.jobs() and [states.get(node) for node in NODES] == ["idle"] * len(NODES)

        try:
            wait_until(idle, "the cluster to be idle", deadline_s)
        except ClusterError as error:
            raise ClusterError(f"{error}: nodes {self.node_states()}, jobs {self.jobs()}") from None
