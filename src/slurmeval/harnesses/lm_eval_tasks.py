"""Names of lm-eval's own tasks, as far as they can be known without it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("lm_eval_tasks.yaml")
_PART = re.compile(r"[_-]")
_GREEDY = re.compile(r"longbench(_.+)?")
"""lm-eval's own tasks that say `do_sample: false` and a temperature."""


LIKELIHOOD_TYPES = ("loglikelihood", "loglikelihood_rolling", "multiple_choice")
"""The `output_type` of tasks that score log-probabilities of given texts."""


class TaskLoader(yaml.SafeLoader):
    """Loader of YAML in which tags that name code (`!function`) are null."""


TaskLoader.add_multi_constructor("!", lambda loader, suffix, node: None)


@cache
def _known() -> dict[str, frozenset[str]]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {key: frozenset(names) for key, names in content.items()}


def unknown(task: str) -> str | None:
    """Returns a message about a name that no task of lm-eval begins with; None: it may be one."""
    from slurmeval.config.messages import nearest  # takes long to load, and is for messages only

    known = frozenset[str]().union(*_known().values())
    beginnings = [task[: part.start()] for part in _PART.finditer(task)]
    if known.intersection([task, *beginnings]):
        return None
    near = nearest(task, sorted(known))
    hint = f"; {near}" if near.startswith("did you mean") else ""
    return f"lm-eval has no task '{task}'{hint} (a task of your own needs task_file)"


def is_greedy(task: str, task_file: Path | None) -> bool:
    """Returns whether a task names a temperature and is not to be sampled (`do_sample: false`).

    lm-eval's own models heed that. Its clients of servers send the temperature alone.
    """
    if task_file is None:
        return _GREEDY.fullmatch(task) is not None
    try:
        content = yaml.load(task_file.read_text(encoding="utf-8"), TaskLoader)
        generation = content["generation_kwargs"]
        return generation["do_sample"] is False and float(generation["temperature"]) > 0
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return False


def scores_likelihoods(task: str) -> bool:
    """Returns whether a task is known to score log-probabilities of given texts."""
    return task in _known()["likelihood"]
