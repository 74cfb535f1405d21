"""A branch is resolved once, into a file that people commit, whoever resolves others at the same time."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slurmeval.config.sources import Dataset, Weights
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.staging import hub_lock
from slurmeval.staging.hub import stage_repository
from slurmeval.staging.hub_errors import HubRetries
from slurmeval.staging.repository import Repository
from slurmeval.state.manifest import Manifest
from tests.stand_ins.stand_in_hub import StandInHub

from .conftest import MODEL

Stage = Callable[..., Manifest]
MAIN = Repository("model", "acme/tiny", "main")


def lock(project: Path) -> Path:
    return project / "config" / "hub.lock.yaml"


def resolve(project: Path, *repositories: Repository, update: bool = False) -> list[str]:
    changes = hub_lock.resolve(project, repositories, project / "hf", lambda _: None, update=update)
    return [str(change) for change in changes]


def test_branch_is_resolved_once_and_then_stays(
    hub: StandInHub, stage: Stage, tmp_path: Path, hf_home: Path
) -> None:
    first = hub.add("model", "acme/tiny", MODEL)
    manifest = stage(Weights(repo="acme/tiny"))
    assert manifest.revision == first
    assert hub_lock.read(tmp_path).commit("model", "acme/tiny", "main") == first
    hub.add("model", "acme/tiny", {**MODEL, "config.json": b"{}"})
    hub.seen.clear()
    assert stage(Weights(repo="acme/tiny", revision="main")).revision == first
    assert hub.seen == []


def test_datasets_and_models_have_entries_of_their_own(hub: StandInHub, stage: Stage, tmp_path: Path) -> None:
    data = hub.add("dataset", "acme/tiny", {"a.jsonl": b"{}\n"}, branch="v1.0")
    model = hub.add("model", "acme/tiny", MODEL)
    assert stage(Dataset(repo="acme/tiny", revision="v1.0")).revision == data
    assert stage(Weights(repo="acme/tiny")).revision == model
    read = hub_lock.read(tmp_path)
    assert read.models == {"acme/tiny": {"main": model}}
    assert read.datasets == {"acme/tiny": {"v1.0": data}}


def test_update_says_what_changed_and_only_that(hub: StandInHub, tmp_path: Path) -> None:
    first = hub.add("model", "acme/tiny", MODEL)
    other = Repository("model", "acme/other", "main")
    hub.add("model", "acme/other", MODEL)
    assert len(resolve(tmp_path, MAIN, other)) == 2
    second = hub.add("model", "acme/tiny", {**MODEL, "config.json": b"{}"})
    assert resolve(tmp_path, MAIN, other) == []
    changed = resolve(tmp_path, MAIN, other, update=True)
    assert changed == [f"model acme/tiny, main: {second[:12]}, was {first[:12]}"]


def test_commit_needs_no_entry_and_asks_nobody(hub: StandInHub, tmp_path: Path) -> None:
    commit = hub.add("model", "acme/tiny", MODEL)
    assert resolve(tmp_path, Repository("model", "acme/tiny", commit), update=True) == []
    assert not lock(tmp_path).exists()
    assert hub.seen == []


def test_processes_that_resolve_at_once_lose_nothing(hub: StandInHub, tmp_path: Path) -> None:
    names = [f"acme/m{number}" for number in range(6)]
    commits = {name: hub.add("model", name, {**MODEL, "config.json": name.encode()}) for name in names}
    code = (
        "import sys; from pathlib import Path; from slurmeval.staging import hub_lock\n"
        "from slurmeval.staging.repository import Repository\n"
        "project = Path(sys.argv[1])\n"
        "for name in sys.argv[2:]:\n"
        "    asked = Repository('model', name, 'main')\n"
        "    hub_lock.resolve(project, [asked], project / 'hf', lambda _: None)\n"
    )
    halves = (names[:4], names[2:])
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *half]) for half in halves]
    assert [process.wait(60) for process in running] == [0, 0]
    assert hub_lock.read(tmp_path).models == {name: {"main": commit} for name, commit in commits.items()}
    assert [path.name for path in lock(tmp_path).parent.iterdir()] == ["hub.lock.yaml"]


def test_one_that_cannot_be_had_keeps_none_of_the_others_out(hub: StandInHub, tmp_path: Path) -> None:
    hub.add("model", "acme/tiny", MODEL)
    with pytest.raises(UserError, match="there is no model acme/gone"):
        resolve(tmp_path, Repository("model", "acme/gone", "main"), MAIN)
    assert list(hub_lock.read(tmp_path).models) == ["acme/tiny"]


def test_commits_and_tags_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    odd = {"1e5": f"{'1' * 20}e{'2' * 19}", "007": "1" * 40, "null": "2" * 40}
    entries = hub_lock.HubLock().with_commits(
        {Repository("model", "acme/tiny", tag): commit for tag, commit in odd.items()}
    )
    hub_lock.add(tmp_path, entries, lambda _: None)
    assert hub_lock.read(tmp_path).models == {"acme/tiny": odd}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\nmodels: {acme/tiny: {main: abc}}\n", r"models\.acme/tiny\.main: .*stage lock"),
        ("version: 2\n", "version"),
        ("models: [\n", r"hub\.lock\.yaml:"),
    ],
)
def test_damaged_lock_is_one_line_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    lock(tmp_path).parent.mkdir()
    lock(tmp_path).write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        hub_lock.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_locked_commit_that_is_gone_names_the_lock(hub: StandInHub, stage: Stage, tmp_path: Path) -> None:
    hub.add("model", "acme/tiny", MODEL)
    hub_lock.add(tmp_path, hub_lock.HubLock().with_commits({MAIN: "0" * 40}), lambda _: None)
    with pytest.raises(
        UserError, match=rf"no revision {'0' * 40} \(main in config/hub\.lock\.yaml; .*--update"
    ):
        stage(Weights(repo="acme/tiny"))


def test_branch_that_moves_while_it_is_downloaded_stays_at_its_commit(hub: StandInHub, hf_home: Path) -> None:
    first = hub.add("model", "acme/tiny", MODEL)

    def choose(names: list[str], what: str) -> list[str]:
        hub.add("model", "acme/tiny", {**MODEL, "config.json": b"moved"})
        return names

    snapshot = stage_repository("model x", MAIN, choose, hf_home, print)
    assert snapshot.commit == first
    assert (snapshot.folder / "config.json").read_bytes() == MODEL["config.json"]


def test_hub_that_is_away_leaves_the_lock_as_it_was(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("model", "acme/tiny", MODEL)
    resolve(tmp_path, MAIN)
    before = lock(tmp_path).read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    retries = HubRetries(lambda _: None, attempts=1)
    with pytest.raises(SlurmevalError, match="cannot be downloaded"):
        hub_lock.resolve(tmp_path, [MAIN], tmp_path / "hf", print, update=True, retries=retries)
    assert resolve(tmp_path, MAIN) == []
    assert lock(tmp_path).read_bytes() == before
