"""Program that patches activations of a model; it runs in TransformerLens' environment, without a server.

    python run.py order.json

Of each pair of prompts of one length, the model's activations on the clean prompt are put, one at a time,
into its run on the corrupted one. How much of the difference between both runs comes back is the recovered
fraction: (patched - corrupted) / (clean - corrupted), of the answer's logit less the wrong answer's. 0: the
activation carries nothing of it; 1: all. Sweeps are TransformerLens' own
(`transformer_lens.patching.generic_activation_patch`) on its bridge around the model of `transformers`.

It writes `pairs.jsonl`, a line for each pair, and then `results.json` beside the order.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PAIRS, RESULTS = "pairs.jsonl", "results.json"
SITES = {
    "resid": ("resid_pre", "layer_pos_patch_setter", ("layer", "pos")),
    "attn": ("attn_out", "layer_pos_patch_setter", ("layer", "pos")),
    "mlp": ("mlp_out", "layer_pos_patch_setter", ("layer", "pos")),
    "heads": ("z", "layer_head_vector_patch_setter", ("layer", "head")),
    "heads_by_position": ("z", "layer_pos_head_vector_patch_setter", ("layer", "pos", "head")),
}
"""By the config's name of what is patched: TransformerLens' names of the activation and of what sets it, and
the axes of its cells. `resid` is the residual stream before a layer."""
LEAST_EFFECT = 0.25
"""Difference of clean and corrupted logit difference below which there is too little to recover: fractions of
it are many times what the activation does."""


class Pair:
    """A pair of prompts as token ids; `problem` says why it cannot be patched."""

    def __init__(self, line: dict[str, Any], tokenizer: Any) -> None:
        """Tokenizes a pair."""
        self.line = line
        self.clean, self.corrupted = (self._ids(tokenizer, line[name]) for name in ("clean", "corrupted"))
        self.answer, self.wrong = (self._first(tokenizer, line, name) for name in ("answer", "wrong"))
        self.tokens = [tokenizer.decode([token]) for token in self.corrupted]
        self.problem: str | None = None
        if len(self.clean) != len(self.corrupted):
            self.problem = f"the prompts have {len(self.clean)} and {len(self.corrupted)} tokens"
        elif self.clean == self.corrupted:
            self.problem = "the prompts are the same"
        elif self.answer == self.wrong:
            self.problem = "answer and wrong answer begin with the same token"

    @staticmethod
    def _ids(tokenizer: Any, text: str) -> list[int]:
        return [int(token) for token in tokenizer(text).input_ids]

    @staticmethod
    def _first(tokenizer: Any, line: dict[str, Any], name: str) -> int:
        """Returns the token with which an answer goes on from the prompt."""
        before, whole = (Pair._ids(tokenizer, line["clean"] + rest) for rest in ("", line[name]))
        place = next((at for at, ids in enumerate(zip(before, whole)) if ids[0] != ids[1]), len(before))  # noqa: B905
        return whole[min(place, len(whole) - 1)]

    @property
    def first_difference(self) -> int:
        """Returns the first position at which the prompts differ. Before it both runs are equal."""
        return next(at for at, (a, b) in enumerate(zip(self.clean, self.corrupted)) if a != b)  # noqa: B905


def loaded(order: dict[str, Any]) -> tuple[Any, Any]:
    """Returns TransformerLens' bridge on the model, in evaluation mode, and the model's tokenizer."""
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    bridges = importlib.import_module("transformer_lens.model_bridge")
    torch.set_grad_enabled(False)
    trusted = {"trust_remote_code": order["trust_remote_code"]}
    tokenizer = transformers.AutoTokenizer.from_pretrained(order["weights"], **trusted)
    if order["rehearsal"]:
        model, place = random_model(order, len(tokenizer), trusted), {"device": "cpu"}
    else:
        if order["gpus"] and not torch.cuda.is_available():
            raise ValueError(
                "patching.gpus: the job was given GPUs, and its process sees none; 0: on the CPU"
            )
        dtype = getattr(torch, order["dtype"]) if order["dtype"] != "auto" else "auto"
        given = {"device_map": "auto"} if order["gpus"] > 1 else {}
        model = transformers.AutoModelForCausalLM.from_pretrained(
            order["weights"], dtype=dtype, attn_implementation="eager", **given, **trusted
        )
        place = {} if given else {"device": "cuda" if order["gpus"] else "cpu"}
        model = model.to(place["device"]) if place else model
    bridge = bridges.TransformerBridge.boot_transformers(
        order["weights"], hf_model=model.eval(), tokenizer=tokenizer, dtype=model.dtype, **place
    )
    return bridge, tokenizer


def random_model(order: dict[str, Any], vocabulary: int, trusted: dict[str, bool]) -> Any:
    """Returns a small random model for a rehearsal.

    Raises:
        ValueError: TransformerLens does not know the architecture of the weights.
    """
    transformers = importlib.import_module("transformers")
    known = importlib.import_module("transformer_lens.factories.architecture_adapter_factory")
    (architecture, *_) = transformers.AutoConfig.from_pretrained(order["weights"], **trusted).architectures
    if architecture not in known.SUPPORTED_ARCHITECTURES:
        raise ValueError(f"TransformerLens does not know the architecture {architecture}")
    importlib.import_module("torch").manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def logit_difference(answers: Any, wrongs: Any) -> Callable[[Any], Any]:
    """Returns the function of logits to the answer's less the wrong answer's, at the last position."""

    def of(logits: Any) -> Any:
        last = logits[:, -1, :].float()
        return last.gather(1, answers)[:, 0] - last.gather(1, wrongs)[:, 0]

    return of


def cells(
    axes: tuple[str, ...], bridge: Any, order: dict[str, Any], pairs: list[Pair]
) -> Iterator[tuple[int, ...]]:
    """Yields the cells of a sweep, without positions before the first difference: they recover nothing."""
    first = min(pair.first_difference for pair in pairs)
    positions = range(first, len(pairs[0].clean))
    every = order["every_layer"]
    heads = range(bridge.cfg.n_heads)
    for layer in range(0, bridge.cfg.n_layers, every):
        if axes == ("layer", "pos"):
            yield from ((layer, position) for position in positions)
        elif axes == ("layer", "head"):
            yield from ((layer, head) for head in heads)
        else:
            yield from ((layer, position, head) for position in positions for head in heads)


def patched(
    bridge: Any, order: dict[str, Any], pairs: list[Pair], say: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Returns what patching pairs of one length gives, a line for each."""
    torch, pandas = importlib.import_module("torch"), importlib.import_module("pandas")
    patching = importlib.import_module("transformer_lens.patching")
    device = next(bridge.original_model.parameters()).device
    clean, corrupted = (
        torch.tensor([getattr(pair, name) for pair in pairs], device=device)
        for name in ("clean", "corrupted")
    )
    answers, wrongs = (
        torch.tensor([[getattr(pair, name)] for pair in pairs], device=device) for name in ("answer", "wrong")
    )
    metric = logit_difference(answers, wrongs)
    logits, cache = bridge.run_with_cache(clean)
    before, top = metric(logits), logits[:, -1, :].argmax(-1)
    after = metric(bridge(corrupted))
    lines: list[dict[str, Any]] = [
        {"clean": float(before[at]), "corrupted": float(after[at]), "top": int(top[at]), "cells": {}}
        for at in range(len(pairs))
    ]
    for site in order["sites"]:
        name, setter, axes = SITES[site]
        where = list(cells(axes, bridge, order, pairs))
        frame = pandas.DataFrame(where, columns=list(axes))
        swept = patching.generic_activation_patch(
            bridge, corrupted, cache, metric, getattr(patching, setter), name, index_df=frame, reduce="none",
            baseline=True,
        )  # fmt: skip
        values = swept.values.cpu()
        for at, line in enumerate(lines):
            size = line["clean"] - line["corrupted"]
            if size > LEAST_EFFECT:
                line["cells"][site] = [
                    [*cell, round((float(values[place, at]) - line["corrupted"]) / size, 4)]
                    for place, cell in enumerate(where)
                ]
        say(len(where))
    return lines


