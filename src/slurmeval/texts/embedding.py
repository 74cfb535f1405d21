"""BERTScore and similarity of answers, by a model of the user's, in a locked environment without network."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurmeval.environments.environments import ensure
from slurmeval.environments.package_versions import pinned_versions
from slurmeval.errors import UserError
from slurmeval.files import read_json, sha256_of_file, sha256_of_json, write_json
from slurmeval.progress import Progress
from slurmeval.project_files import environment_lock
from slurmeval.texts import embed
from slurmeval.texts.scoring import AnswerScores

LOCK = "patching-cpu"
"""The lock with torch and transformers for CPUs, which activation patching has too."""
VERSION = "1"
BATCH = 32
HASHED = (".json", ".safetensors", ".txt", ".model")
"""Files that alter scores: weights, configs, vocabularies."""


@dataclass(frozen=True)
class EmbeddingModel:
    """What texts are held against each other by."""

    name: str
    """As the user gave it."""
    weights: Path
    layer: int | None = None
    """Whose tokens BERTScore matches, 0 is the input's; None: the last."""
    baseline: float | None = None
    """What BERTScore's F is of unrelated texts; scores are rescaled so that it is 0. None: they are not."""

    @property
    def sha256(self) -> str:
        """Returns the hash of its files."""
        files = sorted(each for each in self.weights.rglob("*") if each.suffix in HASHED)
        return sha256_of_json([[str(each.relative_to(self.weights)), sha256_of_file(each)] for each in files])


def found_model(name: str, hf_home: Path) -> Path:
    """Returns the folder of a model: a path, or the newest staged snapshot of `owner/name` in HF_HOME.

    Raises:
        UserError: There is none, or it has no safetensors.
    """
    folder = Path(name)
    if not folder.is_dir():
        staged = (hf_home / "hub" / f"models--{name.replace('/', '--')}" / "snapshots").glob("*")
        folder = max(staged, key=lambda each: each.stat().st_mtime, default=folder)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        text = f"expected a folder with config.json and .safetensors, or a model in {hf_home}"
        raise UserError(f"--embedding-model: {name}: {text}")
    return folder.absolute()


def read_baseline(file: Path, layer: int) -> float:
    """Returns F of unrelated texts, from a file of bert-score's form: LAYER,P,R,F.

    Raises:
        UserError: It is none, or lacks the layer.
    """
    try:
        rows = [line.split(",") for line in file.read_text(encoding="utf-8").split("\n")[1:] if line.strip()]
        found = {int(row[0]): float(row[3]) for row in rows}
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"--baseline: {file}: expected lines LAYER,P,R,F below a heading: {error}") from None
    if layer not in found:
        raise UserError(
            f"--baseline: {file}: has no layer {layer}; it has {', '.join(map(str, found)) or 'none'}"
        )
    if not found[layer] < 1:
        raise UserError(f"--baseline: {file}: F of layer {layer} is {found[layer]}; expected less than 1")
    return found[layer]


def of_answers(
    metric: str,
    model: EmbeddingModel,
    answers: Mapping[object, tuple[str, Sequence[str]]],
    environments: Path,
    say: Progress,
) -> AnswerScores:
    """Returns the scores of answers, given with their references, in their order.

    Raises:
        UserError: The model will not do.
        SlurmevalError: The environment cannot be made.
    """
    lock = environment_lock(Path.cwd(), LOCK)
    python = ensure(lock, environments, say).python
    pairs = [[text, each] for text, references in answers.values() for each in references]
    with tempfile.TemporaryDirectory(prefix="slurmeval-embed-") as name:
        order = Path(name) / "order.json"
        layer = model.layer if metric == "bertscore" else None
        asked = {"weights": str(model.weights), "metric": metric, "layer": layer, "batch": BATCH}
        write_json(order, asked | {"pairs": pairs})
        done = subprocess.run(
            [python, "-I", embed.__file__, str(order)],
            env={"HF_HUB_OFFLINE": "1", "HF_HOME": name, "HOME": name, "PATH": os.defpath},
            stdout=sys.__stderr__,  # how far it is
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise UserError(f"--embedding-model: {model.name}: {last[:300]}")
        told = read_json(order.with_name(embed.RESULTS))
    values = iter(told["scores"])
    base = (model.baseline if metric == "bertscore" else None) or 0.0
    nearest = [
        max((next(values) - base) / (1 - base) for _ in references) for _, references in answers.values()
    ]
    versions = pinned_versions(lock, ("transformers", "torch"))
    said = {"model": model.name, "sha256": model.sha256[:12], "layer": told["layer"]}
    said |= {"baseline": f"{base:.6f}" if base else "no", "idf": "no"} if metric == "bertscore" else {}
    said |= {"pooling": told["pooling"]} if told["pooling"] else {}
    said |= versions | {"version": VERSION}
    signature = "|".join(f"{name}:{value}" for name, value in said.items())
    return AnswerScores([100 * each for each in nearest], signature)
