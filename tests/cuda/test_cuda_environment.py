"""The lock `vllm-cuda`, installed for real, without a GPU.

By hand (`scripts/test cuda`), since it takes gigabytes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slurmeval.engines.base import EngineSpec, Rank
from slurmeval.engines.vllm import Vllm
from slurmeval.environments.environments import Environment, ensure
from slurmeval.environments.locks import read_lock
from slurmeval.project_files import DATA, LOCKS
from slurmeval.site_check.drivers import cuda_of
from tests.lacking import lacking
from tests.serving.test_vllm_flags import SCRIPT

LOCK = DATA / LOCKS / "vllm-cuda.lock"
GIVEN = os.environ.get("SLURMEVAL_TEST_CUDA")
"""1, or a folder in which the environment is made and kept."""
pytestmark = pytest.mark.timeout(7200)
AS_WITH_A_GPU = """
import importlib.machinery, sys, types
for name in ("vllm._C", "vllm._C_stable_libtorch"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
import vllm.platforms
from vllm.platforms.cuda import NonNvmlCudaPlatform
vllm.platforms._current_platform = NonNvmlCudaPlatform()
"""
"""vLLM makes its parser only where it finds a device, and its kernels need the driver's library."""
HELP = """
import runpy, sys
sys.argv = ["vllm", "--help=all"]
runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
"""
LOOKS = (
    "import json, torch, vllm; print(json.dumps([torch.version.cuda, torch.__version__, vllm.__version__]))"
)


@pytest.fixture(scope="module")
def environment() -> Iterator[Environment]:
    """The environment, in a folder of its own that is removed in the end."""
    if not GIVEN:
        lacking("by hand only, no part of CI: scripts/test cuda")
    folder = Path(tempfile.mkdtemp(prefix="slurmeval-cuda-")) if GIVEN == "1" else Path(str(GIVEN))
    try:
        started = time.monotonic()
        made = ensure(LOCK, folder)
        took_s = time.monotonic() - started
        size = subprocess.run(["du", "-sk", made.folder], capture_output=True, text=True, check=True).stdout
        print(f"\n{LOCK.name}: made in {took_s:.0f} s, {int(size.split()[0]) / 1e6:.1f} GB")
        yield made
    finally:
        if GIVEN == "1":
            shutil.rmtree(folder, ignore_errors=True)


def _said(environment: Environment, *argv: str) -> str:
    """Returns what its Python prints."""
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(
        [environment.python, *argv], env=variables, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_torch_is_built_for_the_cuda_of_the_lock(environment: Environment) -> None:
    cuda, torch, vllm = json.loads(_said(environment, "-c", LOOKS).splitlines()[-1])
    print(f"torch {torch} for CUDA {cuda}, vLLM {vllm}")
    lock = read_lock(LOCK)
    assert cuda == cuda_of(lock)
    assert vllm == lock.packages["vllm"]


def test_help_is_shown(environment: Environment) -> None:
    shown = _said(environment, "-c", AS_WITH_A_GPU + HELP)
    assert "usage:" in shown.lower() and "--max-model-len" in shown


def spec(**given: Any) -> EngineSpec:
    """A server with everything that slurmeval can ask for."""
    whole = {
        "python": "python",
        "weights": "/weights",
        "served_name": "m",
        "dtype": "auto",
        "quantization": "fp8",
        "max_model_len": 8192,
        "chat_template": "/t.jinja",
        "trust_remote_code": True,
        "generation": {"temperature": 0},
        "reasoning_parser": "qwen3",
        "gpus": 4,
        "nodes": 2,
        "flags": {},
    }
    return EngineSpec(**{**whole, **given})


def test_its_parser_knows_every_flag_that_is_passed(environment: Environment) -> None:
    found, _, _ = json.loads(_said(environment, "-c", AS_WITH_A_GPU + SCRIPT).splitlines()[-1])
    known = {option for options in found for option in options}
    ranks = [None, Rank(0, "node1", 1234), Rank(1, "node1", 1234)]
    passed = {word for rank in ranks for word in Vllm().argv(spec(), "::", 1, rank) if word.startswith("--")}
    assert passed <= known
    names = {option[2:] for option in known if option.startswith("--") and option[:5] != "--no-"}
    flags = Vllm().flag_rules()
    assert names - flags.names == {"help"}, "flags that slurmeval does not know"
    assert len(passed) > 12
