"""What lies on the disk between runs: checked, and cleared away."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmeval.cli import main
from slurmeval.files import sha256_of_file, write_json


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    file = tmp_path / "weights" / "model.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    listed = {"path": file.name, "size": 7, "sha256": sha256_of_file(file)}
    manifest = tmp_path / "results" / "staged" / "models" / "tiny.json"
    write_json(manifest, {"folder": str(file.parent), "files": [listed]})
    return file


def verify(tmp_path: Path, *options: str) -> int:
    return main.run(["verify", "--results", str(tmp_path / "results"), *options])


def test_verify_is_content_with_what_was_staged(
    staged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path, "--full") == 0
    assert capsys.readouterr().out == "model tiny: ok\n"


def test_verify_names_a_truncated_file(
    staged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    staged.write_bytes(b"weig")
    assert verify(tmp_path) == 1
    assert "model.safetensors: 4 bytes instead of 7" in capsys.readouterr().out


def test_verify_sees_a_flipped_byte_only_in_full(staged: Path, tmp_path: Path) -> None:
    staged.write_bytes(b"weightz")
    assert verify(tmp_path) == 0
    assert verify(tmp_path, "--full") == 1


def test_prune_removes_what_no_lock_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "containers" / "locks").mkdir(parents=True)
    old = tmp_path / ".environments" / "lm-eval-0123456789ab"
    old.mkdir(parents=True)
    assert main.run(["prune"]) == 0
    assert not old.exists()
    assert capsys.readouterr().out == "removed .environments/lm-eval-0123456789ab\n"
