"""simple-evals (nvidia-simple-evals 26.3): questions with short answers, and HumanEval.

`<type>/cache/cache.sqlite/cache.db` has every answer under its number: score, further scores, the
conversation, and a piece of the HTML report, which alone names the right answer and the one that was found.
`<type>/<evaluation>.json` has the scores.

Questions repeat as blocks: with n questions, the number i is question i % n, repeat i // n. The conversation
also names tokens and reasoning, but of whichever request ended last: they are not read. For the same reason
(it averages in the order in which answers came) the standard error of repeats is not simple-evals' own.
"""

from __future__ import annotations

import html
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from slurmeval.harnesses import scales
from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.nemo_readers import within
from slurmeval.harnesses.nemo_readers.reading import conversation, json_value, laid_out_by, one_file, text_of
from slurmeval.harnesses.scores import bad_result

_OWN_METRICS = ("pass@", "is_", "overall_score")
"""Further scores that measure something else. All others are the score of a part: a language, a subject."""
_ANSWERS = re.compile(r"<p>Correct Answer: (.*)</p>\s*<p>Extracted Answer: (.*)</p>\s*<p>Score: ", re.DOTALL)


def read(job: Job, output: Path) -> list[Sample]:
    """Returns one sample for each answer.

    Raises:
        EvaluationFailed: A file is not laid out as expected (bad_result).
    """
    database = one_file(output, "*/cache/cache.sqlite/cache.db", "simple-evals")
    results = one_file(database.parents[2], "*.json", "simple-evals")
    entries, written = _entries(database), json_value(results)
    with laid_out_by("simple-evals", results):
        task, blocks = str(written["task_name"]), int(written.get("n_repeats", 1))
    if blocks < 1:
        raise bad_result(f"{results.name}: n_repeats is {blocks}")
    if sorted(entries) != list(range(len(entries))) or len(entries) % blocks:
        raise bad_result(f"simple-evals kept {len(entries)} answers, with gaps or not {blocks} of each")
    n = len(entries) // blocks
    within(job, n, "simple-evals")
    with laid_out_by("simple-evals", database):
        return [
            sample
            for number, entry in sorted(entries.items())
            for sample in _samples(task, number % n, number // n, blocks, entry)
        ]


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores of parts and of the whole.

    simple-evals writes parts and further metrics as tasks, and the whole as a group. Its mean over parts
    (`macro`) counts a group of languages like a language.
    """
    task, leading = samples[0].task, samples[0].scores[0].metric
    blocks = _blocks(leading)
    for row in rows:
        row.higher_is_better = row.task not in ("is_incorrect", "is_not_attempted")
        row.n_repeats = blocks
        row.is_group = row.metric != leading
        if blocks > 1:
            row.se = None
        if row.task == task:
            row.is_primary = row.metric == leading
            row.chance = scales.chance(task, row.metric)
        elif row.task.startswith(_OWN_METRICS):
            row.task, row.metric = task, row.task
        else:
            row.task, row.subset = task, row.task
    return rows


def _score_name(blocks: int) -> str:
    """Returns the leading score's name in results.yml."""
    return "score/micro" if blocks == 1 else f"score/micro_avg_of_{blocks}"


def _blocks(score_name: str) -> int:
    name, _, number = score_name.rpartition("_")
    return int(number) if name else 1


def _entries(path: Path) -> dict[int, dict[str, Any]]:
    """Returns the cache's values by number; those longer than 32 KB are in files beside it."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT key, filename, value FROM Cache").fetchall()
    except sqlite3.Error as error:
        raise bad_result(f"{path.name}: no database of simple-evals: {error}") from error
    with laid_out_by("simple-evals", path):
        try:
            texts = {
                int(key): (path.parent / name).read_bytes() if name else value for key, name, value in rows
            }
        except OSError as error:
            raise bad_result(f"{path.name}: an answer's file is missing: {error.strerror}") from error
        return {number: json.loads(text) for number, text in texts.items()}


def _samples(task: str, question: int, block: int, blocks: int, entry: dict[str, Any]) -> Iterator[Sample]:
    """Returns one sample for each answer: HumanEval asks each question `n_samples` times in every block."""
    asked = [message for message in entry["convo"] if message["role"] != "assistant"]
    answers = [message["content"] for message in entry["convo"] if message["role"] == "assistant"]
    found = _ANSWERS.search(entry.get("html") or "")
    reference, answer = (html.unescape(found[1]), html.unescape(found[2])) if found else (None, None)
    if len(answers) > 1 or any(name.startswith("pass@") for name in entry["metrics"]):
        reference = answer = None
    scores = list(_scores(entry, blocks, None if answer == "None" else answer))
    for place, output in enumerate(answers):
        yield Sample(
            native_id=str(question),
            task=task,
            category=_category(entry),
            repeat_idx=block * len(answers) + place,
            input=_conversation(asked),
            output=output,
            reference=reference,
            scores=scores,
            status="unparsed" if answer in ("None", "") else "ok",
        )


def _scores(entry: dict[str, Any], blocks: int, answer: str | None) -> Iterator[Score]:
    leading = entry["score"]
    if leading is not None:
        value = float(leading)
        correct = bool(value) if value in (0.0, 1.0) else None
        yield Score(metric=_score_name(blocks), value=value, correct=correct, answer=answer)
    for name, value in entry["metrics"].items():
        if name.startswith(_OWN_METRICS):
            yield Score(metric=name, value=float(value))


def _category(entry: dict[str, Any]) -> str | None:
    """Returns the first part that an answer belongs to (of a language and its group: the language)."""
    parts = [name for name in entry["metrics"] if not name.startswith(_OWN_METRICS)]
    return parts[0] if parts and "overall_score" not in entry["metrics"] else None


def _conversation(messages: list[dict[str, Any]]) -> str:
    return conversation([(message["role"], text_of(message["content"])) for message in messages])
