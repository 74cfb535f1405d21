"""BERTScore and similarity by embeddings, against plain loops over the tokens of tiny random encoders."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from slurmeval.cli import main
from slurmeval.texts import embed
from tests.serving.environments import PROJECT, environment
from tests.unit.results.test_comparison import Results

PROGRAM = Path(__file__).with_name("embed_tiny_model.py")


def test_scores_are_those_of_loops_and_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = environment("patching-cpu").python
    shown = subprocess.run(
        [python, str(PROGRAM), str(tmp_path), embed.__file__],
        env={"HF_HUB_OFFLINE": "1", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert "the model has 3 layers, and no layer 9" in shown.stderr
    told = json.loads(shown.stdout)
    assert list(told) == ["bert bertscore", "bert similarity", "roberta bertscore", "roberta similarity"]
    for found, known in told.values():
        assert found == pytest.approx(known, abs=1e-5)
        assert found[0] == pytest.approx(1) and found[3] == 0 and 0 < found[1] < 1

    # The same by the command, of stored answers
    monkeypatch.chdir(PROJECT)
    results = Results(tmp_path / "results")
    texts = {
        "output": ["the dog sat on the mat", "the cat ran"],
        "reference": ["the dog sat on the mat", "a mat"],
    }
    results.add("first", "letters", [1.0] * 2, **texts)
    results.add("second", "letters", [1.0] * 2, **texts | {"output": ["the cat ran", "a mat"]})
    (tmp_path / "baseline.tsv").write_text("LAYER,P,R,F\n2,0.1,0.2,0.5\n")
    asked = ["score", "--results", str(results.folder), "--benchmark", "letters", "--metric", "bertscore"]
    given = [
        "--embedding-model",
        str(tmp_path / "bert"),
        "--layer",
        "2",
        "--baseline",
        str(tmp_path / "baseline.tsv"),
    ]
    assert main.run([*asked, *given]) == 0
    said = capsys.readouterr().out
    assert "|layer:2|baseline:0.500000|idf:no|transformers:" in said
    scores = {
        model["model"]: model["scores"][0]["value"]
        for model in json.loads((results.folder / "texts" / "letters.json").read_text())["models"]
    }
    assert scores["first"] > scores["second"]
