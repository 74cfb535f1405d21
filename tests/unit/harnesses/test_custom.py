"""CustomQuestions of one's own: read from files, asked, scored, and read back."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from slurmeval.config.models import Benchmark
from slurmeval.config.questions import CustomQuestions, Scorer
from slurmeval.containment import program
from slurmeval.errors import ErrorClass, EvaluationFailed, UserError
from slurmeval.harnesses import Job, harness
from slurmeval.harnesses.custom import scoring
from slurmeval.harnesses.custom.questions import Question, file_of, read
from slurmeval.harnesses.custom.run import main
from slurmeval.harnesses.custom.scoring import by_likelihood, score
from tests.lacking import lacking

from .conftest import KEY, MakeJob, Model, Server
from .test_damaged_outputs import stands_damage

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


@pytest.mark.parametrize("separator", [";", "\t", ", "])
def test_csv_of_spreadsheets_of_other_countries_is_read(separator: str, tmp_path: Path) -> None:
    lines = ["question", "answer"], ["Wien; Bern?", "ja"]
    rows = (separator.join(f'"{value}"' if ";" in value else value for value in line) for line in lines)
    (tmp_path / "q.csv").write_bytes("\r\n".join(("\ufeff" + "".join(next(rows)), *rows)).encode())
    (found,) = questions(tmp_path / "q.csv", reference="{{ answer | trim }}")
    assert (found.prompt, found.references) == ("Wien; Bern? The name only.", ["ja"])


def test_a_template_may_say_what_stands_for_null(tmp_path: Path) -> None:
    file = jsonl(tmp_path, [{"question": "a", "context": None, "answer": "b"}])
    (found,) = questions(file, prompt="{{ context or '' }}{{ question }}")
    assert found.prompt == "a"


def test_numbers_are_right_answers_as_they_are_written(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": value} for value in (4, 0.5, 0, True)]
    assert [each.references for each in questions(jsonl(tmp_path, rows))] == [["4"], ["0.5"], ["0"], ["True"]]


def test_the_scorer_number_needs_right_answers_with_one(tmp_path: Path) -> None:
    asked = {"prompt": "{{ question }}", "scorers": {"number": {}}}
    benchmark = Benchmark.model_validate({"harness": "custom", "datasets": ["d"], "questions": asked})
    jsonl(tmp_path, CAPITALS)
    with pytest.raises(
        UserError, match=r"^questions\.scorers\.number: no right answer holds a number; the first is 'Paris'"
    ):
        CUSTOM.check_data(benchmark, tmp_path)
    jsonl(tmp_path, [*CAPITALS, {"question": "2 + 2?", "answer": "It is 4."}])
    CUSTOM.check_data(benchmark, tmp_path)


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
        ('{"question": "a", "answer": null}\n', "q.jsonl, line 1: questions.reference: a value is null"),
        ('{"question": null, "answer": "b"}\n', "q.jsonl, line 1: questions.prompt: a value is null"),
        ('{"question": "a", "answer": NaN}\n', "q.jsonl, line 1: questions.reference: a value is null"),
        ('[\n{"question": "a", "answer": "b"}\n]\n', "expected an object a line, no list around them"),
        ('{"question": "a", "answer": "b"},\n', "expected an object a line, no list around them, no commas"),
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
        ({"choices": "o"}, {"o": [str(n) for n in range(1000)]}, "o has 1000 texts; expected 2 to 26"),
        ({"choices": "o"}, {"o": ["x", "y"], "answer": "z"}, "the reference 'z' is none of the 2 choices"),
        ({"choices": "o"}, {"o": ["x", "y"], "answer": 2}, "none of the 2 choices; a number counts from 0"),
        ({"choices": "o"}, {"o": "x"}, "the column o is missing or no list of texts"),
        ({}, {"answer": ["Oslo", " "]}, "q.jsonl, line 1: one of the references is empty"),
        ({}, {"answer": []}, "q.jsonl, line 1: the column answer is missing or no list of texts"),
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
        ("q.csv", b"a,b\n\xff,2\n", "q.csv: is no UTF-8 (invalid start byte at byte 4); save it so"),
        ("q.csv", b"a,b,a\n1,2,3\n", "q.csv, line 1: two columns are called a"),
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
    (tmp_path / "q.xlsx").touch()
    with pytest.raises(UserError, match=r"no file of \.jsonl, .* is in .*, which holds q\.xlsx"):
        file_of(asked, tmp_path)
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
    assert (found.value, found.read) == (float(right), read)


def test_a_pattern_says_what_is_compared() -> None:
    question = Question("1", "?", None, ["4"], None, None)
    scorer = Scorer(pattern=r"Answer: (.+)$")
    assert score(scorer, "exact", question, "Answer: 5\nno:\nAnswer: 4\nbye").value == 1
    assert score(scorer, "exact", question, "4").read is None
    near = Scorer(tolerance=0.1)
    assert score(near, "number", question, "4.05").value == 1
    assert score(near, "number", question, "4.2").value == 0


@pytest.mark.parametrize(
    ("answer", "value", "read"),
    [
        ('{"name": "Ada ", "born": 1815, "dead": true}', 1, '{"born": 1815, "dead": true, "name": "Ada "}'),
        ('Sure:\n```json\n{"name": "ADA", "born": 1815.4}\n``` as asked', 2 / 3, None),
        ('{broken {"name": "Bob", "born": "1815", "dead": 1}', 0, None),
        ("Ada, 1815", 0, None),
        ("[1, 2]", 0, None),
        pytest.param('{"name":' * 2000 + "[[]]" + "}" * 2000, 0, None, id="too deep to be written"),
        ('{"name": "\\ud83d", "born": 1815}', 1 / 3, '{"born": 1815, "name": "\ud83d"}'),
    ],
)
def test_fields_of_json_are_compared(answer: str, value: float, read: str | None, tmp_path: Path) -> None:
    row = {"question": "?", "answer": {"name": "Ada", "born": 1815, "dead": True}}
    (question,) = questions(jsonl(tmp_path, [row]))
    found = score(Scorer(tolerance=0.5), "json", question, answer)
    assert found.value == pytest.approx(value)
    assert (found.read is None) == ("{" not in answer or "[[" in answer)
    assert read is None or found.read == read
    assert score(Scorer(fields=["name"]), "json", question, '{"name": "ada"}').value == 1


def test_an_integer_beyond_all_floats_is_near_none() -> None:
    question = Question("1", "?", None, ['{"height": 1.5}'], None, None)
    assert score(Scorer(), "json", question, f'{{"height": {10**400}}}').value == 0
    assert score(Scorer(), "number", question, f"{10**400}").value == 0


def test_texts_are_scored_as_sacrebleu_and_rouge_do() -> None:
    question = Question("1", "?", None, ["The dog bit the man.", "The dog had bit the man."], None, None)
    for kind in ("bleu", "chrf", "rouge1", "rouge2", "rougeL"):
        assert score(Scorer(), kind, question, "The dog bit the man.").value == pytest.approx(1)
        assert score(Scorer(), kind, question, "So what").value < 0.1
    assert score(Scorer(), "ter", question, "The dog bit the man.").value == 0
    assert score(Scorer(), "ter", question, "a " * 20).value > 1


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
        (score(Scorer(), "number", question, answer["solution"]).value == 1, answer["is_correct"])
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


def test_a_file_that_no_longer_will_do_ends_the_program_with_its_reason(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(**own())
    file = jsonl(job.datasets["mine"], CAPITALS)
    path = prepared(job, model[1], monkeypatch)
    file.write_text("{")
    assert main(path) == 1
    with pytest.raises(EvaluationFailed, match="line 1: is no JSON") as raised:
        CUSTOM.check(job, 1, path)
    assert raised.value.error_class is ErrorClass.HARNESS_ERROR


def test_questions_are_asked_scored_and_read_back(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"France": "Paris.", "Norway": "Christiania, now Oslo \ud83d", "Peru": (400, "too long")}
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


def test_grades_are_no_verdicts_and_edits_have_no_scale(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model[0].answer = staticmethod(
        lambda body: (400, "no") if "Peru" in body["messages"][-1]["content"] else "Oslo, once Christiania"
    )
    job = make_job(**own(questions=ASKED | {"scorers": {"rouge1": {}, "edits": {"kind": "ter"}}}))
    jsonl(job.datasets["mine"], CAPITALS)
    assert main(prepared(job, model[1], monkeypatch)) == 0
    output = CUSTOM.read(job)
    rouge, edits = output.metrics
    assert (rouge.value, rouge.higher_is_better, rouge.harness_scale) == (pytest.approx(1 / 6), True, 1)
    assert (edits.value, edits.higher_is_better, edits.harness_scale) == (None, False, None)
    assert edits.harness_value is not None and edits.harness_value > 1
    assert [score.correct for score in output.samples[1].scores] == [None, None]
    assert output.samples[1].scores[0].value == pytest.approx(0.5)
    assert output.samples[1].metadata["references"] == ["Oslo", "Christiania"]
    assert output.samples[2].scores[1].value == 1
    stands_damage(job, tmp_path / "tables", "grades", 60)


COLOURS = [
    {"question": "The sky is", "options": ["red", "blue", "green"], "answer": "blue"},
    {"question": "Grass is", "options": ["green", "white"], "answer": "green"},
    {"question": "Blood is", "options": ["red", "white"], "answer": "red"},
]
BY_LETTER: dict[str, Any] = {
    "prompt": "{{ question }}\n{{ choices }}", "choices": "options", "scorers": {"choice": {}}
}  # fmt: skip


def test_choices_are_asked_in_every_rotation(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A model that knows the sky and otherwise says A."""
    model[0].answer = staticmethod(
        lambda body: next(
            (line[0] for line in body["messages"][-1]["content"].splitlines() if line.endswith(". blue")), "A"
        )
    )
    job = make_job(**own(questions=BY_LETTER | {"rotate": True}))
    jsonl(job.datasets["mine"], COLOURS)
    assert main(prepared(job, model[1], monkeypatch)) == 0
    output = CUSTOM.read(job)
    each, circular = output.metrics
    # Of 3 + 2 + 2 rotations the sky's are right, and A is once for the other two
    assert (each.metric, each.value, each.n_items) == ("choice", pytest.approx(5 / 7), 7)
    assert (circular.metric, circular.value, circular.n_items) == ("choice_circular", pytest.approx(1 / 3), 3)
    stands_damage(job, tmp_path / "tables", "rotations", 60)
    sky = [sample for sample in output.samples if sample.category == "1"]
    assert [(sample.native_id, sample.reference, sample.choices) for sample in sky] == [
        ("1~0", "B", ["red", "blue", "green"]),
        ("1~1", "A", ["blue", "green", "red"]),
        ("1~2", "C", ["green", "red", "blue"]),
    ]
    assert "A. blue\nB. green\nC. red" in sky[1].input


