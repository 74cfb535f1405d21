"""Noise of the server: requests that were asked once more, and how many got another answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from slurmeval.results.reasoning import choices_of

if TYPE_CHECKING:
    from slurmeval.gateway.log import Record

LOGPROB_TOLERANCE = 0.01
"""Log-probabilities that differ by less are alike: the last digits hang on what else is in a batch."""
_Answer = tuple[list[str], list[float]]
"""Texts, and log-probabilities of tokens."""


class Noise:
    """Holds second answers against the first ones as these come by."""

    def __init__(self, again: Iterable[Record]) -> None:
        """`again`: second answers, under the first one's `request_id`."""
        self._again = {record.request_id: answer_of(record.response) for record in again if record.answered}
        self.n_audited = self.n_differ = 0

    def seen(self, record: Record) -> Record:
        """Compares a first answer with its second one, and returns it."""
        second = self._again.pop(record.request_id, None) if self._again else None
        if second is not None and record.answered:
            self.n_audited += 1
            self.n_differ += differ(answer_of(record.response), second)
        return record

    def columns(self) -> dict[str, int | None]:
        """Returns the columns of `evaluations`."""
        return {"n_audited": self.n_audited, "n_audit_differ": self.n_differ if self.n_audited else None}


def answer_of(response: Any) -> _Answer:
    """Returns the texts that an answer has, and the log-probabilities of the tokens where it has none."""
    texts = [text for _, text, _ in choices_of(response)]
    found: list[float] = []
    choices = response.get("choices") if isinstance(response, dict) and not texts else None
    for choice in choices if isinstance(choices, list) else ():
        values = (choice.get("logprobs") or {}).get("token_logprobs") if isinstance(choice, dict) else None
        found += [value for value in values or () if isinstance(value, int | float)]
    return texts, found


def differ(first: _Answer, second: _Answer) -> bool:
    """Returns whether two answers to one request are not alike."""
    if first[0] != second[0] or len(first[1]) != len(second[1]):
        return True
    return any(abs(a - b) > LOGPROB_TOLERANCE for a, b in zip(first[1], second[1], strict=True))
