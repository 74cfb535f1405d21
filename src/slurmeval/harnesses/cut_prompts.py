"""Program that finds the prompts that lm-eval cut; it runs after it, in its environment.

    python cut_prompts.py SETTINGS

lm-eval's client of a server keeps the last tokens of a prompt that is too long for the model, and does not
say of which. This program tokenizes the prompts of the samples in the same way, and writes the ids of the
questions that were cut, by task. SETTINGS is JSON: `output` and `cuts` (where to read and to write), and with
the values that lm-eval got: `tokenizer`, `trust_remote_code`, `add_bos_token`, `max_length`, `max_gen_toks`.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MAX_SPECIAL_TOKENS = 16
"""Tokens that a text may have beyond its bytes."""


def requests_of(
    line: dict[str, Any], kind: str | None, settings: dict[str, Any]
) -> Iterator[tuple[str, int]]:
    """Yields the text of each request, and how many of its tokens lm-eval keeps.

    A negative number says how many of its first tokens are lost.
    """
    if kind == "loglikelihood_rolling":  # it is asked for in pieces, and none is lost
        return
    room = settings["max_length"] - 1
    for request in line["arguments"].values():
        text, rest = request["arg_0"], request.get("arg_1")
        if isinstance(text, str) and isinstance(rest, str):
            yield text + rest, room
        elif isinstance(text, str):
            answer = (rest or {}).get("max_gen_toks", settings["max_gen_toks"])
            yield text, room - int(answer)


def is_cut(text: str, keeps: int, count: Callable[[str], int]) -> bool:
    """Returns whether a text has more tokens than lm-eval keeps.

    Tokens are counted only where the number of bytes does not tell.
    """
    if keeps <= 0:  # lm-eval keeps all behind the first -keeps tokens
        return keeps < 0
    return len(text.encode(errors="replace")) + MAX_SPECIAL_TOKENS > keeps and count(text) > keeps


def cut_questions(
    samples: Path, kind: str | None, settings: dict[str, Any], count: Callable[[str], int]
) -> list[int]:
    """Returns the ids of the questions of which a prompt was cut."""
    seen, cut = set(), []
    with samples.open(encoding="utf-8", newline="\n") as lines:
        for text in lines:
            line = json.loads(text)
            if line["doc_id"] not in seen and any(
                is_cut(prompt, keeps, count) for prompt, keeps in requests_of(line, kind, settings)
            ):
                cut.append(line["doc_id"])
            seen.add(line["doc_id"])  # there is a line for each filter
    return cut


def main(settings: dict[str, Any]) -> None:
    """Counts the cut prompts of all tasks of the newest results and writes them to `settings["cuts"]`."""
    tokenizers: list[Any] = []

    def count(text: str) -> int:
        if not tokenizers:  # loading takes seconds, and mostly every prompt is short
            transformers = importlib.import_module("transformers")
            trusted = settings["trust_remote_code"]
            load = transformers.AutoTokenizer.from_pretrained
            tokenizers.append(load(settings["tokenizer"], trust_remote_code=trusted))
        return len(tokenizers[0](text, add_special_tokens=settings["add_bos_token"]).input_ids)

    results = max(Path(settings["output"]).rglob("results_*.json"), key=lambda path: path.name)
    kinds = json.loads(results.read_text("utf-8")).get("configs") or {}
    stamp = results.stem.removeprefix("results")
    cut = {}
    for samples in sorted(results.parent.glob(f"samples_*{stamp}.jsonl")):
        task = samples.stem.removeprefix("samples_").removesuffix(stamp)
        kind = kinds.get(task, {}).get("output_type")
        cut[task] = cut_questions(samples, kind, settings, count)
    Path(settings["cuts"]).write_text(json.dumps(cut), "utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
