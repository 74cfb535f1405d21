"""Program that patches a tiny random model by plain hooks of torch, and compares that with `patching.run`.

    python patch_tiny_model.py FOLDER RUN

It makes the model and its tokenizer in FOLDER, has RUN (slurmeval's program) patch three pairs there, and
prints the greatest difference of a recovered fraction by site, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import tokenizers
import torch
import transformers

WORDS = ["[UNK]", "the", "dog", "dogs", "cat", "cats", "near", "tree", "is", "are", "old"]
PAIRS = [
    ("the dogs near the tree", "the dog near the tree"),
    ("the cats near the tree", "the cat near the tree"),
    ("the old dogs near tree", "the old dog near tree"),
]


def make(folder: Path) -> None:
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.4,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    model = tokenizers.models.WordLevel(
        {word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    wrapped.save_pretrained(folder)


def by_hooks(folder: Path) -> list[dict[str, dict[str, float]]]:
    """Returns the recovered fractions of each pair by site and cell, with hooks of torch alone."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    ids = {word: number for number, word in enumerate(WORDS)}
    right, wrong = ids["are"], ids["is"]
    heads, size = (
        model.config.num_attention_heads,
        model.config.hidden_size // model.config.num_attention_heads,
    )

    def module(site: str, layer: int):
        block = model.model.layers[layer]
        return {
            "resid": block,
            "attn": block.self_attn.o_proj,
            "mlp": block.mlp,
            "heads": block.self_attn.o_proj,
        }[site]

    def run(tokens, site=None, layer=0, change=None):
        kept = {}
        before = site in ("resid", "heads")

        def pre(_, arguments):
            kept["value"] = arguments[0].clone()
            return None if change is None else (change(arguments[0].clone()), *arguments[1:])

        def post(_, arguments, output):
            kept["value"] = output.clone()
            return None if change is None else change(output.clone())

        hook = None
        if site:
            place = module(site, layer)
            hook = place.register_forward_pre_hook(pre) if before else place.register_forward_hook(post)
        with torch.no_grad():
            last = model(torch.tensor([tokens])).logits[0, -1]
        if hook:
            hook.remove()
        return float(last[right] - last[wrong]), kept.get("value")

    found = []
    for pair in PAIRS:
        clean, corrupted = ([ids[word] for word in text.split()] for text in pair)
        (top, _), (low, _) = run(clean), run(corrupted)
        cells = {}
        for site in ("resid", "attn", "mlp", "heads"):
            for layer in range(model.config.num_hidden_layers):
                _, wanted = run(clean, site, layer)
                for place in range(heads if site == "heads" else len(clean)):

                    def put(value, place=place, wanted=wanted, site=site):
                        if site == "heads":
                            part = slice(place * size, (place + 1) * size)
                            value[:, :, part] = wanted[:, :, part]
                        else:
                            value[:, place] = wanted[:, place]
                        return value

                    patched, _ = run(corrupted, site, layer, put)
                    cells[f"{site} {layer} {place}"] = (patched - low) / (top - low)
        found.append({"size": top - low, "cells": cells})
    return found


def main(folder: Path, program: str) -> None:
    make(folder)
    text = [{"id": str(n), "clean": a, "corrupted": b, "answer": " are", "wrong": " is", "category": None}
            for n, (a, b) in enumerate(PAIRS)]  # fmt: skip
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in text))
    order = {
        "weights": str(folder), "pairs": "in.jsonl", "dtype": "float32", "trust_remote_code": False,
        "gpus": 0, "rehearsal": False, "sites": ["resid", "attn", "mlp", "heads"], "every_layer": 1,
        "batch": 2,
    }  # fmt: skip
    (folder / "order.json").write_text(json.dumps(order))
    subprocess.run([sys.executable, program, str(folder / "order.json")], check=True, stdout=sys.stderr)
    differences: dict[str, list[float]] = {}
    wanted = by_hooks(folder)
    for line, oracle in zip(
        map(json.loads, (folder / "pairs.jsonl").read_text().splitlines()), wanted, strict=True
    ):
        assert line["problem"] is None, line["problem"]
        assert abs(line["logit_difference"] - line["corrupted_logit_difference"] - oracle["size"]) < 1e-3
        for site, cells in line["cells"].items():
            for layer, place, value in cells:
                gap = abs(value - oracle["cells"][f"{site} {layer} {place}"])
                differences.setdefault(site, []).append(gap)
    print(json.dumps({site: [len(values), max(values)] for site, values in differences.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
