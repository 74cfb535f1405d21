"""The jobs of `slurmeval doctor --site`: one small one for each kind of node.

They are submitted and waited for, and none is left behind.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from slurmeval.config.models import Config
from slurmeval.config.site import Jobs, Site
from slurmeval.errors import SlurmevalError
from slurmeval.files import write_json
from slurmeval.progress import Progress, duration_text
from slurmeval.site_check.facts import Listening, NodeFacts, Reached
from slurmeval.site_check.probe import LISTEN_S, Order, facts_file, listening_file, reached_file
from slurmeval.slurm import commands, request
from slurmeval.slurm.commands import QueuedJob, SlurmAway, job_name
from slurmeval.slurm.parsing import one_line
from slurmeval.slurm.reasons import is_hopeless
from slurmeval.state.records import encode, read
from slurmeval.variables import OWN_PYTHON_LINE, checked

JOB_MIN = 10
"""Time that a probe's job asks for."""
MEMORY_GB = 2.0
CPUS = 2
POLL_S = 2.0
TELL_S = 60.0
"""How often a wait that does not change is told of."""
FILES_S = 60.0
"""How long a file of a job that has ended may take to be seen here."""
NO_FOLDER, NO_PYTHON = 71, 72
"""Exit statuses of a probe's job that cannot write where it should."""
CANCEL_TRIES = 3
BUSY = frozenset({"", "None", "Priority", "Resources"})
"""Reasons for which a job waits because others run."""


@dataclass(frozen=True)
class Wanted:
    """A kind of node to ask."""

    name: str
    """In names of files."""
    title: str
    role: Literal["server", "evaluation", "staging"]
    jobs: Jobs
    flags: tuple[str, ...]
    gpus: int = 0
    pool: str | None = None


@dataclass
class ProbeAnswer:
    """What became of one kind's job."""

    wanted: Wanted
    job_id: str | None = None
    submitted: float = 0.0
    """In seconds since 1970, by this machine's clock."""
    facts: NodeFacts | None = None
    fault: str | None = None
    """Why there are no facts and will be none."""
    waits: str | None = None
    """What Slurm says of a job that has not begun."""
    expected: datetime | None = None
    """When Slurm expects it to begin, in UTC."""
    listening: Listening | None = None
    reached: Reached | None = None
    _gone: float | None = field(default=None, repr=False)

    @property
    def waiting(self) -> str:
        """Returns in words that the job waits, why, and until when."""
        until = f", expected to begin at {self.expected:%Y-%m-%d %H:%M} UTC" if self.expected else ""
        return f"waits ({self.waits}{until})"


def kinds(site: Site, config: Config | None, every_pool: bool) -> list[Wanted]:
    """Returns the kinds of nodes to ask: servers', evaluations', and staging's where it is done in jobs.

    Servers' are those of the config's servers; those of each pool with `every_pool`, or without a config.

    Raises:
        UserError: The config names a pool that the site file does not have.
    """
    found = [_server(site, pool, gpus) for pool, gpus in _pools(site, config, every_pool).items()]
    if site.evaluations.where == "jobs":
        jobs = site.evaluations
        flags = request.evaluation_flags(site, time_min=request.time_min(JOB_MIN, jobs), memory_gb=MEMORY_GB)
        found.append(Wanted("evaluations", "evaluations", "evaluation", jobs, tuple(flags)))
    if site.staging.where == "jobs":
        flags = request.staging_flags(site, request.time_min(JOB_MIN, site.staging))
        found.append(Wanted("staging", "staging", "staging", site.staging, tuple(flags)))
    return found


def _pools(site: Site, config: Config | None, every_pool: bool) -> dict[str | None, int]:
    """Returns GPUs to ask for, by pool: one, or none where none of the config's servers there has any."""
    started = [] if config is None else [s for s in config.servers.values() if s.url is None]
    found: dict[str | None, int] = {}
    for server in started:
        found[server.pool] = max(found.get(server.pool, 0), min(server.gpus, 1))
    if every_pool or config is None:
        every: dict[str | None, int] = dict.fromkeys([None, *site.servers.pools], 1)
        found = every | found
    return found


