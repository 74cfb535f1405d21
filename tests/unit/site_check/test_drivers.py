"""Which drivers and GPUs a build of CUDA needs."""

from __future__ import annotations

import pytest

from slurmeval.environments.locks import read_lock
from slurmeval.project_files import DATA, LOCKS
from slurmeval.site_check.drivers import cuda_of, too_old


def test_a_lock_says_which_cuda_it_brings() -> None:
    assert cuda_of(read_lock(DATA / LOCKS / "vllm-cuda.lock")) == "13.0"
    assert cuda_of(read_lock(DATA / LOCKS / "vllm-cpu.lock")) is None


@pytest.mark.parametrize(
    ("cuda", "driver", "capability", "said"),
    [
        ("13.0", "580.65.06", "9.0", None),
        ("13.0", "575.57.08", "9.0", "the driver is 575.57.08, and CUDA 13.0 needs 580.65.06 or later"),
        ("12.8", "525.60.13", "7.0", None),
        ("13.0", "580.95.05", "7.0", "compute capability is 7.0, and CUDA 13.0 needs 7.5 or more"),
        ("13.0", "580.95.05", "12.0", None),
        ("13.0", "580.95.05", "", None),
    ],
)
def test_old_drivers_and_gpus_are_told(cuda: str, driver: str, capability: str, said: str | None) -> None:
    found = too_old(cuda, driver, capability)
    assert found is None if said is None else found is not None and said in found
