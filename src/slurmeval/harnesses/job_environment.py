"""Environment variables of a harness's process, and the files it reads."""

from __future__ import annotations

import os
import re
from pathlib import Path

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses.base import GATEWAY_KEY, Job
from slurmeval.harnesses.tokenizer_files import place_tokenizer
from slurmeval.variables import OWN_PYTHON, certificates, proxies

_INHERITED = ("TZ", "USER", "LOGNAME", "LD_LIBRARY_PATH")
_HUB = ("HF_ENDPOINT", "HF_TOKEN")
_TEXT = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **OWN_PYTHON}
"""Whatever the user's locale is, files and sorting are the same."""
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
_NO_PROXY = {"NO_PROXY": "*", "no_proxy": "*"}
CODE_ALLOWED = {"HF_ALLOW_CODE_EVAL": "1"}
"""Without it, `evaluate`, by which harnesses run what the model writes, refuses to."""
_PLACEHOLDER = re.compile(r"\$\{dataset:([^}]*)\}")
KEPT = ("home", "cache")
"""The folders of an attempt in which a harness keeps what it fetches."""


def environment_variables(job: Job, attempt: Path) -> dict[str, str]:
    """Returns a harness's whole environment.

    It is offline, with its runtime's programs first, and caches and home in the attempt's folder. It has no
    proxy but where the harness has the network (and never for the gateway, which is on this host), and no
    secret but the gateway's key and those that the benchmark names. What its rehearsal fetched is in the
    caches, as links.
    """
    home, cache = (attempt / name for name in KEPT)
    for folder in (home, cache):
        folder.mkdir(parents=True, exist_ok=True)
        if job.prepared is not None:
            link_tree(job.prepared / folder.name, folder)
    inherited = (*_INHERITED, *_HUB) if job.online else _INHERITED
    env = {name: os.environ[name] for name in inherited if name in os.environ}
    env |= certificates(os.environ)
    env |= proxies(os.environ) if job.online or job.benchmark.network else _NO_PROXY
    env |= {
        **job.runtime.variables(),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "HF_DATASETS_CACHE": str(cache / "huggingface" / "datasets"),
        "NLTK_DATA": str(cache / "nltk_data"),
        "LMUData": str(cache / "LMUData"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_SHARED_BLOBS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **_TEXT,
        "PYTHONUNBUFFERED": "1",
        **({} if job.online else _OFFLINE),
        **job.secrets,
        GATEWAY_KEY: job.api_key,
    }
    if job.hub is not None:
        env["HF_HUB_CACHE"] = str(job.hub)
    return env


def link_tree(source: Path, target: Path) -> None:
    """Lays out `source` in `target`: new folders, so that locks can be made in them, with links to the files.

    Some caches must be writable even to be read.
    """
    for base, _, names in os.walk(source):
        folder = target / Path(base).relative_to(source)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = Path(base) / name
            if name.endswith(".lock"):
                continue
            link = path.readlink() if path.is_symlink() else path.absolute()
            (folder / name).symlink_to(link)


def place_files(job: Job, attempt: Path) -> None:
    """Lays out what the harness reads, under names without spaces or shell characters.

    They are relative to the attempt's folder: `datasets/<id>` are links, `tokenizer` is the model's folder as
    prompts need it, `task/<name>.yaml` is the task's file. Relative names matter: harnesses put them unquoted
    into shell scripts, comma-separated lists and glob patterns, where the project's own path might mean
    something else.
    """
    place_tokenizer(job, attempt / "tokenizer")
    (attempt / "datasets").mkdir()
    for name, folder in job.datasets.items():
        (attempt / "datasets" / name).symlink_to(folder.absolute(), target_is_directory=True)
    if job.task_file is not None:
        (attempt / "task").mkdir()
        (attempt / "task" / f"{task_name(job)}.yaml").write_text(
            _task_text(job, job.task_file), encoding="utf-8"
        )


def task_name(job: Job) -> str:
    """Returns the task without the harness before it: `lm-evaluation-harness.mmlu` is `mmlu`."""
    task = job.benchmark.task
    return task.partition(".")[2] if job.benchmark.harness == "nemo" else task


def _task_text(job: Job, task_file: Path) -> str:
    try:
        text = task_file.read_text(encoding="utf-8")
    except OSError as error:
        raise EvaluationFailed(ErrorClass.HARNESS_ERROR, f"{task_file}: {error.strerror}") from error
    named = re.search(r"^task:[ \t]*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
    if named is None or named[1] != task_name(job):
        defined = named[1] if named else "no task"
        raise EvaluationFailed(
            ErrorClass.HARNESS_ERROR,
            f"{task_file}: defines {defined}, but the benchmark asks for {task_name(job)}",
        )
    unknown = sorted({name for name in _PLACEHOLDER.findall(text) if name not in job.datasets})
    if unknown:
        raise EvaluationFailed(
            ErrorClass.HARNESS_ERROR,
            f"{task_file}: dataset {', '.join(unknown)} is not among the benchmark's datasets "
            f"({', '.join(sorted(job.datasets)) or 'none'})",
        )
    return _PLACEHOLDER.sub(lambda match: f"datasets/{match[1]}", text)
