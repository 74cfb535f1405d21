"""Lays out chats by a template that came with a model: a process of its own, with little memory and time.

The template is a stranger's program. Jinja's sandbox keeps it from Python's objects, the limits below keep it
from taking the machine, opening files and starting processes. Reads JSON lines: the template with its
variables, then a list of chats each; writes a line with their texts each, null where it refuses a chat.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_BYTES = 1 << 30


class _Generation(Extension):
    """`{% generation %}`, by which templates mark what assistants say: it says nothing of its own."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Returns what stands inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def main() -> None:
    """Answers lines until there are no more."""
    first = json.loads(sys.stdin.readline())
    resource.setrlimit(resource.RLIMIT_CPU, (first["cpu_s"], first["cpu_s"]))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _json
    environment.globals["raise_exception"] = _refuse
    try:
        template = environment.from_string(first["template"])
    except (TemplateError, RecursionError):
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    for line in sys.stdin:
        texts: list[str | None] = []
        for seconds, chat in json.loads(line):
            now = datetime.fromtimestamp(seconds).astimezone()
            try:
                texts.append(template.render(first["variables"] | chat, strftime_now=now.strftime))
            except Exception:  # noqa: BLE001 - whatever a stranger's program ends with
                texts.append(None)
        print(json.dumps(texts), flush=True)


if __name__ == "__main__":
    main()
