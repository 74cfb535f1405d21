"""A small run as it lies on disk, by the real writers: 2 models × 4 benchmarks, one failure, hostile text."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from slurmeval.config.models import Config
from slurmeval.files import append_json, write_json
from slurmeval.gateway.log import Record, encode_exchange, encode_header
from slurmeval.harnesses.base import HarnessOutput, Metric, Sample, Score
from slurmeval.paths import Paths
from slurmeval.processes import identity
from slurmeval.results.aggregate import aggregate
from slurmeval.results.evaluation import EvaluationRecord
from slurmeval.results.partitions import write
from slurmeval.slurm.commands import JobRun
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import write as write_record
from slurmeval.state.run_document import RunDocument
from slurmeval.state.server_spec import ServerSpec
from tests.run_documents import benchmark_entry, model_entry, run_document

SCRIPT = re.compile(
    r'// made from [0-9a-f]*(?: sent)?\nslurmeval\("(?P<name>[A-Za-z0-9./_~-]+)", (?P<length>\d+), '
    r'"(?P<packed>[^"\\\n\r\u2028\u2029\ud800-\udfff]*)"\);\n'
)
"""The whole of a script: one call, with texts that no escape, quote or end of line ends."""
CHATML = (
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content | trim "
    "+ eos_token + '\\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
MODELS = ("smollm2-135m", "other.model_2")
BENCHMARKS = ("openbookqa", "asdiv", "bfcl.v3", "humaneval")
FAILED = ("other.model_2", "bfcl.v3")
HOSTILE = (
    '<script>document.title = "owned"; console.error("owned")</script>',
    '<img src=x onerror="document.title=\'owned\'"> and </script><script>document.title="owned"</script>',
    "]]> --> </textarea></pre></body> {{ 7 * 7 }} {% raw %} &amp; \u2028\u2029 \x00 \u202e end",
    "javascript:alert(1) ' onmouseover='document.title=1' \" autofocus onfocus=\"document.title=1\"",
    "Line one.\n\n    indented\tand a " + "very" * 60 + " long word",
)
_QUESTIONS = (
    "A farmer has 17 sheep. All but 9 run away. How many are left?",
    "Which of these would most likely conduct electricity?",
    "Write a function that returns the n-th Fibonacci number.",
    "What is the capital of the country whose flag shows a maple leaf?",
)


def paths_in(folder: Path) -> Paths:
    return Paths(folder / "results", folder / ".environments", folder / "hf", folder / ".images")


def config(title: str = "Evaluation", samples_per_page: int = 20, **more: Any) -> Config:
    benchmark = {"harness": "lm-eval", "task": "toy"}
    return Config.model_validate(
        {
            "version": 1,
            "models": {m: {"weights": {"folder": "/weights/<b>x</b>"}, "server": "cpu"} for m in MODELS},
            "servers": {"cpu": {}},
            "benchmarks": dict.fromkeys(BENCHMARKS, benchmark),
            "suites": {"all": list(BENCHMARKS)},
            "evaluate": {"suites": ["all"]},
            "report": {"title": title, "samples_per_page": samples_per_page},
            **more,
        }
    )


def document(project: Path, **more: Any) -> RunDocument:
    """The run that the report tells of."""
    paths = paths_in(project)
    image = benchmark_entry(runtime="image", environment=paths.image_record("harness", "key"))
    return run_document(
        paths,
        {m: model_entry(paths, m, manifest=paths.staged_model(m, "key")) for m in MODELS},
        dict.fromkeys(BENCHMARKS, image),
        config=config(**more).model_dump(mode="json"),
    )


def samples(task: str, right: Sequence[bool], metric: str = "exact_match") -> list[Sample]:
    """One sample for each of `right`; every seventh answer is hostile."""
    made = []
    for index, correct in enumerate(right):
        output = HOSTILE[index // 7 % len(HOSTILE)] if index % 7 == 0 else f"The answer is {index * 3}."
        score = Score(metric, float(correct), "strict-match", correct, answer=str(index * 3))
        text = f"{_QUESTIONS[index % len(_QUESTIONS)]} (variant {index})"
        made.append(Sample(str(index), task, text, output, reference=str(index * 3), scores=[score]))
    return made


def record(index: int, prompt: str, answer: str, **more: Any) -> Record:
    """A request as the gateway logs it, answered unless `more` says otherwise."""
    request = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    values: dict[str, Any] = {
        "request_id": f"r{index:05}",
        "key": f"{index:064x}",
        "endpoint": "/v1/chat/completions",
        "started_at": (START + timedelta(seconds=index)).timestamp(),
        "latency_ms": 100.0 + index,
        "ttft_ms": None,
        "http_status": 200,
        "attempt": 1,
        "server_id": "m/0001",
        "engine_run": 1,
        "prompt_tokens": 20 + index % 5,
        "completion_tokens": 7,
        "finish_reason": "length" if index % 9 == 0 else "stop",
        "error": None,
        "content_type": "application/json",
        "request_body": json.dumps(request).encode(),
        "response_body": json.dumps({"choices": [{"message": {"content": answer}}]}).encode(),
    }
    return Record(**values | more)


def requests_for(made: Sequence[Sample], model: str = "m") -> Iterator[Record]:
    """One for each sample, while the server of `write_server` was ready."""
    for index, sample in enumerate(made):
        at = {"server_id": f"{model}/0001", "started_at": (START + timedelta(seconds=90 + index)).timestamp()}
        yield record(index, sample.input, sample.output or "", **at)


def evaluation(**more: Any) -> EvaluationRecord:
    values: dict[str, Any] = {
        "attempt": 1,
        "started_at": START,
        "ended_at": START + timedelta(minutes=3),
        "harness": "lm-eval",
        "task": "toy",
        "endpoint": "chat",
        "versions": {"lm-eval": "0.4.13"},
        "model_revision": "a" * 40,
        "datasets": [{"id": "data", "revision": "b" * 40, "sha256": "c" * 64}],
        "limit": 60,
        "slurmeval_version": "0.1.0",
        "workflow_commit": "d" * 40,
        "workflow_dirty": True,
        "config_sha256": "e" * 64,
    }
    return EvaluationRecord(**values | more)


def output(made: list[Sample], task: str, metric: str = "exact_match") -> HarnessOutput:
    value = sum(s.scores[0].value or 0 for s in made) / len(made) if made else None
    metrics = [
        Metric(task, metric, value, value, None, "strict-match", 1, 0.05, len(made), is_primary=True),
        Metric(task, "perplexity", None, None, higher_is_better=False),
    ]
    return HarnessOutput(metrics, made, len(made), "0.4.13", "1.0", n_available=1319)


def write_evaluation(paths: Paths, model: str, benchmark: str, right: Sequence[bool]) -> None:
    made = samples(benchmark, right)
    log = str(paths.log("evaluate", model, benchmark))
    write(paths, model, benchmark, evaluation(log=log), output(made, benchmark), requests_for(made, model))


def _line(known: Record) -> bytes:
    """A request as it lies in the gateway's log."""
    meta = asdict(known)
    bodies = (meta.pop("request_body"), True, meta.pop("response_body"), True)
    return encode_exchange({name: value for name, value in meta.items() if name != "replayed"}, *bodies)


