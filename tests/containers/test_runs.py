"""Whole runs with images and data from the tests' internet, on a cluster whose nodes reach none of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.containers.images import read_lock
from tests.containers.project import OnlineProject
from tests.internet import Internet
from tests.internet.hub import Hub
from tests.internet.registry import Registry
from tests.internet.services import Published, publish_tiny
from tests.waiting import wait_for
from tests.workflow.conftest import ROOT, processes_in

pytestmark = pytest.mark.timeout(1500)

IMAGES = ("nemo-bfcl", "nemo-lm-evaluation-harness")


def lock_images(project: OnlineProject) -> None:
    """As a user does: the images by their real names, and the commits behind their tags."""
    shutil.copy(ROOT / "containers" / "images.yaml", project.folder / "containers")
    done = project.online("images", "lock", *IMAGES)
    assert done.returncode == 0, done.stdout


def small_model(project: OnlineProject, hub: Hub) -> None:
    """Weights of a few bytes from the hub, for the stand-in for vLLM."""
    commit = hub.add("model", "acme/tiny", {"config.json": b"{}", "model.safetensors": b"weights" * 100_000})
    project.config["models"]["tiny"]["weights"] = {"repo": "acme/tiny", "revision": commit}


def asdiv(project: OnlineProject) -> dict[str, Any]:
    """Word problems, which the harness fetches from the hub by itself."""
    task = yaml.safe_load((ROOT / "config" / "tasks" / "asdiv.yaml").read_text())
    task |= {"task": "hub_asdiv", "dataset_path": "EleutherAI/asdiv", "test_split": "validation"}
    task |= {"doc_to_text": "{{body}} {{question}}\nEnd with the answer as one number."}
    del task["dataset_kwargs"]
    (project.folder / "asdiv.yaml").write_text(yaml.safe_dump(task))
    return {
        "harness": "nemo",
        "task": "lm-evaluation-harness.hub_asdiv",
        "task_file": "asdiv.yaml",
        "runtime": "image",
        "limit": 4,
        "max_tokens": 64,
        "time_limit_min": 10,
    }


def bfcl() -> dict[str, Any]:
    return {
        "harness": "nemo",
        "task": "bfcl.bfclv3_ast_prompting",
        "runtime": "image",
        "limit": 4,
        "extra": {"task": "simple"},
        "time_limit_min": 10,
    }


@pytest.fixture
def project(online_project: OnlineProject, harness_images: dict[str, Published], hub: Hub) -> OnlineProject:
    """One small model, two benchmarks in images."""
    project = online_project
    project.site["evaluations"] |= {"memory_gb": 2}
    lock_images(project)
    small_model(project, hub)
    project.config["benchmarks"] = {"asdiv": asdiv(project), "bfcl": bfcl()}
    project.config["suites"] = {"all": ["asdiv", "bfcl"]}
    return project


def finished(project: OnlineProject) -> dict[str, dict[str, Any]]:
    """The evaluations' rows, which all ended well, by benchmark."""
    rows = project.table("evaluations.parquet")
    assert {row["status"] for row in rows} == {"ok"}, [row["reason"] for row in rows]
    return {row["benchmark"]: row for row in rows}


def asked(hub: Hub, since: int, name: str) -> bool:
    """Whether the hub was asked for something of that name."""
    return any(name in path for _, path, _ in hub.requests(since))


