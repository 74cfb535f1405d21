"""Room for all that is to come is looked at before any of it is downloaded."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from slurmeval.config.sources import Dataset, Weights
from slurmeval.errors import UserError
from slurmeval.staging import disk_space, hub_lock
from slurmeval.state.manifest import Manifest
from tests.stand_ins.stand_in_hub import StandInHub

from .conftest import MODEL, WANTED

QUIZ = {"a.parquet": b"a" * 5000, "b.parquet": b"b" * 7000, "readme.md": b"x"}


def wanted(hub: StandInHub, tmp_path: Path) -> list[disk_space.HubItem]:
    model, quiz = hub.add("model", "acme/tiny", MODEL), hub.add("dataset", "acme/quiz", QUIZ)
    models = {
        "tiny": Weights(repo="acme/tiny", revision=model),
        "same": Weights(repo="acme/tiny", revision=model),
        "local": Weights(folder="somewhere"),
    }
    datasets = {
        "a": Dataset(repo="acme/quiz", revision=quiz, files=["a.parquet"]),
        "b": Dataset(repo="acme/quiz", revision=quiz, files=["*.parquet"]),
    }
    return disk_space.hub_items(models, datasets, hub_lock.read(tmp_path))


def test_what_several_share_counts_once(hub: StandInHub, hf_home: Path, tmp_path: Path) -> None:
    sizes = disk_space.bytes_to_download(wanted(hub, tmp_path), hf_home, lambda _: None)
    assert sizes == {"model tiny": sum(len(MODEL[name]) for name in WANTED), "dataset a": 12_000}
    assert hub.downloads() == 0


def test_what_is_there_counts_no_more(
    hub: StandInHub, hf_home: Path, tmp_path: Path, stage: Callable[..., Manifest]
) -> None:
    items = wanted(hub, tmp_path)
    stage(Weights(repo="acme/tiny", revision=items[0].repository.revision))
    assert disk_space.bytes_to_download(items, hf_home, lambda _: None) == {"dataset a": 12_000}
    # another commit, of which only a small file is new
    newer = hub.add("model", "acme/tiny", {**MODEL, "config.json": b"{ }"})
    models = {"tiny": Weights(repo="acme/tiny", revision=newer)}
    items = disk_space.hub_items(models, {}, hub_lock.read(tmp_path))
    assert disk_space.bytes_to_download(items, hf_home, lambda _: None) == {"model tiny": 3}


def test_too_little_room_for_all_is_said_before_the_first(
    hub: StandInHub, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    items = wanted(hub, tmp_path)
    disk = mount("308k")  # room for each, but not for both
    assert shutil.disk_usage(disk).free > 301_000
    with pytest.raises(UserError, match=r"staging model tiny 300 kB, dataset a 12 kB: 312 kB are needed in "):
        disk_space.require_space_for_all(items, disk, lambda _: None)
    assert hub.downloads() == 0
    assert disk_space.require_space_for_all(items, mount("1m"), lambda _: None) == 312_024


def test_hub_that_does_not_answer_is_left_to_staging(
    hub: StandInHub, hf_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = wanted(hub, tmp_path)
    disk_space.bytes_to_download(items[:2], hf_home, lambda _: None)  # what is listed once needs no hub
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert list(disk_space.bytes_to_download(items, hf_home, lambda _: None)) == ["model tiny"]
