"""A GGUF file becomes a Hugging Face folder that vLLM serves: `convert_gguf.py FOLDER FILE OUTPUT`.

Run by the Python of an environment with torch, transformers and gguf, as a script: it imports nothing of
slurmeval. Weights are unpacked to float32 and written as bfloat16; tokenizer and chat template come from the
GGUF file.
"""

import sys


def convert(folder: str, file: str, output: str) -> None:
    """Writes the folder `output` from `file` in `folder`."""
    import torch  # type: ignore[import-not-found, unused-ignore]
    from transformers import (  # type: ignore[import-not-found, unused-ignore]
        AutoModelForCausalLM,
        AutoTokenizer,
    )

    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).to(
        torch.bfloat16
    )
    # Unpacked weights are no longer quantized; left in, the mark would make loading them fail.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


if __name__ == "__main__":
    convert(*sys.argv[1:4])
