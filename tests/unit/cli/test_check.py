"""`slurmeval check` as a process: each bad input in one line, with status 2, within 3 s."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
COMMIT = "7ae557604adf67be50417f59c2c2f167def9a775"
GOOD = f"""version: 1
models:
  tiny:
    weights: {{repo: owner/name, revision: {COMMIT}}}
    server: cpu
    dtype: float32
servers:
  cpu: {{}}
benchmarks:
  asdiv: {{harness: lm-eval, task: gsm8k, limit: 20}}
suites:
  small: [asdiv]
evaluate:
  suites: [small]
"""


def checked(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "containers" / "locks").mkdir(parents=True)
    (folder / "containers" / "locks" / "vllm-cpu.lock").touch()
    (folder / "c.yaml").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "slurmeval", "check", "c.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


BAD = {
    "key": (
        "dtype:",
        "dtypee:",
        "models.tiny.dtypee: unknown key; did you mean 'dtype'?",
    ),
    "missing model": (
        "suites: [small]",
        "suites: [small]\n  models: [tini]",
        "evaluate.models.0: unknown model 'tini'; did you mean 'tiny'?",
    ),
    "no models": (
        "models:\n",
        "moodels:\n",
        "moodels: unknown key; did you mean 'models'? (and 1 more: models)",
    ),
    "unknown benchmark": (
        "small: [asdiv]",
        "small: [asdif]",
        "suites.small.0: unknown benchmark 'asdif'; did you mean 'asdiv'?",
    ),
    "unknown suite": (
        "suites: [small]",
        "suites: [smal]",
        "evaluate.suites.0: unknown suite 'smal'; did you mean 'small'?",
    ),
    "two entries": (
        "  cpu: {}",
        "  cpu: {}\n  cpu: {}",
        "9:3: two entries with one id: 'cpu' stands in line 8 and again in line 9",
    ),
    "slash": (
        "  tiny:",
        "  a/b:",
        "models.a/b: 'a/b': not an id; ",
    ),
    "dots": (
        "  tiny:",
        "  a..b:",
        "models.a..b: 'a..b': not an id; ",
    ),
    "space": (
        "  tiny:",
        "  a b:",
        "models.a b: 'a b': not an id; ",
    ),
    "shell": (
        "  tiny:",
        "  $(a):",
        "models.$(a): '$(a)': not an id; ",
    ),
    "negative limit": (
        "limit: 20",
        "limit: -1",
        "benchmarks.asdiv.limit: -1 is too small; expected at least 1",
    ),
    "no commit": (
        COMMIT,
        "main",
        "models.tiny.weights.revision: 'main' is no commit; expected 40 hex digits",
    ),
    "syntax": (
        "suites:\n",
        "suites: [\n",
        "13:1: did not find expected ',' or ']'",
    ),
    "wrong type": (
        "limit: 20",
        "limit: many",
        "benchmarks.asdiv.limit: 'many' is text; expected a whole number",
    ),
    "empty suite": (
        "small: [asdiv]",
        "small: []",
        "suites.small: is empty; expected at least 1 entry",
    ),
    "version": (
        "version: 1",
        "version: 2",
        "version: is 2; this program reads version 1",
    ),
    "harness cannot": (
        "limit: 20",
        "repeats: 3",
        "benchmarks.asdiv.repeats: ",
    ),
}
"""What is replaced in GOOD, by what, and how the message goes on after `slurmeval: c.yaml:`."""


@pytest.mark.parametrize(("was", "becomes", "line"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(tmp_path: Path, was: str, becomes: str, line: str) -> None:
    assert was in GOOD
    ran = checked(tmp_path, GOOD.replace(was, becomes, 1))
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith(f"slurmeval: c.yaml:{'' if line[0].isdigit() else ' '}{line}"), ran.stderr
    assert ran.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"c.yaml", "containers"}, "nothing is started"


def test_good_config_is_summed_up(tmp_path: Path) -> None:
    ran = checked(tmp_path, GOOD)
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "1 model × 1 benchmark = 1 evaluation; results in results",
        f"  model tiny: owner/name at {COMMIT[:12]}, served by cpu",
        "  suite small: asdiv",
    ]


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml"])
def test_configs_of_the_repository_pass_with_their_harnesses(name: str) -> None:
    argv = [sys.executable, "-m", "slurmeval", "check", f"config/{name}"]
    ran = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_no_config_is_said_in_one_line(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "slurmeval", "check"]
    ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (2, "slurmeval: config/config.yaml: no such file\n")
