"""A server that slurmeval did not start, which only the login host reaches."""

from __future__ import annotations

import os
import signal

import pytest

from tests.external_server import KEY, Course, course, keep_to
from tests.slurm.project import ClusterProject
from tests.waiting import wait_for
from tests.workflow.conftest import N_PROBLEMS

__all__ = ["course"]


def test_evaluations_are_jobs_and_no_gpu_is_asked_for(
    project: ClusterProject, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_KEY", KEY)
    keep_to(course, project.config)
    course.start(STAND_IN_DELAY_S="0.5")
    run = project.start()
    wait_for(lambda: len(course.asked()) >= 2, "answers")
    os.kill(run.pid, signal.SIGKILL)  # evaluations and what passes their requests on go on
    run.wait()
    again = project.start()
    project.finish(again)
    assert {job["JobName"] for job in project.all_jobs()} == {f"{project.job_prefix}evaluate"}
    assert len(course.asked()) == 3 * N_PROBLEMS
