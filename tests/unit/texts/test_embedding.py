"""Which embedding model texts are held against each other by, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmeval.cli import main
from slurmeval.errors import UserError
from slurmeval.texts.embed import pooling_of
from slurmeval.texts.embedding import EmbeddingModel, found_model, read_baseline
from tests.unit.results.test_comparison import Results


def weights(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_model_is_a_folder_or_one_that_is_staged(tmp_path: Path) -> None:
    folder = weights(tmp_path / "mine")
    assert found_model(str(folder), tmp_path) == folder
    staged = weights(tmp_path / "hub" / "models--org--name" / "snapshots" / "abc")
    assert found_model("org/name", tmp_path) == staged
    for name in ("org/other", str(tmp_path)):
        with pytest.raises(UserError, match=r"--embedding-model: .*expected a folder with config.json"):
            found_model(name, tmp_path)


def test_a_signature_changes_with_the_weights(tmp_path: Path) -> None:
    model = EmbeddingModel("mine", weights(tmp_path / "mine"))
    before = model.sha256
    assert model.sha256 == before
    (tmp_path / "mine" / "model.safetensors").write_bytes(b"others")
    assert model.sha256 != before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("LAYER,P,R,F\n1,0.1,0.1,0.1\n", "has no layer 2; it has 1"),
        ("LAYER,P,R,F\n2,0.1,0.1,1.0\n", "F of layer 2 is 1.0; expected less than 1"),
        ("LAYER,P,R,F\n2,0.1\n", "expected lines LAYER,P,R,F below a heading"),
        ("", "has no layer 2; it has none"),
    ],
)
def test_a_baseline_that_will_not_do_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "base.tsv").write_text(text)
    with pytest.raises(UserError) as raised:
        read_baseline(tmp_path / "base.tsv", 2)
    assert said in str(raised.value)


def test_pooling_is_what_the_folder_says_or_refused(tmp_path: Path) -> None:
    assert pooling_of(tmp_path) == "mean"
    (tmp_path / "1_Pooling").mkdir()
    file = tmp_path / "1_Pooling" / "config.json"
    file.write_text('{"word_embedding_dimension": 8, "pooling_mode_cls_token": true}')
    assert pooling_of(tmp_path) == "first"
    file.write_text('{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}')
    with pytest.raises(ValueError, match="asks for pooling_mode_cls_token, pooling_mode_max_tokens"):
        pooling_of(tmp_path)
    (tmp_path / "modules.json").write_text('[{"type": "sentence_transformers.models.Dense"}]')
    with pytest.raises(ValueError, match="has a module Dense"):
        pooling_of(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "bertscore"], "--metric bertscore needs --embedding-model"),
        (["--metric", "bleu", "--layer", "3"], "--layer, --baseline go with bertscore and similarity"),
        (["--metric", "similarity", "--embedding-model", "x/y"], "--embedding-model: x/y: expected a folder"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results(tmp_path / "results")
    results.add("first", "letters", [1.0], output=["a"], reference=["a"])
    assert main.run(["score", "--results", str(results.folder), "--benchmark", "letters", *options]) == 2
    assert said in capsys.readouterr().err
