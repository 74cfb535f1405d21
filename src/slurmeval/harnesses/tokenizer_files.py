"""Tokenizer that a harness loads: the model's own, with the BOS token as the config asks for it.

lm-eval's clients of a server add what the tokenizer adds by itself, or nothing at all. To have it otherwise
its file is altered: transformers 5 no longer follows `add_bos_token` of tokenizer_config.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses.base import Job
from slurmeval.harnesses.context import text_config

FILE, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"


def client_arguments(job: Job) -> dict[str, Any]:
    """Returns what lm-eval's client of a server is told of the model, where it tokenizes prompts itself."""
    entry = job.model_entry
    arguments: dict[str, Any] = {"add_bos_token": _adds_bos(job)}
    if job.context is not None:
        arguments["max_length"] = job.context
    if entry is not None and entry.trust_remote_code:
        arguments["trust_remote_code"] = True
    return arguments


def place_tokenizer(job: Job, folder: Path) -> None:
    """Lays the model's folder out as `folder`: a link, or links to its files beside those that differ.

    Raises:
        EvaluationFailed: The config asks for a token that the tokenizer does not have.
    """
    changed: dict[str, str] = {}
    if job.chat_template is not None:
        changed[TEMPLATE] = job.chat_template.read_text("utf-8")
    if _wants_bos(job) and (altered := _with_bos(job)) is not None:
        changed[FILE] = altered
    if not changed:
        folder.symlink_to(job.tokenizer.absolute(), target_is_directory=True)
        return
    folder.mkdir()
    for path in job.tokenizer.absolute().iterdir():
        if path.name not in changed:
            (folder / path.name).symlink_to(path)
    for name, text in changed.items():
        (folder / name).write_text(text, "utf-8")


def chat_template(folder: Path, given: Path | None) -> tuple[str, str] | None:
    """Returns a model's chat template, or the one `given` for it, and its file's name; None: it has none."""
    for path in (given, folder / TEMPLATE):
        if path is not None and path.is_file():
            return path.read_text("utf-8"), path.name
    found = _read(folder / CONFIG).get("chat_template")
    if isinstance(found, list):  # several, each with its name
        named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
        found = named.get("default")
    return (found, CONFIG) if isinstance(found, str) else None


def special_tokens(folder: Path) -> dict[str, str]:
    """Returns the texts of a model's special tokens by their names, such as `bos_token`."""
    found = {name: _text(value) for name, value in _read(folder / CONFIG).items() if name.endswith("_token")}
    return {name: text for name, text in found.items() if text is not None}


def _adds_bos(job: Job) -> bool:
    """Returns whether BOS is added: not where a chat template that has it lays prompts out."""
    if "apply_chat_template" in str(job.benchmark.extra) and _template_has_bos(job):
        return False
    return _wants_bos(job) is not False


def _wants_bos(job: Job) -> bool | None:
    """Returns whether prompts begin with BOS; None: as the tokenizer has it."""
    if job.model_entry is not None and job.model_entry.add_bos_token is not None:
        return job.model_entry.add_bos_token
    return True if "gemma" in str(text_config(job.tokenizer).get("model_type")) else None


def _template_has_bos(job: Job) -> bool:
    template, _ = chat_template(job.tokenizer, job.chat_template) or ("", "")
    token = special_tokens(job.tokenizer).get("bos_token")
    return "bos_token" in template or (token is not None and token in template)


def _with_bos(job: Job) -> str | None:
    """Returns the model's tokenizer.json with a last step that puts BOS first; None: it does so as it is."""
    tokenizer, token = _read(job.tokenizer / FILE), _text(_read(job.tokenizer / CONFIG).get("bos_token"))
    number = {each["content"]: each["id"] for each in tokenizer.get("added_tokens") or ()}.get(token)
    if token is None or number is None:
        if job.model_entry is None or job.model_entry.add_bos_token is None:
            return None
        reason = f"add_bos_token: the model {job.model} has no such token (bos_token in {FILE} and {CONFIG})"
        raise EvaluationFailed(ErrorClass.HARNESS_ERROR, reason)
    last = tokenizer.get("post_processor")
    steps = last["processors"] if last and last["type"] == "Sequence" else [last] if last else []
    layout = next((step for step in steps if step["type"] == "TemplateProcessing"), None)
    if layout is None:
        layout = {"type": "TemplateProcessing", "special_tokens": {}}
        layout |= {
            "single": [_part("Sequence", "A")],
            "pair": [_part("Sequence", "A"), _part("Sequence", "B", 1)],
        }
        steps = [*steps, layout]
    if layout["single"][0].get("SpecialToken", {}).get("id") == token:
        return None
    for name in ("single", "pair"):
        layout[name] = [_part("SpecialToken", token), *layout[name]]
    layout["special_tokens"][token] = {"id": token, "ids": [number], "tokens": [token]}
    tokenizer["post_processor"] = {"type": "Sequence", "processors": steps}
    return json.dumps(tokenizer, ensure_ascii=False)


def _part(kind: str, name: str, type_id: int = 0) -> dict[str, Any]:
    return {kind: {"id": name, "type_id": type_id}}


def _text(token: Any) -> str | None:
    """Returns the text of a token of tokenizer_config.json, which may be a mapping that holds it."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
