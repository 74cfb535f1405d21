"""Errors of the hub in one line that says what to do; retries while it is busy; the user's token."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from slurmeval.disk import forbidden_file, is_full
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.progress import Progress
from slurmeval.retrying import (
    BUSY_STATUSES,
    WAIT_LIMIT_S,
    Retry,
    backoff_s,
    call_with_retries,
    requested_wait_s,
)
from slurmeval.staging.repository import HUB_LOCK, REMEDY, Repository, endpoint

T = TypeVar("T")


def token(hf_home: Path) -> str | None:
    """Returns the user's token: from HF_TOKEN, else from the file that `hf auth login` writes."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if value := os.environ.get(variable, "").strip():
            return value
    files = [hf_home / "token", Path("~/.cache/huggingface/token").expanduser()]
    if os.environ.get("HF_TOKEN_PATH"):
        files.insert(0, Path(os.environ["HF_TOKEN_PATH"]))
    for file in files:
        try:
            if value := file.read_text().strip():
                return value
        except OSError:
            continue
    return None


class HubRetries:
    """Asks the hub again while it is busy or the connection breaks (`call_with_retries`).

    The hub's own client does so for some calls only: not for a repository's commit and files, nor for a
    file's metadata. It reads no `Retry-After` that is a date.
    """

    def __init__(
        self,
        progress: Progress,
        attempts: int = 8,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Tells `progress` of each wait."""
        self.progress, self.attempts, self.sleep = progress, attempts, sleep

    def call(self, what: str, action: Callable[[], T]) -> T:
        """Returns the result of `action`; raises its last error."""
        return call_with_retries(what, action, _retry, self.progress, self.attempts, self.sleep)


def _retry(result: object, attempt: int) -> Retry | None:
    if not isinstance(result, Exception):
        return None
    response = _response(result)
    if response is None:
        return Retry(brief(result), backoff_s(attempt)) if _is_connection(result) else None
    if response.status_code not in BUSY_STATUSES:
        return None
    wait_s = requested_wait_s(response.headers)
    if wait_s is None:
        # The hub counts requests over five minutes: who has asked too often waits beyond
        wait_s = backoff_s(attempt + 4 if response.status_code == 429 else attempt)
    return Retry(brief(result), wait_s) if wait_s <= WAIT_LIMIT_S else None


def explain(what: str, repository: Repository, error: BaseException) -> SlurmevalError:
    """Returns the error that a user sees. Its text holds no token."""
    from huggingface_hub import errors

    if is_full(error):
        return UserError(f"{what}: the disk is full or over quota: make room, or {REMEDY}")
    if (place := forbidden_file(error)) is not None:
        return UserError(f"{what}: no permission to write {place}: {REMEDY}")
    if (refused := refusal(repository, error)) is not None:
        return UserError(f"{what}: {refused}")
    causes = list(_chain(error))
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes):
        return UserError(
            f"{what}: {repository.name} is not staged yet and HF_HUB_OFFLINE is set: unset it to download"
        )
    return SlurmevalError(
        f"{what}: {repository.name} cannot be downloaded from {endpoint()}: {brief(causes[-1])}"
    )


def refusal(repository: Repository, error: BaseException) -> str | None:
    """Returns why the hub refuses a repository, and what to do; None if it was only away or busy."""
    from huggingface_hub import errors

    name, kind, page = repository.name, repository.kind, repository.page
    for cause in _chain(error):
        if isinstance(cause, errors.GatedRepoError):
            return f"{name} is gated: ask for access at {page}, then set HF_TOKEN to a token of that account"
        if isinstance(cause, errors.RevisionNotFoundError):
            locked = f" ({repository.branch} in {HUB_LOCK}; `slurmeval stage lock --update` asks again)"
            return (
                f"{name} has no revision {repository.revision}{locked if repository.branch else ''}; "
                f"see {page}/commits/main"
            )
        if isinstance(cause, errors.RepositoryNotFoundError):
            return f"there is no {kind} {name}, or it is private and HF_TOKEN gives no access; see {page}"
        response = _response(cause)
        if response is not None and response.status_code in (401, 403):
            return f"the hub refuses {name} ({response.status_code}): is HF_TOKEN right? see {page}"
    return None


def _chain(error: BaseException | None) -> Any:
    """Yields the error and what caused it, the innermost last."""
    while error is not None:
        yield error
        error = error.__cause__


def _response(error: BaseException) -> Any:
    """Returns the hub's answer, if the error or a cause of it holds one."""
    for cause in _chain(error):
        response = getattr(cause, "response", None)
        if response is not None:
            return response
    return None


def _is_connection(error: BaseException) -> bool:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if any(
        isinstance(cause, OfflineModeIsEnabled) or is_full(cause) or forbidden_file(cause)
        for cause in _chain(error)
    ):
        return False
    transport = HfHubHTTPError.__mro__[1]  # the base of all errors of the client's HTTP library
    broken = "Consistency check failed"  # the client's word for a download that was cut short
    return any(
        isinstance(c, (ConnectionError, TimeoutError, transport)) or broken in str(c) for c in _chain(error)
    )


def brief(error: BaseException) -> str:
    """Returns an error in a few words, without a token."""
    response = _response(error)
    if response is not None:
        return f"the hub answers {response.status_code}"
    text = re.sub(r"hf_\w+", "hf_…", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
