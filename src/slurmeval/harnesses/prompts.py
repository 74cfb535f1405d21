"""Checks whether prompts fit a model."""

from __future__ import annotations

from pathlib import Path

import yaml

from slurmeval.config.models import Benchmark, Model
from slurmeval.harnesses.lm_eval_tasks import LIKELIHOOD_TYPES, TaskLoader


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
    try:
        content = yaml.load(task_file.read_text("utf-8"), TaskLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and content.get("output_type") in LIKELIHOOD_TYPES
