"""The chats that were sent, as the model's own chat template lays them out.

The server does that; here it is worked out again, from the template that was staged. Where another might have
been applied, nothing is said: of servers that were there already, of other engines, of weights or settings
that have changed since.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmeval.harnesses.tokenizer_files import chat_template, special_tokens
from slurmeval.report import template_process
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import read

if TYPE_CHECKING:
    from slurmeval.gateway.log import Record
    from slurmeval.report.tables import Row
    from slurmeval.state.run_document import RunDocument

CPU_S = 60
"""For all chats of an evaluation; a template takes some 0.1 ms for one."""
_ENGINES = ("vllm", "sglang")
_OF_REQUESTS = ("tools", "documents")
"""Keys of a request that templates read beside the messages."""


@dataclass(frozen=True)
class ChatTemplate:
    """A template, and where it comes from."""

    text: str
    source: str
    """The file's name."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Special tokens, by the names that templates have for them."""

    @contextmanager
    def process(self) -> Iterator[TemplateProcess]:
        """Starts the process that lays chats out; it ends with the block."""
        argv = [sys.executable, "-I", template_process.__file__]
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}
        ) as child:
            try:
                first = {"template": self.text, "variables": dict(self.variables), "cpu_s": CPU_S}
                yield TemplateProcess(child, first)
            finally:
                child.kill()


class TemplateProcess:
    """A running process with a template."""

    def __init__(self, child: subprocess.Popen[bytes], first: Mapping[str, Any]) -> None:
        """Hands it the template."""
        self._child = child
        self._ask(first)

    def texts(self, records: Sequence[Record]) -> list[str | None]:
        """Returns each request as the template lays it out; None: it refuses, or this was no chat."""
        chats = [_chat(record) for record in records]
        known = [[record.started_at, chat] for record, chat in zip(records, chats, strict=True) if chat]
        found: Iterator[str | None] = iter(())
        if known and self._ask(known) and self._child.stdout is not None:
            line = self._child.stdout.readline()  # nothing: it has taken too much
            found = iter(json.loads(line) if line.endswith(b"\n") else ())
        return [next(found, None) if chat else None for chat in chats]

    def _ask(self, value: Any) -> bool:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(value).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            return False
        return True


def of_evaluation(run: RunDocument, evaluation: Row) -> ChatTemplate | None:
    """Returns the template that laid out an evaluation's chats, where that is known."""
    pair = evaluation["model"], evaluation["benchmark"]
    if pair[0] not in run.models or pair[1] not in run.benchmarks:
        return None
    entry = run.models.get(run.server_of(*pair))
    if entry is None or entry.answers_key != evaluation["answers_key"]:
        return None
    spec = entry.serving
    told = any("chat-template" in name or "tokenizer" in name for name in spec.flags)
    manifest = read(entry.manifest, Manifest)
    if told or spec.external is not None or spec.engine not in _ENGINES or manifest is None:
        return None
    found = chat_template(manifest.folder, Path(spec.chat_template) if spec.chat_template else None)
    if found is None:
        return None
    return ChatTemplate(*found, special_tokens(manifest.folder))


def _chat(record: Record) -> dict[str, Any] | None:
    """Returns what a template is given of a request; None: it is no chat, or goes by rules of its own."""
    request = record.request
    if not isinstance(request, dict) or "chat_template" in request or request.get("continue_final_message"):
        return None
    messages = request.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return None
    contents = [_text(message.get("content")) for message in messages]
    if None in contents:
        return None
    told = [message | {"content": text} for message, text in zip(messages, contents, strict=True)]
    more = {name: request[name] for name in _OF_REQUESTS if request.get(name)}
    begins = request.get("add_generation_prompt", True)
    own = request.get("chat_template_kwargs")
    return {"messages": told, "add_generation_prompt": begins} | more | (own if isinstance(own, dict) else {})


def _text(content: Any) -> str | None:
    """Returns a message's text, as vLLM does each of several parts in a line; None: it has more than text."""
    if isinstance(content, list):
        parts = [part["text"] for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "\n".join(map(str, parts)) if len(parts) == len(content) else None
    return content if isinstance(content, str) else None
