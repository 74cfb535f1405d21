"""Program that holds texts against each other by a model's embeddings; it runs in an environment of its own.

    python embed.py order.json

The order has `weights` (a folder), `metric`, `layer`, `batch` and `pairs` of an answer and a reference.
It writes `scores.json` beside the order: a score for each pair, and the layer. Nothing is fetched, and no
code that comes with weights is run.

bertscore: Zhang et al. (arXiv:1904.09675), F of the greedy matching of tokens, without weights for rare
words, as the package bert-score gives it. similarity: the cosine of two texts' embeddings, pooled as the
folder's `1_Pooling/config.json` (sentence-transformers) says, else the mean over tokens.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

RESULTS = "scores.json"
REPORT_INTERVAL_S = 10.0
POOLING = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
}
READ = ("Transformer", "Pooling", "Normalize")
"""Modules of sentence-transformers that are done here; Normalize alters no cosine."""
PREFIXED = ("roberta", "gpt2", "bart", "longformer")
"""Architectures whose tokenizers read the first word as another one without a space before it."""


class Embedder:
    """A model and its tokenizer."""

    def __init__(self, weights: Path, layer: int | None) -> None:
        """Loads both. Raises ValueError where the model has no such layer, or its folder asks for more."""
        self._torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
        self._torch.set_grad_enabled(False)
        config = transformers.AutoConfig.from_pretrained(weights)
        prefixed = {"add_prefix_space": True} if config.model_type in PREFIXED else {}
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(weights, **prefixed)
        model = transformers.AutoModel.from_pretrained(weights, use_safetensors=True)
        self._model = (model.get_encoder() if config.is_encoder_decoder else model).float().eval()
        layers = int(getattr(config, "num_hidden_layers", 0))
        if layer is not None and layer > layers:
            raise ValueError(f"the model has {layers} layers, and no layer {layer}")
        self.layer = layers if layer is None else layer
        self._longest = min(self._tokenizer.model_max_length, getattr(config, "max_position_embeddings", 512))
        if config.model_type in ("roberta", "longformer", "xlm-roberta"):
            self._longest = min(self._longest, config.max_position_embeddings - 2)  # positions count from 2
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        self._tokenizer.padding_side = "right"

    def read(self, texts: Sequence[str]) -> tuple[Any, Any, Any]:
        """Returns embeddings of shape (texts, tokens, size), which tokens there are, and which of them count.

        Tokens that only mark where a text begins and ends do not count, though words may be like them.
        """
        stripped = [text.strip() for text in texts]
        given = self._tokenizer(
            stripped, padding=True, truncation=True, max_length=self._longest, return_tensors="pt",
            return_special_tokens_mask=True,
        )  # fmt: skip
        there = given["attention_mask"].bool()
        counted = there & ~given.pop("special_tokens_mask").bool()
        states = self._model(**given, output_hidden_states=True).hidden_states[self.layer]
        return states, there, counted


def bertscores(embedder: Embedder, answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """Returns F of each pair; 0 where a text has no word."""
    torch = importlib.import_module("torch")
    (a, a_there, a_counts), (b, b_there, b_counts) = embedder.read(answers), embedder.read(references)
    unlike = -torch.inf
    alike = torch.nn.functional.normalize(a, dim=-1) @ torch.nn.functional.normalize(b, dim=-1).mT
    alike = alike.masked_fill(~(a_there[:, :, None] & b_there[:, None, :]), unlike)
    precision = _mean(alike.amax(2), a_counts)
    recall = _mean(alike.amax(1), b_counts)
    f = 2 * precision * recall / (precision + recall)
    empty = (a_counts.sum(1) == 0) | (b_counts.sum(1) == 0)
    found: list[float] = f.nan_to_num(0.0).masked_fill(empty, 0.0).tolist()
    return found


def _mean(values: Any, counted: Any) -> Any:
    return values.masked_fill(~counted, 0.0).sum(1) / counted.sum(1).clamp(min=1)


def similarities(
    embedder: Embedder, pooling: str, answers: Sequence[str], references: Sequence[str]
) -> list[float]:
    """Returns the cosine of each pair's embeddings; 0 where a text is empty."""
    torch = importlib.import_module("torch")
    pooled = []
    for texts in (answers, references):
        states, there, _ = embedder.read(texts)
        if pooling == "first":
            pooled.append(states[:, 0])
        elif pooling == "last":
            pooled.append(states[torch.arange(len(states)), there.sum(1) - 1])
        else:
            pooled.append((states * there[:, :, None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1))
    found: list[float] = torch.nn.functional.cosine_similarity(*pooled).tolist()
    both = zip(found, answers, references)  # noqa: B905
    return [score if a.strip() and b.strip() else 0.0 for score, a, b in both]


def pooling_of(weights: Path) -> str:
    """Returns how a folder of sentence-transformers pools tokens; `mean` for others.

    Raises:
        ValueError: It does more than is done here.
    """
    modules = weights / "modules.json"
    if modules.exists():
        kinds = [str(each["type"]).rpartition(".")[2] for each in json.loads(modules.read_text("utf-8"))]
        if other := [kind for kind in kinds if kind not in READ]:
            raise ValueError(f"modules.json has a module {other[0]}; read are {', '.join(READ)}")
    file = weights / "1_Pooling" / "config.json"
    if not file.exists():
        return "mean"
    asked = [name for name, value in json.loads(file.read_text("utf-8")).items() if value is True]
    found = [POOLING.get(name) for name in asked if name.startswith("pooling_mode_")]
    if len(found) != 1 or found[0] is None:
        raise ValueError(f"1_Pooling/config.json asks for {', '.join(asked)}; read are {', '.join(POOLING)}")
    return found[0]


def batches(pairs: Sequence[Sequence[str]], size: int) -> Iterator[list[int]]:
    """Yields the places of pairs of about one length."""
    order = sorted(range(len(pairs)), key=lambda place: max(map(len, pairs[place])))
    yield from (order[start : start + size] for start in range(0, len(order), size))


def main(path: Path) -> int:
    """Carries out an order. Returns 0 with its scores, and 1 with a line where it cannot."""
    order = json.loads(path.read_text("utf-8"))
    pairs, weights = order["pairs"], Path(order["weights"])
    scores = [0.0] * len(pairs)
    try:
        similar = order["metric"] == "similarity"
        pooling = pooling_of(weights) if similar else ""
        embedder = Embedder(weights, order["layer"])
    except (ValueError, OSError, KeyError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    done, said = 0, time.monotonic()
    for places in batches(pairs, order["batch"]):
        answers, references = ([pairs[place][side] for place in places] for side in (0, 1))
        if similar:
            found = similarities(embedder, pooling, answers, references)
        else:
            found = bertscores(embedder, answers, references)
        for place, score in zip(places, found):  # noqa: B905
            scores[place] = score
        done += len(places)
        if time.monotonic() - said > REPORT_INTERVAL_S:
            said = time.monotonic()
            print(f"{done} of {len(pairs)} pairs", flush=True)
    told = {"scores": scores, "layer": embedder.layer, "pooling": pooling}
    (path.parent / RESULTS).write_text(json.dumps(told), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