def write_with_log(paths: Paths, made: list[Sample], records: Sequence[Record] = ()) -> None:
    """The evaluation `b` of the model `m`, aggregated, with its gateway's log."""
    records = records or list(requests_for(made))
    known = evaluation(answers_key="f" * 64)
    folder = paths.work("m", "b", "f" * 64) / "gateway"
    folder.mkdir(parents=True)
    lines = [encode_header(1, START.timestamp(), identity()), *map(_line, records)]
    (folder / "0001.jsonl").write_bytes(b"".join(lines))
    write(paths, "m", "b", known, output(made, "t"), records)
    aggregate(paths, [("m", "b")])


def write_full(paths: Paths, model: str = "full", benchmark: str = "full") -> None:
    """An evaluation and a server of which everything is known. It is no part of the report's run."""
    made = [
        Sample(
            str(index),
            benchmark,
            f"Question {index}?",
            f"<b>{index}</b>",
            repeat,
            category=f"subject {index // 20}",
            cluster=f"passage {index // 2}",
            reference=str(index),
            choices=["a", "b"] if index % 2 else None,
            scores=[Score("exact_match", float((index + repeat) % 3 > 0), "none", True, "a", "as it was")],
            cut=index == 7,
            status="ok" if index or repeat else "error",
            metadata={"line": index},
        )
        for index in range(60)
        for repeat in range(2)
    ]
    part = Metric(benchmark, "exact_match", 0, 0, "subject 0", "none", 1, 0.05, 20, 2, chance=0.5)
    part.value = part.harness_value = sum(sample.scores[0].value or 0 for sample in made[:40]) / 40
    group = {"is_group": True, "mean_of": ["a", "b"], "parts": [benchmark]}
    metrics = [part, replace(part, task="all", subset=None, **group)]
    thinking = {"message": {"content": "<b>0</b>", "reasoning": "Let me see."}, "finish_reason": "stop"}
    body = {"response_body": json.dumps({"choices": [thinking]}).encode(), "waited_ms": 2.0, "ttft_ms": 5.0}
    lost, *records = [
        record(index, sample.input, sample.output or "", **(body if index == 1 else {}))
        for index, sample in enumerate(made)
    ]
    lost = replace(lost, http_status=500, response_body=None, error="it hung up")
    pins = {"environment_sha256": "0" * 64, "task_sha256": "1" * 64, "model_sha256": "2" * 64}
    asked = {"few_shot": 5, "temperature": 0.5, "top_p": 0.9, "max_tokens": 64, "n_repeats": 2}
    full = evaluation(**pins, **asked, model_source="repo org/model", answers_key="3" * 64, log="log")
    found = HarnessOutput(metrics, made, len(made), "0.4.13", "1.0", n_available=1319)
    write(paths, model, benchmark, full, found, [*records, lost], [lost], again=records[1:2])
    folder = paths.servers_of(model) / "0001"
    spec = {"dtype": "bfloat16", "quantization": "awq", "max_model_len": 4096}
    state = {"status": "failed", "reason": "no memory", "error_class": "server_lost", "engine_run": 1}
    write_json(folder / "spec.json", {"model": model} | spec)
    write_json(folder / "job.json", {"job_id": "4712", "cluster": "local", "submitted_at": START.isoformat()})
    write_json(folder / "state.json", state)
    aggregate(paths, [(model, benchmark)])


