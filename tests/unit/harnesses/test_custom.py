"""CustomQuestions of one's own: read from files, asked, scored, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from slurmeval.config.models import Benchmark
from slurmeval.config.questions import CustomQuestions, Scorer
from slurmeval.errors import ErrorClass, EvaluationFailed, UserError
from slurmeval.harnesses import Job, harness
from slurmeval.harnesses.custom import scoring
from slurmeval.harnesses.custom.questions import Question, file_of, read
from slurmeval.harnesses.custom.run import main
from slurmeval.harnesses.custom.scoring import score
from tests.lacking import lacking

from .conftest import KEY, MakeJob
from .test_human_eval import Model, model

__all__ = ["model"]

SOLUTIONS = Path(__file__).parents[4] / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"
CUSTOM = harness("custom")
CAPITALS = [
    {"question": "Capital of France?", "answer": "Paris", "land": "Europe"},
    {"question": "Capital of Norway?", "answer": ["Oslo", "Christiania"], "land": "Europe"},
    {"question": "Capital of Peru?", "answer": "Lima", "land": "America"},
]
ASKED: dict[str, Any] = {"prompt": "{{ question }} The name only.", "scorers": {"includes": {}}}


def questions(file: Path, limit: int | None = None, **keys: Any) -> list[Question]:
    return read(CustomQuestions.model_validate(ASKED | keys), file, limit)


def jsonl(folder: Path, rows: list[dict[str, Any]], name: str = "q.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


# Reading


def test_a_row_becomes_a_question(tmp_path: Path) -> None:
    first, second, third = questions(jsonl(tmp_path, CAPITALS), category="land", system="Be {{ land }}.")
    assert first == Question(
        "1", "Capital of France? The name only.", "Be Europe.", ["Paris"], None, "Europe"
    )
    assert second.references == ["Oslo", "Christiania"]
    assert third.id == "3"


def test_the_same_questions_come_from_csv_and_parquet(tmp_path: Path) -> None:
    rows = [{"question": "2, and “2”?\nSo?", "answer": "4"}, {"question": "日本の首都は？", "answer": "東京"}]
    expected = questions(jsonl(tmp_path, rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "q.parquet")
    assert questions(tmp_path / "q.parquet") == expected
    text = '\ufeffquestion,answer\r\n"2, and “2”?\nSo?",4\r\n日本の首都は？,東京\r\n'
    (tmp_path / "q.csv").write_text(text, encoding="utf-8", newline="")
    assert questions(tmp_path / "q.csv") == expected


@pytest.mark.parametrize("answer", ["blue", "B", "b", "1"])
def test_choices_get_letters_and_the_reference_is_one_of_them(answer: str, tmp_path: Path) -> None:
    row = {"question": "The sky is", "options": ["red", "blue"], "answer": answer}
    (found,) = questions(
        jsonl(tmp_path, [row]),
        prompt="{{ question }}\n{{ choices }}",
        choices="options",
        scorers={"choice": {}},
    )
    assert found.prompt == "The sky is\nA. red\nB. blue"
    assert (found.references, found.choices) == (["B"], ["red", "blue"])


def test_only_the_first_are_read(tmp_path: Path) -> None:
    file = jsonl(tmp_path, CAPITALS)
    with file.open("a") as stream:
        stream.write("no JSON\n")
    assert len(questions(file, limit=3)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"question": "a", "answer": "b"}\n{"question"\n', "q.jsonl, line 2: is no JSON"),
        ("[1]\n", "q.jsonl, line 1: expected a JSON object"),
        ("\n\n", "q.jsonl: holds no questions"),
        ('{"answer": "b"}\n', "q.jsonl, line 1: questions.prompt: 'question' is undefined (columns: answer)"),
        ('{"question": "a", "answer": " "}\n', "q.jsonl, line 1: the reference is empty"),
        ('{"question": "a", "answer": []}\n', "q.jsonl, line 1: the column answer is missing or no list"),
        ("[" * 100_000 + "\n", "q.jsonl, line 1: is no JSON"),
    ],
)
def test_a_line_that_will_not_do_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(UserError) as raised:
        questions(tmp_path / "q.jsonl")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("keys", "row", "message"),
    [
        ({"id": "name"}, {"name": "x"}, "q.jsonl, line 2: the id 'x' is that of line 1 too"),
        ({"id": "name"}, {}, "q.jsonl, line 1: the column name is missing or empty"),
        ({"category": "name"}, {"name": ""}, "q.jsonl, line 1: the column name is missing or empty"),
        ({"choices": "o"}, {"o": ["x"]}, "q.jsonl, line 1: o has 1 texts; expected 2 to 26"),
        ({"choices": "o"}, {"o": ["x", "y"], "answer": "z"}, "the reference 'z' is none of the 2 choices"),
        ({"choices": "o"}, {"o": "x"}, "the column o is missing or no list of texts"),
        ({"prompt": "{{ question"}, {}, "questions.prompt: unexpected end of template"),
        ({"prompt": "{{ question.__class__.mro() }}"}, {}, "questions.prompt: "),
    ],
)
def test_a_column_that_will_not_do_is_named(
    keys: dict[str, Any], row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as raised:
        questions(jsonl(tmp_path, [{"question": "a", "answer": "b", **row}] * 2), **keys)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.csv", b"a,b\n1,2,3\n", "q.csv, line 2: expected 2 values, as the header has"),
        ("q.csv", b"a,b\n1\n", "q.csv, line 2: expected 2 values, as the header has"),
        ("q.csv", b'a,b\n"1,2\n', "q.csv, after line 1: unexpected end of data"),
        ("q.csv", b"a,b\n\xff,2\n", "q.csv: is no UTF-8"),
        ("q.parquet", b"PAR1", "q.parquet: is no Parquet file"),
        ("q.txt", b"a", "q.txt: expected one of .jsonl, .csv, .parquet"),
    ],
)
def test_a_file_that_will_not_do_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as raised:
        questions(tmp_path / name)
    assert message in str(raised.value)


def test_one_of_several_files_must_be_named(tmp_path: Path) -> None:
    asked = CustomQuestions.model_validate(ASKED)
    jsonl(tmp_path, CAPITALS, "b.jsonl")
    assert file_of(asked, tmp_path).name == "b.jsonl"
    jsonl(tmp_path, CAPITALS, "a.jsonl")
    with pytest.raises(UserError, match=r"name one file of .*: a\.jsonl, b\.jsonl"):
        file_of(asked, tmp_path)
    assert file_of(asked.model_copy(update={"file": "b.jsonl"}), tmp_path).name == "b.jsonl"
    with pytest.raises(UserError, match=r"questions\.file: c\.jsonl is not in"):
        file_of(asked.model_copy(update={"file": "c.jsonl"}), tmp_path)


# Scoring


@pytest.mark.parametrize(
    ("kind", "reference", "answer", "right", "read"),
    [
        ("exact", "Paris", " **paris**. ", True, "**paris**."),
        ("exact", "-5", "5", False, "5"),
        ("exact", "x+1", "x-1", False, "x-1"),
        ("exact", "Straße", "STRASSE", True, "STRASSE"),
        ("exact", "東京", "「東京」。", True, "「東京」。"),
        ("includes", "Oslo", "It is Oslo, I think", True, "It is Oslo, I think"),
        ("includes", "art", "It is a party", False, "It is a party"),
        ("includes", "東京", "日本の首都は東京です", True, "日本の首都は東京です"),
        ("includes", "C++", "I like C++ most", True, "I like C++ most"),
        ("includes", "กรุงเทพ", "เมืองหลวงคือกรุงเทพครับ", True, "เมืองหลวงคือกรุงเทพครับ"),
        ("number", "1234", "First 3, then 1,234.", True, "1,234"),
        ("number", "0.5", "so .5", True, ".5"),
        ("number", "-5", "minus: -5", True, "-5"),
        ("number", "3", "none at all", False, None),
        ("choice", "B", "B", True, "B"),
        ("choice", "B", "The answer is (b).", True, "B"),
        ("choice", "B", "I think A is wrong. Answer: B", True, "B"),
        ("choice", "B", "A good question: B.", True, "B"),
        ("choice", "A", "A", True, "A"),
        ("choice", "C", "None of them", False, None),
        pytest.param("choice", "C", f"The answer{' ' * 200_000}", False, None, id="blanks without end"),
    ],
)
def test_answers_are_scored(kind: str, reference: str, answer: str, right: bool, read: str | None) -> None:
    choices = ["x", "y", "z"] if kind == "choice" else None
    question = Question("1", "?", None, [reference], choices, None)
    found = score(Scorer(), kind, question, answer)
    assert (found.right, found.read) == (right, read)


def test_a_pattern_says_what_is_compared() -> None:
    question = Question("1", "?", None, ["4"], None, None)
    scorer = Scorer(pattern=r"Answer: (.+)$")
    assert score(scorer, "exact", question, "Answer: 5\nno:\nAnswer: 4\nbye").right
    assert score(scorer, "exact", question, "4").read is None
    near = Scorer(tolerance=0.1)
    assert score(near, "number", question, "4.05").right and not score(near, "number", question, "4.2").right


@pytest.mark.timeout(60)
def test_a_pattern_that_would_match_for_ever_is_named_and_gives_no_score(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "PATTERN_TIMEOUT_S", 0.1)
    model[0].answer = staticmethod(lambda _: "a" * 60 + "!")
    job = make_job(**own(questions=ASKED | {"scorers": {"exact": {"pattern": "(a+)+$"}}}))
    jsonl(job.datasets["mine"], CAPITALS)
    path = prepared(job, model[1], monkeypatch)
    assert main(path) == 1
    with pytest.raises(EvaluationFailed, match=r"questions\.scorers\.exact\.pattern: takes more than"):
        CUSTOM.check(job, 1, path)


def test_numbers_of_all_gsm8k_answers_are_read_as_their_authors_read_them(tmp_path: Path) -> None:
    """Four models' answers to the 1,319 questions, judged by the data set's authors."""
    if not SOLUTIONS.exists():
        lacking("GSM8K's example_model_solutions.jsonl is not beside the project")
    last = "{{ ground_truth.splitlines()[-1] }}"
    asked = questions(SOLUTIONS, reference=last, scorers={"number": {}})
    rows = [json.loads(line) for line in SOLUTIONS.read_text("utf-8").splitlines()]
    judged = [
        (score(Scorer(), "number", question, answer["solution"]).right, answer["is_correct"])
        for question, row in zip(asked, rows, strict=True)
        for answer in row.values()
        if isinstance(answer, dict)
    ]
    assert len(judged) == 4 * 1319
    assert all(found == told for found, told in judged)


# The harness


def prepared(job: Job, url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    command = CUSTOM.prepare(job)
    path = Path(command.argv[-1])
    path.write_text(json.dumps({**json.loads(path.read_text()), "url": url}))
    monkeypatch.setenv("SLURMEVAL_GATEWAY_KEY", command.env["SLURMEVAL_GATEWAY_KEY"])
    return path


def own(**keys: Any) -> dict[str, Any]:
    asked = ASKED | {"category": "land", "scorers": {"includes": {}, "strict": {"kind": "exact"}}}
    return {"harness": "custom", "datasets": ["mine"], "questions": asked, **keys}


def test_questions_are_asked_scored_and_read_back(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"France": "Paris.", "Norway": "Christiania, now Oslo", "Peru": (400, "too long")}
    model[0].answer = staticmethod(
        lambda body: next(answers[land] for land in answers if land in body["messages"][-1]["content"])
    )
    job = make_job(**own(repeats=2, max_tokens=9))
    jsonl(job.datasets["mine"], CAPITALS)
    path = prepared(job, model[1], monkeypatch)
    assert main(path) == 0
    CUSTOM.check(job, 0, path)
    output = CUSTOM.read(job)

    assert model[0].keys == {f"Bearer {KEY}"}
    assert {(request["max_tokens"], request["temperature"]) for request in model[0].requests} == {(9, 0.0)}
    primary, strict = output.metrics
    assert (primary.metric, primary.is_primary, primary.value) == ("includes", True, pytest.approx(2 / 3))
    assert (strict.metric, strict.is_primary, strict.value) == ("strict", False, pytest.approx(1 / 3))
    assert (primary.n_items, primary.n_repeats, output.n_requested) == (3, 2, 6)
    statuses = [(sample.native_id, sample.repeat_idx, sample.status) for sample in output.samples]
    assert statuses == [(str(n), r, "error" if n == 3 else "ok") for n in (1, 2, 3) for r in (0, 1)]
    norway = output.samples[2]
    assert (norway.category, norway.reference) == ("Europe", "Oslo | Christiania")
    assert "too long" in output.samples[4].metadata["error"]


def test_a_server_that_is_lost_is_the_reason(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model[0].answer = staticmethod(lambda _: (503, "the server is lost"))
    job = make_job(**own())
    jsonl(job.datasets["mine"], CAPITALS)
    path = prepared(job, model[1], monkeypatch)
    assert main(path) == 1
    with pytest.raises(EvaluationFailed, match="the server is lost") as raised:
        CUSTOM.check(job, 1, path)
    assert raised.value.error_class is ErrorClass.SERVER_LOST


@pytest.mark.parametrize("spoil", ["lose a line", "double a line", "cut the file", "another repeat"])
def test_results_that_are_not_whole_are_refused(
    spoil: str, make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model[0].answer = staticmethod(lambda _: "Paris")
    job = make_job(**own())
    jsonl(job.datasets["mine"], CAPITALS)
    path = prepared(job, model[1], monkeypatch)
    assert main(path) == 0
    file = path.with_name("samples.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    spoilt = {
        "lose a line": lines[:-1],
        "double a line": [*lines[:-1], lines[0]],
        "cut the file": [*lines[:-1], lines[-1][:20]],
        "another repeat": [*lines[:-1], lines[-1].replace('"repeat": 0', '"repeat": 7')],
    }
    file.write_text("".join(spoilt[spoil]))
    with pytest.raises(EvaluationFailed) as raised:
        CUSTOM.read(job)
    assert raised.value.error_class is ErrorClass.BAD_RESULT


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"questions": None}, "questions: is missing"),
        ({"datasets": []}, "datasets: must name the one data set"),
        ({"few_shot": 2}, "few_shot: the harness custom has none"),
        ({"runtime": "image"}, "runtime: the harness custom runs in its environment"),
        ({"extra": {"a": 1}}, "extra.a: unknown"),
        (
            {"questions": ASKED | {"scorers": {"mine": {}}}},
            "questions.scorers.mine.kind: is missing; expected one of exact, includes, number, choice",
        ),
        ({"questions": ASKED | {"scorers": {"choice": {}}}}, "goes with questions.choices"),
        (
            {"questions": ASKED | {"scorers": {"exact": {"pattern": "("}}}},
            "questions.scorers.exact.pattern: is no regular expression",
        ),
        (
            {"questions": ASKED | {"system": "x"}, "endpoint": "completions"},
            "questions.system: goes with endpoint: chat",
        ),
    ],
)
def test_what_does_not_go_is_refused_beforehand(keys: dict[str, Any], message: str) -> None:
    found = CUSTOM.problems(Benchmark.model_validate(own(**keys)))
    assert any(message in line for line in found), found


def test_scorers_are_needed() -> None:
    with pytest.raises(ValidationError):
        CustomQuestions.model_validate(ASKED | {"scorers": {}})