def _server(site: Site, pool: str | None, gpus: int) -> Wanted:
    jobs = site.servers.of(pool)
    gpus = gpus and (jobs.gpus_per_job or gpus)
    minutes = request.time_min(JOB_MIN, jobs)
    flags = request.server_flags(jobs, gpus=gpus, nodes=1, cpus=CPUS, memory_gb=MEMORY_GB, time_min=minutes)
    title = "servers" if pool is None else f"servers (pool {pool})"
    return Wanted(f"server-{pool or ''}", title, "server", jobs, tuple(flags), gpus, pool)


@dataclass
class Probes:
    """The probes' jobs of one call."""

    site: Site
    project: Path
    results: Path
    """What the names of the jobs go by."""
    folder: Path
    """Shared by the nodes; where probes write."""
    places: Mapping[str, Path]
    token: str
    clock: Callable[[], float] = time.monotonic

    def ask(self, wanted: Sequence[Wanted], wait_s: float, progress: Progress) -> list[ProbeAnswer]:
        """Submits the jobs and returns what they say, or why they do not, after `wait_s` at the latest.

        However it ends, none of the jobs is left in the queue.

        Raises:
            SlurmAway: Slurm does not answer.
        """
        answers = [ProbeAnswer(kind) for kind in wanted]
        try:
            for answer in answers:
                self._submit(answer, answers, wait_s, progress)
            self._wait(answers, wait_s, progress)
        finally:
            if ids := [answer.job_id for answer in answers if answer.job_id is not None]:
                commands.cancel(ids, tries=CANCEL_TRIES)
        return answers

    def _submit(
        self, answer: ProbeAnswer, answers: Iterable[ProbeAnswer], wait_s: float, progress: Progress
    ) -> None:
        kind = answer.wanted
        servers = tuple(other.wanted.name for other in answers if other.wanted.role == "server")
        apart = self.site.evaluations.where == "jobs"
        order = Order(
            name=kind.name,
            places={name: str(path) for name, path in self.places.items()},
            token=self.token,
            containers=self.site.containers.model_dump(mode="json"),
            scratch=self.site.scratch.folder if kind.role == "server" else None,
            address=self.site.servers.of(kind.pool).address if kind.role == "server" and apart else None,
            reaches=servers if kind.role == "evaluation" else (),
            wait_s=min(wait_s, JOB_MIN * 60 - LISTEN_S),
        )
        file = self.folder / f"{kind.name}.order.json"
        write_json(file, encode(order))
        own = [f"--job-name={job_name(self.results, 'doctor')}", "--output=/dev/null", "--chdir=/"]
        answer.submitted = time.time()
        try:
            script = _script(kind.jobs.setup, self.project, self.folder / f"{kind.name}.log", file)
            answer.job_id = commands.submit([*kind.flags, *own], script, self.project)
        except SlurmAway:
            raise
        except SlurmevalError as error:
            answer.fault = f"Slurm does not take the job: {error} ({shlex.join(kind.flags)})"
            return
        answer.waits = "submitted"
        progress(f"{kind.title}: job {answer.job_id} is submitted")

    def _wait(self, answers: Sequence[ProbeAnswer], wait_s: float, progress: Progress) -> None:
        began = self.clock()
        told: dict[str, tuple[str, float]] = {}
        while True:
            queue = {job.job_id: job for job in commands.queue(tries=CANCEL_TRIES)}
            list(self.folder.iterdir())  # has a network file system look again
            for answer in answers:
                self._look(answer, queue)
                _tell(answer, self.clock() - began, told, progress)
            if not any(self._open(answer, answers) for answer in answers):
                return
            if self.clock() - began >= wait_s:
                return
            time.sleep(POLL_S)

    def _look(self, answer: ProbeAnswer, queue: Mapping[str, QueuedJob]) -> None:
        """Takes in what is known of a job by now."""
        if answer.job_id is None or answer.fault is not None:
            return
        name = answer.wanted.name
        answer.facts = answer.facts or read(facts_file(self.folder, name), NodeFacts)
        answer.listening = answer.listening or read(listening_file(self.folder, name), Listening)
        answer.reached = answer.reached or read(reached_file(self.folder, name), Reached)
        job = queue.get(answer.job_id)
        if answer.facts is not None:
            answer.waits = None
            answer._gone = self.clock() if job is None else None
        elif job is None:
            answer.waits = None
            answer._gone = answer._gone or self.clock()
            answer.fault = self._ended(answer, answer._gone)
        elif job.waits:
            answer.waits = "the nodes are busy" if job.reason in BUSY else job.reason
            answer.expected = job.start
            if is_hopeless(job.reason):
                answer.fault = f"its job will not start: {job.reason} ({shlex.join(answer.wanted.flags)})"
        else:
            answer.waits = None

    def _ended(self, answer: ProbeAnswer, since: float) -> str | None:
        """Returns why a job that has left the queue wrote no facts; None where it may have."""
        assert answer.job_id is not None
        life = commands.end_of(answer.job_id)
        status, node = ("", "") if life is None else (life.exit_code.partition(":")[0], life.nodes)
        where = f"{node or 'its node'}"
        if status == str(NO_FOLDER):
            return (
                f"{where} does not see {self.project} or cannot write to {self.folder.parent}: a project and "
                "its results belong on a file system that all nodes see under the same path"
            )
        if status == str(NO_PYTHON):
            return f"{where} has no {sys.executable}: make .venv with a Python that is there on the nodes too"
        if self.clock() - since < FILES_S and status in ("", "0"):
            return None
        log = self.folder / f"{answer.wanted.name}.log"
        words = ""
        with suppress(OSError):
            words = next(
                (one_line(line) for line in reversed(log.read_text(errors="replace").splitlines()) if line),
                "",
            )
        said = words or (f"Slurm says {life.state}" if life else "Slurm does not say how")
        return f"its job ended on {where} without an answer: {said}"

    def _open(self, answer: ProbeAnswer, answers: Sequence[ProbeAnswer]) -> bool:
        """Returns whether more may become known of it."""
        if answer.fault is not None:
            return False
        if answer.facts is None:
            return True
        if answer.wanted.role != "server" or self.site.evaluations.where != "jobs":
            return False
        if answer.reached is not None or answer._gone is not None:
            return False
        if answer.listening is not None and answer.listening.fault is not None:
            return False
        return any(other.wanted.role == "evaluation" and other.fault is None for other in answers)


