"""Program that asks a model for HumanEval's functions and runs their tests.

    python -m slurmeval.harnesses.human_eval_run order.json

It writes samples.jsonl and then results.json beside the order; failure.json where it cannot go on. It keeps
nothing to resume from: the gateway replays what was answered before.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from slurmeval.containment import program
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.files import write_atomically, write_json
from slurmeval.harnesses.asking import Asking, asking
from slurmeval.harnesses.code_blocks import defines, extract_code
from slurmeval.harnesses.human_eval import scores
from slurmeval.harnesses.own_programs import carry_out

_STOPS = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]
"""Where a continuation leaves the function (Chen et al. 2021)."""
_PROGRESS_S = 5.0
_CHECKS_AT_ONCE = max(1, (os.cpu_count() or 1) // 2)


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

    def __init__(self, order: dict[str, Any], model: Asking) -> None:
        """Reads the problems that `order` asks for."""
        self.order = order
        self.model = model
        self.asking = asyncio.Semaphore(order["parallelism"])
        self.checking = asyncio.Semaphore(_CHECKS_AT_ONCE)
        self.limits = program.Limits(timeout_s=order["program_timeout_s"])
        self.lines: list[dict[str, Any]] = []
        self.total = 0
        self.said_at = 0.0

    async def all(self, problems: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the results of every problem, as often as ordered, sorted by problem and repeat."""
        self.total = len(problems) * self.order["repeats"]
        places = {problem["task_id"]: place for place, problem in enumerate(problems)}
        async with asyncio.TaskGroup() as group:
            for problem in problems:
                for repeat in range(self.order["repeats"]):
                    group.create_task(self._one(problem, repeat))
        self._say_progress(last=True)
        return sorted(self.lines, key=lambda line: (places[line["task_id"]], line["repeat"]))

    async def _one(self, problem: dict[str, Any], repeat: int) -> None:
        async with self.asking:
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
            async with self.checking:
                outcome = await asyncio.to_thread(
                    program.run, line["program"], self.limits, Path(self.order["interpreter"])
                )
            unreadable = outcome.reason.startswith(("SyntaxError", "IndentationError", "TabError"))
            line |= {
                "passed": outcome.passed,
                "reason": outcome.reason,
                "program_output": outcome.output[:2000],
                "status": "unparsed" if unreadable else "ok",
            }
        self.lines.append(line)
        self._say_progress()

    def _question(self, problem: dict[str, Any]) -> str:
        if self.order["endpoint"] != "chat":
            return str(problem["prompt"])
        return f"{self.order['instruction']}\n\n```python\n{problem['prompt'].strip()}\n```"

    async def _ask(self, problem: dict[str, Any]) -> tuple[str | None, str | None]:
        """Returns the answer, or the reason why the server refused this question."""
        question = self._question(problem)
        if self.order["endpoint"] == "chat":
            return await self.model.chat([{"role": "user", "content": question}])
        return await self.model.complete(question, stop=_STOPS)

    def _say_progress(self, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self.said_at >= _PROGRESS_S:
            self.said_at = now
            passed = sum(line["passed"] for line in self.lines)
            print(
                f"human-eval: {len(self.lines)} of {self.total} answered and checked, {passed} passed",
                flush=True,
            )


def read_problems(data: Path, limit: int | None) -> list[dict[str, Any]]:
    """Returns the first `limit` problems of HumanEval.jsonl.gz."""
    with gzip.open(data, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream if line.strip()][:limit]


async def _run(order: dict[str, Any], folder: Path) -> None:
    lacking = await asyncio.to_thread(program.unavailable)
    if lacking is not None:
        raise EvaluationFailed(ErrorClass.HARNESS_ERROR, lacking)
    problems = read_problems(Path(order["data"]), order["limit"])
    async with asking(order) as model:
        lines = await HumanEvalRun(order, model).all(problems)
    write_atomically(folder / "samples.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    means = {f"pass@{k}": statistics.fmean(values) for k, values in scores(lines, order["repeats"]).items()}
    write_json(folder / "results.json", {"n_problems": len(problems), "scores": means})


def main(path: Path) -> int:
    """Carries out an order. Returns 0 with results.json, and 1 where failure.json gives the reason."""
    return carry_out(_run, path, "human-eval")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
