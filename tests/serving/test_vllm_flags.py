"""What is said of vLLM's flags against the vLLM of the lock."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from slurmeval.engines.vllm import Vllm

SCRIPT = """
import json
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
actions = make_arg_parser(FlexibleArgumentParser())._actions
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
from vllm.reasoning import ReasoningParserManager
found = [action.option_strings for action in actions if action.option_strings]
print(json.dumps([found, ReasoningParserManager.list_registered(), list(QUANTIZATION_METHODS)]))
"""


def test_lists_of_flags_are_those_of_the_locked_vllm(vllm_python: Path) -> None:
    done = subprocess.run(
        [vllm_python, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=240
    )
    flags, names, short = Vllm().flag_rules(), set(), {}
    found, parsers, quantizations = json.loads(done.stdout.splitlines()[-1])
    assert set(parsers) == flags.reasoning_parsers
    assert set(quantizations) == flags.quantizations
    for options in found:
        long = [option[2:] for option in options if option.startswith("--") and option[:5] != "--no-"]
        names.update(long)
        short |= {option[1:]: long[0] for option in options if not option.startswith("--")}
    before = {name for name in flags.names if name not in names}
    assert names - flags.names == {"help"}
    assert before <= flags.harmless, "no longer a flag"
    assert {name: flag for name, flag in short.items() if name != "h"} == dict(flags.short)