def write_failure(paths: Paths, model: str, benchmark: str) -> None:
    write_json(
        paths.failure(model, benchmark),
        {
            "model": model,
            "benchmark": benchmark,
            "error_class": "harness_error",
            "reason": "The harness ended with 1: KeyError: '<script>alert(1)</script>' in bfcl/eval.py",
            "started_at": START.isoformat(),
            "ended_at": (START + timedelta(seconds=20)).isoformat(),
            "attempt": 2,
            "log": str(paths.log("evaluate", model, benchmark)),
        },
    )


def write_server(paths: Paths, model: str) -> None:
    folder = paths.servers_of(model) / "0001"
    write_json(folder / "spec.json", {"model": model, "dtype": "bfloat16", "quantization": None})
    write_json(folder / "job.json", {"job_id": "4711", "cluster": "local", "submitted_at": START.isoformat()})
    state = {"status": "ready", "reason": None, "engine_run": 2, "started_at": START.isoformat()}
    under_way = {
        "engine_run": 2,
        "started_at": (START + timedelta(minutes=8)).isoformat(),
        "ready_at": (START + timedelta(minutes=9)).isoformat(),
        "seen_at": (START + timedelta(minutes=10)).isoformat(),
        "starting_s": 60.0,
        "busy_s": 20.0,
        "idle_s": 39.0,
        "requests": 20,
        "generated_tokens": 1000,
        "prompt_tokens": 1000,
    }
    write_json(folder / "state.json", state | {"ready_at": under_way["ready_at"], "under_way": under_way})
    engine_run = {
        "engine_run": 1,
        "started_at": (START + timedelta(seconds=4)).isoformat(),
        "ready_at": (START + timedelta(seconds=64)).isoformat(),
        "ended_at": (START + timedelta(minutes=8)).isoformat(),
        "starting_s": 60.0,
        "weights_s": 21.5,
        "compile_s": 30.0,
        "first_answer_s": 0.5,
        "busy_s": 300.5,
        "idle_s": 90.0,
        "exit_reason": "killed by SIGKILL",
        "requests": 900,
        "generated_tokens": 45000,
        "prompt_tokens": 90000,
    }
    (folder / "engine_runs.jsonl").write_text(json.dumps(engine_run) + '\n{"engine_run": 2, "started')


