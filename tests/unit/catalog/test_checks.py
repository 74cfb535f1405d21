"""A task that is not there, not meant, or not for this endpoint or model is refused in one line."""

from __future__ import annotations

import pytest

from slurmeval.catalog import checks, model_problems, problems
from slurmeval.catalog.entries import Catalog, build, package_data

MMLU = "lm-evaluation-harness.mmlu"


def the_one(found: list[str]) -> str:
    assert len(found) == 1, found
    assert found[0].isprintable()
    return found[0]


def test_tasks_by_their_full_name_are_fine() -> None:
    assert problems(MMLU, "completions") == []
    assert problems("bfcl.bfclv3_ast_prompting", "chat") == []
    assert problems("vlmevalkit.chartqa", "chat") == []


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("mmlu", f"task: 'mmlu' is ambiguous; write one of '{MMLU}' or 'simple_evals.mmlu'"),
        ("simpleqa", "task: write 'simple_evals.simpleqa' instead of 'simpleqa'"),
        (
            "ifevall",
            "task: unknown task 'ifevall'; did you mean 'lm-evaluation-harness.ifeval' or 'codec.ifeval'?",
        ),
        ("qqqqqq", "task: unknown task 'qqqqqq'; write 'harness.task' ('slurmeval tasks' lists all)"),
        (
            "bfcl",
            "task: 'bfcl' is a harness, not a task; write 'bfcl.<task>', "
            "'slurmeval tasks bfcl' lists its tasks",
        ),
        (
            "lm_evaluation_harness.mmlu_redux",
            "task: unknown harness 'lm_evaluation_harness' in 'lm_evaluation_harness.mmlu_redux'; "
            "did you mean 'lm-evaluation-harness.mmlu_redux'?",
        ),
        (
            "bfkl.bfclv9",
            "task: unknown harness 'bfkl' in 'bfkl.bfclv9'; did you mean 'bfcl'?",
        ),
        (
            "simple_evals.ifeval",
            "task: simple_evals has no task 'ifeval'; "
            "did you mean 'lm-evaluation-harness.ifeval' or 'codec.ifeval'?",
        ),
        (
            "bfcl.bfclv3_astt",
            "task: bfcl has no task 'bfclv3_astt' (launcher 0.2.6; it may have been removed); "
            "did you mean 'bfcl.bfclv3_ast'? 'slurmeval tasks bfcl' lists its tasks",
        ),
        (
            "hle.qqqqqq",
            "task: hle has no task 'qqqqqq' (launcher 0.2.6; it may have been removed); "
            "'slurmeval tasks hle' lists its tasks",
        ),
    ],
)
def test_other_names_are_refused(task: str, line: str) -> None:
    assert the_one(problems(task, "chat")) == line


def test_a_task_that_a_newer_launcher_has_no_more_says_so() -> None:
    line = the_one(problems("mteb.techqa", "chat"))
    assert line == (
        "task: 'mteb.techqa' was removed in launcher 0.2.3; 'slurmeval tasks mteb' lists its tasks"
    )


def test_a_task_of_a_harness_that_was_removed_says_so() -> None:
    launcher, own = package_data("nemo.yaml"), package_data("own.yaml")
    del launcher["harnesses"]["tooltalk"]
    launcher["removed"] = {"tooltalk.tooltalk": "0.3.0"}
    line = the_one(checks.problems(build(launcher, own), "tooltalk.tooltalk", "chat"))
    assert line == "task: 'tooltalk.tooltalk' was removed in launcher 0.3.0; so was its harness tooltalk"


def test_a_bare_name_with_many_tasks_names_some_of_them() -> None:
    launcher = package_data("nemo.yaml")
    for harness in launcher["harnesses"].values():
        harness["tasks"] = {"same": {"endpoints": ["chat"]}}
    line = the_one(checks.problems(build(launcher, package_data("own.yaml")), "same", "chat"))
    assert line.endswith("'livecodebench.same', …")
    assert line.count(".same") == checks.NAMED_TASKS_LIMIT


def test_the_wrong_endpoint_is_refused_with_the_right_one() -> None:
    line = the_one(problems(MMLU, "chat"))
    assert line == f"endpoint: '{MMLU}' asks through completions, not chat"
    line = the_one(problems("lm-evaluation-harness.ifeval", "completions"))
    assert line == "endpoint: 'lm-evaluation-harness.ifeval' asks through chat, not completions"


def test_embedding_tasks_are_refused() -> None:
    line = the_one(problems("mteb.MTEB", "chat"))
    assert line == "task: 'mteb.MTEB' asks through embedding; slurmeval serves chat or completions"


BOTH = ["chat", "completions"]


def test_a_model_that_takes_all_runs_all() -> None:
    assert model_problems(MMLU, "completions", BOTH, True) == []
    assert model_problems("lm-evaluation-harness.winogrande", "completions", BOTH, True) == []


def test_a_completions_task_on_a_model_that_only_chats_is_refused() -> None:
    line = the_one(model_problems(MMLU, "completions", ["chat"], True))
    assert line == f"endpoints: '{MMLU}' asks through completions, but the model takes only chat"


def test_a_chat_task_on_a_base_model_is_refused() -> None:
    task = "lm-evaluation-harness.ifeval"
    line = the_one(model_problems(task, "chat", ["completions"], True))
    assert line == f"endpoints: '{task}' asks through chat, but the model takes only completions"


def test_a_logprobs_task_on_a_model_without_them_is_refused() -> None:
    task = "lm-evaluation-harness.winogrande"
    line = the_one(model_problems(task, "completions", BOTH, False))
    assert line == (
        f"logprobs: '{task}' needs log-probabilities of its prompts, which the model does not give"
    )
    assert model_problems(MMLU, "completions", BOTH, False) == [], "it needs none"
    assert len(model_problems(task, "completions", ["chat"], False)) == 2


def test_a_task_of_ones_own_is_judged_by_its_endpoint() -> None:
    own = "lm-evaluation-harness.my_task"
    assert model_problems(own, "chat", ["chat"], False) == []
    assert the_one(model_problems(own, "completions", ["chat"], False)).startswith("endpoints: ")


def test_names_from_a_config_do_not_break_the_line() -> None:
    for task in ("", ".", "..", ".mmlu", "bfcl.", "a" * 500, "x.y.z"):
        the_one(problems(task, "chat"))


def test_a_catalog_of_nothing_refuses_everything() -> None:
    empty = Catalog("none", {}, {}, {})
    assert the_one(checks.problems(empty, "bfcl.bfclv3", "chat")).startswith("task: unknown harness 'bfcl'")
    assert the_one(checks.problems(empty, "bfclv3", "chat")).startswith("task: unknown task 'bfclv3'")
