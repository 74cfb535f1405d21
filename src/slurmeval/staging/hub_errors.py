"""What the hub refuses, in one line that says what to do; waiting while it is busy; the user's token."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from slurmeval.disk import is_full
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.progress import Progress
from slurmeval.retrying import backoff_s, requested_wait_s
from slurmeval.staging.repository import HUB_LOCK, Repository, endpoint
from slurmeval.staging.transfer import forbidden

T = TypeVar("T")
BUSY = (408, 425, 429, 500, 502, 503, 504)


def token(hf_home: Path) -> str | None:
    """The user's token: from HF_TOKEN, else from the file that `hf auth login` writes."""
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


class Patience:
    """Asks again while the hub is busy or the connection breaks: after as long as the hub says, else after
    1, 2, 4, … at most 60 seconds, give or take."""

    def __init__(
        self,
        progress: Progress,
        tries: int = 8,
        longest_s: float = 300,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.progress, self.tries, self.longest_s, self.sleep = progress, tries, longest_s, sleep

    def call(self, what: str, action: Callable[[], T]) -> T:
        """The result of `action`; its last error where patience ends or waiting is useless."""
        for number in range(1, self.tries):
            try:
                return action()
            except Exception as error:
                wait_s = self._wait_s(error, number)
                if wait_s is None:
                    raise
                self.progress(f"{what}: {brief(error)}; again in {wait_s:.0f} s")
                self.sleep(wait_s)
        return action()

    def _wait_s(self, error: Exception, number: int) -> float | None:
        response = _response(error)
        if response is None:
            return backoff_s(number) if _is_connection(error) else None
        if response.status_code not in BUSY:
            return None
        asked_s = requested_wait_s(response.headers)
        if asked_s is None:
            # The hub counts requests over five minutes: who has asked too often waits beyond
            return backoff_s(number + 4 if response.status_code == 429 else number)
        return asked_s if asked_s <= self.longest_s else None


def explain(what: str, repository: Repository, error: BaseException) -> SlurmevalError:
    """The error that a user sees. Its text holds no token."""
    from huggingface_hub import errors

    if is_full(error):
        return UserError(f"{what}: the disk is full or over quota: make room, or set staging.hf_home")
    if (place := forbidden(error)) is not None:
        return UserError(f"{what}: no permission to write {place}: set staging.hf_home to another place")
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
    """Why the hub does not give a repository, and what to do; None where it did not refuse (it was away or
    busy)."""
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
    """The error and what caused it, the innermost last."""
    while error is not None:
        yield error
        error = error.__cause__


def _response(error: BaseException) -> Any:
    """The hub's answer, if the error or a cause of it holds one."""
    for cause in _chain(error):
        response = getattr(cause, "response", None)
        if response is not None:
            return response
    return None


def _is_connection(error: BaseException) -> bool:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if any(
        isinstance(cause, OfflineModeIsEnabled) or is_full(cause) or forbidden(cause)
        for cause in _chain(error)
    ):
        return False
    transport = HfHubHTTPError.__mro__[1]  # the base of all errors of the client's HTTP library
    broken = "Consistency check failed"  # the client's word for a download that was cut short
    return any(
        isinstance(c, (ConnectionError, TimeoutError, transport)) or broken in str(c) for c in _chain(error)
    )


def brief(error: BaseException) -> str:
    """An error in a few words, without a token."""
    response = _response(error)
    if response is not None:
        return f"the hub answers {response.status_code}"
    text = re.sub(r"hf_\w+", "hf_…", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
