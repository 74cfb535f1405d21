"""Extraction of code from a model's answer."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field

THOUGHTS_BEGIN, THOUGHTS_END = "<think>", "</think>"

_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")
_PYTHON = ("python", "python3", "py", "py3", "ipython")
_NO_CODE = (
    *("sh", "bash", "shell", "zsh", "console", "terminal", "cmd", "bat", "powershell", "pycon"),
    *("text", "txt", "plaintext", "output", "json", "yaml", "toml", "markdown", "md", "diff"),
)
"""Languages of blocks that a program is never in."""


@dataclass
class Block:
    """Fenced block of an answer."""

    language: str
    lines: list[str] = field(default_factory=list)

    @property
    def code(self) -> str:
        """Returns the lines as one text."""
        return "\n".join(self.lines)


def without_thoughts(answer: str) -> str:
    """Returns what follows the last `</think>`; nothing where thoughts begin the answer and do not end."""
    _, end, after = answer.rpartition(THOUGHTS_END)
    if end:
        return after
    return "" if after.lstrip().startswith(THOUGHTS_BEGIN) else answer


def blocks(answer: str) -> list[Block]:
    """Returns the fenced blocks by CommonMark's rules: backticks or tildes, indented or not.

    The last block may lack its end.
    """
    found: list[Block] = []
    block, fence, indent = None, "", ""
    for line in answer.split("\n"):
        match = _FENCE.match(line)
        if block is None:
            if match is not None:
                fence, indent = match["fence"], match["indent"]
                language = re.split(r"[\s{:,.]", match["info"].strip(" {."), maxsplit=1)[0]
                block = Block(language.lower())
        elif match is not None and match["fence"].startswith(fence) and not match["info"].strip():
            found.append(block)
            block = None
        else:
            block.lines.append(line.removeprefix(indent))
    return found if block is None else [*found, block]


def defines(code: str, function: str) -> re.Match[str] | None:
    """Returns the place where the code defines a function."""
    return re.search(rf"^(async )?def {re.escape(function)}\b", code, re.MULTILINE)


def extract_code(answer: str, function: str | None = None) -> str:
    """Returns the code of an answer.

    It is looked for after the thoughts: the last block that defines the function, else the last block marked
    as Python, else the last block that may be Python, and without blocks the whole answer.
    """
    answer = without_thoughts(answer)
    fenced = [block for block in blocks(answer) if block.language not in _NO_CODE]
    for block in reversed(fenced if function else ()):
        for code in (block.code, textwrap.dedent(block.code)):
            if defines(code, function or ""):
                return code
    python = [block for block in fenced if block.language in _PYTHON]
    return (python or fenced)[-1].code if fenced else answer
