"""The `judge` harness: stored answers, graded or compared by another model, or by a jury."""

from __future__ import annotations

import itertools
import operator
from typing import Any, Literal

from slurmeval.config.judging import Judging
from slurmeval.config.models import Benchmark, Model
from slurmeval.harnesses.base import HarnessOutput, Job, Sample, Score
from slurmeval.harnesses.judge import verdicts
from slurmeval.harnesses.judge.jury import disagreement, verdict
from slurmeval.harnesses.judge.rubrics import Rubric, rubric_of
from slurmeval.harnesses.own_programs import OwnProgram, left
from slurmeval.harnesses.scores import bad_result, by_question, mean_over_questions

NAME = "judge"
VERSION = "2"
"""Of the prompts and of how verdicts are read: it grows when they give other results."""
WIN_RATE = "win_rate"
SEPARATOR = "\n\n[BEGIN VERDICT IN THE OTHER ORDER]\n"
"""Between the verdicts of a comparison."""


class Judge(OwnProgram):
    """The `judge` harness."""

    name = NAME
    version = VERSION
    module = "slurmeval.harnesses.judge.run"

    def problems(self, benchmark: Benchmark) -> list[str]:
        """Returns what this harness cannot do of a benchmark's config: lines that begin with the key."""
        found = []
        if benchmark.judging is None:
            found.append("judging: is missing; it says which answers are judged, by which model")
        if benchmark.endpoint != "chat":
            found.append("endpoint: judges are asked by chat")
        if benchmark.datasets:
            found.append("datasets: a judge reads stored answers, and no data")
        return [*found, *super().problems(benchmark)]

    def model_problems(self, model: Model, benchmark: Benchmark) -> list[str]:
        """Returns why this judge cannot be asked, each reason in a few words."""
        return []

    def order(self, job: Job) -> dict[str, Any]:
        """Returns what the program is told of the benchmark.

        Raises:
            UserError: The rubric will not do.
        """
        judging = _judging(job.benchmark)
        return {
            "judging": judging.model_dump(mode="json"),
            "rubric": {name: each.model_dump(mode="json") for name, each in _rubric(job).items()},
            "judged": {name: str(path.absolute()) for name, path in job.judged.items()},
        }

    def read(self, job: Job) -> HarnessOutput:
        """Returns the results of the last attempt: its verdicts are read here.

        Raises:
            EvaluationFailed: They cannot be read, or their number is not what was asked for (bad_result).
        """
        judging, rubric = _judging(job.benchmark), _rubric(job)
        read = _Reading(job.benchmark_id, judging, rubric)
        wanted, _, samples = left(job, "n_verdicts", read.sample, "verdicts.jsonl")
        if len(samples) != wanted or not samples:
            raise bad_result(f"{NAME}: {wanted} verdicts, and {len(samples)} samples")
        names = read.names or list(dict.fromkeys(s.metric for each in samples for s in each.scores))
        repeats = 1 + max(sample.repeat_idx for sample in samples)
        metrics = [
            mean_over_questions(
                job.benchmark_id,
                name,
                by_question(samples, name),
                repeats,
                filter=by(judging),
                is_primary=name == names[0],
            )
            for name in names
        ]
        for score in itertools.chain.from_iterable(sample.scores for sample in samples):
            score.filter = by(judging)
        keeps = not judging.jury and judging.mode == "direct"
        return HarnessOutput(metrics, samples, wanted, self.label, None, keeps)


def by(judging: Judging) -> str:
    """Returns who judged, as it stands beside every score: it is an opinion."""
    return "by a jury" if judging.jury else f"by {judging.judge}"


class _Reading:
    """Makes samples of lines."""

    def __init__(self, benchmark: str, judging: Judging, rubric: Rubric) -> None:
        self._benchmark, self._judging, self._rubric = benchmark, judging, rubric

    @property
    def names(self) -> list[str]:
        """Returns the metrics, the primary one first; of a jury they are those of its jurors."""
        if self._judging.jury:
            return []
        return [WIN_RATE] if self._judging.mode == "pairwise" else list(self._rubric)

    def sample(self, line: dict[str, Any]) -> Sample:
        """Returns the sample of a line."""
        metadata = {"judged": line["output"], "repeat": line["of_repeat"]}
        if self._judging.jury:
            scores, more, words = _of_jury(line)
            repeat, error, output = line["of_repeat"], None, words or None
        else:
            said = [each["verdict"] for each in line["asked"]]
            error = line["lacks"] or next((each["error"] for each in line["asked"] if each["error"]), None)
            output = None if error else SEPARATOR.join(said)
            scores, more = ([], {}) if error else self._read(said)
            repeat, against = line["repeat_idx"], line["against"]
            more |= {} if against is None else {"against": against}
            more |= {} if error is None else {"error": error}
        status: Literal["ok", "error", "unparsed"] = "ok"
        if output is None:
            status = "error"
        elif not scores or scores[0].value is None:
            status = "unparsed"
        return Sample(
            native_id=line["sample_uid"],
            repeat_idx=operator.index(repeat),
            task=self._benchmark,
            input=line["input"],
            output=output,
            reference=line["reference"],
            category=line["category"],
            scores=scores,
            status=status,
            cut=False,
            metadata=metadata | more,
            prompts=[each["prompt"] for each in line.get("asked", ())],
        )

    def _read(self, said: list[str]) -> tuple[list[Score], dict[str, Any]]:
        """Returns the scores that verdicts give, and what else is to be kept."""
        if self._judging.mode == "pairwise":
            first, second = map(verdicts.winner, said)
            value = verdicts.won(first, second)
            return [Score(WIN_RATE, value, answer=_word(value))], {"verdicts": [first, second]}
        alone = len(self._rubric) == 1
        grades = {name: verdicts.grade(said[0], name, each, alone) for name, each in self._rubric.items()}
        return [
            Score(
                name,
                None if grade is None else self._rubric[name].value(grade),
                answer=None if grade is None else str(grade),
            )
            for name, grade in grades.items()
        ], {}


def _of_jury(line: dict[str, Any]) -> tuple[list[Score], dict[str, Any], str]:
    """Returns what a jury says of an answer, its votes, and both in words."""
    scores, apart, words = [], {}, []
    for name, votes in line["votes"].items():
        value = verdict(votes, majority=name == WIN_RATE)
        scores.append(Score(name, value, answer=_word(value) if name == WIN_RATE else None))
        apart[name] = disagreement(votes)
        said = ", ".join(
            f"{juror} {'unreadable' if vote is None else f'{vote:.3g}'}" for juror, vote in votes.items()
        )
        words.append(f"{name}: {said}")
    against = line["metadata"].get("against")
    more = {"votes": line["votes"], "disagreement": apart}
    return scores, more | ({} if against is None else {"against": against}), "\n".join(words)


def _word(value: float | None) -> str | None:
    return None if value is None else {1.0: "win", 0.0: "loss"}.get(value, "tie")


def _judging(benchmark: Benchmark) -> Judging:
    assert benchmark.judging is not None, "checked with the config"
    return benchmark.judging


def _rubric(job: Job) -> Rubric:
    return rubric_of(_judging(job.benchmark), job.project)