def write_run(paths: Paths, n: int = 60) -> list[tuple[str, str]]:
    """The whole run, aggregated. Returns its evaluations."""
    pairs = [(model, benchmark) for model in MODELS for benchmark in BENCHMARKS]
    for position, (model, benchmark) in enumerate(pairs):
        if (model, benchmark) == FAILED:
            write_failure(paths, model, benchmark)
        else:
            share = (37 * position + 23) % 100
            write_evaluation(paths, model, benchmark, [(i * 61) % 100 < share for i in range(n)])
    for model in MODELS:
        write_server(paths, model)
    aggregate(paths, pairs)
    return pairs


def job_run(job_id: str, begin: float, end: float, state: str = "COMPLETED", **more: Any) -> JobRun:
    """What accounting says of a job's engine run from `begin` to `end`, in seconds from START."""
    values: dict[str, Any] = {
        "exit_code": "0:0",
        "submitted": START + timedelta(seconds=begin - 45),
        "eligible": None,
        "started": START + timedelta(seconds=begin),
        "ended": START + timedelta(seconds=end),
        "elapsed_s": round(end - begin),
        "nodes": "gpu1",
        "gpus": 4,
        "max_rss_mb": 312.5,
        "cpu_s": 41.0,
        "restart": 0,
        "reason": "",
    }
    return JobRun(job_id, state, **values | more)


def write_slurm_run(paths: Paths, n: int = 60) -> list[tuple[str, str]]:
    """`write_run` on a cluster: the first model's server was preempted once, and accounting knows all but the
    job of the second model's."""
    pairs = write_run(paths, n)
    accounts = {"4711": [job_run("4711", 0, 479, "PREEMPTED"), job_run("4711", 479, 610, "TIMEOUT")]}
    for number, model in enumerate(MODELS):
        folder = paths.servers_of(model) / "0001"
        job = {"job_id": str(4711 + number), "cluster": "slurm", "submitted_at": START.isoformat()}
        write_json(folder / "job.json", job)
        write_json(folder / "spec.json", {"model": model, "gpus": 4, "nodes": 1})
    for number, pair in enumerate(pairs):
        line = {"job_id": str(5000 + number), "submitted_at": START.isoformat()}
        append_json(paths.evaluation_jobs(*pair), line)
        accounts[line["job_id"]] = [job_run(line["job_id"], 60, 240, nodes="cpu2", gpus=0)]
    failed = str(5000 + pairs.index(FAILED))
    first = job_run(failed, 60, 90, "NODE_FAIL", nodes="cpu1", gpus=0)
    accounts[failed] = [first, job_run(failed, 140, 200, "OUT_OF_MEMORY", nodes="cpu2", gpus=0)]
    aggregate(paths, pairs, lambda ids: {name: accounts[name] for name in ids if name in accounts}, 0)
    return pairs


def unpacked(script: Path) -> Any:
    """What a script hands to the page of samples, read as the page does."""
    found = SCRIPT.fullmatch(script.read_text(encoding="utf-16"))
    assert found is not None, script
    assert found["name"] in (f"{script.parent.name}/{script.name}", script.stem)
    told = re.sub("\x01(.)", lambda pair: chr(ord(pair[1]) ^ 0x8000), found["packed"], flags=re.DOTALL)
    content = gzip.decompress(told.encode("utf-16-le", "surrogatepass")[: int(found["length"])])
    return content if script.stem.endswith("~words") else json.loads(content)


def document_with_template(paths: Paths, **serving: Any) -> RunDocument:
    """A run whose model's weights are staged in `weights`."""
    folder = paths.results.parent / "weights"
    folder.mkdir(exist_ok=True)
    tokens = {"eos_token": {"content": "<|im_end|>"}, "chat_template": CHATML}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens))
    file = paths.staged_model("m", "key")
    write_record(file, Manifest(folder=folder, files=[]))
    entry = model_entry(paths, "m", manifest=file, answers_key="f" * 64)
    spec = replace(entry.serving, **serving) if serving else entry.serving
    assert isinstance(spec, ServerSpec)
    models = {"m": replace(entry, serving=spec)}
    return run_document(paths, models, {"b": benchmark_entry()})
