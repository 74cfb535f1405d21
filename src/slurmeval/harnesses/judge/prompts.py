"""What a judge is asked: the prompts, with the answers in them made harmless."""

from __future__ import annotations

import functools
import re
import unicodedata
from pathlib import Path

from slurmeval.harnesses.judge.rubrics import Rubric

_MARKER = re.compile(
    r"[\[［【〔⟦]\s*(?:/\s*)?(?=(?:begin|end)(?:\b|_|answer|question|reference))", re.IGNORECASE
)
"""What begins a marker of the prompts, or looks as if it did. Blanks beside blanks would be tried in every
division of a long run."""
_CONTROL = re.compile(
    r"<(?=\s*[|｜]|<\s*/?SYS>|/?\s*(?:s|bos|eos|pad|unk|(?:start|end)_of_turn|sys|im_start|im_end)\s*>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS)\])",
    re.IGNORECASE,
)
"""What begins a control token of a chat template (`<|im_end|>`, `<end_of_turn>`, `[/INST]`). Tokenizers take
it for one wherever it stands: an answer could end the judge's prompt and speak in the judge's name."""
_INVISIBLE = frozenset({"Cf", "Co", "Cs"})
"""Categories of characters that are not seen: they may hide a marker, or a text from people."""
_KEPT = frozenset("‌‍")
"""The non-joiner and joiner, which scripts and emoji need."""


def harmless(text: str) -> str:
    """Returns a text with nothing in it that closes or opens a part of the prompt.

    Markers and control tokens of chat templates lose their bracket. Invisible characters go: what people read
    is what the judge reads.
    """
    seen = "".join(
        character
        for character in text
        if character in _KEPT or unicodedata.category(character) not in _INVISIBLE
    )
    plain = seen.translate(dict.fromkeys(map(ord, _KEPT)))
    # A joiner inside a marker hides it: such a text loses its joiners, others keep them
    if any(len(each.findall(plain)) > len(each.findall(seen)) for each in (_MARKER, _CONTROL)):
        seen = plain
    return _CONTROL.sub("(", _MARKER.sub("(", seen))


def direct(
    question: str, answer: str, reference: str | None, rubric: Rubric, instructions: str | None
) -> str:
    """Returns the prompt that has an answer graded."""
    return _rendered(
        "direct.j2", question, reference, rubric=rubric, instructions=instructions, answer=harmless(answer)
    )


def pairwise(
    question: str, answers: tuple[str, str], reference: str | None, rubric: Rubric, instructions: str | None
) -> str:
    """Returns the prompt that has two answers compared, the first of them as A."""
    first, second = map(harmless, answers)
    return _rendered(
        "pairwise.j2",
        question,
        reference,
        rubric=rubric,
        instructions=instructions,
        answer=first,
        other=second,
    )


def _rendered(name: str, question: str, reference: str | None, **values: object) -> str:
    shown = None if reference is None else harmless(reference)
    text = _template(name).render(question=harmless(question), reference=shown, **values)
    return str(text).strip() + "\n"


@functools.cache
def _template(name: str):  # type: ignore[no-untyped-def]
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    return environment.get_template(name)