def test_examples_come_before_each_question_but_not_itself(tmp_path: Path) -> None:
    file = jsonl(tmp_path, COLOURS)
    keys = BY_LETTER | {"examples": {"file": "q.jsonl", "count": 2}}
    found = questions(file, **keys)
    for question in found:
        assert len(question.examples) == 2
        assert question.prompt not in [prompt for prompt, _ in question.examples]
    prompts = {question.prompt: question.references[0] for question in found}
    assert all(prompts[prompt] == answer for question in found for prompt, answer in question.examples)
    assert questions(file, **keys) == found
    altered = questions(file, **keys, perturb={"kinds": ["upper"]})
    shown = {prompt for question in altered for prompt, _ in question.examples}
    assert len(altered) > len(found) and shown <= prompts.keys()
    first = found[0]
    assert first.text == "".join(f"{p} {a}\n\n" for p, a in first.examples) + first.prompt
    with pytest.raises(UserError, match=r"3 of 3 questions in q\.jsonl; expected fewer"):
        questions(file, **BY_LETTER, examples={"file": "q.jsonl", "count": 3})
    with pytest.raises(UserError, match=r"questions.examples.file: none.jsonl is not in"):
        questions(file, **BY_LETTER, examples={"file": "none.jsonl", "count": 1})


def test_examples_are_earlier_turns_of_a_chat(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model[0].answer = staticmethod(lambda _: "Paris")
    asked = ASKED | {"system": "Be brief.", "examples": {"file": "q.jsonl", "count": 1}}
    job = make_job(**own(questions=asked))
    jsonl(job.datasets["mine"], CAPITALS)
    path = prepared(job, model[1], monkeypatch)
    assert main(path) == 0
    for request in model[0].requests:
        roles = [message["role"] for message in request["messages"]]
        assert roles == ["system", "user", "assistant", "user"]


class _Likelihoods(Model):
    """Gives each word the likelihood of a table; a text is its words."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).requests.append(body)
        words = body["prompt"].split(" ")
        values = [None, *({"blue": -1.0, "green": -2.5, "white": -9.0}.get(word, -4.0) for word in words[1:])]
        logprobs = {"tokens": [*words, "x"], "token_logprobs": [*values, -1.0]}
        data = json.dumps({"choices": [{"text": "", "logprobs": logprobs}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def test_the_likeliest_choice_is_the_answer(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(_Likelihoods):
        requests: list[dict[str, Any]] = []  # noqa: RUF012

    scorers = {"acc": {"kind": "likelihood"}, "acc_norm": {"kind": "likelihood_norm"}}
    asked = {"prompt": "{{ question }}", "choices": "options", "scorers": scorers}
    job = make_job(**own(questions=asked, endpoint="completions"))
    jsonl(job.datasets["mine"], COLOURS)
    with Server(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert main(prepared(job, f"http://127.0.0.1:{server.server_port}", monkeypatch)) == 0
        server.shutdown()
    output = CUSTOM.read(job)
    assert [metric.value for metric in output.metrics] == [1, 1]
    assert [sample.output for sample in output.samples] == ["B", "A", "A"]
    assert not output.keeps_answers
    assert list(output.samples[1].prompts) == ["Grass is", "Grass is green", "Grass is white"]
    assert {request["prompt"] for request in Own.requests} >= set(output.samples[1].prompts)
    choices = ["a much longer text", "no"]
    question = Question("1", "?", None, ["A"], choices, None)
    assert by_likelihood("likelihood", question, [-10.0, -4.0]).read == "B"
    assert by_likelihood("likelihood_norm", question, [-10.0, -4.0]).read == "A"
    # Per byte of UTF-8, of which a letter may have several
    question = Question("1", "?", None, ["A"], ["なお", "abcd"], None)
    assert by_likelihood("likelihood_norm", question, [-5.0, -4.0]).read == "A"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"scorers": {"likelihood": {}}, "choices": "o"}, "goes with endpoint: completions"),
        ({"scorers": {"likelihood": {}}}, "goes with questions.choices"),
        ({"scorers": {"likelihood": {}, "exact": {}}, "choices": "o"}, "generates nothing that the other"),
        ({"rotate": True}, "questions.rotate: goes with questions.choices"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: dict[str, Any], message: str) -> None:
    found = CUSTOM.problems(Benchmark.model_validate(own(questions=ASKED | asked)))
    assert any(message in line for line in found), found


def test_programs_are_run_with_their_tests_in_containment(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if (why := program.unavailable()) is not None:
        lacking(why)
    answers = {
        "right": "Sure:\n```python\ndef double(n):\n    return 2 * n\n```",
        "wrong": "def double(n):\n    return n",
        "broken": "def double(n:",
        "curious": f"import os\ndouble = lambda n: 2 * n if os.path.exists({__file__!r}) else 0",
        "none": " ",
    }
    model[0].answer = staticmethod(lambda body: answers[body["messages"][-1]["content"]])
    asked = {"prompt": "{{ name }}", "reference": "{{ test }}", "id": "name", "scorers": {"code": {}}}
    job = make_job(**own(questions=asked))
    jsonl(job.datasets["mine"], [{"name": name, "test": "assert double(4) == 8"} for name in answers])
    path = prepared(job, model[1], monkeypatch)
    path.write_text(json.dumps({**json.loads(path.read_text()), "interpreter": sys.executable}))
    assert main(path) == 0
    output = CUSTOM.read(job)
    found = {sample.native_id: (sample.scores[0].correct, sample.status) for sample in output.samples}
    assert found == {
        "right": (True, "ok"),
        "wrong": (False, "ok"),
        "broken": (False, "unparsed"),
        "curious": (False, "ok"),
        "none": (False, "unparsed"),
    }
    assert output.samples[1].scores[0].answer == "AssertionError: "


def test_programs_are_not_run_without_containment(
    make_job: MakeJob, model: tuple[type[Model], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model[0].answer = staticmethod(lambda _: "print(1)")
    monkeypatch.setattr(program, "unavailable", lambda: "code execution needs user namespaces")
    job = make_job(**own(questions=ASKED | {"scorers": {"code": {}}}))
    jsonl(job.datasets["mine"], CAPITALS)
    path = prepared(job, model[1], monkeypatch)
    assert main(path) == 1
    with pytest.raises(EvaluationFailed, match="needs user namespaces"):
        CUSTOM.check(job, 1, path)
    assert not model[0].requests


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


@pytest.mark.parametrize(
    "spoil", ["lose a line", "double a line", "cut the file", "another repeat", "text for a score"]
)
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
        "text for a score": [*lines[:-1], lines[-1].replace('"value": ', '"value": "0.5", "was": ')],
    }
    assert spoilt[spoil] != lines
    file.write_text("".join(spoilt[spoil]))
    with pytest.raises(EvaluationFailed) as raised:
        CUSTOM.read(job)
    assert raised.value.error_class is ErrorClass.BAD_RESULT


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"questions": None}, "questions: is missing"),
        ({"datasets": []}, "datasets: must name the one data set"),
        ({"few_shot": 2}, "few_shot: the harness custom has none; see questions.examples"),
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


@pytest.mark.parametrize(
    ("more", "samples"),
    [({}, 30), ({"perturb": {"kinds": ["typos"]}}, None), ({"rotate": True, "choices": "options"}, None)],
)
def test_how_many_samples_are_expected_is_not_said_of_questions_that_are_asked_in_several_ways(
    more: dict[str, Any], samples: int | None
) -> None:
    questions = {"prompt": "{{ question }}", "scorers": {"includes": {}}} | more
    entry = {"harness": "custom", "datasets": ["mine"], "limit": 15, "repeats": 2, "questions": questions}
    assert Benchmark.model_validate(entry).samples_expected == samples
