"""A benchmark's questions as a model answered them, and how those of two models pair up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slurmeval.paths import Paths
from slurmeval.results import frames
from slurmeval.results.statistics import count_as_clusters
from slurmeval.statistics.intervals import MIN_CLUSTERS

if TYPE_CHECKING:
    from slurmeval.statistics.intervals import Floats, Labels

    Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

Row = dict[str, Any]


@dataclass(frozen=True)
class QuestionScores:
    """What a model's answers to each question of a benchmark came to. Questions are ordered by uid."""

    uids: pa.Array
    scores: Floats
    """Mean over the answers to a question."""
    errored: Flags
    """Whether an answer is missing, or has no score that is a number."""
    unparsed: Flags
    """Whether the harness could not read an answer."""
    cluster_names: pa.Array
    linked: Flags
    """Whether its cluster is a passage or template."""

    def __len__(self) -> int:
        """Returns how many they are."""
        return len(self.uids)

    def only(self, kept: Flags) -> QuestionScores:
        """Returns some of the questions."""
        which = pa.array(kept)
        return QuestionScores(
            self.uids.filter(which),
            self.scores[kept],
            self.errored[kept],
            self.unparsed[kept],
            self.cluster_names.filter(which),
            self.linked[kept],
        )

    @cached_property
    def is_whole(self) -> bool:
        """Whether every question was answered."""
        return not self.errored.any()

    @cached_property
    def n_unparsed(self) -> int:
        """Questions with an answer that could not be read."""
        return int(self.unparsed.sum())

    @cached_property
    def clusters(self) -> Labels | None:
        """The number of each question's cluster, from 0 on; None: questions are independent."""
        if not len(self) or self.cluster_names.null_count:
            return None
        numbered = self.cluster_names.dictionary_encode()
        if not count_as_clusters(len(numbered.dictionary), len(self), bool(self.linked.any())):
            return None
        return numbered.indices.to_numpy()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Certificate:
    """How the questions of two models pair up."""

    paired: int
    """Questions that both answered."""
    only_a: int
    only_b: int
    errored: int
    """Questions that both were asked and one or both did not answer."""
    unparsed_a: int
    """Of the paired ones: answers of A that the harness could not read."""
    unparsed_b: int

    @property
    def share(self) -> float:
        """The paired questions among all."""
        return self.paired / max(1, self.paired + self.only_a + self.only_b + self.errored)


def paired(a: QuestionScores, b: QuestionScores) -> tuple[Certificate, Floats, Floats, Labels | None]:
    """Returns the certificate, and the scores and clusters of the paired questions, ordered by uid."""
    both = a, b
    if a.uids is not b.uids and not a.uids.equals(b.uids):
        both = a.only(_among(a.uids, b.uids)), b.only(_among(b.uids, a.uids))
    n_both = len(both[0])
    if not all(each.is_whole for each in both):
        answered = ~(both[0].errored | both[1].errored)
        both = both[0].only(answered), both[1].only(answered)
    certificate = Certificate(
        paired=len(both[0]),
        only_a=len(a) - n_both,
        only_b=len(b) - n_both,
        errored=n_both - len(both[0]),
        unparsed_a=both[0].n_unparsed,
        unparsed_b=both[1].n_unparsed,
    )
    return certificate, both[0].scores, both[1].scores, both[0].clusters


def _among(uids: pa.Array, others: pa.Array) -> Flags:
    return pc.is_in(uids, others).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def read_questions(results: Path, metric: Row) -> QuestionScores:
    """Returns the questions of a metric. Raises UserError if the evaluation has no samples."""
    return QuestionOrder().questions_of(read_answers(results, metric))


