"""Program that asks a judge about stored answers.

    python -m slurmeval.harnesses.judge.run order.json

It writes verdicts.jsonl, a line for each answer and verdict on it, and then results.json beside the order;
failure.json where it cannot go on. It keeps nothing to resume from: the gateway replays what was said before.
Of a jury nobody is asked: the lines have what the jurors have said.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from slurmeval.config.judging import Judging, RubricDimension
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses.asking import Asking, all_at_once, asking
from slurmeval.harnesses.judge import prompts
from slurmeval.harnesses.judge.jury import lines_of
from slurmeval.harnesses.own_programs import carry_out, leave
from slurmeval.harnesses.stored_answers import StoredAnswer, answers

NO_ANSWER = "there is no answer to judge"
NO_REFERENCE = "there is no reference to judge it by"
NO_OTHER = "there is no answer to compare it with"


class JudgeRun:
    """Run over all stored answers."""

    def __init__(self, order: dict[str, Any], model: Asking) -> None:
        """`order` says what is judged and how."""
        self._order, self._model = order, model
        self._judging = Judging.model_validate(order["judging"])
        self._rubric = {name: RubricDimension.model_validate(each) for name, each in order["rubric"].items()}

    async def all(self) -> list[dict[str, Any]]:
        """Returns a line for each answer and verdict on it, in the order of the answers."""
        against = {}
        if "against" in self._order["judged"]:
            against = {_key(each): each for each in answers(Path(self._order["judged"]["against"]))}
        stored = list(first_questions(answers(Path(self._order["judged"]["answers"])), self._order["limit"]))
        asked = [
            (each, against.get(_key(each)), repeat)
            for each in stored
            for repeat in range(self._order["repeats"])
        ]
        return await all_at_once(asked, self._one, "judged")

    async def _one(self, stored: StoredAnswer, other: StoredAnswer | None, repeat: int) -> dict[str, Any]:
        line = {
            **vars(stored),
            "repeat_idx": stored.repeat_idx * self._order["repeats"] + repeat,
            "of_repeat": stored.repeat_idx,
            "against": None if other is None else other.output,
            "asked": [],
            "lacks": self._lacks(stored, other),
        }
        if line["lacks"] is None:
            for prompt in self._prompts(stored, other):
                async with self._model.room:
                    verdict, error = await self._model.chat([{"role": "user", "content": prompt}])
                line["asked"].append({"prompt": prompt, "verdict": verdict, "error": error})
        return line

    def _lacks(self, stored: StoredAnswer, other: StoredAnswer | None) -> str | None:
        """Returns why an answer cannot be judged; None: it can."""
        if stored.output is None:
            return NO_ANSWER
        if self._judging.reference and not (stored.reference or "").strip():
            return NO_REFERENCE
        return (
            NO_OTHER if self._judging.mode == "pairwise" and (other is None or other.output is None) else None
        )

    def _prompts(self, stored: StoredAnswer, other: StoredAnswer | None) -> Iterator[str]:
        """Yields what the judge is asked about an answer: once, or of two answers in both orders."""
        reference = stored.reference if self._judging.reference else None
        common = reference, self._rubric, self._judging.instructions
        answer = stored.output or ""
        if other is None:
            yield prompts.direct(stored.input, answer, *common)
        else:
            yield prompts.pairwise(stored.input, (answer, other.output or ""), *common)
            yield prompts.pairwise(stored.input, (other.output or "", answer), *common)


def first_questions(stored: Iterator[StoredAnswer], limit: int | None) -> Iterator[StoredAnswer]:
    """Yields the answers to the first `limit` questions; None: all."""
    seen: set[str] = set()
    for answer in stored:
        if answer.sample_uid not in seen and len(seen) == limit:
            continue
        seen.add(answer.sample_uid)
        yield answer


def _key(answer: StoredAnswer) -> tuple[str, int]:
    return answer.sample_uid, answer.repeat_idx


async def _run(order: dict[str, Any], folder: Path) -> None:
    try:
        if order["judging"]["jury"]:
            lines = lines_of({name: Path(path) for name, path in order["judged"].items()})
        else:
            async with asking(order) as model:
                lines = await JudgeRun(order, model).all()
    except (OSError, pa.ArrowException) as error:
        raise EvaluationFailed(
            ErrorClass.HARNESS_ERROR, f"the stored answers cannot be read: {error}"
        ) from error
    leave(folder, lines, {"n_verdicts": len(lines)}, "verdicts.jsonl")


def main(path: Path) -> int:
    """Carries out an order. Returns 0 with results.json, and 1 where failure.json gives the reason."""
    return carry_out(_run, path, "judge")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
