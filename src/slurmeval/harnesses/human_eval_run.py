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

import aiohttp

from slurmeval.containment import program
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.files import write_atomically, write_json
from slurmeval.harnesses.base import GATEWAY_KEY
from slurmeval.harnesses.code_blocks import defines, extract_code
from slurmeval.harnesses.human_eval import scores
from slurmeval.processes import raise_open_files

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

    def __init__(self, order: dict[str, Any], session: aiohttp.ClientSession) -> None:
        """Reads the problems that `order` asks for."""
        self.order = order
        self.session = session
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
        """Returns (answer, None), or (None, the reason why the server refused this question).

        Raises:
            EvaluationFailed: No server answers (server_lost).
        """
        body: dict[str, Any] = {"model": self.order["model"], **self.order["sampling"]}
        if self.order["endpoint"] == "chat":
            route = "chat/completions"
            body["messages"] = [{"role": "user", "content": self._question(problem)}]
        else:
            route = "completions"
            body |= {"prompt": self._question(problem), "stop": _STOPS}
        try:
            async with self.session.post(f"{self.order['url']}/v1/{route}", json=body) as reply:
                text = await reply.text()
                if reply.status >= 500:
                    raise EvaluationFailed(ErrorClass.SERVER_LOST, _message(text, reply.status))
                if reply.status != 200:
                    return None, _message(text, reply.status)
        except aiohttp.ClientError as error:
            raise EvaluationFailed(ErrorClass.SERVER_LOST, f"{type(error).__name__}: {error}") from error
        choice = json.loads(text)["choices"][0]
        answer = choice["message"]["content"] if route == "chat/completions" else choice["text"]
        return answer or "", None

    def _say_progress(self, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self.said_at >= _PROGRESS_S:
            self.said_at = now
            passed = sum(line["passed"] for line in self.lines)
            print(
                f"human-eval: {len(self.lines)} of {self.total} answered and checked, {passed} passed",
                flush=True,
            )


def _message(text: str, status: int) -> str:
    """Returns what an error answer says, in one line."""
    try:
        error = json.loads(text)["error"]
        return f"{error['message']} (status {status})"[:300]
    except (ValueError, KeyError, TypeError):
        return f"{' '.join(text.split())[:250]} (status {status})"


def read_problems(data: Path, limit: int | None) -> list[dict[str, Any]]:
    """Returns the first `limit` problems of HumanEval.jsonl.gz."""
    with gzip.open(data, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream if line.strip()][:limit]


async def _run(order: dict[str, Any], folder: Path) -> None:
    lacking = await asyncio.to_thread(program.unavailable)
    if lacking is not None:
        raise EvaluationFailed(ErrorClass.HARNESS_ERROR, lacking)
    problems = read_problems(Path(order["data"]), order["limit"])
    headers = {"Authorization": f"Bearer {os.environ[GATEWAY_KEY]}"}
    raise_open_files()
    # No time-out: the gateway bounds each request, slurmeval the whole evaluation.
    async with aiohttp.ClientSession(
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None),
        connector=aiohttp.TCPConnector(limit=0),  # `parallelism` is the limit; aiohttp's own is 100
    ) as session:
        lines = await HumanEvalRun(order, session).all(problems)
    write_atomically(folder / "samples.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    means = {f"pass@{k}": statistics.fmean(values) for k, values in scores(lines, order["repeats"]).items()}
    write_json(folder / "results.json", {"n_problems": len(problems), "scores": means})


def main(path: Path) -> int:
    """Carries out an order. Returns 0 with results.json, and 1 where failure.json gives the reason."""
    order = json.loads(path.read_text(encoding="utf-8"))
    status = 0
    try:
        asyncio.run(_run(order, path.parent))
    except* EvaluationFailed as group:
        reason = _first(group)
        write_json(path.parent / "failure.json", {"error_class": reason.error_class, "reason": reason.reason})
        print(f"human-eval: {reason.reason}", flush=True)
        status = 1
    return status


def _first(group: BaseExceptionGroup[EvaluationFailed]) -> EvaluationFailed:
    """Returns the first failure of many at once."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, EvaluationFailed)
    return error


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
