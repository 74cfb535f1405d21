"""Program that asks a model for HumanEval's functions and runs their tests.

    python -m slurmeval.harnesses.human_eval_run order.json

It writes samples.jsonl and then results.json beside the order; failure.json where it cannot go on. It keeps
nothing to resume from: the gateway replays what was answered before.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

from slurmeval.harnesses.asking import Asking, all_at_once, asking
from slurmeval.harnesses.checking import Checking, checking
from slurmeval.harnesses.code_blocks import defines, extract_code
from slurmeval.harnesses.human_eval import metrics_of, problems_of
from slurmeval.harnesses.own_programs import carry_out, leave

_STOPS = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]
"""Where a continuation leaves the function (Chen et al. 2021)."""


def program_of(problem: dict[str, Any], answer: str) -> str:
    """Returns the program to run: the answer's code and the problem's tests.

    Code that defines the function follows what the prompt has before it (imports, other functions). Any other
    code continues the prompt.
    """
    code = extract_code(answer, problem["entry_point"])
    if defines(code, problem["entry_point"]):
        found = defines(problem["prompt"], problem["entry_point"])
        body = problem["prompt"][: found.start()] + code if found else code
    else:
        body = problem["prompt"] + code
    return f"{body}\n\n{problem['test']}\n\ncheck({problem['entry_point']})\n"


class HumanEvalRun:
    """Run over all problems."""

    def __init__(self, order: dict[str, Any], model: Asking, programs: Checking) -> None:
        """`order` says how problems are asked, and how long their programs may run."""
        self._order, self._model, self._programs = order, model, programs

    async def all(self, problems: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the results of every problem, as often as ordered, by problem and repeat."""
        asked = list(itertools.product(problems, range(self._order["repeats"])))
        return await all_at_once(asked, self._one, "answered and checked")

    async def _one(self, problem: dict[str, Any], repeat: int) -> dict[str, Any]:
        async with self._model.room:
            response, error = await self._ask(problem)
        line = {
            "task_id": problem["task_id"],
            "repeat": repeat,
            "entry_point": problem["entry_point"],
            "prompt": problem["prompt"],
            "sent": self._question(problem),
            "reference": problem["canonical_solution"],
            "response": response,
            "program": None,
            "program_output": None,
            "passed": False,
            "reason": error,
            "status": "error",
        }
        if response is not None and not extract_code(response).strip():
            # The prompt alone would be a program too
            line |= {"reason": "the answer holds no code", "status": "unparsed"}
        elif response is not None:
            line["program"] = program_of(problem, response)
            outcome = await self._programs.outcome(line["program"], self._order["program_timeout_s"])
            line |= {
                "passed": outcome.passed,
                "reason": outcome.reason,
                "program_output": outcome.output[:2000],
                "status": "ok" if outcome.is_python else "unparsed",
            }
        return line

    def _question(self, problem: dict[str, Any]) -> str:
        if self._order["endpoint"] != "chat":
            return str(problem["prompt"])
        return f"{self._order['instruction']}\n\n```python\n{problem['prompt'].strip()}\n```"

    async def _ask(self, problem: dict[str, Any]) -> tuple[str | None, str | None]:
        """Returns the answer, or the reason why the server refused this question."""
        question = self._question(problem)
        if self._order["endpoint"] == "chat":
            return await self._model.chat([{"role": "user", "content": question}])
        return await self._model.complete(question, stop=_STOPS)


async def _run(order: dict[str, Any], folder: Path) -> None:
    programs = await checking(order)
    problems = problems_of(Path(order["data"]), order["limit"])
    async with asking(order) as model:
        lines = await HumanEvalRun(order, model, programs).all(problems)
    means = {metric.metric: metric.value for metric in metrics_of(lines, order["repeats"])}
    leave(folder, lines, {"n_problems": len(problems), "scores": means})


def main(path: Path) -> int:
    """Carries out an order. Returns 0 with results.json, and 1 where failure.json gives the reason."""
    return carry_out(_run, path, "human-eval")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
