"""Holds samples against the gateway's log: which of them nobody answered, and which answers nobody gave.

A harness may score what it never got as wrong. What stayed unanswered in the try that ended is told by its
prompt, as in `joining`; a request that fits no sample counts as one of its own.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.gateway.thoughts import cut, split, stops_of
from slurmeval.results.joining import prompts_of, prompts_of_sample
from slurmeval.results.reasoning import Choice

if TYPE_CHECKING:
    from slurmeval.gateway.log import Record
    from slurmeval.harnesses.base import Metric, Sample

_Key = tuple[str, str | None, str, str | None]
"""Task, subset, metric, filter."""
_THOUGHTS_END = "</think>"
_GROUP = attrgetter("task", "category")


@dataclass(frozen=True)
class Bounds:
    """The columns of `metrics` that say what the unanswered leave open."""

    n_unanswered: int | None = None
    value_left_out: float | None = None
    bound_lo: float | None = None
    bound_hi: float | None = None


class Accounts:
    """Takes in the answered requests, then the samples; says then what is missing."""

    def __init__(self, unanswered: Iterable[Record], tags: Sequence[str] | None = None) -> None:
        """Takes what was not answered.

        `unanswered`: the requests that nobody answered in the try that ended, each once. `tags`:
        those of the model's thoughts.
        """
        self._tags = tags
        self._lost: dict[int, int] = {}
        self._n_lost = 0
        self.reason: str | None = None
        """Why the last of them was not answered."""
        for record in unanswered:
            for prompt in prompts_of(record):
                self._lost[_fingerprint(prompt)] = self._n_lost
            self._n_lost += 1
            self.reason = record.error
        self._fits: set[int] = set()
        self._answers = array("q")
        self._sorted = False
        self._n_answers = 0
        self._n_samples = self._n_found = self._without_text = self._found_by_prompt = 0
        self._unlogged = 0
        self._without_answer = 0
        self._of_task: Counter[tuple[str, str | None]] = Counter()
        self._asked: Counter[tuple[str, str | None]] = Counter()
        self._scored: Counter[_Key] = Counter()
        self._sums: dict[_Key, float] = {}

    def answered(self, record: Record, choices: Sequence[Choice]) -> None:
        """Takes in an answered request of any try. `choices`: those of its answer."""
        self._answers.extend(map(_fingerprint, _texts(choices, self._tags, stops_of(record.request))))
        self._n_answers += max(1, len(choices))

    def samples(
        self, samples: Sequence[Sample], n_requests: Sequence[int], statuses: Sequence[str]
    ) -> list[int]:
        """Takes in samples, and returns the places of those that nobody answered.

        `n_requests`: those of each that were answered; `statuses`: what else is known.
        """
        self._n_samples += len(samples)
        self._asked.update(map(_GROUP, samples))
        lost = []
        texts = []
        for place, (sample, n, status) in enumerate(zip(samples, n_requests, statuses, strict=True)):
            if self._is_lost(sample, n, status) if self._lost else status == "error":
                self._lose(sample)
                lost.append(place)
            elif sample.choices or sample.output is None or "loglikelihoods" in sample.metadata:
                self._without_text += 1
                self._found_by_prompt += n > 0
            else:
                texts.append(sample.output)
        n_found = self._n_given(texts)
        self._n_found += n_found
        self._unlogged += len(texts) - n_found
        return lost

    def _is_lost(self, sample: Sample, n_requests: int, status: str) -> bool:
        places = {self._lost.get(_fingerprint(prompt)) for prompt in prompts_of_sample(sample)} - {None}
        if not places or not (status == "error" or sample.choices or n_requests == 0):
            return status == "error"
        self._fits.update(place for place in places if place is not None)
        return True

    def _lose(self, sample: Sample) -> None:
        self._without_answer += 1
        for subset in {None, sample.category}:
            self._of_task[sample.task, subset] += 1
            for score in sample.scores:
                if score.value is not None:
                    key = (sample.task, subset, score.metric, score.filter)
                    self._scored[key] += 1
                    self._sums[key] = self._sums.get(key, 0.0) + float(score.value)

    def _n_given(self, texts: Sequence[str]) -> int:
        """Returns how many of the texts are answers.

        Of millions of answers a sorted array takes a tenth of a set's memory.
        """
        if not self._sorted:
            self._answers, self._sorted = array("q", np.unique(self._answers).tobytes()), True
        if not self._answers:
            return 0
        answers = np.frombuffer(self._answers, np.int64)
        wanted = np.fromiter(map(_fingerprint, texts), np.int64, len(texts))
        places = np.searchsorted(answers, wanted)
        return int(np.count_nonzero(answers.take(places, mode="clip") == wanted))

    @property
    def n_unanswered(self) -> int:
        """Samples that nobody answered, and requests that fit none."""
        return self._without_answer + self._n_lost - len(self._fits)

    @property
    def n_unlogged(self) -> int | None:
        """Samples whose answer is not in the log; None: most answers' texts are not kept as they came."""
        return self._missing if self._n_found >= self._unlogged else None

    @property
    def _missing(self) -> int:
        """Where likelihoods were asked for, and no prompt is known again, answers can only be counted."""
        without = self._without_text - self._found_by_prompt
        if without and not self._found_by_prompt:
            without = max(0, without - (self._n_answers - self._n_found))
        return self._unlogged + without

    def check(self, max_unanswered: float, keeps_answers: bool) -> None:
        """Raises EvaluationFailed (bad_result) where too much was not answered.

        That is where nothing was answered, or more than `max_unanswered`, a share, was not; or where
        the harness `keeps_answers` as they came, and so many are not in the log.
        """
        n, lost = self._n_samples or self._n_answers + self._n_lost, self.n_unanswered
        if not n:
            return
        last = f"; the last: {self.reason}" if self.reason else ""
        what = "samples" if self._n_samples else "requests"
        reason = None
        if lost >= n:
            reason = f"none of {n:,} {what} was answered{last}"
        elif lost / n > max_unanswered:
            share = f"more than max_unanswered ({max_unanswered:g}) allows"
            reason = f"{lost:,} of {n:,} {what} were not answered, {share}{last}"
        elif keeps_answers and self._missing / n > max_unanswered:
            reason = f"{self._missing:,} of {n:,} samples have answers that are not in the gateway's log"
        if reason is not None:
            raise EvaluationFailed(ErrorClass.BAD_RESULT, reason)

    def bounds(self, metric: Metric) -> Bounds:
        """What a score would be without the unanswered, and with all of them wrong, or right.

        Those without a score the harness left out, if its count lacks just them. What the samples do not
        tell widens the bounds: it may have counted that as wrong, or left it out.
        """
        task = (metric.task, metric.subset or None)
        of_task = self._without_answer if metric.is_group else self._of_task[task]
        others = self._n_lost - len(self._fits)
        n_unanswered = of_task + others
        if metric.value is None or not metric.n_items or not n_unanswered:
            return Bounds(n_unanswered)
        key = (*task, metric.metric, metric.filter)
        scored = 0 if metric.is_group else self._scored[key]
        n = metric.n_items * metric.n_repeats
        unscored = of_task - scored
        left_out = unscored if n + unscored == self._n_asked(metric) else 0
        wrong_or_left_out = others + unscored - left_out
        right = metric.value * n - (self._sums.get(key, 0.0) if scored else 0.0)
        low = max(0.0, right / (n + left_out + wrong_or_left_out))
        high = min(1.0, (right + scored + left_out + wrong_or_left_out) / (n + left_out))
        known = wrong_or_left_out == 0 and n > scored
        return Bounds(n_unanswered, min(1.0, max(0.0, right / (n - scored))) if known else None, low, high)

    def _n_asked(self, metric: Metric) -> int:
        """How many samples a metric is of."""
        if metric.is_group:
            return self._n_samples
        return sum(
            count
            for (task, category), count in self._asked.items()
            if task == metric.task and metric.subset in (None, category)
        )


def _texts(choices: Sequence[Choice], tags: Sequence[str] | None, stops: Sequence[str]) -> Iterator[str]:
    """The answers in choices: as they came, and without the thoughts before them; up to a stop word."""
    for _, text, reason in choices:
        yield text
        if stops:
            yield cut(text if tags is None else split(text, tags, reason)[1], stops)
        if tags is not None:
            yield split(text, tags, reason)[1]
        elif _THOUGHTS_END in text:
            yield text.rpartition(_THOUGHTS_END)[2]


def _fingerprint(text: str) -> int:
    return hash(text.strip())
