"""Checks whether prompts fit a model."""

from __future__ import annotations

from pathlib import Path

import yaml

from slurmeval.config.models import Benchmark, Model

_BY_LIKELIHOOD = ("loglikelihood", "loglikelihood_rolling", "multiple_choice")


def no_room(benchmark: Benchmark, context: int | None) -> list[str]:
    """Returns why no prompt fits beside the longest answer in `context` tokens; empty: one does."""
    if context is None or benchmark.max_tokens is None or benchmark.max_tokens < context:
        return []
    return [
        f"max_tokens: {benchmark.max_tokens} leaves no room for a prompt: the model holds {context} tokens"
    ]


def no_bos_of_its_own(model: Model, benchmark: Benchmark) -> list[str]:
    """Returns why a harness that sends text cannot follow `add_bos_token`; empty: it need not."""
    if benchmark.endpoint == "chat" or model.add_bos_token is None:
        return []
    return ["add_bos_token: only lm-eval's tasks see to it; this one's text begins as the tokenizer has it"]


def scores_likelihoods(task_file: Path) -> bool:
    """Returns whether one of lm-eval's task files scores log-probabilities of given texts."""
    return _value(task_file, "output_type") in _BY_LIKELIHOOD


def _value(task_file: Path, key: str) -> object:
    """Returns the value of a key in a task file; its `!function` tags, which are code, count as nothing."""
    try:
        root = yaml.compose(task_file.read_text("utf-8"), yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    return next((value.value for name, value in pairs if name.value == key), None)
