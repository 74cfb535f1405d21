"""How fast lm-eval's samples are read and written, and in how much memory.

    python timings/samples.py [--samples 1000000] [--kind generation|choice] [--requests]

Makes a file of samples as lm-eval writes them (generation: 1.25 kB a line; choice: four choices, 3 kB), reads
it as an evaluation does and writes its partition, in a process of its own. Prints samples per second of CPU,
and the greatest resident size. `--requests`: with a gateway's log of all requests of generations."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from slurmeval.gateway import log as gateway_log
from slurmeval.harnesses.base import HarnessOutput
from slurmeval.harnesses.lm_eval_metrics import read_metrics
from slurmeval.harnesses.lm_eval_samples import LmEvalFiles, LmEvalSamples, check_counts
from slurmeval.paths import Paths
from slurmeval.processes import identity
from slurmeval.results import partitions
from slurmeval.results.evaluation import EvaluationRecord

STAMP = "2026-01-01T00-00-00.000000"
WORDS = ["the", "a", "one", "lamp", "river", "seven", "count", "apples", "where", "holds", "each", "box"]


def text(size: int, chance: random.Random) -> str:
    words = chance.choices(WORDS, k=size // 4)
    return " ".join(words)[:size]


def generation(index: int, chance: random.Random) -> dict[str, Any]:
    question, answer = f"Question {index}: {text(300, chance)}", text(250, chance)
    return {
        "doc_id": index,
        "doc": {"question": question, "answer": str(index)},
        "target": str(index),
        "arguments": {"gen_args_0": {"arg_0": question, "arg_1": {"until": ["\n\n"], "do_sample": False}}},
        "resps": [[answer]],
        "filtered_resps": [str(index % 7)],
        "filter": "strict-match",
        "metrics": ["exact_match"],
        "doc_hash": "0" * 64,
        "prompt_hash": "1" * 64,
        "target_hash": "2" * 64,
        "exact_match": float(index % 3 == 0),
    }


def choice(index: int, chance: random.Random) -> dict[str, Any]:
    question = f"Question {index}: {text(450, chance)}"
    choices = [f" {text(40, chance)}" for _ in range(4)]
    answers = [[str(-chance.random()), "False"] for _ in range(4)]
    return {
        "doc_id": index,
        "doc": {"question": question, "choices": choices, "label": index % 4},
        "target": str(index % 4),
        "arguments": {f"gen_args_{i}": {"arg_0": question, "arg_1": one} for i, one in enumerate(choices)},
        "resps": [[answer] for answer in answers],
        "filtered_resps": answers,
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "doc_hash": "0" * 64,
        "prompt_hash": "1" * 64,
        "target_hash": "2" * 64,
        "acc": float(index % 3 == 0),
        "acc_norm": float(index % 2 == 0),
    }


KINDS = {
    "generation": (generation, "generate_until", "exact_match,strict-match"),
    "choice": (choice, "multiple_choice", "acc,none"),
}


def write_output(folder: Path, kind: str, n: int) -> None:
    make, output_type, score = KINDS[kind]
    chance = random.Random(1)
    with (folder / f"samples_task_{STAMP}.jsonl").open("wb") as stream:
        for index in range(n):
            stream.write(json.dumps(make(index, chance), ensure_ascii=False).encode() + b"\n")
    results = {
        "results": {"task": {score: sum(index % 3 == 0 for index in range(n)) / n}},
        "configs": {"task": {"output_type": output_type}},
        "n-samples": {"task": {"original": n, "effective": n}},
    }
    (folder / f"results_{STAMP}.json").write_text(json.dumps(results))


def write_log(folder: Path) -> None:
    """A gateway's log with a request for each generation, and its answer."""
    usage = {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200}
    meta = {
        "key": "0" * 64, "endpoint": "/v1/chat/completions", "latency_ms": 1000.0, "ttft_ms": None,
        "http_status": 200, "attempt": 1, "server_id": "m/0001", "engine_run": 1, "prompt_tokens": 100,
        "completion_tokens": 100, "finish_reason": "stop", "error": None, "content_type": "application/json",
        "waited_ms": 5.0,
    }  # fmt: skip
    log = folder / "gateway"
    log.mkdir()
    with (
        (folder / f"samples_task_{STAMP}.jsonl").open("rb") as samples,
        (log / "0001.jsonl").open("wb") as stream,
    ):
        stream.write(gateway_log.encode_header(1, 1.7e9, identity()))
        for index, line in enumerate(samples):
            sample = orjson.loads(line)
            prompt, answer = sample["arguments"]["gen_args_0"]["arg_0"], sample["resps"][0][0]
            asked = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": 256}
            message = {"role": "assistant", "content": answer, "tool_calls": [], "reasoning": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            given = {"id": f"chatcmpl-{index}", "model": "m", "choices": [choice], "usage": usage}
            own = {"request_id": f"r{index}", "started_at": 1.7e9 + index}
            stream.write(
                gateway_log.encode_exchange(own | meta, orjson.dumps(asked), True, orjson.dumps(given), True)
            )


def measure(folder: Path, with_requests: bool) -> None:
    now = datetime.now(UTC)
    evaluation = EvaluationRecord(
        attempt=1, started_at=now, ended_at=now, harness="lm-eval", task="task", endpoint="chat"
    )
    before, wall = time.process_time(), time.perf_counter()
    files = LmEvalFiles(folder)
    samples = LmEvalSamples(files)
    n = check_counts(files, samples, None)
    read = time.process_time()
    output = HarnessOutput(read_metrics(files, "task"), samples, n, "0.4.13", "1")
    paths = Paths(folder / "results", folder / "environments", folder / "hf", folder / "images")
    log = gateway_log.read(folder / "gateway") if with_requests else ()
    partitions.write(paths, "m", "b", evaluation, output, log)
    written, wall = time.process_time(), time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{n} samples: read {read - before:.1f} s, written {written - read:.1f} s of CPU: "
        f"{n / (written - before):.0f} samples/s; {wall:.1f} s in all; {peak:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--requests", action="store_true")
    arguments = parser.parse_args()
    for kind in arguments.kind or KINDS:
        with tempfile.TemporaryDirectory() as name:
            write_output(Path(name), kind, arguments.samples)
            if arguments.requests:
                write_log(Path(name))
            size = sum(path.stat().st_size for path in Path(name).iterdir())
            print(f"{kind}, {size / 1e6:.0f} MB: ", end="", flush=True)
            child = multiprocessing.get_context("spawn").Process(
                target=measure, args=(Path(name), arguments.requests)
            )
            child.start()
            child.join()


if __name__ == "__main__":
    main()