def test_the_real_model_is_evaluated_in_images(
    online_project: OnlineProject,
    harness_images: dict[str, Published],
    hub_model: tuple[str, str],
    hub: Hub,
    registry: Registry,
    internet: Internet,
) -> None:
    """Images by their real names, weights and data from the hub, a real vLLM; and nothing is asked twice."""
    project = online_project
    lock_images(project)
    name, commit = hub_model
    project.config["staging"] = {"environments": str(ROOT / ".environments")}
    demo = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    model = {**demo["models"]["smollm2"], "weights": {"repo": name, "revision": commit}}
    project.config["models"] = {"smollm2": model}
    project.config["servers"] = {"cpu": {**demo["servers"]["cpu"], "cpus": 2, "memory_gb": 12}}
    commonsense_qa = {
        "harness": "nemo",
        "task": "lm-evaluation-harness.commonsense_qa",
        "endpoint": "completions",
        "runtime": "image",
        "limit": 4,
    }
    project.config["benchmarks"] = {"commonsense_qa": commonsense_qa, "bfcl": bfcl()}
    project.config["suites"] = {"all": ["commonsense_qa", "bfcl"]}
    project.site["evaluations"] |= {"memory_gb": 4}

    done = project.run_long()
    assert done.returncode == 0, done.stdout[-8000:]
    rows = finished(project)
    lock = read_lock(project.folder / "containers" / "images.lock.yaml")
    for benchmark, image in (("bfcl", "nemo-bfcl"), ("commonsense_qa", "nemo-lm-evaluation-harness")):
        assert rows[benchmark]["n_samples"] == 4
        assert rows[benchmark]["environment_sha256"] == lock[image].digest.removeprefix("sha256:")
        assert harness_images[image].digest == lock[image].digest
        assert rows[benchmark]["node"] in ("cpu1", "cpu2")
    assert not project.jobs()

    marks, packets = (registry.mark(), hub.mark()), internet.packets()
    again = project.run_long()
    assert again.returncode == 0, again.stdout[-4000:]
    assert "Nothing to be done" in again.stdout
    assert (registry.requests(marks[0]), hub.requests(marks[1])) == ([], [])
    assert internet.packets() == packets


def test_the_plug_is_pulled_at_five_points(
    project: OnlineProject, hub: Hub, registry: Registry, internet: Internet
) -> None:
    """The registry, the hub twice, the controller, and a node: each next run goes on without any cleaning."""
    images = project.folder / ".images"

    def layers() -> int:
        return sum(file.stat().st_size for file in images.rglob("*") if file.is_file())

    hub.faults.stall = threading.Event()
    mark = hub.mark()
    with internet.slow(3_000):
        run = project.start()
        wait_for(lambda: layers() > 5_000_000, "a part of an image", 100)
        registry.stop()
        wait_for(lambda: asked(hub, mark, "safetensors"), "weights to be asked for", 100)
        hub.unplug()
        wait_for(lambda: "Connection refused" in project.log(), "the hub to be asked again", 100)
        hub.restore()
        # Both are asked again for a while: the hub comes back, the registry does not
        assert run.wait(500) != 0
    assert not list(images.glob("*.sif"))
    assert list((project.results / "staged" / "models").glob("*.json"))
    assert not project.all_jobs()  # no GPU was asked for
    registry.start()

    mark = hub.mark()
    run = project.start()
    wait_for(lambda: asked(hub, mark, "asdiv"), "the harness to fetch", 300)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()

    mark = hub.mark()
    run = project.start()
    with contextlib.suppress(AssertionError):
        wait_for(lambda: asked(hub, mark, "asdiv"), "the harness to fetch", 100)
    hub.unplug()
    run.wait(500)
    hub.plug()

    project.delay(3)
    project.config["benchmarks"]["asdiv"]["parallelism"] = 1
    questions = sum(project.answered().values())
    run = project.start()
    # The server proves itself with one question
    wait_for(project.has_answered(questions + 3), "answers", 240)
    node = project.node_of(project.evaluation_jobs()[0])
    project.cluster.kill_node(node)
    project.cluster.report_down(node)
    assert run.wait(240) == 0, project.log()[-8000:]
    assert {row["n_samples"] for row in finished(project).values()} == {4}


