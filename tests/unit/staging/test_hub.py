"""Repositories come whole, pinned and verified, or with one line that says why not."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurmeval.config.sources import Dataset, Weights
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.retrying import requested_wait_s, retry_after_s
from slurmeval.staging.hub import stage_repository
from slurmeval.staging.hub_client import prepare_client
from slurmeval.staging.hub_errors import HubRetries
from slurmeval.staging.manifest import verify
from slurmeval.staging.models import choose_model_files
from slurmeval.staging.repository import Repository
from slurmeval.state.manifest import Manifest
from slurmeval.state.records import load
from tests.stand_ins.stand_in_hub import StandInHub

from .conftest import MODEL, WANTED

Stage = Callable[..., Manifest]
DEADLINE_S = 30


def weights(revision: str | None) -> Weights:
    return Weights(repo="acme/tiny", revision=revision)


def test_pinned_model_is_staged_with_needed_files_only(
    hub: StandInHub, stage: Stage, hf_home: Path, tmp_path: Path
) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    manifest = stage(weights(commit))
    assert [file.path for file in manifest.files] == WANTED
    assert manifest.revision == commit
    assert manifest.folder == hf_home / "hub/models--acme--tiny/snapshots" / commit
    assert sorted(path.name for path in manifest.folder.iterdir()) == WANTED
    assert (hf_home / "hub/models--acme--tiny/refs/main").read_text() == commit
    assert load(tmp_path / "x.json", Manifest) == manifest
    assert verify(tmp_path / "x.json", full=True) == []


def test_second_staging_of_a_commit_asks_the_hub_nothing(hub: StandInHub, stage: Stage) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    first = stage(weights(commit))
    hub.seen.clear()
    second = stage(weights(commit))
    assert hub.seen == []
    assert (second.files, second.folder) == (first.files, first.folder)


def test_dataset_keeps_paths_and_takes_matching_files(hub: StandInHub, stage: Stage) -> None:
    files = {"README.md": b"x", "data/test.jsonl": b"{}\n", "data/train.jsonl": b"{}\n"}
    commit = hub.add("dataset", "acme/quiz", files)
    manifest = stage(Dataset(repo="acme/quiz", revision=commit, files=["data/te*"]))
    assert [file.path for file in manifest.files] == ["data/test.jsonl"]
    assert (manifest.folder / "data/test.jsonl").read_bytes() == b"{}\n"
    with pytest.raises(UserError, match=r"dataset x: the repository has no file other\.jsonl"):
        stage(Dataset(repo="acme/quiz", revision=commit, files=["other.jsonl"]))


def test_unknown_revision_is_named(hub: StandInHub, stage: Stage) -> None:
    hub.add("model", "acme/tiny", MODEL)
    with pytest.raises(
        UserError, match=rf"model x: acme/tiny has no revision {'0' * 40}; see {hub.url}/acme/tiny"
    ):
        stage(weights("0" * 40))


def test_missing_repository_is_named(hub: StandInHub, stage: Stage) -> None:
    with pytest.raises(UserError, match="there is no model acme/tiny, or it is private"):
        stage(weights("main"))


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_gated_repository_says_where_to_ask(
    hub: StandInHub, stage: Stage, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    commit = hub.add("model", "acme/tiny", MODEL, token="hf_good")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(
        UserError, match=rf"is gated: ask for access at {hub.url}/acme/tiny, then set HF_TOKEN"
    ) as caught:
        stage(weights(commit))
    assert "hf_wrong" not in str(caught.value)


@pytest.mark.parametrize("place", ["variable", "file"])
def test_gated_repository_opens_to_the_token(
    hub: StandInHub, stage: Stage, monkeypatch: pytest.MonkeyPatch, hf_home: Path, said: list[str], place: str
) -> None:
    commit = hub.add("model", "acme/tiny", MODEL, token="hf_good")
    if place == "variable":
        monkeypatch.setenv("HF_TOKEN", "hf_good")
    else:
        hf_home.mkdir()
        (hf_home / "token").write_text("hf_good\n")
    manifest = stage(weights(commit))
    assert "hf_good" not in str(manifest) + " ".join(said)


@pytest.mark.parametrize("status", [429, 503])
def test_busy_hub_is_asked_again_when_it_says(hub: StandInHub, hf_home: Path, status: int) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    hub.faults.busy, hub.faults.busy_status, hub.faults.retry_after = 2, status, "7"
    said: list[str] = []
    slept: list[float] = []
    retries = HubRetries(said.append, sleep=slept.append)
    repository = Repository("model", "acme/tiny", commit)
    stage_repository("model x", repository, choose_model_files, hf_home, said.append, retries)
    assert slept == [7, 7]
    assert f"model x: the hub answers {status}; again in 7 s" in said


def test_hub_that_stays_busy_is_given_up_on(hub: StandInHub, hf_home: Path) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    hub.faults.busy = 99
    retries = HubRetries(lambda _: None, attempts=3, sleep=lambda _: None)
    with pytest.raises(
        SlurmevalError, match=f"acme/tiny cannot be downloaded from {hub.url}: the hub answers 429"
    ):
        stage_repository(
            "model x", Repository("model", "acme/tiny", commit), choose_model_files, hf_home, print, retries
        )
    assert hub.faults.busy == 96


def test_hub_that_is_away_is_one_line(
    hub: StandInHub, hf_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    retries = HubRetries(lambda _: None, attempts=2, sleep=lambda _: None)
    with pytest.raises(SlurmevalError, match=r"cannot be downloaded from http://127\.0\.0\.1:9: ") as caught:
        stage_repository(
            "model x", Repository("model", "acme/tiny", "main"), choose_model_files, hf_home, print, retries
        )
    assert "\n" not in str(caught.value)


def test_file_that_came_damaged_is_downloaded_once_more(
    hub: StandInHub, stage: Stage, said: list[str]
) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    hub.faults.flip = 1
    folder = stage(weights(commit)).folder
    assert (folder / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    assert "model x: model.safetensors is damaged; downloading it once more" in said


def test_file_that_always_comes_damaged_is_refused_and_removed(
    hub: StandInHub, stage: Stage, hf_home: Path
) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    hub.faults.flip = 99
    with pytest.raises(SlurmevalError, match=r"model\.safetensors came damaged twice"):
        stage(weights(commit))
    assert not list(hf_home.glob("hub/*/snapshots/*/model.safetensors"))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "dangling"])
def test_staged_file_that_was_damaged_is_repaired(
    hub: StandInHub, stage: Stage, tmp_path: Path, damage: str
) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    link = stage(weights(commit)).folder / "model.safetensors"
    good = MODEL["model.safetensors"]
    if damage == "flipped":
        link.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    elif damage == "truncated":
        link.write_bytes(good[:1000])
    elif damage == "missing":
        link.unlink()
    else:
        link.resolve().unlink()
    assert len(verify(tmp_path / "x.json", full=True)) == 1
    stage(weights(commit))
    assert verify(tmp_path / "x.json", full=True) == []


def test_download_that_was_cut_goes_on(hub: StandInHub, stage: Stage, tmp_path: Path) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    hub.faults.cut = 1
    stage(weights(commit))
    assert verify(tmp_path / "x.json", full=True) == []


def test_killed_staging_leaves_nothing_half_made_and_the_next_finishes(
    hub: StandInHub, stage: Stage, hf_home: Path, tmp_path: Path
) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    hub.faults.stall = threading.Event()
    code = (
        "import sys; from pathlib import Path; from slurmeval.config.models import Weights\n"
        "from slurmeval.staging.models import stage_model\n"
        "out, home, commit = sys.argv[1:]\n"
        "stage_model('x', Weights(repo='acme/tiny', revision=commit), Path(out), Path(home), Path('.'))\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "x.json"), str(hf_home), commit]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as staging:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not (hub.downloads("/content/") and list(hf_home.glob("hub/*/blobs/*.incomplete"))):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            staging.send_signal(signal.SIGKILL)
    assert not (tmp_path / "x.json").exists()
    assert not list(hf_home.glob("hub/*/snapshots/*/model.safetensors"))
    partial = next(hf_home.glob("hub/*/blobs/*.incomplete"))
    os.utime(partial, (0, 0))
    hub.faults.stall.set()
    hub.faults.stall = None
    stage(weights(commit))
    assert verify(tmp_path / "x.json", full=True) == []
    assert not partial.exists()


def test_offline_mode_is_named_and_does_not_matter_once_staged(
    hub: StandInHub, stage: Stage, hf_home: Path, tmp_path: Path
) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    code = (
        "import sys; from pathlib import Path; from slurmeval.config.models import Weights\n"
        "from slurmeval.errors import UserError; from slurmeval.staging.models import stage_model\n"
        "out, home, commit = sys.argv[1:]\n"
        "entry = Weights(repo='acme/tiny', revision=commit)\n"
        "try: stage_model('x', entry, Path(out), Path(home), Path('.'))\n"
        "except UserError as error: sys.exit(str(error))\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "offline.json"), str(hf_home), commit]
    environment = dict(os.environ) | {"HF_HUB_OFFLINE": "1"}
    before = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert "acme/tiny is not staged yet and HF_HUB_OFFLINE is set" in before.stderr
    stage(weights(commit))
    subprocess.run(argv, env=environment, check=True)
    assert verify(tmp_path / "offline.json", full=True) == []


def test_repository_without_weights_is_refused_before_downloading(hub: StandInHub, stage: Stage) -> None:
    commit = hub.add("model", "acme/tiny", {"config.json": b"{}", "weights.h5": b"x"})
    with pytest.raises(UserError, match="model x: the repository has no weights"):
        stage(weights(commit))
    assert hub.downloads() == 0


def test_one_form_of_the_weights_is_chosen() -> None:
    names = ["config.json", "consolidated.safetensors", "model-1.safetensors", "model.safetensors.index.json"]
    more = [
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "original/a.pth",
        "onnx/model.onnx",
        "a.gguf",
    ]
    kept = ["config.json", "model-1.safetensors", "model.safetensors.index.json"]
    assert choose_model_files([*names, *more], "x") == kept
    assert choose_model_files(["config.json", *more], "x") == ["config.json", *more[:2]]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("-1", None),
        (" 2 ", 2),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("soon", None),
        (None, None),
    ],
)
def test_retry_after_is_read(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"RateLimit": '"api";r=0;t=280'}, 280),
        ({"RateLimit": '"pages";r=40;t=299, "api"; r=0; t=12'}, 12),
        ({"RateLimit": "limit=100, remaining=0, reset=50"}, 50),
        ({"RateLimit-Reset": "33"}, 33),
        ({"RateLimit": '"api";r=0;t=280', "Retry-After": "1"}, 280),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "nonsense"}, None),
        ({"Retry-After-Ms": "1500"}, 1.5),
        ({"x-ratelimit-reset-requests": "17ms", "x-ratelimit-reset-tokens": "6m0.5s"}, 0.017),
        ({"x-ratelimit-reset-tokens": "6m0.5s", "x-ratelimit-remaining-tokens": "0"}, 360.5),
        ({"x-ratelimit-reset-tokens": "6m0s", "Retry-After": "2"}, 2),
        ({"X-RateLimit-Reset": "60"}, 60),
        ({"X-RateLimit-Reset": "1000000001"}, 0),
        ({"X-RateLimit-Reset": "1000000000001"}, 0),
        (
            {"X-RateLimit-Reset": "soon", "x-ratelimit-reset-a": "1.2.3s", "x-ratelimit-reset-b": "1s or so"},
            None,
        ),
        ({"X-RateLimit-Reset": "inf", "x-ratelimit-reset-requests": "-3"}, None),
    ],
)
def test_who_was_asked_too_often_is_asked_again_when_its_limit_counts_anew(
    headers: dict[str, str], wait_s: float | None
) -> None:
    assert requested_wait_s(headers) == wait_s


def test_patience_with_a_hub_that_was_asked_too_often_outlasts_the_time_over_which_it_counts(
    hub: StandInHub, hf_home: Path
) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    hub.faults.busy, hub.faults.retry_after = 99, None
    slept: list[float] = []
    retries = HubRetries(print, sleep=slept.append)
    with pytest.raises(SlurmevalError, match="the hub answers 429"):
        stage_repository(
            "model x", Repository("model", "acme/tiny", commit), choose_model_files, hf_home, print, retries
        )
    assert sum(slept) > 300 * 0.9


def test_what_is_fetched_is_not_kept_a_second_time_in_a_small_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_XET_CHUNK_CACHE_SIZE_BYTES", raising=False)
    prepare_client()
    assert os.environ["HF_XET_CHUNK_CACHE_SIZE_BYTES"] == "0"


def test_an_adapter_beside_the_weights_is_not_taken_for_them() -> None:
    kept = ["config.json", "pytorch_model.bin"]
    assert choose_model_files([*kept, "adapter_model.safetensors", "adapter_model.bin"], "x") == kept
    kept = ["config.json", "model.safetensors"]
    assert choose_model_files([*kept, "adapter_model.safetensors", "pytorch_model.bin"], "x") == kept
    with pytest.raises(UserError, match="no weights"):
        choose_model_files(["config.json", "adapter_model.safetensors"], "x")
