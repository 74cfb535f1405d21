"""Activation patching by TransformerLens, against plain hooks of torch on a tiny random model."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from slurmeval.harnesses.patching import run
from tests.serving.environments import environment

PROGRAM = Path(__file__).with_name("patch_tiny_model.py")
ROUNDING = 6e-5
"""What is written has four digits."""


def test_recovered_fractions_are_those_of_plain_hooks(tmp_path: Path) -> None:
    python = environment("patching-cpu").python
    shown = subprocess.run(
        [python, str(PROGRAM), str(tmp_path), run.__file__],
        env={"HF_HUB_OFFLINE": "1", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr[-2000:]
    found = json.loads(shown.stdout)
    # 3 layers; the words from the one that differs on: 4, 4 and 3; 4 heads
    assert {site: count for site, (count, _) in found.items()} == {
        "resid": 33, "attn": 33, "mlp": 33, "heads": 36,
    }  # fmt: skip
    assert max(gap for _, gap in found.values()) < ROUNDING
