"""Tokens and keys reach the jobs that need them, and nothing that others can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.containers.project import OnlineProject
from tests.containers.test_runs import bfcl, finished, lock_images
from tests.internet.hub import Hub
from tests.internet.registry import Registry
from tests.internet.services import Published
from tests.planted import Planted, Watch

pytestmark = pytest.mark.timeout(900)


def test_planted_secrets_are_nowhere_to_be_seen(
    online_project: OnlineProject,
    harness_images: dict[str, Published],
    hub: Hub,
    registry: Registry,
    tmp_path: Path,
) -> None:
    """A gated model, a registry with a login, a judge's key: a whole run, with every file and every process
    looked at."""
    project, planted = online_project, Planted.make()
    lock_images(project)
    registry.stop()
    registry.start("somebody", planted.values["APPTAINER_DOCKER_PASSWORD"])
    files: dict[str, bytes | Path] = {"config.json": b"{}", "model.safetensors": b"weights" * 1000}
    commit = hub.add("model", "acme/gated", files, planted.values["HF_TOKEN"])
    secrets = planted.write(tmp_path / "secrets")
    user = tmp_path / "secrets" / "APPTAINER_DOCKER_USERNAME"
    user.write_text("somebody")
    user.chmod(0o600)
    project.config["secrets"] = {**secrets, "APPTAINER_DOCKER_USERNAME": {"file": str(user)}}
    project.config["models"]["tiny"]["weights"] = {"repo": "acme/gated", "revision": commit}
    project.config["benchmarks"] = {"bfcl": {**bfcl(), "secrets": ["JUDGE_API_KEY"]}}
    project.config["suites"] = {"all": ["bfcl"]}
    project.site["evaluations"] |= {"memory_gb": 2}

    with Watch(planted, every_s=0.1) as watch:
        run = project.start()
        shown = b""
        while run.poll() is None:
            shown += project.cluster.ask(["scontrol", "-dd", "show", "job"]).encode()
    assert run.returncode == 0, project.log()[-6000:]
    finished(project)
    assert any("bfcl" in command or "run_eval" in command for command in watch.holders["JUDGE_API_KEY"])
    for command in (command for held in watch.holders.values() for command in held):
        assert "stand_in_engine" not in command
        assert "slurmeval.gateway" not in command
    assert watch.seen == set()
    assert shown
    assert planted.found_in(shown) == []
    assert planted.found_below([project.folder, project.cluster.base / "log"]) == []
    assert not (project.results / "state" / "secrets").exists()


def test_a_gated_model_is_refused_before_anything_starts(
    online_project: OnlineProject, harness_images: dict[str, Published], hub: Hub
) -> None:
    project = online_project
    lock_images(project)
    files: dict[str, bytes | Path] = {"config.json": b"{}", "model.safetensors": b"weights"}
    commit = hub.add("model", "acme/closed", files, "hf_of_somebody_else")
    project.config["models"]["tiny"]["weights"] = {"repo": "acme/closed", "revision": commit}
    project.config["benchmarks"] = {"bfcl": bfcl()}
    project.config["suites"] = {"all": ["bfcl"]}
    planned = project.online("plan", *project.options())
    assert planned.returncode == 0, planned.stdout
    assert "Will not begin" in planned.stdout
    assert "acme/closed" in planned.stdout.split("Will not begin")[1]
    done = project.run()
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("slurmeval:")]
    assert "acme/closed" in line
    assert not (project.folder / ".images").exists()
    assert not project.all_jobs()
