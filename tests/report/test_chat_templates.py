"""Chats as the model's template lays them out: exact, with their source, and whatever a template tries."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from slurmeval.report import build, chat_templates, template_process
from slurmeval.report.chat_templates import ChatTemplate, of_evaluation
from tests.report import example
from tests.report.example import CHATML, document_with_template

EVALUATION = {"model": "m", "benchmark": "b", "answers_key": "f" * 64}


def _record(*contents: Any, **more: Any) -> Any:
    body = {"messages": [{"role": "user", "content": content} for content in contents]} | more
    return example.record(0, "", "", request_body=json.dumps(body).encode())


def _laid_out(text: str, *records: Any) -> list[str | None]:
    with ChatTemplate(text, "x", {"eos_token": "<|im_end|>"}).process() as process:
        return process.texts(records)


def test_a_chat_is_laid_out_as_its_server_does() -> None:
    whole = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "<b>two</b>"}]
    found = _laid_out(CHATML, _record(" What? "), _record(parts), _record("x", add_generation_prompt=False))
    assert found == [
        whole.format("What?"),
        whole.format("one\n<b>two</b>"),
        "<|im_start|>user\nx<|im_end|>\n",
    ]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ messages | tojson }}", '[{"role": "user", "content": "ü<"}]'),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}!", "ü<!"),
        ("{% for m in messages %}{% break %}{% endfor %}end", "end"),
        ("{{ strftime_now('%Y-%m-%d') }}", "2026-11-22"),
        ("{{ tools[0].name }}{{ enable_thinking }}", "fFalse"),
        ("{{ raise_exception('no system role') }}", None),
        ("{{ undefined.value }}", None),
        ("{% unfinished", None),
    ],
)
def test_what_templates_of_models_use_is_there(template: str, text: str | None) -> None:
    at = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
    asked = _record("ü<", tools=[{"name": "f"}], chat_template_kwargs={"enable_thinking": False})
    assert _laid_out(template, replace(asked, started_at=at)) == [text]


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
        "{% endfor %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10 ** 11 }}",
        "{{ ('a' * 2 ** 30) | length }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch owned') }}",
        "{{ strftime_now.__self__.__class__.__base__ }}",
        "{% include '/etc/passwd' %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_hostile_template_lays_out_nothing_and_ends(
    template: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chat_templates, "CPU_S", 1)
    found = _laid_out(template, _record("a"), _record("b"))
    assert found == [None, None]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("attempt", ["open('/etc/passwd').read()", "__import__('os').system('touch owned')"])
def test_a_template_that_leaves_its_sandbox_opens_no_file_and_starts_nothing(
    attempt: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = Path(template_process.__file__).read_text("utf-8")
    without = code.replace("jinja2.sandbox import ImmutableSandboxedEnvironment", "jinja2 import Environment")
    assert without != code
    (tmp_path / "without.py").write_text(without.replace("ImmutableSandboxedEnvironment", "Environment"))
    monkeypatch.setattr(template_process, "__file__", str(tmp_path / "without.py"))
    monkeypatch.chdir(tmp_path)
    (found,) = _laid_out("{{ cycler.__init__.__globals__.__builtins__." + attempt + " }}", _record("a"))
    assert found is None or (found not in ("", "0") and "root" not in found)
    assert [path.name for path in tmp_path.iterdir()] == ["without.py"]


def test_the_template_is_that_of_the_staged_weights_or_the_config_s(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    own = of_evaluation(document_with_template(paths), EVALUATION)
    assert own == ChatTemplate(CHATML, "tokenizer_config.json", {"eos_token": "<|im_end|>"})
    (tmp_path / "mine.jinja").write_text("mine")
    given = of_evaluation(
        document_with_template(paths, chat_template=str(tmp_path / "mine.jinja")), EVALUATION
    )
    assert given is not None and (given.text, given.source) == ("mine", "mine.jinja")


def test_no_template_is_named_where_the_server_may_have_had_another(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    assert of_evaluation(document_with_template(paths), EVALUATION | {"answers_key": "0" * 64}) is None
    assert of_evaluation(document_with_template(paths, engine="/mine.py"), EVALUATION) is None
    assert (
        of_evaluation(document_with_template(paths, flags={"default-chat-template-kwargs": "{}"}), EVALUATION)
        is None
    )


def test_the_laid_out_chat_stands_beside_the_messages_and_takes_little_room(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    made = example.samples("t", [True] * 30)
    example.write_with_log(paths, made)
    build(paths, document_with_template(paths))
    folder = paths.report / "samples" / "m"
    assert example.unpacked(folder / "b.js")["template"] == "tokenizer_config.json"
    found = example.unpacked(folder / "b~1~sent.js")
    for place, sample in enumerate(made):
        ((numbers,),) = (found["laid_out"][place],)
        text = "".join(sample.input if number < 0 else found["texts"][number] for number in numbers)
        assert text == f"<|im_start|>user\n{sample.input}<|im_end|>\n<|im_start|>assistant\n"
    assert len(found["texts"]) == 2
    (tmp_path / "mine.jinja").write_text("{{ messages[0].content }}!")
    build(paths, document_with_template(paths, chat_template=str(tmp_path / "mine.jinja")))
    assert example.unpacked(folder / "b.js")["template"] == "mine.jinja"
    assert example.unpacked(folder / "b~1~sent.js")["texts"] == ["!"]
