"""Program that asks a model how likely texts are.

    python -m slurmeval.harnesses.perplexity.run order.json

It writes samples.jsonl and then results.json beside the order; failure.json where it cannot go on. What was
answered before the gateway replays.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slurmeval.config.perplexity import PerplexityTexts
from slurmeval.harnesses.asking import Asking, all_at_once, asking
from slurmeval.harnesses.own_programs import carry_out, leave
from slurmeval.harnesses.perplexity.corpus import CorpusText, read
from slurmeval.harnesses.perplexity.windows import Likelihoods, Window, combined, windows


class PerplexityRun:
    """Run over all texts."""

    def __init__(self, asked: PerplexityTexts, model: Asking) -> None:
        """`asked` says how texts are cut."""
        self._asked, self._model = asked, model

    async def all(self, texts: list[CorpusText]) -> list[dict[str, Any]]:
        """Returns the line of each text, in the order of the file."""
        return await all_at_once([(text,) for text in texts], self._text, "texts")

    async def _text(self, text: CorpusText) -> dict[str, Any]:
        parts = list(windows(text.text, self._asked.window, self._asked.stride))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._window(part)) for part in parts]
        found = [task.result() for task in tasks]
        errors = [error for _, _, error in found if error is not None]
        line = asdict(text) | {"prompts": _prompts(parts), "n_windows": len(parts), "error": None}
        if errors:
            line["error"] = errors[0]
        else:
            told = zip(parts, found, strict=True)
            line |= asdict(combined([(part, context, both) for part, (context, both, _) in told if both]))
        return line

    async def _window(self, window: Window) -> tuple[Likelihoods | None, Likelihoods | None, str | None]:
        """Returns the likelihoods of the context (None: there is none) and of all, and why there are none."""
        context, error = None, None
        async with self._model.room:
            if window.context:
                context, error = await self._model.likelihoods(window.context)
            if error is not None:
                return None, None, error
            both, error = await self._model.likelihoods(window.context + window.new)
        read_context = context and Likelihoods(*context)
        return read_context, both and Likelihoods(*both), error


def _prompts(parts: list[Window]) -> list[str]:
    return [text for part in parts for text in (part.context, part.context + part.new) if text]


async def _run(order: dict[str, Any], folder: Path) -> None:
    asked = PerplexityTexts.model_validate(order["perplexity"])
    texts = read(asked, Path(order["data"]), order["limit"])
    async with asking(order) as model:
        found = await PerplexityRun(asked, model).all(texts)
    leave(folder, found, {"n_texts": len(texts)})


def main(path: Path) -> int:
    """Carries out an order. Returns 0 with results.json, and 1 where failure.json gives the reason."""
    return carry_out(_run, path, "perplexity")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
