"""Whether the hub will give what a run needs, asked before anything starts."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from slurmeval.files import read_json
from slurmeval.staging.hub_client import prepare_client
from slurmeval.staging.hub_errors import brief, refusal, token
from slurmeval.staging.repository import Repository, endpoint

CONCURRENT_REQUESTS = 16
NAMED_LIMIT = 3
"""Repositories that a warning names before it counts."""


@dataclass(frozen=True)
class Access:
    """The hub's answers for a run's repositories, one line each."""

    refused: list[str]
    """The hub answered, and staging would fail: gated, private or absent, no such revision, bad token."""
    warnings: list[str]
    """The hub, or some of its answers, could not be had. At most one line."""


def check(repositories: Iterable[Repository], hf_home: Path, timeout_s: float = 5.0) -> Access:
    """Asks the hub for each repository that is not staged yet, all at once, for at most `timeout_s` seconds.

    Downloads and writes nothing, and never raises.
    """
    asked = [r for r in dict.fromkeys(repositories) if not is_staged(r, hf_home)]
    if not asked:
        return Access([], [])
    answers = _ask_all(asked, token(hf_home), timeout_s)
    refused: list[str] = []
    open_questions: list[tuple[Repository, str]] = []
    for repository in asked:
        error = answers.get(repository, TimeoutError(f"no answer in {timeout_s:g} s"))
        if error is None:
            continue
        line = refusal(repository, error)
        if line is None:
            open_questions.append((repository, brief(error)))
        else:
            refused.append(line)
    return Access(refused, _warning(open_questions))


def is_staged(repository: Repository, hf_home: Path) -> bool:
    """Returns whether a commit was staged and its files are still there, by name and size. Asks nobody."""
    if not repository.is_commit:
        return False
    folder = repository.snapshot(hf_home, repository.revision)
    try:
        hash_cache = read_json(repository.records(hf_home) / f"{repository.revision}.ledger.json")
        return bool(hash_cache) and all(
            (folder / name).stat().st_size == entry["size"] for name, entry in hash_cache.items()
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def _ask_all(
    repositories: list[Repository], secret: str | None, timeout_s: float
) -> dict[Repository, Exception | None]:
    """Returns the hub's error by repository; None for one that it gives.

    Repositories that the hub did not answer for in time are missing.
    """
    prepare_client()
    deadline = time.monotonic() + timeout_s
    questions: queue.SimpleQueue[Repository] = queue.SimpleQueue()
    for repository in repositories:
        questions.put(repository)
    answers: dict[Repository, Exception | None] = {}

    def ask() -> None:
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                repository = questions.get_nowait()
            except queue.Empty:
                return
            try:
                _ask(repository, secret, left_s)
                answers[repository] = None
            except Exception as error:  # noqa: BLE001 - the end of a thread: whatever it is, it is said
                answers[repository] = error

    # as daemons: a hub that never answers must not keep the process from ending
    threads = [threading.Thread(target=ask, daemon=True) for _ in repositories[:CONCURRENT_REQUESTS]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(answers)


def _ask(repository: Repository, secret: str | None, timeout_s: float) -> None:
    """Raises what the hub's client raises when the repository cannot be had."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    headers = build_hf_headers(token=secret or False)
    about = f"{endpoint()}/api/{repository.kind}s/{repository.name}"
    answer = get_session().get(
        f"{about}/revision/{quote(repository.revision, safe='')}", headers=headers, timeout=timeout_s
    )
    hf_raise_for_status(answer)
    if answer.json().get("gated"):  # what it says of itself is open to all, its files are not
        answer = get_session().get(f"{about}/auth-check", headers=headers, timeout=timeout_s)
        hf_raise_for_status(answer)


def _warning(open_questions: list[tuple[Repository, str]]) -> list[str]:
    if not open_questions:
        return []
    names = [repository.name for repository, _ in open_questions]
    rest = f" and {len(names) - NAMED_LIMIT} more" if len(names) > NAMED_LIMIT else ""
    named, reason = ", ".join(names[:NAMED_LIMIT]) + rest, open_questions[0][1]
    return [f"the hub ({endpoint()}) cannot be asked for {named}: {reason}"]
