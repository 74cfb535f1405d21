"""`slurmeval images`: exit statuses and what is said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurmeval.cli import main
from tests.stand_ins import stand_in_apptainer
from tests.stand_ins.stand_in_registry import StandInRegistry

FILES = {"bin/nemo-evaluator": "#!/bin/sh\necho apple\n"}

pytestmark = pytest.mark.usefixtures("amd64")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInRegistry]:
    """A registry with two images, and a project folder that wants them."""
    stand_in_apptainer.write_program(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv("APPTAINER_NOHTTPS", "true")
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "containers").mkdir()
    with StandInRegistry() as running:
        lines = []
        for name in ("apple", "pear"):
            running.push(f"acme/{name}", "1.0", {**FILES, "share/name": name})
            lines.append(
                f"{name}: {{reference: '{running.host}/acme/{name}:1.0', check: [nemo-evaluator, ls]}}\n"
            )
        (tmp_path / "containers" / "images.yaml").write_text("".join(lines))
        yield running


def run(*arguments: str) -> int:
    return main.run(["images", *arguments])


def test_images_are_locked_pulled_verified_and_pruned(
    registry: StandInRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lock") == 0
    assert run("pull", "--all", "--jobs", "2") == 0
    assert len(list((tmp_path / ".images").glob("*.sif"))) == 2
    assert run("pull", "--all") == 0
    assert "Every image is there." in capsys.readouterr().out
    assert run("verify") == 0
    assert capsys.readouterr().out == "apple: ok\npear: ok\n"
    registry.push("acme/pear", "1.0", {**FILES, "share/name": "another"})
    assert run("lock", "pear") == 0
    assert "DIGEST CHANGED" in capsys.readouterr().err
    assert run("prune", "--dry-run") == 0
    assert len(list((tmp_path / ".images").glob("*.sif"))) == 2
    assert run("prune") == 0
    assert "removed .images/pear-" in capsys.readouterr().out
    assert [path.name[:5] for path in (tmp_path / ".images").glob("*.sif")] == ["apple"]
    assert run("prune") == 0
    assert capsys.readouterr().out == "Every image is in use.\n"


def test_lock_check_changes_nothing_and_exits_with_1_when_something_moved(
    registry: StandInRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("lock") == 0
    assert run("lock", "--check") == 0
    assert "Every image is as locked." in capsys.readouterr().out
    text = (tmp_path / "containers" / "images.lock.yaml").read_text()
    registry.push("acme/pear", "1.0", {"other": ""})
    assert run("lock", "--check") == 1
    assert "pear: DIGEST CHANGED" in capsys.readouterr().err
    assert (tmp_path / "containers" / "images.lock.yaml").read_text() == text


def test_one_image_that_cannot_be_pulled_leaves_the_others(
    registry: StandInRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("lock")
    registry.repositories["acme/pear"].blobs.clear()
    assert run("pull", "--all") == 1
    assert "image pear" in capsys.readouterr().err
    assert [path.name[:5] for path in (tmp_path / ".images").glob("*.json")] == ["apple"]


def test_bad_input_is_one_line(registry: StandInRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("pull") == 2
    assert run("pull", "plum") == 2
    assert run("pull", "pear") == 2
    lines = capsys.readouterr().err.splitlines()
    assert "which images? name them, or say --all" in lines[0]
    assert lines[1].endswith("plum: no image of that id in containers/images.yaml; there are: apple, pear")
    assert "`slurmeval images lock pear`" in lines[2]
    assert len(lines) == 3


def test_verify_names_what_is_missing_or_damaged(
    registry: StandInRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("lock")
    assert run("pull", "apple") == 0
    sif = next((tmp_path / ".images").glob("apple-*.sif"))
    sif.write_bytes(sif.read_bytes()[:-1])
    assert run("verify") == 1
    assert "instead of" in capsys.readouterr().out
    assert run("verify", "pear") == 1
    assert capsys.readouterr().out == "pear: not pulled\n"


def test_sifs_that_the_site_has_are_not_pulled(
    registry: StandInRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ours.sif").write_bytes(stand_in_apptainer.sif_bytes(FILES))
    (tmp_path / "site.yaml").write_text(
        f"version: 1\ncontainers: {{images: {{apple: '{tmp_path / 'ours.sif'}'}}}}\n"
    )
    assert run("pull", "apple", "--site", "site.yaml") == 0
    assert not list((tmp_path / ".images").glob("*.sif"))
