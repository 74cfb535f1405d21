"""The scripts that the page of samples loads.

Of each evaluation there is an index, scripts with `SAMPLES_PER_FILE` answers each, what was sent for these,
and a word index. SharedQuestions, which models share, have scripts of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pyarrow.parquet as pq

from slurmeval.report import prompts
from slurmeval.report.rendering import MAX_TEXT, shortened, visible
from slurmeval.report.scripts import made_from, write_script
from slurmeval.report.word_index import BUCKETS, WordIndex
from slurmeval.results import schema
from slurmeval.results.questions import read_questions

if TYPE_CHECKING:
    from slurmeval.paths import Paths
    from slurmeval.report.chat_templates import ChatTemplate, TemplateProcess
    from slurmeval.report.tables import Row

SAMPLES_PER_FILE = 200
PAGE = "samples.html"
QUESTIONS = "~"
"""The folder of questions; no model's id has a `~`."""
_FORMAT = 3
"""Of these files; a newer one has them written again."""
_NUMBERS = {"n_requests": "requests", "prompt_tokens": "tokens_in", "completion_tokens": "tokens_out"}
_NUMBERS |= {"cut": "cut"}
_ANSWER = {"status": "status", "finish_reason": "finish", "reasoning": "thoughts", "output": "output"}
_QUESTION = {"task": "task", "category": "category", "native_id": "id", "input": "input"}
_QUESTION |= {"reference": "reference"}
_MAX_CHOICE = 2000
UID_DIGITS = 8
"""Digits of a question's uid in the address: a link to one of 50,000 shows another too once in 80,000."""
_MIN_INDEXED = 10
"""Scripts of answers from which a word index saves more than it takes."""


@dataclass(frozen=True)
class Written:
    """What was written of samples."""

    files: set[Path] = field(default_factory=set)
    links: dict[tuple[str, str], str] = field(default_factory=dict)
    """The link to each evaluation's samples, relative to the report's folder."""


