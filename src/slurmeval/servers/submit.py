"""Submits a server's job: `python -m slurmeval.servers.submit <server folder>`.

A command of its own, since submitit takes longer to import than most leases take, and a local job stays in
the session of its submitter. Slurm is the same code: spec.cluster is `slurm`, spec.job its parameters."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurmeval.files import create_exclusively, read_json, write_json
from slurmeval.processes import identity
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.spec import ServerSpec
from slurmeval.servers.supervisor import Supervisor

MARGIN_S = 30
"""Seconds between the end of draining and the end of the job's time."""


def submit(path: Path) -> dict[str, Any]:
    """Submits the job of the server in `path` and returns what `job.json` then holds. Raises submitit's and
    the batch system's errors."""
    import submitit

    folder = ServerFolder(path)
    spec = ServerSpec.from_json(read_json(folder.spec))
    executor = submitit.AutoExecutor(
        folder=folder.submitit, cluster=spec.cluster, **{f"{spec.cluster}_max_num_timeout": 1000}
    )
    # submitit sends SIGUSR2 this long before the time limit: the server drains, then the job is requeued.
    signal_delay_s = min(int(spec.drain_s) + MARGIN_S, spec.time_limit_min * 30)
    parameters = {"name": f"serve-{spec.model}", "timeout_min": spec.time_limit_min, **spec.job}
    if spec.cluster == "slurm":
        parameters["slurm_signal_delay_s"] = signal_delay_s
    executor.update_parameters(**parameters)
    if spec.cluster == "local":
        # AutoExecutor does not pass this one on to the local executor.
        executor._executor.update_parameters(signal_delay_s=signal_delay_s)
    job = executor.submit(Supervisor(path))
    content: dict[str, Any] = {
        "job_id": job.job_id,
        "cluster": spec.cluster,
        "submitted_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    if spec.cluster == "local":
        content["process"] = identity(int(job.job_id))
    write_json(folder.job, content)
    return content


def main() -> None:
    """The command. A folder is submitted once."""
    (path,) = sys.argv[1:]
    if not create_exclusively(ServerFolder(path).submitted):
        sys.exit(f"{path} has been submitted before")
    submit(Path(path))


if __name__ == "__main__":
    main()
