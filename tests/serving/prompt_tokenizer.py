"""Makes a tokenizer of 300 byte pairs: `prompt_tokenizer.py FOLDER KIND`, where KIND is gemma or qwen.

Gemma's puts <bos> before a text, Qwen's has no such token. It runs in an environment that has tokenizers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BOS, EOS = "<bos>", "<eos>"


def main(folder: Path, kind: str) -> None:
    gemma = kind == "gemma"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [EOS, BOS] if gemma else [EOS]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["Question: which word? Answer: word"], trainer)
    if gemma:
        number = tokenizer.token_to_id(BOS)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, number)]
        )
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": EOS}
    config |= {"bos_token": BOS if gemma else None, "add_bos_token": gemma}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    model = {"model_type": "gemma2" if gemma else "qwen2", "max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(model))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
