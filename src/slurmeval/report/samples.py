"""The scripts that the page of samples loads: for each evaluation an index, and one for each hundred samples.

A page that is opened from disk may read no file but a script. Each of these hands one text to the page's own
script: JSON, compressed by gzip, in base64. So nothing that a model wrote is ever part of a program.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson
import pyarrow.parquet as pq

from slurmeval.files import write_atomically
from slurmeval.report.rendering import MAX_TEXT, shortened, visible
from slurmeval.results import schema
from slurmeval.results.comparison import read_questions

if TYPE_CHECKING:
    from slurmeval.paths import Paths
    from slurmeval.report.tables import Row

SAMPLES_PER_FILE = 100
PAGE = "samples.html"
_LEVEL = 6
"""Of compression: 9 takes ten times as long for a hundredth of the size."""
_FORMAT = 1
"""Of these files; a newer one has them written again."""
_COLUMNS = {"repeat_idx": "repeat", "n_requests": "requests", "latency_ms": "ms"}
_COLUMNS |= {"prompt_tokens": "tokens_in", "completion_tokens": "tokens_out", "cut": "cut"}
_TEXTS = {"task": "task", "category": "category", "native_id": "id", "status": "status"}
_TEXTS |= {"finish_reason": "finish", "input": "input", "reference": "reference"}
_TEXTS |= {"reasoning": "thoughts", "output": "output"}


@dataclass(frozen=True)
class Written:
    """What was written of samples."""

    files: set[Path] = field(default_factory=set)
    links: dict[tuple[str, str], str] = field(default_factory=dict)
    """The link to each evaluation's samples, relative to the report's folder."""


def file_name(benchmark: str, number: int) -> str:
    """Returns the file of the index (0) or of the samples from 1. No id has a `~`: no two share a name."""
    return f"{benchmark}.js" if number == 0 else f"{benchmark}~{number}.js"


def link(benchmark: str | None, a: str, b: str | None = None) -> str:
    """Returns the link to a model's samples, or to two models', from the report's folder."""
    state = {"a": a, "b": b, "on": benchmark}
    return f"{PAGE}#{urlencode({name: value for name, value in state.items() if value is not None})}"


def write_samples(paths: Paths, evaluation: Row, metric: Row | None) -> list[Path]:
    """Writes one evaluation's scripts, unless they are up to date, and returns all of them.

    `metric` is the row of `metrics` that the benchmark is known by. Of a hundred samples at a time more than
    the score is in memory.
    """
    model, benchmark = evaluation["model"], evaluation["benchmark"]
    source = paths.samples(model, benchmark)
    folder = paths.report / "samples" / model
    with pq.ParquetFile(source) as file:
        schema.check(schema.SAMPLES, file.schema_arrow, source)
        n_files = -(-file.metadata.num_rows // SAMPLES_PER_FILE)
        index, *parts = (folder / file_name(benchmark, number) for number in range(n_files + 1))
        made_from = _fingerprint(source, metric)
        if _made_from(index) == made_from and all(part.exists() for part in parts):
            return [index, *parts]
        scores = _scores(paths.results, metric)
        rows: list[list[Any]] = []
        batches = file.iter_batches(batch_size=SAMPLES_PER_FILE)
        for path, batch in zip(parts, batches, strict=True):
            samples = batch.to_pylist()
            write_script(path, f"{model}/{path.name}", [_shown(sample) for sample in samples])
            rows += [_index_row(sample, scores, metric) for sample in samples]
    known = [value for value in scores.values() if value is not None]
    about = {
        "metric": metric and visible(metric["metric"]),
        "higher": metric is None or metric["higher_is_better"] is not False,
        "binary": all(value in (0, 1) for value in known),
        "rows": rows,
    }
    write_script(index, f"{model}/{index.name}", about, made_from)
    return [index, *parts]


def write_script(path: Path, name: str, value: Any, made_from: str = "") -> None:
    """Writes a script that hands `value` to the page under `name`."""
    packed = base64.b64encode(gzip.compress(orjson.dumps(value), _LEVEL, mtime=0)).decode()
    write_atomically(
        path, f"// made from {made_from}\nslurmeval({json.dumps(name)}, {json.dumps(packed)});\n"
    )


def _scores(results: Path, metric: Row | None) -> dict[str, float | None]:
    """Returns each question's score as comparisons use it; None: not answered."""
    if metric is None:
        return {}
    questions = read_questions(results, metric)
    columns = (questions[name].to_pylist() for name in ("sample_uid", "value_mean", "errored_any"))
    return {uid: None if errored else value for uid, value, errored in zip(*columns, strict=True)}


def _index_row(sample: Row, scores: dict[str, float | None], metric: Row | None) -> list[Any]:
    """Returns a sample's question, repeat and score, and letters for what the page filters by."""
    judged = [each for each in sample["scores"] if each["correct"] is not None]
    if metric is not None:  # the benchmark's own metric first
        judged.sort(key=lambda each: (each["metric"], each["filter"]) != (metric["metric"], metric["filter"]))
    answered = sample["status"] != "error"
    flags = {
        "r": answered and bool(judged) and judged[0]["correct"],
        "w": answered and bool(judged) and not judged[0]["correct"],
        "u": sample["status"] == "unparsed",
        "e": not answered,
        "c": sample["cut"] or sample["finish_reason"] == "length",
    }
    letters = "".join(letter for letter, there in flags.items() if there)
    return [sample["sample_uid"][:16], sample["repeat_idx"] or 0, scores.get(sample["sample_uid"]), letters]


def _shown(sample: Row) -> dict[str, Any]:
    """Returns what the page shows of a sample. What is not known is left out."""
    found = {name: sample[column] for column, name in _COLUMNS.items()}
    found |= {
        name: None if sample[column] is None else shortened(sample[column]) for column, name in _TEXTS.items()
    }
    if sample["choices"]:
        found["choices"] = [shortened(choice, 2000) for choice in sample["choices"]]
    found["scores"] = [
        {name: visible(value) if isinstance(value, str) else value for name, value in each.items()}
        | {name: shortened(each[name]) for name in ("answer", "explanation") if each[name] is not None}
        for each in sample["scores"]
    ]
    return {name: value for name, value in found.items() if value is not None}


def _fingerprint(source: Path, metric: Row | None) -> str:
    status = source.stat()
    by = metric and [metric[name] for name in ("task", "metric", "filter", "higher_is_better", "mean_of")]
    value = [status.st_size, status.st_mtime_ns, by, MAX_TEXT, SAMPLES_PER_FILE, _FORMAT]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _made_from(script: Path) -> str | None:
    """Returns the fingerprint in a script's first line."""
    try:
        with script.open(encoding="utf-8") as stream:
            return stream.readline(300).partition("made from ")[2].strip() or None
    except FileNotFoundError:
        return None
