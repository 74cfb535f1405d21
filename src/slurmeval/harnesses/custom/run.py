"""Program that asks a model questions of a file and scores its answers.

    python -m slurmeval.harnesses.custom.run order.json

It writes samples.jsonl and then results.json beside the order; failure.json where it cannot go on. It keeps
nothing to resume from: the gateway replays what was answered before.
"""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path
from typing import Any

from slurmeval.config.questions import LIKELIHOOD_KINDS, CustomQuestions, Scorer
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses.asking import Asking, all_at_once, asking
from slurmeval.harnesses.checking import Checking, checking
from slurmeval.harnesses.code_blocks import extract_code
from slurmeval.harnesses.custom.questions import Question, continuations, read
from slurmeval.harnesses.custom.scoring import PATTERN_TIMEOUT_S, Scored, by_likelihood, score
from slurmeval.harnesses.own_programs import carry_out, leave


class CustomRun:
    """Run over all questions."""

    def __init__(
        self, order: dict[str, Any], asked: CustomQuestions, model: Asking, programs: Checking | None
    ) -> None:
        """`order` says what to ask how often, `asked` how answers are scored."""
        self._order, self._asked, self._model, self._programs = order, asked, model, programs
        kinds = {scorer.kind or name for name, scorer in asked.scorers.items()}
        self._by_likelihood = kinds <= set(LIKELIHOOD_KINDS)

    async def all(self, questions: list[Question]) -> list[dict[str, Any]]:
        """Returns the answers to every question, as often as ordered, in the order of the file."""
        asked = list(itertools.product(questions, range(self._order["repeats"])))
        return await all_at_once(asked, self._one, "answered")

    async def _one(self, question: Question, repeat: int) -> dict[str, Any]:
        likelihoods: list[float] | None = None
        answer: str | None = None
        async with self._model.room:
            if self._by_likelihood:
                likelihoods, error = await self._likelihoods(question)
            else:
                answer, error = await self._answer(question)
        scores = {}
        for name, scorer in self._asked.scorers.items():
            kind = scorer.kind or name
            found = None
            if likelihoods is not None:
                found = by_likelihood(kind, question, likelihoods)
                answer = answer or found.read
            elif kind == "code" and answer is not None:
                found = await self._tested(scorer, question, answer)
            elif answer is not None:
                found = self._score(name, scorer, question, answer)
            # Without an answer: wrong, and of texts as far off as nothing
            value, shown = (float(kind == "ter"), None) if found is None else (found.value, found.read)
            scores[name] = {"value": value, "read": shown}
        told = {"answer": answer, "error": error, "scores": scores, "likelihoods": likelihoods}
        return vars(question) | {"repeat": repeat, **told}

    async def _tested(self, scorer: Scorer, question: Question, answer: str) -> Scored:
        """Returns whether a program passes the tests that are its question's reference. It runs contained."""
        code = extract_code(answer)
        if not code.strip():
            return Scored(0.0, None)
        assert self._programs is not None, "there where a scorer wants it"
        outcome = await self._programs.outcome(f"{code}\n\n{question.references[0]}\n", scorer.timeout_s)
        return Scored(float(outcome.passed), outcome.reason if outcome.is_python else None)

    def _score(self, name: str, scorer: Scorer, question: Question, answer: str) -> Scored:
        try:
            return score(scorer, scorer.kind or name, question, answer)
        except TimeoutError as error:
            reason = (
                f"questions.scorers.{name}.pattern: takes more than {PATTERN_TIMEOUT_S:g} s on the answer to "
                f"{question.id}; expected one without repetitions of repetitions, such as (a+)+"
            )
            raise EvaluationFailed(ErrorClass.HARNESS_ERROR, reason) from error

    async def _answer(self, question: Question) -> tuple[str | None, str | None]:
        if self._order["endpoint"] != "chat":
            return await self._model.complete(question.text)
        system = [] if question.system is None else [{"role": "system", "content": question.system}]
        turns = [
            {"role": role, "content": text}
            for example in question.examples
            for role, text in zip(("user", "assistant"), example, strict=True)
        ]
        return await self._model.chat([*system, *turns, {"role": "user", "content": question.prompt}])

    async def _likelihoods(self, question: Question) -> tuple[list[float] | None, str | None]:
        """Returns each choice's log-likelihood after the prompt: of both less that of the prompt."""
        found = []
        for text in (question.text, *continuations(question)):
            told, error = await self._model.likelihoods(text)
            if told is None:
                return None, error
            found.append(math.fsum(value for value in told[1] if value is not None))
        return [value - found[0] for value in found[1:]], None


async def _run(order: dict[str, Any], folder: Path) -> None:
    asked = CustomQuestions.model_validate(order["questions"])
    questions = read(asked, Path(order["data"]), order["limit"])
    runs_programs = any((scorer.kind or name) == "code" for name, scorer in asked.scorers.items())
    programs = await checking(order) if runs_programs else None
    async with asking(order) as model:
        lines = await CustomRun(order, asked, model, programs).all(questions)
    leave(folder, lines, {"n_questions": len(questions)})


def main(path: Path) -> int:
    """Carries out an order. Returns 0 with results.json, and 1 where failure.json gives the reason."""
    return carry_out(_run, path, "custom")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