@dataclass
class SharedQuestions:
    """The questions of a benchmark, which its evaluations share. In memory are their names alone."""

    numbers: dict[str, int] = field(default_factory=dict)
    """By `sample_uid`. Each evaluation's new ones begin with a script of their own."""
    made_from: str = ""
    """What the numbers depend on so far."""
    next: int = 0

    def close_file(self) -> None:
        """Has the next question begin another script."""
        self.next = -(-self.next // SAMPLES_PER_FILE) * SAMPLES_PER_FILE

    def know(self, uid: str) -> bool:
        """Gives a question its number, and returns whether it is new."""
        if uid in self.numbers:
            return False
        self.numbers[uid] = self.next
        self.next += 1
        return True

    def forget(self, first: int) -> None:
        """Forgets the questions from a number on."""
        self.numbers = {uid: number for uid, number in self.numbers.items() if number < first}
        self.next = first


def file_name(benchmark: str, number: int, kind: str = "") -> str:
    """Returns the name of a script: the index (0), or answers and questions from 1. No id has a `~`."""
    return f"{benchmark}{f'~{number}' if number else ''}{f'~{kind}' if kind else ''}.js"


def link(benchmark: str | None, a: str, b: str | None = None) -> str:
    """Returns the link to a model's samples, or to two models', from the report's folder."""
    state = {"a": a, "b": b, "on": benchmark}
    return f"{PAGE}#{urlencode({name: value for name, value in state.items() if value is not None})}"


def write_samples(
    paths: Paths,
    evaluation: Row,
    metric: Row | None,
    questions: SharedQuestions,
    template: ChatTemplate | None = None,
) -> list[Path]:
    """Writes one evaluation's scripts, unless they are up to date, and returns all of them.

    `metric` is the row of `metrics` that the benchmark is known by. `questions` are those of the benchmark's
    earlier evaluations; new ones are added. `template` laid out its chats. Of a few hundred samples at a time
    more than the score is in memory.
    """
    made = _Evaluation(paths, evaluation, metric, questions, template)
    return made.kept() or made.write()


class _Evaluation:
    """One evaluation's scripts."""

    def __init__(
        self,
        paths: Paths,
        row: Row,
        metric: Row | None,
        questions: SharedQuestions,
        template: ChatTemplate | None,
    ) -> None:
        self._paths, self._row, self._metric, self._questions = paths, row, metric, questions
        self._template = template
        self._model, self._benchmark = row["model"], row["benchmark"]
        self._source = paths.samples(self._model, self._benchmark)
        self._folder = paths.report / "samples" / self._model
        self._asked = paths.report / "samples" / QUESTIONS
        with pq.ParquetFile(self._source) as file:
            schema.check(schema.SAMPLES, file.schema_arrow, self._source)
            self._n_files = -(-file.metadata.num_rows // SAMPLES_PER_FILE)
        self._indexed = self._n_files >= _MIN_INDEXED
        questions.close_file()
        self._first = questions.next // SAMPLES_PER_FILE
        logs = prompts.log_segments(paths, row)
        by = None if template is None else [template.text, dict(template.variables)]
        self._made_from = _fingerprint([self._source, *logs], metric, [questions.made_from, by])
        questions.made_from = self._made_from

    def kept(self) -> list[Path]:
        """Returns the scripts where they are up to date; empty: they are not."""
        index = self._path(0)
        known, _, sent = made_from(index).partition(" ")
        if known != self._made_from:
            return []
        first = self._questions.next
        with pq.ParquetFile(self._source) as file:
            for batch in file.iter_batches(columns=["sample_uid"]):
                for uid in batch.column(0).to_pylist():
                    self._questions.know(uid)
        files = self._files(sent == "sent")
        if all(file.exists() for file in files):
            return files
        self._questions.forget(first)
        return []

    def write(self) -> list[Path]:
        """Writes all scripts, the index last, and returns them."""
        scores = _scores(self._paths.results, self._metric)
        sent = prompts.Prompts(self._paths, self._row)
        words = WordIndex(self._n_files)
        rows: list[list[Any]] = []
        numbers: list[int] = []
        fresh: list[Row] = []
        template = self._template if sent else None
        with (
            pq.ParquetFile(self._source) as file,
            nullcontext() if template is None else template.process() as laying_out,
        ):
            batches = file.iter_batches(batch_size=SAMPLES_PER_FILE)
            for number, batch in enumerate(batches, 1):
                samples = batch.to_pylist()
                fresh += [sample for sample in samples if self._questions.know(sample["sample_uid"])]
                fresh = self._write_questions(fresh, whole=True)
                self._write_part(number, samples, words, sent, laying_out)
                rows += [_index_row(sample, scores, self._metric) for sample in samples]
                numbers += [self._questions.numbers[sample["sample_uid"]] for sample in samples]
        self._write_questions(fresh, whole=False)
        if self._indexed:
            self._script(0, words.packed(), kind="words")
        known = [value for value in scores.values() if value is not None]
        metric = self._metric
        repeats = [repeat for _, repeat, _, _ in rows]
        about = {
            "metric": metric and visible(metric["metric"]),
            "higher": metric is None or metric["higher_is_better"] is not False,
            "binary": all(value in (0, 1) for value in known),
            "uids": "".join(uid for uid, *_ in rows),
            "repeats": repeats if any(repeats) else None,
            "values": [value for _, _, value, _ in rows],
            "flags": [letters for *_, letters in rows],
            "questions": None if numbers == list(range(len(rows))) else numbers,
            "sent": bool(sent),
            "template": template and template.source,
            "buckets": BUCKETS if self._indexed else None,
        }
        self._script(0, about, f"{self._made_from}{' sent' if sent else ''}")
        return self._files(bool(sent))

    def _files(self, sent: bool) -> list[Path]:
        kinds = ["", "sent"] if sent else [""]
        files = [self._path(n, kind) for kind in kinds for n in range(1, self._n_files + 1)]
        words = [self._path(0, "words")] if self._indexed else []
        return [*files, self._path(0), *words, *self._question_files()]

    def _question_files(self) -> list[Path]:
        last = -(-self._questions.next // SAMPLES_PER_FILE)
        return [self._asked / file_name(self._benchmark, n) for n in range(self._first + 1, last + 1)]

    def _write_part(
        self,
        number: int,
        samples: Sequence[Row],
        words: WordIndex,
        sent: prompts.Prompts,
        template: TemplateProcess | None,
    ) -> None:
        answers = [_answer(sample) for sample in samples]
        self._script(number, _columns(answers, together=("thoughts", "output")))
        if self._indexed:
            words.add(number - 1, [*_texts(samples, answers)])
        if sent:
            asked = [((s["sample_uid"], s["repeat_idx"] or 0), s["input"] or "") for s in samples]
            self._script(number, sent.packed(asked, template), kind="sent")

    def _write_questions(self, fresh: list[Row], whole: bool) -> list[Row]:
        """Writes those that fill a script, or all if not `whole`. Returns the rest."""
        while len(fresh) >= SAMPLES_PER_FILE or (fresh and not whole):
            some, fresh = fresh[:SAMPLES_PER_FILE], fresh[SAMPLES_PER_FILE:]
            number = self._questions.numbers[some[0]["sample_uid"]] // SAMPLES_PER_FILE + 1
            name = file_name(self._benchmark, number)
            content = _columns([_question(sample) for sample in some], together=("input", "reference"))
            write_script(self._asked / name, f"{QUESTIONS}/{name}", content)
        return fresh

    def _path(self, number: int, kind: str = "") -> Path:
        path: Path = self._folder / file_name(self._benchmark, number, kind)
        return path

    def _script(self, number: int, value: Any, source: str = "", kind: str = "") -> None:
        path = self._path(number, kind)
        write_script(path, f"{self._model}/{path.name}", value, source)


def _columns(rows: Sequence[Row], together: tuple[str, ...]) -> dict[str, Any]:
    """Returns rows as columns, which are packed better; what no row has is left out.

    Texts of a row that resemble each other are packed better side by side: they are one column, `texts`, and
    `together` has their names.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    alone = {name: [row.get(name) for row in rows] for name in names if name not in together}
    texts = [[row.get(name) for name in together] for row in rows]
    return {"n": len(rows), "together": together, "texts": texts, **alone}


def _scores(results: Path, metric: Row | None) -> dict[str, float | None]:
    """Returns each question's score as comparisons use it; None: not answered."""
    if metric is None:
        return {}
    questions = read_questions(results, metric)
    columns = (each.tolist() for each in (questions.uids, questions.scores, questions.errored))
    return {uid: None if errored else value for uid, value, errored in zip(*columns, strict=True)}


def _index_row(sample: Row, scores: dict[str, float | None], metric: Row | None) -> list[Any]:
    """Returns a sample's question, repeat and score, and letters for what the page filters by."""
    judged = [each for each in sample["scores"] if each["correct"] is not None]
    if metric is not None:  # the benchmark's own metric first
        judged.sort(key=lambda each: (each["metric"], each["filter"]) != (metric["metric"], metric["filter"]))
    answered = sample["status"] != "error"
    flags = {
        "r": answered and bool(judged) and judged[0]["correct"],
        "w": answered and bool(judged) and not judged[0]["correct"],
        "u": sample["status"] == "unparsed",
        "e": not answered,
        "c": sample["cut"] or sample["finish_reason"] == "length",
    }
    letters = "".join(letter for letter, there in flags.items() if there)
    uid = sample["sample_uid"][:UID_DIGITS]
    return [uid, sample["repeat_idx"] or 0, scores.get(sample["sample_uid"]), letters]


def _question(sample: Row) -> Row:
    """Returns what the page shows of a question. What is not known is left out."""
    found: Row = {
        name: shortened(sample[column]) for column, name in _QUESTION.items() if sample[column] is not None
    }
    if sample["choices"]:
        found["choices"] = [shortened(choice, _MAX_CHOICE) for choice in sample["choices"]]
    return found


def _answer(sample: Row) -> Row:
    """Returns what the page shows of an answer. What is not known is left out."""
    found: Row = {name: sample[column] for column, name in _NUMBERS.items() if sample[column] is not None}
    found |= {
        name: shortened(sample[column]) for column, name in _ANSWER.items() if sample[column] is not None
    }
    if sample["repeat_idx"]:
        found["repeat"] = sample["repeat_idx"]
    if sample["latency_ms"] is not None:
        found["ms"] = round(sample["latency_ms"])
    likelihoods = _likelihoods(sample["metadata_json"])
    if likelihoods is not None:
        found["logprobs"] = likelihoods
    found["scores"] = [
        {name: visible(value) if isinstance(value, str) else value for name, value in each.items()}
        | {name: shortened(each[name]) for name in ("answer", "explanation") if each[name] is not None}
        for each in sample["scores"]
    ]
    return found


def _likelihoods(metadata: str | None) -> list[float] | None:
    """Returns the log-probabilities of a sample's choices, or of its text, as its harness wrote them."""
    if metadata is None or '"loglikelihoods"' not in metadata:
        return None
    found = json.loads(metadata).get("loglikelihoods")
    if not isinstance(found, list) or not all(isinstance(value, int | float) for value in found):
        return None
    return [float(f"{value:.6g}") for value in found]


def _texts(samples: Sequence[Row], answers: Sequence[Row]) -> Iterable[str]:
    """Yields all texts that the page searches, as it shows them."""
    for sample, answer in zip(samples, answers, strict=True):
        asked = _question(sample)
        names = ("output", "thoughts")
        yield from (answer[name] for name in names if name in answer)
        yield from (asked[name] for name in ("input", "reference", "id") if name in asked)
        yield from asked.get("choices", ())
        yield from (score["answer"] for score in answer["scores"] if score["answer"] is not None)


def _fingerprint(sources: Sequence[Path], metric: Row | None, more: list[Any]) -> str:
    files = [[status.st_size, status.st_mtime_ns] for status in (path.stat() for path in sources)]
    by = metric and [metric[name] for name in ("task", "metric", "filter", "higher_is_better", "mean_of")]
    value = [files, by, MAX_TEXT, SAMPLES_PER_FILE, _FORMAT, more]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
