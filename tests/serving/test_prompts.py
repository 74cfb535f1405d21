"""What lm-eval itself asks, by itself and below NeMo, told what slurmeval tells it: tokens of prompts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.config.models import Benchmark, Model
from slurmeval.containment.scratch_dir import scratch_dir
from slurmeval.harnesses import Job, cuts, harness, rehearsal_model
from slurmeval.harnesses.runtimes import EnvironmentRuntime
from tests.serving.environments import environment

PROJECT = Path(__file__).parents[2]
MAKER = Path(__file__).with_name("prompt_tokenizer.py")
BOS = 1
"""The number of Gemma's token for the beginning of a text, as the maker gives them out."""
TASK = """
task: prompts_{kind}
dataset_path: json
dataset_kwargs: {{data_files: {{test: "${{dataset:asked}}/asked.jsonl"}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{text}}}}"
{rest}
metric_list: [{{metric: {metric}, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""
GENERATION = TASK.format(
    kind="generate_until", metric="exact_match",
    rest='doc_to_target: "x"\ngeneration_kwargs: {until: ["END"], do_sample: false}',
)  # fmt: skip
CHOICES = TASK.format(
    kind="multiple_choice", metric="acc", rest='doc_to_choice: [" yes", " no"]\ndoc_to_target: 0'
)
LONG, SHORT = "KEYFACT" + " x" * 1746, "Short: 2+2?"
N_LONG = 3499
"""Tokens of LONG, each a character."""

pytestmark = [pytest.mark.serving, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def lm_eval() -> EnvironmentRuntime:
    return environment("lm-eval")


@pytest.fixture(scope="module")
def tokenizers(lm_eval: EnvironmentRuntime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tokenizers gemma and qwen."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for kind in ("gemma", "qwen"):
        subprocess.run([lm_eval.python, MAKER, folder / kind, kind], check=True, timeout=120)
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The bodies that the model is sent."""
    bodies: list[dict[str, Any]] = []
    answer = rehearsal_model.completions

    def keep(body: dict[str, Any]) -> dict[str, Any]:
        bodies.append(body)
        return answer(body)

    monkeypatch.setattr(rehearsal_model, "completions", keep)
    yield bodies


@dataclasses.dataclass
class Asking:
    """One evaluation by lm-eval of two questions, the long one and the short one."""

    folder: Path
    task: str

    def run(self, benchmark: dict[str, Any], **job: Any) -> list[Any]:
        """Asks; returns the samples."""
        kind = "multiple_choice" if self.task == CHOICES else "generate_until"
        self.folder.mkdir()
        (self.folder / "asked.jsonl").write_text(
            json.dumps({"text": LONG}) + "\n" + json.dumps({"text": SHORT})
        )
        (self.folder / "task.yaml").write_text(self.task)
        prefix = "" if benchmark["harness"] == "lm-eval" else "lm-evaluation-harness."
        entry = Benchmark(
            task=f"{prefix}prompts_{kind}", task_file="task.yaml", endpoint="completions", datasets=["asked"],
            **benchmark,
        )  # fmt: skip
        program = harness(entry.harness)
        with scratch_dir() as place, rehearsal_model.serving("m", place.socket) as model:
            told = Job(
                model="m", benchmark_id="b", benchmark=entry, folder=self.folder / "work", base_url=model.url,
                api_key=model.api_key, served_name="m", datasets={"asked": self.folder},
                task_file=self.folder / "task.yaml", **job,
            )  # fmt: skip
            command = program.prepare(told)
            log = self.folder / "log"
            with contextlib.closing(_Ran(told, command, place, model.port, log)) as ran:
                assert ran.status == 0, log.read_text()[-3000:]
            cuts.count(program, told, command, place, model.port, self.folder / "cuts.log")
            return list(program.read(told).samples)


class _Ran:
    def __init__(self, *started: Any) -> None:
        self._process = cuts.harness_process.start(*started)
        self.status = self._process.wait(300)

    def close(self) -> None:
        cuts.harness_process.end(self._process)


def entry(**more: Any) -> Model:
    return Model(weights={"folder": "weights"}, server="cpu", **more)


def prompts(asked: list[dict[str, Any]]) -> list[list[int]]:
    """The tokens that were sent, each list once, the longest first."""
    lists = {tuple(prompt) for body in asked for prompt in _lists(body["prompt"])}
    return sorted(map(list, lists), key=len, reverse=True)


def _lists(prompt: Any) -> list[list[int]]:
    return prompt if isinstance(prompt[0], list) else [prompt]


