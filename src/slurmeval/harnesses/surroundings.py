"""What surrounds a harness's process: its environment variables and the files it reads."""

from __future__ import annotations

import os
import re
from pathlib import Path

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses.base import GATEWAY_KEY, Job

_INHERITED = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
_PLACEHOLDER = re.compile(r"\$\{dataset:([^}]*)\}")


def environment_variables(job: Job, attempt: Path) -> dict[str, str]:
    """A harness's whole environment: offline, the locked environment's programs first, caches and home in
    the attempt's folder, no proxy (the gateway is on this host), and no secret but the gateway's key."""
    cache = attempt / "cache"
    home = attempt / "home"
    for folder in (cache, home):
        folder.mkdir(exist_ok=True)
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    env.setdefault("LANG", "C.UTF-8")
    env |= {
        "PATH": f"{job.environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": str(job.environment),
        "HOME": str(home),
        "TMPDIR": _temporary_folder(),
        "XDG_CACHE_HOME": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "HF_DATASETS_CACHE": str(cache / "huggingface" / "datasets"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "*",
        "no_proxy": "*",
        GATEWAY_KEY: job.api_key,
    }
    return env


def _temporary_folder() -> str:
    """TMPDIR, unless harnesses that put it unquoted into a shell script would trip over it."""
    given = os.environ.get("TMPDIR", "/tmp")
    return given if re.fullmatch(r"[A-Za-z0-9/._+-]+", given) and Path(given).is_dir() else "/tmp"


def place_files(job: Job, attempt: Path) -> None:
    """Lays out what the harness reads, under names without spaces or shell characters, relative to the
    attempt's folder: `tokenizer` and `datasets/<id>` are links, `task/<name>.yaml` is the task's file.

    Relative names matter: harnesses put them unquoted into shell scripts, comma-separated lists and glob
    patterns, where the project's own path might mean something else."""
    (attempt / "tokenizer").symlink_to(job.tokenizer.absolute(), target_is_directory=True)
    (attempt / "datasets").mkdir()
    for name, folder in job.datasets.items():
        (attempt / "datasets" / name).symlink_to(folder.absolute(), target_is_directory=True)
    if job.task_file is not None:
        (attempt / "task").mkdir()
        (attempt / "task" / f"{task_name(job)}.yaml").write_text(_task_text(job, job.task_file))


def task_name(job: Job) -> str:
    """The task without the harness that nemo writes before it: `lm-evaluation-harness.mmlu` is `mmlu`."""
    task = job.benchmark.task
    return task.partition(".")[2] if job.benchmark.harness == "nemo" else task


def _task_text(job: Job, task_file: Path) -> str:
    try:
        text = task_file.read_text()
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
