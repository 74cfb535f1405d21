"""What is seen of task files and data before anything is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.config.messages import dotted
from slurmeval.config.models import Benchmark, Config, Model
from slurmeval.config.sources import Weights
from slurmeval.engines.vllm import Vllm
from slurmeval.harnesses import model_problems
from slurmeval.harnesses.context import too_long
from slurmeval.harnesses.early import config_problems
from slurmeval.harnesses.lm_eval import LmEval
from slurmeval.harnesses.lm_eval_tasks import unknown

PROJECT = Path(__file__).parents[3]
TASK: dict[str, Any] = {
    "task": "mine",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "${dataset:mine}/q.jsonl"}},
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer | trim}}",
    "metric_list": [{"metric": "exact_match"}],
}


def found(folder: Path, task: dict[str, Any] | str = "", /, **benchmark: Any) -> dict[str, str]:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "q.jsonl").write_text('{"question": "2 + 2?", "answer": "4"}\n')
    text = task if isinstance(task, str) and task else yaml.safe_dump(TASK | (task or {}))  # type: ignore[operator]
    (folder / "mine.yaml").write_text(text)
    entry = {"harness": "lm-eval", "task": "mine", "task_file": "mine.yaml", "datasets": ["mine"]}
    config = Config.model_validate(
        {
            "version": 1,
            "models": {"m": {"weights": {"folder": "w"}, "server": "s"}},
            "servers": {"s": {}},
            "datasets": {"mine": {"folder": "data", "files": benchmark.pop("files", ["q.jsonl"])}},
            "benchmarks": {"b": entry | benchmark},
            "suites": {"all": ["b"]},
            "evaluate": {"suites": ["all"]},
        }
    )
    return {dotted(problem.key): problem.text for problem in config_problems(config, folder)}


def test_a_good_task_file_is_good(tmp_path: Path) -> None:
    assert found(tmp_path) == {}
    assert found(tmp_path, TASK | {"doc_to_text": "{% for x in question %}{{ x }}{% endfor %}"}) == {}


OWN: dict[str, Any] = {"task": "", "task_file": None}


@pytest.mark.parametrize(
    ("benchmark", "key", "text"),
    [
        (
            {"harness": "custom", "questions": {"prompt": "{{ qestion }}", "scorers": {"exact": {}}}},
            "questions",
            "q.jsonl, line 1: questions.prompt: 'qestion' is undefined (columns: question, answer)",
        ),
        (
            {
                "harness": "custom",
                "questions": {"prompt": "{{ question }}", "file": "p.jsonl", "scorers": {"exact": {}}},
            },
            "questions.file",
            "p.jsonl is not in ",
        ),
        ({"harness": "perplexity"}, "perplexity", "q.jsonl, line 1: the column text is missing or empty"),
        (
            {"harness": "patching", "task": "pairs"},
            "datasets",
            "q.jsonl, line 1: clean is missing or no text; a pair has clean, corrupted",
        ),
    ],
)
def test_data_of_ones_own_are_read_before_anything_is_staged(
    benchmark: dict[str, Any], key: str, text: str, tmp_path: Path
) -> None:
    ((where, said),) = found(tmp_path, **OWN | benchmark).items()
    assert where.endswith(key) and text in said, (where, said)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"dataset_kwargs": {"data_files": {"test": "${dataset:mnie}/q.jsonl"}}},
            "mine.yaml: ${dataset:mnie} is not among the benchmark's datasets; did you mean 'mine'?",
        ),
        (
            {"dataset_kwargs": {"data_files": {"test": "${dataset:mine}/qq.jsonl"}}},
            "mine.yaml: ${dataset:mine}/qq.jsonl: the dataset has no such file",
        ),
        (
            {"metric_list": [{"metric": "exact_mach"}]},
            "mine.yaml: unknown metric 'exact_mach'; did you mean 'exa",
        ),
        (
            {"doc_to_text": "{{qestion}}"},
            "mine.yaml: doc_to_text: the data have no field 'qestion'; did you mean 'question'?",
        ),
        ({"doc_to_target": "{{answer"}, "mine.yaml: doc_to_target: unexpected end of template"),
    ],
)
def test_a_mistake_in_a_task_file_is_named(tmp_path: Path, changed: dict[str, Any], text: str) -> None:
    assert found(tmp_path, changed)["benchmarks.b.task_file"].startswith(text)


@pytest.mark.parametrize(
    "changed",
    [
        {"metric_list": [{"metric": "rouge"}]},
        {"metric_list": [{"metric": "exact_mach"}], "process_results": "x"},
        {"doc_to_text": "{{other}}", "process_docs": "x"},
        {"doc_to_text": "{% if hint is defined %}{{hint}}{% endif %}{{question}}"},
        {"doc_to_text": "question"},
    ],
)
def test_what_may_be_right_is_not_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert found(tmp_path, changed) == {}


def test_code_in_a_task_file_is_not_run_and_not_refused(tmp_path: Path) -> None:
    assert found(tmp_path, yaml.safe_dump(TASK) + "process_results: !function utils.process\n") == {}


def test_a_task_file_that_is_no_yaml_is_named_with_its_place(tmp_path: Path) -> None:
    assert found(tmp_path, "task: mine\n  x: 1\n")["benchmarks.b.task_file"].startswith(
        "mine.yaml:2:4: mapping"
    )


@pytest.mark.parametrize("kind", ["multiple_choice", "loglikelihood", "loglikelihood_rolling"])
def test_log_probabilities_are_not_asked_for_through_chat(tmp_path: Path, kind: str) -> None:
    text = f"{kind} scores log-probabilities, which no chat gives: set endpoint: completions"
    assert found(tmp_path, {"output_type": kind})["benchmarks.b.endpoint"] == text
    assert found(tmp_path, {"output_type": kind}, endpoint="completions") == {}


def test_a_data_file_that_is_not_in_the_folder_is_named(tmp_path: Path) -> None:
    problems = found(tmp_path, files=["q.jsonl", "qq.jsonl"])
    assert problems == {"datasets.mine.files.1": "'qq.jsonl': no such file in data"}


def problems_of(**entry: Any) -> list[str]:
    return LmEval().problems(Benchmark(harness="lm-eval", **entry))


@pytest.mark.parametrize("task", ["gsm8k", "gsm8k_cot", "mmlu_anatomy", "arc_challenge", "leaderboard_bbh"])
def test_tasks_of_lm_eval_are_known(task: str) -> None:
    assert unknown(task) is None


def test_a_task_that_lm_eval_does_not_have_is_named_with_what_is_near() -> None:
    assert problems_of(task="gms8k") == [
        "task: lm-eval has no task 'gms8k'; did you mean 'gsm8k'? (a task of your own needs task_file)"
    ]
    assert problems_of(task="gms8k", task_file="x.yaml") == []
    assert problems_of(task="gsm8k") == []


@pytest.mark.parametrize(
    ("task", "endpoint", "refused"),
    [("hellaswag", "chat", True), ("hellaswag", "completions", False), ("gsm8k", "chat", False)],
)
def test_log_probabilities_of_lm_evals_own_tasks_are_not_asked_for_through_chat(
    task: str, endpoint: str, refused: bool
) -> None:
    model = Model(weights=Weights(folder="w"), server="s")
    benchmark = Benchmark.model_validate({"harness": "lm-eval", "task": task, "endpoint": endpoint})
    said = [f"'{task}' scores log-probabilities, which no chat gives: set endpoint: completions"]
    assert model_problems(model, benchmark) == (said if refused else [])


@pytest.mark.parametrize(
    ("config", "extra", "refused"),
    [
        ({"max_position_embeddings": 8192}, {}, True),
        ({"text_config": {"max_position_embeddings": 8192}}, {}, True),
        ({"max_position_embeddings": 16384}, {}, False),
        ({"max_position_embeddings": 8192, "rope_scaling": {"rope_type": "linear", "factor": 2}}, {}, False),
        ({"max_position_embeddings": 8192}, {"flags": {"hf-overrides": "{}"}}, False),
        ({"max_position_embeddings": 8192}, {"env": {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}}, False),
        ({}, {}, False),
    ],
)
def test_a_context_beyond_the_models_own_is_refused(
    tmp_path: Path, config: dict[str, Any], extra: dict[str, Any], refused: bool
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = Model(weights=Weights(folder="w"), server="s", max_model_len=16384, **extra)
    said = "max_model_len: 16384 is greater than the 8192 tokens that the model was made for"
    assert too_long(tmp_path, model, Vllm()) == (said if refused else None)


@pytest.mark.parametrize(
    ("task", "runtime", "text"),
    [
        (
            "safety_eval.wildguard",
            None,
            "there is no lock of safety_eval (nemo-safety_eval.lock): set runtime: image",
        ),
        ("safety_eval.wildguard", "image", None),
        (
            "lm-evaluation-harness.adlr_math_500_4_shot_sampled",
            "environment",
            "'lm-evaluation-harness.adlr_math_500_4_shot_sampled' loads packages that only its harness's "
            "image has: set runtime: image",
        ),
        ("lm-evaluation-harness.gsm8k", None, None),
        ("bfcl.bfclv3_ast_prompting", "environment", None),
    ],
)
def test_a_task_without_an_environment_here_is_refused_there(
    task: str, runtime: str | None, text: str | None
) -> None:
    config = Config.model_validate(
        {
            "version": 1,
            "models": {"m": {"weights": {"repo": "a/b"}, "server": "s"}},
            "servers": {"s": {}},
            "benchmarks": {"b": {"harness": "nemo", "task": task, "runtime": runtime}},
            "suites": {"all": ["b"]},
            "evaluate": {"suites": ["all"]},
        }
    )
    assert [problem.text for problem in config_problems(config, PROJECT)] == ([] if text is None else [text])
