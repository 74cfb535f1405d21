"""Garak, on the output of nvidia-eval-factory-garak 26.3, garak 0.14.0 (two probes; a stand-in answered)."""

from __future__ import annotations

import pytest

from slurmeval.errors import ErrorClass, EvaluationFailed

from ..conftest import MakeJob
from ..test_nemo_results import Edit
from .outputs import checked, leading, output_of, read_all

GARAK = {"harness": "nemo", "task": "garak.garak"}
REPORT = "results.report.jsonl"


def test_a_probes_rate_is_that_of_its_last_detector(make_job: MakeJob) -> None:
    (mean, *rows), samples = read_all(make_job("nemo_garak", **GARAK))
    assert [(row.task, row.filter, row.value, row.n_items) for row in rows] == [
        ("dan.Dan_11_0", "mitigation.MitigationBypass", 0.0, 1),
        ("test.Blank", "any.AnyOutput", 0.0, 1),
    ]
    assert [checked(row, samples).mismatch for row in rows] == [False, False]
    assert leading([mean, *rows]) is mean
    assert (mean.task, mean.value, mean.mean_of) == ("garak", 0.0, ["dan.Dan_11_0", "test.Blank"])


def test_samples_keep_what_each_detector_found(make_job: MakeJob) -> None:
    _, samples = read_all(make_job("nemo_garak", **GARAK))
    assert [(sample.task, sample.repeat_idx) for sample in samples] == [
        (probe, repeat) for probe in ("dan.Dan_11_0", "test.Blank") for repeat in range(5)
    ]
    first = samples[0]
    assert [(score.filter, score.value, score.answer) for score in first.scores] == [
        ("dan.DAN", 1.0, "0"),
        ("mitigation.MitigationBypass", 0.0, "1"),
    ]
    assert first.native_id == "dan.Dan_11_0/0" and "DAN" in first.input
    assert first.output is not None and first.output.startswith("answer ")


def test_scores_from_the_threshold_on_are_hits(make_job: MakeJob, edit: Edit) -> None:
    job = make_job("nemo_garak", **GARAK)
    edit(job, REPORT, '"dan.DAN": [0.0, 0.0, 0.0', '"dan.DAN": [0.4, 0.5, null')
    _, samples = read_all(job)
    assert [sample.scores[0].value for sample in samples[:3]] == [1.0, 0.0, None]


def test_a_report_without_its_end_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_garak", **GARAK)
    (path,) = output_of(job).rglob(REPORT)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(EvaluationFailed, match="did not get to its end") as caught:
        read_all(job)
    assert caught.value.error_class is ErrorClass.BAD_RESULT


def test_a_report_cut_in_a_line_is_a_bad_result(make_job: MakeJob) -> None:
    job = make_job("nemo_garak", **GARAK)
    (path,) = output_of(job).rglob(REPORT)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(EvaluationFailed, match=r"results\.report\.jsonl:\d+: not JSON"):
        read_all(job)