def test_code_that_a_model_writes_finds_nothing(
    project: OnlineProject, internet: Internet, apptainer: Path, tmp_path: Path
) -> None:
    """What runs in a harness's image has no network but its gateway's port, no home of the user's, no
    credentials, no folder that is not the evaluation's, and no system call that the filter refuses."""
    from slurmeval.containers.apptainer import Apptainer
    from slurmeval.containment.scratch_dir import scratch_dir
    from slurmeval.harnesses.base import Command
    from slurmeval.harnesses.runtimes import Contained, ImageRuntime
    from slurmeval.state.records import load
    from slurmeval.state.runtime_records import ImageRecord

    done = project.online("images", "pull", "nemo-bfcl")
    assert done.returncode == 0, done.stdout
    (record,) = (project.folder / ".images").glob("nemo-bfcl-*.json")
    runtime = ImageRuntime(load(record, ImageRecord), Apptainer(str(apptainer)))
    attempt = tmp_path / "attempt"
    (attempt / "home").mkdir(parents=True)
    program = [
        "import os, socket, pathlib",
        "print(sorted(name for _, name in socket.if_nameindex()))",
        f"print(os.path.exists({str(project.folder)!r}), os.path.exists('/root/.ssh'), os.environ['HOME'])",
        "print([name for name in os.environ if 'TOKEN' in name or 'SLURM' in name])",
        "print(os.listdir(os.environ['HOME']), os.getcwd())",
        "print(open('/proc/self/status').read().partition('Seccomp:')[2].split()[0])",
    ]
    command = Command([runtime.python, "-c", "; ".join(program)], {"A": "1"}, attempt)
    with scratch_dir() as place:
        contained = Contained(attempt, attempt / "home", (), (attempt,), place, 18_000)
        argv, env = runtime.command(command.argv, command.env, contained)
        env |= {"HF_TOKEN": "hf_planted", "SLURM_JOB_ID": "1"}
        ran = subprocess.run(argv, env=env, cwd=attempt, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    home = f"{attempt / 'home'}"
    assert ran.stdout.splitlines() == ["['lo']", f"False False {home}", "[]", f"[] {attempt}", "2"]


def test_a_digest_that_changed_under_a_tag_is_said_and_not_used(
    project: OnlineProject, registry: Registry
) -> None:
    first = publish_tiny(registry, label="first")
    (project.folder / "containers" / "images.yaml").write_text(
        yaml.safe_dump({"tiny": {"reference": first.reference, "check": ["nemo-evaluator", "ls"]}})
    )
    assert project.online("images", "lock", "tiny").returncode == 0
    second = publish_tiny(registry, label="second")
    assert second.digest != first.digest
    checked = project.online("images", "lock", "--check", "tiny")
    assert checked.returncode == 1
    assert second.digest in checked.stdout
    assert project.online("images", "pull", "tiny").returncode == 0
    (record,) = (project.folder / ".images").glob("tiny-*.json")
    assert yaml.safe_load(record.read_text())["digest"] == first.digest


def test_a_server_in_an_image_from_the_nodes_disk(
    make_online_project: Callable[[str], OnlineProject],
    harness_images: dict[str, Published],
    hub: Hub,
    tmp_path: Path,
) -> None:
    """The engine is a stand-in; the image, its start, and the copies on the node are real."""
    project = make_online_project("project")
    lock_images(project)
    small_model(project, hub)
    server = project.config["servers"]["stand-in"]
    del server["environment"]
    server |= {"image": "nemo-lm-evaluation-harness", "memory_gb": 2}
    scratch = Path(tempfile.mkdtemp(prefix="slurmeval-scratch-", dir="/tmp"))
    project.site["containers"]["binds"] = [f"{ROOT}:{ROOT}:ro", str(project.folder)]
    project.site["scratch"] = {"folder": str(scratch), "to_copy": ["weights", "images"], "keep_free_gb": 0}
    project.delay(3)  # so long that its processes can be looked at
    run = project.start()
    wait_for(project.has_answered(3), "answers", 240)
    started = [command(pid) for pid in processes_in(scratch) if b"stand_in_engine" in command(pid)]
    weights = b"--model\0" + str(scratch).encode()
    assert [argv for argv in started if b"containall" not in argv and weights in argv]
    assert list(scratch.rglob("*.sif"))
    assert run.wait(240) == 0, project.log()[-8000:]
    assert {row["status"] for row in project.table("evaluations.parquet")} == {"ok"}
    wait_for(lambda: not project.jobs(), "the queue to be empty", 60)
    assert not list(scratch.rglob("*.sif"))
    assert not list(scratch.rglob("*.safetensors"))
    shutil.rmtree(scratch)


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