def batches(pairs: list[Pair], size: int) -> Iterator[list[Pair]]:
    """Yields pairs of one length each, at most `size` at once, in a fixed order."""
    by_length: dict[int, list[Pair]] = {}
    for pair in pairs:
        if pair.problem is None:
            by_length.setdefault(len(pair.clean), []).append(pair)
    for _, group in sorted(by_length.items()):
        yield from (group[start : start + size] for start in range(0, len(group), size))


def line_of(pair: Pair, found: dict[str, Any] | None, tokenizer: Any) -> dict[str, Any]:
    """Returns what is written of a pair."""
    line = pair.line | {"tokens": pair.tokens, "problem": pair.problem}
    if found is None:
        return line
    return line | {
        "logit_difference": found["clean"],
        "corrupted_logit_difference": found["corrupted"],
        "top": tokenizer.decode([found["top"]]),
        "right": found["clean"] > 0,
        "cells": found["cells"],
    }


def main(path: Path) -> int:
    """Carries out an order. Returns 0 with results.json."""
    order = json.loads(path.read_text("utf-8"))
    lines = [json.loads(text) for text in (path.parent / order["pairs"]).read_text("utf-8").splitlines()]
    bridge, tokenizer = loaded(order)
    pairs = [Pair(line, tokenizer) for line in lines]
    found: dict[int, dict[str, Any]] = {}
    groups = list(batches(pairs, order["batch"]))
    for number, group in enumerate(groups, 1):

        def say(count: int, number: int = number) -> None:
            print(f"{number} of {len(groups)} batches: {count} cells patched", flush=True)

        for pair, one in zip(group, patched(bridge, order, group, say)):  # noqa: B905
            found[id(pair)] = one
    with (path.parent / PAIRS).open("w", encoding="utf-8", newline="\n") as stream:
        for pair in pairs:
            stream.write(json.dumps(line_of(pair, found.get(id(pair)), tokenizer)) + "\n")
    results = {"n_pairs": len(pairs), "n_layers": bridge.cfg.n_layers, "n_heads": bridge.cfg.n_heads}
    written = path.parent / f"{RESULTS}.part"
    written.write_text(json.dumps(results), "utf-8")
    written.rename(path.parent / RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
