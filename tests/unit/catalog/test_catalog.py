"""The catalog that comes with slurmeval: all of NeMo Evaluator's tasks, and what is said of them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from scripts.update_catalog import as_text, stale

from slurmeval import catalog
from slurmeval.catalog.entries import OTHER, Task, matcher, package_data

TASKS = catalog.tasks()


def test_it_holds_all_tasks_of_all_harnesses() -> None:
    assert len(TASKS) == 421
    assert len(catalog.harnesses()) == 23
    assert {task.harness for task in TASKS.values()} == set(catalog.harnesses())


def test_a_harness_names_its_image_by_digest() -> None:
    bfcl = catalog.harnesses()["bfcl"]
    assert bfcl.reference == "nvcr.io/nvidia/eval-factory/bfcl:26.03"
    assert bfcl.digest == "sha256:fc6b5f22698b75b759dc29715663d3006b7180847330e06b15ee080346462c03"
    assert bfcl.architectures == ("amd64", "arm64")
    assert (bfcl.module, bfcl.package) == ("bfcl", "nvidia-bfcl")
    assert catalog.harnesses()["helm"].architectures == ("amd64",)
    for harness in catalog.harnesses().values():
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", harness.digest), harness
        assert re.fullmatch(r"[a-z0-9./-]+", harness.image), harness


def test_a_task_says_how_it_asks_and_what_it_needs() -> None:
    winogrande = TASKS["lm-evaluation-harness.winogrande"]
    assert (winogrande.endpoints, winogrande.needs) == (("completions",), ("logprobs",))
    assert TASKS["bfcl.bfclv3"].native == "all"
    judged = TASKS["safety_eval.aegis_v2"]
    assert judged.env == ("JUDGE_API_KEY",)
    assert judged.needs == ("judge", "hf-token")
    assert judged.gated == "nvidia/Aegis-AI-Content-Safety-Dataset-2.0"
    assert TASKS["tau2_bench.tau2_bench_retail"].env == ("JUDGE_API_KEY", "USER_API_KEY")


def test_the_key_of_the_endpoint_itself_is_no_need() -> None:
    """bigcode's command sets NVCF_TOKEN from the key of the evaluated endpoint, mteb's API_TOKEN."""
    assert TASKS["bigcode-evaluation-harness.humaneval"].env == ()
    assert "API_TOKEN" not in TASKS["mteb.fiqa"].env


def test_the_old_spelling_of_chat_is_chat() -> None:
    assert package_data("nemo.yaml")["harnesses"]["vlmevalkit"]["tasks"]["chartqa"]["endpoints"] == ["vlm"]
    assert TASKS["vlmevalkit.chartqa"].endpoints == ("chat",)
    assert {each for task in TASKS.values() for each in task.endpoints} == {
        "chat",
        "completions",
        "embedding",
    }


@pytest.mark.parametrize(
    "name",
    [
        "bigcode-evaluation-harness.multiple-rs",
        "livecodebench.codegeneration_release_v6",
        "scicode.scicode",
        "simple_evals.humanevalplus",
        "lm-evaluation-harness.adlr_mbpp_sanitized_3_shot_greedy",
        "nemo_skills.ns_livecodebench",
        "helm.ehr_sql",
    ],
)
def test_what_runs_code_of_the_model_is_marked(name: str) -> None:
    assert TASKS[name].executes_code


def test_what_evaluates_calls_is_marked_apart() -> None:
    bfcl = TASKS["bfcl.bfclv3_ast_prompting"]
    assert bfcl.evaluates_calls and not bfcl.executes_code
    marked = {task.harness for task in TASKS.values() if task.evaluates_calls}
    assert marked == {"bfcl", "nemo_skills"}


def test_what_only_looks_at_code_is_not_marked() -> None:
    for name in ("codec.openai_humaneval", "codec.scicode", "lm-evaluation-harness.ifeval", "hle.hle"):
        assert not TASKS[name].executes_code


def test_every_task_has_a_group_and_every_rule_a_task() -> None:
    assert [task.full_name for task in TASKS.values() if task.group == OTHER] == []
    assert stale(package_data("nemo.yaml"), package_data("own.yaml")) == []


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("lm-evaluation-harness.mmlu", "knowledge"),
        ("lm-evaluation-harness.mmlu_prox_de_chat", "multilingual"),
        ("simple_evals.mmlu_pro", "knowledge"),
        ("simple_evals.mmlu_sw", "multilingual"),
        ("simple_evals.mmlu_my-lite", "multilingual"),
        ("simple_evals.AIME_2025", "maths"),
        ("mmath.mmath_th", "multilingual"),
        ("vlmevalkit.mathvista-mini", "vision"),
        ("codec.gsm8k_test", "contamination"),
        ("nemo_skills.ns_wmt24pp", "translation"),
        ("nemo_skills.ns_bfcl_v4", "tool_use"),
        ("AA-LCR.aa_lcr", "long_context"),
        ("ifbench.ifbench", "instruction_following"),
        ("lm-evaluation-harness.bbq_chat", "safety"),
    ],
)
def test_groups(name: str, group: str) -> None:
    assert TASKS[name].group == group


def test_no_pattern_fits_nothing() -> None:
    assert matcher([]).match("bfcl.bfclv3") is None
    assert matcher(["bfcl.*", "*.x"]).match("bfcl.bfclv3") and matcher(["bfcl.*", "*.x"]).match("a.x")
    assert matcher(["bfcl.b"]).match("bfcl.bb") is None


def test_a_bare_name_may_be_several_tasks() -> None:
    assert [task.full_name for task in catalog.candidates("mmlu")] == [
        "lm-evaluation-harness.mmlu",
        "simple_evals.mmlu",
    ]
    assert catalog.candidates("no_such_task") == []
    seen: dict[str, list[Task]] = {}
    for task in TASKS.values():
        seen.setdefault(task.name, []).append(task)
    ambiguous = {name for name, tasks in seen.items() if len(tasks) > 1}
    assert ambiguous == {
        *("mmlu", "ifeval", "mmlu_pro", "humaneval", "humanevalplus", "humaneval_instruct"),
        *("mgsm", "ifbench", "gpqa_diamond", "scicode", "hle"),
    }


def test_the_file_is_as_the_updater_writes_it() -> None:
    import importlib.resources

    text = importlib.resources.files("slurmeval.catalog").joinpath("nemo.yaml").read_text("utf-8")
    assert text == as_text(package_data("nemo.yaml"))


def test_it_is_read_once() -> None:
    assert catalog.catalog() is catalog.catalog()


def test_it_loads_without_the_config() -> None:
    """pydantic takes longer to load than the catalog."""
    code = "import sys; from slurmeval import catalog; catalog.tasks(); print('pydantic' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
