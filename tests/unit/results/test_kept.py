"""What was worked out of answers is kept: it is not worked out again, and never wrong."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slurmeval.results import doubts, kept, matrix
from slurmeval.results.leaderboard import Leaderboard, leaderboard
from slurmeval.results.matrix import matrices
from slurmeval.results.questions import Row, read_answers
from slurmeval.statistics.pairs import Difference, difference
from tests.lacking import lacking
from tests.unit.results.test_comparison import SOLUTIONS, Results
from tests.waiting import wait_for

BENCHMARKS = ["one", "two"]
MODELS = ["a", "b", "c"]
METHODS = {"right or wrong": "tango", "graded": "t", "clustered": "t", "in another order": "tango"}
"""Of the intervals of such answers."""


class Run:
    """Three models on two benchmarks, in a folder where a run keeps its state; counts what is read."""

    def __init__(self, results: Results) -> None:
        self.results, self.read = results, list[str]()
        for benchmark, model in itertools.product(BENCHMARKS, MODELS):
            self.add(model, benchmark, 0)
        (results.folder / "state").mkdir()

    def add(self, model: str, benchmark: str, seed: int, **given: Any) -> None:
        """An evaluation with answers of its own, two to a question, some of them missing or unreadable."""
        random = np.random.default_rng([seed, *f"{model} {benchmark}".encode()])
        values = [None if chance < 0.05 else float(chance < 0.6) for chance in random.random(120)]
        given.setdefault("status", random.choice(["ok", "unparsed"], 120).tolist())
        right = [value for value in values if value is not None]
        uids = [f"{benchmark}{number % 60}" for number in range(120)]
        metric = {"value": float(np.mean(right)), "n_items": 60, "n_repeats": 2}
        self.results.add(model, benchmark, values, uids=uids, metric=metric, **given)

    def replace(self, model: str, benchmark: str, **given: Any) -> None:
        """Another evaluation in the place of one."""
        for rows in self.results.rows.values():
            rows[:] = [row for row in rows if (row["model"], row["benchmark"]) != (model, benchmark)]
        self.add(model, benchmark, 1, **given)

    def board(self) -> Leaderboard:
        """The leaderboard, and in `read` which answers it had to read."""
        self.read.clear()
        return leaderboard(self.results.folder)

    @property
    def files(self) -> list[Path]:
        """What is kept."""
        return sorted((self.results.folder / "state" / "gathered").rglob("*.json"))

    def afresh(self) -> Leaderboard:
        """The leaderboard, with nothing kept."""
        for file in self.files:
            file.unlink()
        return self.board()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    run = Run(Results(tmp_path / "results"))

    def counted(results: Path, metric: Row) -> Any:
        run.read.append(f"{metric['model']} {metric['benchmark']}")
        return read_answers(results, metric)

    for module in (doubts, matrix):
        monkeypatch.setattr(module, "read_answers", counted)
    return run


def test_answers_are_read_once_and_give_the_same_again(run: Run) -> None:
    found = run.board()
    assert sorted(run.read) == sorted(f"{model} {benchmark}" for model in MODELS for benchmark in BENCHMARKS)
    assert any(entry.readings and entry.readings.n_doubtful for entry in found.entries.values())
    compared = matrices(run.results.folder, BENCHMARKS)
    assert (run.board(), run.read) == (found, [])
    assert matrices(run.results.folder, BENCHMARKS) == compared and not run.read


def test_another_evaluation_has_its_own_pairs_worked_out_and_no_others(run: Run) -> None:
    before = run.board()
    run.replace("c", "two")
    found = run.board()
    assert sorted(run.read) == ["a two", "b two", "c two"]
    assert found != before
    assert found == run.afresh()


def test_other_answers_other_settings_and_another_metric_are_seen_each_by_itself(run: Run) -> None:
    before = {each.benchmark: each for each in matrices(run.results.folder, BENCHMARKS)}
    samples = run.results.folder / "samples"
    shutil.copy(samples / "a" / "one.parquet", samples / "c" / "one.parquet")
    after = {each.benchmark: each for each in matrices(run.results.folder, BENCHMARKS)}
    assert before["one"].cells["a", "c"].value != 0 == after["one"].cells["a", "c"].value
    run.results.rows["evaluations"][1]["few_shot"] = 5  # of b on one
    for row in run.results.rows["metrics"][len(MODELS) :]:  # of all on two
        row["higher_is_better"] = False
    run.add("d", "three", 0)
    after = {each.benchmark: each for each in matrices(run.results.folder, BENCHMARKS)}
    assert "few_shot the default and 5" in (after["one"].cells["a", "b"].remark or "")
    assert [matrix.higher_is_better for matrix in (before["two"], after["two"])] == [True, False]
    run.afresh()
    assert {each.benchmark: each for each in matrices(run.results.folder, BENCHMARKS)} == after


def test_answers_replaced_while_they_are_read_are_worked_out_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, written = run.results.folder / "samples", run.afresh()
    counted = doubts.read_answers

    def replaced(results: Path, metric: Row) -> Any:
        answers = counted(results, metric)
        if (metric["model"], metric["benchmark"]) == ("a", "one"):
            shutil.copy(samples / "c" / "one.parquet", samples / "new")
            (samples / "new").replace(samples / "a" / "one.parquet")
        return answers

    with monkeypatch.context() as patched:
        patched.setattr(doubts, "read_answers", replaced)
        assert run.afresh() == written
    assert run.board() == run.afresh() != written


def test_answers_written_in_place_at_the_same_time_and_of_the_same_size_are_others(tmp_path: Path) -> None:
    file = tmp_path / "answers"
    file.write_text("right")
    before, of = file.stat(), kept.fingerprint([file])
    assert kept.fingerprint([file]) == of

    def written() -> bool:
        file.write_text("wrong")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        return file.stat().st_ctime_ns != before.st_ctime_ns  # the clock of a file system has steps

    wait_for(written, "the clock")
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )
    assert kept.fingerprint([file]) != of


@pytest.mark.parametrize("harm", ["cut", "flipped", "emptied", "a folder", "of other code"])
def test_what_is_damaged_or_by_other_code_is_worked_out_again(
    run: Run, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run.board()
    assert {file.stem for file in run.files} == {"doubts", "sharing", *BENCHMARKS}
    for file in run.files:
        content = file.read_bytes()
        if harm == "cut":
            file.write_bytes(content[:-20])
        elif harm == "flipped":  # still JSON, with other numbers
            file.write_bytes(content[:100] + content[100:].replace(b"1", b"2"))
        elif harm == "emptied":
            file.write_bytes(b"")
        elif harm == "a folder":
            file.unlink()
            file.mkdir()
    if harm == "of other code":
        monkeypatch.setattr(kept, "_code", lambda: b"other")
    assert run.board() == found
    assert len(run.read) == len(MODELS) * len(BENCHMARKS)
    assert run.board() == found
    assert bool(run.read) is (harm == "a folder")  # nothing can be kept then


def test_where_nothing_can_be_written_or_no_run_keeps_its_state_results_are_the_same(run: Run) -> None:
    state = run.results.folder / "state"
    found = run.afresh()
    for file in run.files:
        file.unlink()
    for folder in sorted(state.rglob("*"), reverse=True):
        folder.rmdir()
    (state / "gathered").write_text("in the way")
    assert run.board() == found
    (state / "gathered").unlink()
    state.rmdir()
    assert run.board() == found
    assert not state.exists()


def plain(*answers: dict[str, tuple[float, bool, str | None]]) -> Difference:
    """Two models' difference from single answers by uid: score, whether it errored, cluster."""
    both = [
        uid for uid in sorted(set(answers[0]) & set(answers[1])) if not any(each[uid][1] for each in answers)
    ]
    a, b = (np.array([each[uid][0] for uid in both]) for each in answers)
    names = [answers[0][uid][2] for uid in both]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return difference(a, b, None if None in numbers else np.array([numbers[name] for name in names]))


