"""simple-evals, on output of nvidia-simple-evals 26.3: made-up questions in the datasets' layout, a stand-in
answered. Its database is compacted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from slurmeval.harnesses import Job

from ..conftest import MakeJob
from .outputs import checked, leading, output_of, read_all, refused

GPQA = {"harness": "nemo", "task": "simple_evals.gpqa_diamond", "limit": 3}
MGSM = {"harness": "nemo", "task": "simple_evals.mgsm_aa_v2", "limit": 6}
HUMANEVAL = {"harness": "nemo", "task": "simple_evals.humaneval"}
Edit = Callable[[Job, str, str, str], None]


def change(job: Job, statement: str, *values: object) -> None:
    (path,) = output_of(job).glob("*/cache/cache.sqlite/cache.db")
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute(statement, values).rowcount > 0


def test_repeats_are_answers_to_the_same_question(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_simple_evals_gpqa", **GPQA))
    row = leading(rows)
    assert (row.task, row.metric, row.n_items, row.n_repeats) == (
        "gpqa_diamond",
        "score/micro_avg_of_2",
        3,
        2,
    )
    assert [(sample.native_id, sample.repeat_idx) for sample in samples] == [
        (question, repeat) for repeat in (0, 1) for question in "012"
    ]
    assert {sample.input.splitlines()[2] for sample in samples if sample.native_id == "0"} == {
        "Which planet is the largest?"
    }
    assert row.value == pytest.approx(1 / 6) and checked(row, samples).mismatch is False


def test_what_was_found_in_the_answer_is_shown(make_job: MakeJob) -> None:
    _, samples = read_all(make_job("nemo_simple_evals_gpqa", **GPQA))
    found, nothing = samples[0], samples[1]
    assert (found.output, found.scores[0].answer, found.status) == (
        "The largest is Jupiter.\nAnswer: B",
        "B",
        "ok",
    )
    assert found.reference in "ABCD"
    assert (nothing.output, nothing.scores[0].answer, nothing.status) == (
        "I do not know <b>this</b> & that.",
        None,
        "unparsed",
    )


def test_the_error_of_repeats_is_over_questions_not_as_answers_came(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_simple_evals_humaneval", **HUMANEVAL))
    row = leading(rows)
    # One of two problems is solved always, the other never; simple-evals writes an error of 0.
    assert (row.value, row.se, row.n_items) == (0.5, None, 2)
    assert checked(row, samples).se == 0.5


def test_parts_of_a_task_are_its_subsets_and_the_mean_over_all_leads(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_simple_evals_mgsm", **MGSM))
    assert leading(rows).value == pytest.approx(2 / 6)
    assert {row.task for row in rows} == {"mgsm"}
    languages = {row.subset: row for row in rows if row.subset in ("bn", "de", "en")}
    assert {name: (row.value, row.n_items) for name, row in languages.items()} == {
        "bn": (0.0, 2),
        "de": (0.5, 2),
        "en": (0.5, 2),
    }
    assert [checked(row, samples).mismatch for row in languages.values()] == [False] * 3
    (macro,) = [row for row in rows if row.metric == "score/macro"]
    assert (macro.value, macro.is_group, macro.is_primary) == (0.3, True, False)
    assert {sample.category for sample in samples} == {"bn", "de", "en"}


def test_programs_have_every_answer_and_pass_at_k(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_simple_evals_humaneval", **HUMANEVAL))
    # Asked for two answers, simple-evals sends two in each of two blocks.
    assert [sample.repeat_idx for sample in samples if sample.native_id == "0"] == [0, 1, 2, 3]
    assert {sample.output for sample in samples} == {"    return 2 * x", "    return x"}
    assert {sample.reference for sample in samples} == {None}
    at_k = {row.metric: row.value for row in rows if not row.is_primary}
    assert at_k == {"pass@1": 0.5, "pass@2": 0.5}
    assert [checked(row, samples).mismatch for row in rows] == [False] * 3


def test_tokens_and_reasoning_of_another_request_are_not_shown(make_job: MakeJob) -> None:
    _, samples = read_all(make_job("nemo_simple_evals_gpqa", **GPQA))
    assert {str(sample.metadata) for sample in samples} == {"{}"}


def test_long_answers_are_in_files_of_their_own(make_job: MakeJob) -> None:
    job = make_job("nemo_simple_evals_gpqa", **GPQA)
    (folder,) = output_of(job).glob("*/cache/cache.sqlite")
    with closing(sqlite3.connect(folder / "cache.db")) as database:
        ((value,),) = database.execute("SELECT value FROM Cache WHERE key = '1'")
    entry = json.loads(value)
    entry["convo"][-1]["content"] = "x" * 40_000
    (folder / "ab").mkdir()
    (folder / "ab" / "cd.val").write_text(json.dumps(entry))
    change(job, "UPDATE Cache SET value = NULL, filename = 'ab/cd.val' WHERE key = '1'")
    _, samples = read_all(job)
    assert samples[1].output == "x" * 40_000
    (folder / "ab" / "cd.val").unlink()
    assert "an answer's file is missing" in refused(job)


def test_answers_are_read_as_text_not_as_html(make_job: MakeJob) -> None:
    job = make_job("nemo_simple_evals_gpqa", **GPQA)
    written = "replace(CAST(value AS TEXT), 'Correct Answer: ', 'Correct Answer: 1 &lt; 2 &amp; ')"
    change(job, f"UPDATE Cache SET value = {written} WHERE key = '0'")
    _, samples = read_all(job)
    assert (samples[0].reference or "").startswith("1 < 2 & ")


def test_a_lost_answer_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_simple_evals_gpqa", **GPQA)
    change(job, "DELETE FROM Cache WHERE key = '4'")
    assert "kept 5 answers, with gaps" in refused(job)


def test_more_answers_than_the_limit_are_a_bad_result(make_job: MakeJob) -> None:
    assert "3 questions were asked, where the limit is 2" in refused(
        make_job("nemo_simple_evals_gpqa", **{**GPQA, "limit": 2})
    )


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE Cache SET value = '{}' WHERE key = '0'", "not laid out as simple-evals does"),
        ("UPDATE Cache SET value = 'x' WHERE key = '0'", "not laid out as simple-evals does"),
        ("UPDATE Cache SET key = 'x' WHERE key = '0'", "not laid out as simple-evals does"),
    ],
)
def test_a_broken_answer_is_a_bad_result(make_job: MakeJob, statement: str, reason: str) -> None:
    job = make_job("nemo_simple_evals_gpqa", **GPQA)
    change(job, statement)
    assert reason in refused(job)


def test_a_truncated_database_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_simple_evals_gpqa", **GPQA)
    (path,) = output_of(job).glob("*/cache/cache.sqlite/cache.db")
    Path(path).write_bytes(path.read_bytes()[:1500])
    assert "no database of simple-evals" in refused(job)


@pytest.mark.parametrize("repeats", [0, False, -1])
def test_a_number_of_repeats_that_cannot_be_is_a_bad_result(make_job: MakeJob, repeats: int) -> None:
    job = make_job("nemo_simple_evals_gpqa", **GPQA)
    (path,) = output_of(job).glob("*/gpqa_diamond.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_repeats": repeats}))
    assert f"{path.name}: n_repeats is {int(repeats)}" in refused(job)
