"""MT-Bench, on the output of nvidia-mtbench-evaluator 26.3 (two questions; stand-ins answered and judged)."""

from __future__ import annotations

import pytest

from slurmeval.errors import ErrorClass, EvaluationFailed

from ..conftest import MakeJob
from ..test_nemo_results import Edit
from .outputs import checked, leading, output_of, read_all

MTBENCH = {"harness": "nemo", "task": "mtbench.mtbench", "limit": 2}
RATED = "*_single.jsonl"


def test_ratings_from_1_to_10_agree_with_the_samples(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_mtbench", **MTBENCH))
    row = leading(rows)
    assert (row.task, row.metric, row.subset) == ("mtbench", "average_score", None)
    assert (row.harness_value, row.harness_scale, row.value, row.n_items) == (6.25, 10, 0.625, 2)
    assert len(samples) == 4 and checked(row, samples).mismatch is False


def test_a_category_is_a_subset_with_its_own_questions(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_mtbench", **MTBENCH))
    (row,) = [row for row in rows if row.subset is not None]
    assert (row.subset, row.value, row.n_items, row.is_primary) == ("writing", 0.625, 2, False)
    assert checked(row, samples).mismatch is False


def test_missing_ratings_are_a_count_and_no_proportion(make_job: MakeJob) -> None:
    rows, _ = read_all(make_job("nemo_mtbench", **MTBENCH))
    missing = next(row for row in rows if row.metric == "average_score/num_missing")
    assert (missing.harness_value, missing.value, missing.higher_is_better) == (0.0, None, False)


def test_the_second_turn_is_asked_without_the_models_first_answer(make_job: MakeJob) -> None:
    _, samples = read_all(make_job("nemo_mtbench", **MTBENCH))
    first, second = samples[:2]
    assert first.native_id == second.native_id == "81"
    assert first.input.startswith("Compose an engaging travel blog post")
    assert second.input.startswith("user: Compose an engaging") and "Start every sentence" in second.input
    assert first.output is not None and first.output not in second.input
    assert "Rating: [[" in str(second.scores[0].explanation)


def test_a_turn_that_the_judge_did_not_rate_has_no_score(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_mtbench", **MTBENCH)
    (path,) = output_of(job).rglob(RATED)
    line = path.read_text().splitlines()[0]
    rated = line[line.index('"score": ') :].partition(",")[0]
    edit(job, RATED, line, line.replace(rated, '"score": -1'))
    _, samples = read_all(job)
    assert [sample.scores[0].value for sample in samples].count(None) == 1


def test_a_lost_rating_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_mtbench", **MTBENCH)
    (path,) = output_of(job).rglob(RATED)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(EvaluationFailed, match="3 ratings, where there are 4 answers") as caught:
        read_all(job)
    assert caught.value.error_class is ErrorClass.BAD_RESULT


def test_a_limit_that_was_not_kept_is_a_bad_result(make_job: MakeJob) -> None:
    with pytest.raises(EvaluationFailed, match="2 questions were asked, where the limit is 1"):
        read_all(make_job("nemo_mtbench", **{**MTBENCH, "limit": 1}))