@pytest.mark.parametrize("kind", METHODS)
def test_pairs_are_as_the_plain_functions_say_of_random_answers(tmp_path: Path, kind: str) -> None:
    results, random = Results(tmp_path / "results"), np.random.default_rng(7)
    answers: dict[str, dict[str, tuple[float, bool, str | None]]] = {}
    for model in MODELS:
        kept_of = random.permutation(300)[:290] if kind != "right or wrong" else np.arange(300)
        if kind != "in another order":
            kept_of = np.sort(kept_of)
        scores = random.random(len(kept_of)) if kind == "graded" else random.integers(0, 2, len(kept_of))
        errored = random.random(len(kept_of)) < 0.02
        cluster = [f"p{number // 7}" if kind == "clustered" else None for number in kept_of]
        uids = [f"q{number:03d}" for number in kept_of]
        status = np.where(errored, "error", "ok").tolist()
        results.add(model, "one", scores.astype(float).tolist(), uids=uids, cluster=cluster, status=status)
        answers[model] = dict(zip(uids, zip(scores, errored, cluster, strict=True), strict=True))
    (found,) = matrices(results.folder, ["one"], min_paired=0.5)
    for a, b in itertools.combinations(MODELS, 2):
        told, whole = found.cells[a, b], plain(answers[a], answers[b])
        assert told.interval is not None and whole.interval is not None
        assert told.interval.method == whole.interval.method == METHODS[kind]
        numbers = [
            (each.value, each.interval.low, each.interval.high, each.p_value, each.detectable)
            for each in (told, whole)
            if each.interval
        ]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-12, abs=1e-14)
        assert (told.wins, told.losses, told.n) == (whole.a_only, whole.b_only, whole.n)


def test_pairs_on_gsm8k_kept_or_not_are_as_the_plain_functions_say(tmp_path: Path) -> None:
    if not SOLUTIONS.exists():
        lacking("GSM8K's example_model_solutions.jsonl is not beside the project")
    rows = [json.loads(line) for line in SOLUTIONS.read_text(encoding="utf-8").strip().split("\n")]
    models = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"]
    right = {model: np.array([float(row[model]["is_correct"]) for row in rows]) for model in models}
    results = Results(tmp_path / "results")
    (tmp_path / "results" / "state").mkdir(parents=True)
    for model in models:
        results.add(model, "gsm8k", right[model].tolist())
    for _ in ("worked out", "kept"):
        (found,) = matrices(results.folder, ["gsm8k"])
        for a, b in itertools.combinations(models, 2):
            told, whole = found.cells[a, b], difference(right[a], right[b])
            assert (told.value, told.interval, told.p_value) == (whole.value, whole.interval, whole.p_value)
            assert (told.wins, told.losses, told.detectable) == (whole.a_only, whole.b_only, whole.detectable)
