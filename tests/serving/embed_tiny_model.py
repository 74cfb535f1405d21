"""Program that makes tiny random encoders and scores texts by them, by slurmeval's program and by loops.

    python embed_tiny_model.py FOLDER EMBED

It makes weights of BERT and RoBERTa in FOLDER, has EMBED (`slurmeval.texts.embed`) score by them, and prints
its scores beside those of the loops, as JSON. Last it asks for a layer that is not there.
"""

from __future__ import annotations

import contextlib
import json
import runpy
import sys
from pathlib import Path

import tokenizers
import torch
import transformers

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "the", "dog", "cat", "sat", "on", "a", "mat", "rug", "ran"]
PAIRS = [
    ["the dog sat on the mat", "the dog sat on the mat"],
    ["the cat ran", "a dog sat on a rug"],
    ["a mat", "the rug on the mat sat on the cat"],
    ["", "the cat"],
]
LAYER = 2


def make(folder: Path, kind: str) -> None:
    torch.manual_seed(2)
    sizes = {
        "vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": 40, "initializer_range": 0.5, "pad_token_id": 0,
    }  # fmt: skip
    if kind == "roberta":
        model = transformers.RobertaModel(transformers.RobertaConfig(**sizes, type_vocab_size=1))
    else:
        model = transformers.BertModel(transformers.BertConfig(**sizes))
    model.save_pretrained(folder)
    ids = {word: number for number, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]"}
    named = {f"{name}_token": token for name, token in names.items()}
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=30, **named).save_pretrained(
        folder
    )


def vectors(folder: Path, text: str, layer: int) -> list[torch.Tensor]:
    """The embedding of each token, between those that mark both ends."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    ids = [1, *(WORDS.index(word) for word in text.split()), 2]
    with torch.no_grad():
        states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
    return list(states)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def bertscore(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    if len(a) == 2 or len(b) == 2:
        return 0.0
    precision = sum(max(cosine(x, y) for y in b) for x in a[1:-1]) / (len(a) - 2)
    recall = sum(max(cosine(x, y) for x in a) for y in b[1:-1]) / (len(b) - 2)
    return 2 * precision * recall / (precision + recall)


def similarity(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    if len(a) == 2 or len(b) == 2:
        return 0.0
    return cosine(sum(a) / len(a), sum(b) / len(b))


def main(folder: Path, program: str) -> None:
    embed, told = runpy.run_path(program)["main"], {}
    for kind in ("bert", "roberta"):
        weights = folder / kind
        make(weights, kind)
        for metric, layer, by_loops in (("bertscore", LAYER, bertscore), ("similarity", None, similarity)):
            order = folder / "order.json"
            asked = {"weights": str(weights), "metric": metric, "layer": layer, "batch": 2, "pairs": PAIRS}
            order.write_text(json.dumps(asked))
            with contextlib.redirect_stdout(sys.stderr):
                assert embed(order) == 0
            found = json.loads((folder / "scores.json").read_text())["scores"]
            both = [[vectors(weights, text, layer or 3) for text in pair] for pair in PAIRS]
            told[f"{kind} {metric}"] = [found, [by_loops(*pair) for pair in both]]
    order.write_text(json.dumps(asked | {"layer": 9}))
    assert embed(order) == 1  # and says so
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
