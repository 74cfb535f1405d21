"""Before anything starts: one line for each repository that the hub will not give, in a few seconds."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurmeval.config.sources import Weights
from slurmeval.staging import access
from slurmeval.staging.access import Access
from slurmeval.staging.repository import Repository
from slurmeval.state.manifest import Manifest
from tests.stand_ins.stand_in_hub import StandInHub

from .conftest import MODEL

TINY = Repository("model", "acme/tiny", "main")


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield


def test_open_repositories_are_no_trouble(hub: StandInHub, hf_home: Path) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    pinned = Repository("model", "acme/tiny", commit)
    assert access.check([TINY, pinned, TINY], hf_home) == Access([], [])
    assert hub.downloads() == 0
    assert not hf_home.exists()


def test_each_refusal_is_a_line_with_the_page(hub: StandInHub, hf_home: Path) -> None:
    hub.add("model", "acme/tiny", MODEL, token="hf_good")
    hub.add("dataset", "acme/secret", {"a": b""}, token="hf_good", private=True)
    hub.add("dataset", "acme/quiz", {"a": b""})
    asked = [
        TINY,
        Repository("dataset", "acme/secret", "main"),
        Repository("dataset", "acme/quiz", "0" * 40),
        Repository("model", "acme/none", "main"),
    ]
    found = access.check(asked, hf_home)
    assert found.warnings == []
    no_access = "or it is private and HF_TOKEN gives no access; see"
    assert found.refused == [
        f"acme/tiny is gated: ask for access at {hub.url}/acme/tiny, "
        "then set HF_TOKEN to a token of that account",
        f"there is no dataset acme/secret, {no_access} {hub.url}/datasets/acme/secret",
        f"acme/quiz has no revision {'0' * 40}; see {hub.url}/datasets/acme/quiz/commits/main",
        f"there is no model acme/none, {no_access} {hub.url}/acme/none",
    ]


@pytest.mark.parametrize(("token", "refused"), [("hf_wrong", 1), ("hf_good", 0)])
def test_token_decides_and_is_never_said(
    hub: StandInHub, hf_home: Path, monkeypatch: pytest.MonkeyPatch, token: str, refused: int
) -> None:
    hub.add("model", "acme/tiny", MODEL, token="hf_good")
    monkeypatch.setenv("HF_TOKEN", token)
    found = access.check([TINY], hf_home)
    assert (len(found.refused), found.warnings) == (refused, [])
    assert token not in "".join(found.refused)


def test_token_that_the_hub_refuses_is_named(
    hub: StandInHub, hf_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("model", "acme/tiny", MODEL)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    hub.faults.busy, hub.faults.busy_status, hub.faults.retry_after = 1, 403, None
    assert access.check([TINY], hf_home).refused == [
        f"the hub refuses acme/tiny (403): is HF_TOKEN right? see {hub.url}/acme/tiny"
    ]


def test_what_is_staged_is_not_asked_for(
    hub: StandInHub, hf_home: Path, stage: Callable[..., Manifest]
) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    folder = stage(Weights(repo="acme/tiny", revision=commit)).folder
    hub.seen.clear()
    pinned = Repository("model", "acme/tiny", commit)
    assert access.check([pinned], hf_home) == Access([], [])
    assert hub.seen == []
    (folder / "config.json").unlink()
    access.check([pinned], hf_home)
    assert len(hub.seen) == 1


def test_hub_that_is_away_is_one_warning_for_all(hf_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    asked = [Repository("model", f"acme/m{number}", "main") for number in range(40)]
    found = access.check(asked, hf_home)
    assert found.refused == []
    [line] = found.warnings
    assert line.startswith(
        "the hub (http://127.0.0.1:9) cannot be asked for acme/m0, acme/m1, acme/m2 and 37 more: Connect"
    )
    assert "\n" not in line


def test_hub_that_never_answers_costs_no_more_than_the_time_allowed(silent_hub: None, hf_home: Path) -> None:
    asked = [Repository("model", f"acme/m{number}", "main") for number in range(40)]
    started = time.monotonic()
    found = access.check(asked, hf_home, timeout_s=0.5)
    assert time.monotonic() - started < 3  # 40 one after another would take 20 s
    assert found.refused == []
    assert len(found.warnings) == 1


def test_busy_hub_is_a_warning(hub: StandInHub, hf_home: Path) -> None:
    hub.add("model", "acme/tiny", MODEL)
    hub.faults.busy, hub.faults.busy_status = 1, 503
    assert access.check([TINY], hf_home) == Access(
        [], [f"the hub ({hub.url}) cannot be asked for acme/tiny: the hub answers 503"]
    )
