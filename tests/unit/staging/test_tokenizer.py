"""What is staged of a model at a server that is there already: its tokenizer, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmeval.config.sources import NO_SOURCE, Tokenizer
from slurmeval.errors import UserError
from slurmeval.staging.manifest import verify
from slurmeval.staging.models import choose_tokenizer_files, stage_model

OF_A_MODEL = ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "vocab.json"]
OTHERS = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "README.md", "onnx/config.json"]


def test_only_the_files_that_harnesses_read_are_staged() -> None:
    assert choose_tokenizer_files([*OF_A_MODEL, *OTHERS], "model x") == OF_A_MODEL


def test_a_repository_without_a_tokenizer_is_refused() -> None:
    with pytest.raises(UserError, match="model x: there are no files of a tokenizer"):
        choose_tokenizer_files(["config.json", *OTHERS], "model x")


def test_a_tokenizer_comes_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in (*OF_A_MODEL, "model.safetensors"):
        (tmp_path / "mine" / name).write_text("{}")
    output = tmp_path / "manifest.json"
    manifest = stage_model("x", Tokenizer(folder="mine"), output, tmp_path / "hf", tmp_path)
    assert {file.path for file in manifest.files} == set(OF_A_MODEL)
    assert verify(output, full=True) == []


def test_of_a_model_that_is_a_name_alone_nothing_is_staged(tmp_path: Path) -> None:
    manifest = stage_model("x", NO_SOURCE, tmp_path / "manifest.json", tmp_path / "hf", tmp_path)
    assert (manifest.files, manifest.revision, manifest.bytes) == ([], None, 0)
    assert verify(tmp_path / "manifest.json", full=True) == []
