"""What the gateway changes in a request, so that vLLM does what the harness means by it.

- A chat that ends with words of the assistant's is gone on with. vLLM would end that turn and begin another.
- A temperature as good as 0 becomes 0: vLLM would lift it to 0.01, and draw.
- `max_new_tokens`, a limit that lm-eval's own models take from a task and vLLM does not know, is the answer's
  limit, in the place of the 256 tokens that lm-eval's client sets where it sees none.
- Of equal requests that are sampled with one seed (the repeats of a question) each gets a seed of its own;
  the first keeps the one it came with.

The log and the keys of stored answers are those of the changed request.
"""

from __future__ import annotations

from typing import Any

from slurmeval.gateway.replay import request_key

GREEDY_BELOW = 0.01
"""vLLM's lowest temperature but 0. One below it is meant as 0: NeMo Evaluator's is 1e-7, BFCL's 0.001."""
UNSEEN_LIMIT = 256
"""Tokens that lm-eval's client of servers asks for where a task has no limit that it knows."""
CHAT = "/v1/chat/completions"


class Amendments:
    """The changes of one gateway's requests."""

    def __init__(self) -> None:
        self._asked: dict[bytes, int] = {}

    def of(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The keys to set in a request's body; empty: it is right as it is."""
        path = path.partition("?")[0].rstrip("/")
        changed: dict[str, Any] = {}
        temperature = body.get("temperature")
        greedy = isinstance(temperature, int | float) and 0 <= temperature < GREEDY_BELOW
        if greedy and temperature != 0:
            changed["temperature"] = 0
        limit = body.get("max_new_tokens")
        if isinstance(limit, int) and limit > 0 and body.get("max_tokens") in (None, UNSEEN_LIMIT):
            changed["max_tokens"] = limit
        if path == CHAT and _is_to_be_continued(body):
            changed |= {"add_generation_prompt": False, "continue_final_message": True}
        seed = body.get("seed")
        if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 and not greedy:
            before = self._count(path, body)
            if before:
                changed["seed"] = seed + before
        return changed

    def _count(self, path: str, body: dict[str, Any]) -> int:
        """How often this request came before. After a restart it begins anew, as the harness does."""
        key = request_key(path, b"", True, body)[:16]
        before = self._asked.get(key, 0)
        self._asked[key] = before + 1
        return before


def _is_to_be_continued(body: dict[str, Any]) -> bool:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return False
    last, said = messages[-1], body.keys() & {"add_generation_prompt", "continue_final_message"}
    return (
        not said
        and last.get("role") == "assistant"
        and bool(last.get("content"))
        and not last.get("tool_calls")
    )