def test_a_long_prompt_arrives_whole_and_gemmas_begin_with_bos(
    lm_eval: EnvironmentRuntime, tokenizers: Path, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    samples = Asking(tmp_path / "a", GENERATION).run(
        {"harness": "lm-eval"},
        runtime=lm_eval, tokenizer=tokenizers / "gemma", model_entry=entry(), context=4096,
    )  # fmt: skip
    long, short = prompts(asked)
    assert (len(long), long[0], short[0]) == (N_LONG + 1, BOS, BOS)
    assert BOS not in (*long[1:], *short[1:])
    assert [sample.cut for sample in samples] == [False, False]


def test_a_small_model_gets_no_longer_prompt_than_it_holds_and_the_cut_is_counted(
    lm_eval: EnvironmentRuntime, tokenizers: Path, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    samples = Asking(tmp_path / "a", CHOICES).run(
        {"harness": "lm-eval"},
        runtime=lm_eval, tokenizer=tokenizers / "qwen", model_entry=entry(), context=1024,
    )  # fmt: skip
    *longest, short = prompts(asked)
    assert {len(prompt) for prompt in longest if len(prompt) > 100} == {1023}
    assert BOS not in short
    assert [sample.cut for sample in samples] == [True, False]


def test_nemo_tells_lm_eval_the_same(tokenizers: Path, asked: list[dict[str, Any]], tmp_path: Path) -> None:
    samples = Asking(tmp_path / "a", CHOICES).run(
        {"harness": "nemo"},
        runtime=environment("nemo-lm-evaluation-harness"),
        tokenizer=tokenizers / "gemma",
        model_entry=entry(),
        context=4096,
    )
    sent = prompts(asked)
    assert len(sent[0]) > N_LONG
    assert {prompt[0] for prompt in sent} == {BOS}
    assert [sample.cut for sample in samples] == [False, False]


CODE = """
from transformers import PreTrainedTokenizerFast

class Own(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def project(tokenizers: Path, lm_eval: EnvironmentRuntime, tmp_path: Path) -> Path:
    """A project with a model of a tokenizer that has code of its own, and one without."""
    for name in ("Snakefile", "workflow", "profiles", "containers"):
        (tmp_path / name).symlink_to(PROJECT / name)
    for name in ("plain", "coded"):
        shutil.copytree(tokenizers / "qwen", tmp_path / name)
        (tmp_path / name / "model.safetensors").write_bytes(b"")
    config = json.loads((tmp_path / "coded" / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (tmp_path / "coded" / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "coded" / "config.json").write_text(json.dumps({"model_type": "own"}))
    (tmp_path / "coded" / "own.py").write_text(CODE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "asked.jsonl").write_text(
        json.dumps({"text": SHORT}) + "\n" + json.dumps({"text": "x"})
    )
    (tmp_path / "task.yaml").write_text(CHOICES)
    return tmp_path


def staged(project: Path, **coded: Any) -> subprocess.CompletedProcess[str]:
    benchmark = {
        "harness": "lm-eval", "task": "prompts_multiple_choice", "task_file": "task.yaml",
        "endpoint": "completions", "datasets": ["asked"],
    }  # fmt: skip
    model = {"server": "cpu", "max_model_len": 1024}
    config = {
        "version": 1,
        "models": {
            "plain": model | {"weights": {"folder": "plain"}},
            "coded": model | {"weights": {"folder": "coded"}} | coded,
        },
        "servers": {"cpu": {}},
        "datasets": {"asked": {"folder": "data"}},
        "benchmarks": {"choices": benchmark},
        "suites": {"all": ["choices"]},
        "evaluate": {"suites": ["all"]},
        "staging": {"environments": str(PROJECT / ".environments"), "hf_home": str(project / "hub")},
    }
    (project / "config.yaml").write_text(yaml.safe_dump(config))
    # What is asked for comes first: --configfile takes all names that follow it
    command = [sys.executable, "-m", "snakemake", "staged", "--profile", "profiles/local"]
    command += ["--until", "try_tokenizer", "--configfile", "config.yaml"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_each_models_own_tokenizer_is_loaded_before_a_server_is_asked_for(project: Path) -> None:
    ran = staged(project)
    said = ran.stdout + ran.stderr
    assert ran.returncode != 0
    assert "model coded: its tokenizer cannot be loaded: ValueError: " in said
    assert "trust_remote_code: true of the model lets it run" in said
    tried = {path.name.partition("~")[0] for path in (project / "results/staged/tokenizers").iterdir()}
    failed = {path.stem for path in (project / "results").rglob("coded/*.json") if "fail" in str(path)}
    assert (tried, failed) == ({"plain"}, {"choices"})
    trusting = staged(project, trust_remote_code=True)
    assert trusting.returncode == 0, trusting.stdout + trusting.stderr