def _tell(
    answer: ProbeAnswer, waited_s: float, told: dict[str, tuple[str, float]], progress: Progress
) -> None:
    """Says how it is with a job when that changes, and now and then if it does not."""
    if answer.job_id is None:
        return
    waiting = False
    if answer.facts is not None:
        said = f"has answered from {answer.facts.node}"
    elif answer.fault is not None:
        said = "has ended without an answer"
    else:
        waiting, said = True, "runs" if answer.waits is None else answer.waiting
    before, at = told.get(answer.wanted.name, ("", 0.0))
    if said == before and not (waiting and waited_s - at >= TELL_S):
        return
    if not before and waiting and waited_s < POLL_S:
        return  # Slurm has not looked at it yet
    told[answer.wanted.name] = (said, waited_s)
    progress(f"{answer.wanted.title}: job {answer.job_id} {said}, {duration_text(waited_s)}")


def _script(setup: Sequence[str], project: Path, log: Path, order: Path) -> str:
    """Returns the job's script. It says by its exit status why it cannot say it in a file."""
    python, probe = shlex.quote(sys.executable), "slurmeval.site_check.probe"
    lines = [
        "#!/bin/bash",
        f"cd {shlex.quote(str(project))} || exit {NO_FOLDER}",
        f"{{ : >{shlex.quote(str(log))}; }} 2>/dev/null || exit {NO_FOLDER}",
        f"exec >{shlex.quote(str(log))} 2>&1",
        f"[ -x {python} ] || exit {NO_PYTHON}",
        *checked(setup),
        OWN_PYTHON_LINE,
        f"exec {python} -m {probe} {shlex.quote(str(order))}",
    ]
    return "\n".join(lines) + "\n"
