"""Prompts that a harness cut to the model's context, counted after it has run."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slurmeval.containment.scratch_dir import ScratchDir
from slurmeval.files import read_json, write_json
from slurmeval.harnesses import cut_prompts, harness_process
from slurmeval.harnesses.base import Command, Harness, Job

FILE, LOG = "cuts.json", "cuts.log"
DEFAULT_MAX_LENGTH, DEFAULT_MAX_GEN_TOKS = 2048, 256
"""`max_length` and `max_gen_toks` of lm-eval's clients of servers where they are told nothing."""
COUNTING_TIMEOUT_S = 3600.0


def none_is_cut(attempt: Path) -> None:
    """Records that no prompt is cut: the harness sends text, and the server refuses what is too long."""
    write_json(attempt / FILE, {})


def counting(command: Command, runtime_python: str, output: str, client: Mapping[str, Any]) -> Command:
    """Returns the command that counts the prompts that lm-eval cut.

    `command` started lm-eval, and `client` has the arguments of its client.
    """
    shutil.copyfile(cut_prompts.__file__, command.cwd / Path(cut_prompts.__file__).name)
    settings = {
        "output": output,
        "cuts": FILE,
        "tokenizer": client["tokenizer"],
        "trust_remote_code": bool(client.get("trust_remote_code")),
        "add_bos_token": bool(client.get("add_bos_token")),
        "max_length": int(client.get("max_length", DEFAULT_MAX_LENGTH)),
        "max_gen_toks": int(client.get("max_gen_toks", DEFAULT_MAX_GEN_TOKS)),
    }
    argv = [runtime_python, Path(cut_prompts.__file__).name, json.dumps(settings)]
    return dataclasses.replace(command, argv=argv, hostile=False)


def count(program: Harness, job: Job, command: Command, place: ScratchDir, port: int, log: Path) -> None:
    """Counts the cut prompts, where any may have been cut.

    Where that fails their number stays unknown; `log` says why.
    """
    counting = program.counting_cuts(job, command)
    if counting is None:
        return
    running = harness_process.start(job, counting, place, port, log)
    try:
        running.wait(COUNTING_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        harness_process.end(running)


def read(attempt: Path) -> dict[str, frozenset[str]] | None:
    """Returns the ids of the questions whose prompts were cut, by task; None: nobody counted them."""
    found = read_json(attempt / FILE)
    if found is None:
        return None
    return {task: frozenset(map(str, numbers)) for task, numbers in found.items()}