class QuestionOrder:
    """Puts a benchmark's questions in order: found once for all models that were asked in the same way."""

    def __init__(self) -> None:
        """Knows no order yet."""
        self._asked: pa.Array | None = None
        self._order: pa.Array | None = None
        self._sorted: pa.Array | None = None

    def questions_of(self, answers: pa.Table) -> QuestionScores:
        """Returns the questions of some answers."""
        uids = _one_chunk(answers["sample_uid"])
        if self._asked is None or not uids.equals(self._asked):
            order = pc.sort_indices(uids)
            ordered = uids.take(order)
            if pc.any(pc.equal(ordered[1:], ordered[:-1])).as_py():  # several answers to a question
                flags = [(name, "any") for name in ("errored", "unparsed", "linked")]
                aggregates = [("value", "mean"), ("cluster", "min"), *flags]
                found = answers.group_by("sample_uid").aggregate(aggregates).sort_by("sample_uid")
                names = ("value_mean", "errored_any", "unparsed_any", "cluster_min", "linked_any")
                return _questions(_one_chunk(found["sample_uid"]), *(found[name] for name in names))
            self._asked, self._order, self._sorted = uids, order, ordered
        columns = (answers[name] for name in ("value", "errored", "unparsed", "cluster", "linked"))
        return _questions(self._sorted, *(column.take(self._order) for column in columns))


def _questions(uids: pa.Array, *columns: pa.ChunkedArray) -> QuestionScores:
    scores, errored, unparsed, clusters, linked = columns
    flags = (errored.to_numpy(), unparsed.to_numpy())
    return QuestionScores(uids, scores.to_numpy(), *flags, _one_chunk(clusters), linked.to_numpy())


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def samples_of(results: Path, row: Row) -> Path:
    """Returns the file of an evaluation's answers; `row`: its own, or one of its metrics."""
    return Paths.of_results(results).samples(row["model"], row["benchmark"])


def read_answers(results: Path, metric: Row) -> pa.Table:
    """Returns a row for each answer to a metric's questions: uid, task, score, cluster, and what befell it.

    The cluster is the task of a group, else the passage (`linked`), else the category. An answer is `errored`
    if there is none, or no score that is a number; `unparsed` if the harness could not read it; `cut` if its
    prompt or the answer itself was cut off. Raises UserError if the evaluation has no samples.
    """
    path = samples_of(results, metric)
    columns = ["sample_uid", "task", "category", "cluster", "status", "finish_reason", "cut"]
    columns += [f"scores.list.element.{name}" for name in ("metric", "filter", "value")]
    rows = frames.read_samples(path, columns)
    tasks = metric["mean_of"] or metric["parts"]
    if tasks is not None or not metric["is_group"]:
        its_own = pc.is_in(rows["task"], pa.array([metric["task"]] if tasks is None else tasks, pa.string()))
        if not pc.all(its_own).as_py():  # what is filtered is copied
            rows = rows.filter(its_own)
    scores = pc.list_flatten(rows["scores"]).combine_chunks()
    parents = pc.list_parent_indices(rows["scores"]).combine_chunks()
    names, filters = pc.struct_field(scores, "metric"), pc.struct_field(scores, "filter")
    read_by = metric["filter"]
    by = pc.is_null(filters) if read_by is None else pc.equal(filters, read_by)
    same = pc.fill_null(pc.and_(pc.equal(names, metric["metric"]), by), fill_value=False)
    # A sample that nobody answered may have no scores, and is a question of the benchmark all the same
    numbers = pa.array(np.arange(len(rows)), parents.type)
    kept, values = parents.filter(same), pc.struct_field(scores, "value").filter(same)
    if kept.equals(numbers):  # one score each, as most evaluations have
        scored = rows
    else:
        unanswered = pc.and_(pc.equal(rows["status"], "error"), pc.invert(pc.is_in(numbers, kept)))
        scored = pa.concat_tables([rows.take(kept), rows.filter(unanswered)])
    values = pa.concat_arrays([values, pa.nulls(len(scored) - len(values), values.type)])
    by_task = metric["is_group"] and pc.count_distinct(rows["task"]).as_py() >= MIN_CLUSTERS
    known = pc.coalesce(scored["cluster"], scored["category"])
    at_limit = pc.fill_null(pc.equal(scored["finish_reason"], "length"), False)
    return pa.table(
        {
            "sample_uid": scored["sample_uid"],
            "task": scored["task"],
            "value": values,
            "cluster": scored["task"] if by_task else known,
            "linked": pc.and_(pc.is_valid(scored["cluster"]), not by_task),
            "errored": pc.or_(
                pc.equal(scored["status"], "error"), pc.invert(pc.fill_null(pc.is_finite(values), False))
            ),
            "unparsed": pc.equal(scored["status"], "unparsed"),
            "cut": pc.or_(at_limit, pc.fill_null(scored["cut"], False)),
        }
    )
