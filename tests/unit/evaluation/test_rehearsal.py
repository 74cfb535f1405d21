"""Rehearsals, with a harness that fetches a word list: it is on disk before a server is asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurmeval.errors import SlurmevalError
from slurmeval.evaluation import rehearsal
from slurmeval.files import write_json
from slurmeval.harnesses.attempts import begin_attempt, last_attempt
from slurmeval.harnesses.base import Command, HarnessOutput, Job, Metric
from slurmeval.harnesses.job_environment import environment_variables
from slurmeval.harnesses.logs import failure
from slurmeval.paths import Paths
from slurmeval.state.run_document import RunDocument
from tests.run_documents import benchmark_entry, config_for, model_entry, run_document

PROGRAM = """
import json, os, pathlib, sys, urllib.request
words = pathlib.Path(os.environ["HF_DATASETS_CACHE"], "words", "list.txt")
pathlib.Path("tried").write_text(os.environ.get("HF_HUB_OFFLINE", "online"))
if os.environ.get("MISTAKEN"):
    sys.exit("jinja2.exceptions.UndefinedError: 'qestion' is undefined")
if not words.exists():
    if os.environ.get("HF_HUB_OFFLINE") == "1" or os.environ.get("LOST"):
        sys.exit("ConnectionError: words: cannot be reached")
    words.parent.mkdir(parents=True)
    words.write_text("fetched")
    words.with_name("list.lock").write_text("")
words.with_name("of_this_run.lock").write_text("")
if os.environ.get("FORGETS"):
    words.unlink()
body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
key = os.environ["SLURMEVAL_GATEWAY_KEY"]
headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json"}
answer = urllib.request.urlopen(urllib.request.Request(sys.argv[1] + "/v1/chat/completions", body, headers))
print(json.load(answer)["choices"][0]["message"]["content"])
"""


class StandInHarness:
    """Asks one question, once it has its words."""

    def __init__(self) -> None:
        self.tries: list[str] = []
        self.variables: dict[str, str] = {}

    def prepare(self, job: Job) -> Command:
        attempt = begin_attempt(job.folder)
        env = environment_variables(job, attempt) | self.variables
        return Command([sys.executable, "-c", PROGRAM, job.base_url], env, attempt)

    def check(self, job: Job, returncode: int, log: Path) -> None:
        self.tries.append((last_attempt(job.folder) / "tried").read_text())
        if returncode:
            raise failure("the harness", returncode, log)

    def read(self, job: Job) -> HarnessOutput:
        return HarnessOutput([Metric("t", "m", 0.0, 0.0)], [], job.benchmark.limit, "1", None)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHarness]:
    harness = StandInHarness()
    monkeypatch.setattr(rehearsal, "harness", lambda _name: harness)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield harness


@pytest.fixture
def run(tmp_path: Path) -> RunDocument:
    environment, manifest = tmp_path / "environment.json", tmp_path / "model.json"
    write_json(environment, {"folder": sys.prefix, "python": sys.executable})
    (tmp_path / "model").mkdir()
    write_json(manifest, {"folder": str(tmp_path / "model"), "files": []})
    paths = Paths(*(tmp_path / name for name in ("results", "environments", "hf_home", "images")))
    models = {"m": model_entry(paths, "m", manifest=manifest)}
    return run_document(paths, models, {"b": benchmark_entry(environment=environment)}, config=config())


def config(**more: Any) -> dict[str, Any]:
    benchmark = {"harness": "nemo", "task": "x.y", **more}
    return config_for(["m"], ["b"], benchmarks={"b": benchmark}).model_dump(mode="json")


def rehearse(run: RunDocument, tmp_path: Path) -> dict[str, Any]:
    said: list[str] = []
    output = tmp_path / "b.json"
    rehearsal.rehearse(run, "b", output, run.paths.results / "logs" / "harness.log", said.append, {})
    manifest: dict[str, Any] = json.loads(output.read_text())
    return {**manifest, "said": said}


def test_what_is_lacking_is_fetched_once_and_then_there_without_network(
    stand_in: StandInHarness, run: RunDocument, tmp_path: Path
) -> None:
    manifest = rehearse(run, tmp_path)
    assert stand_in.tries == ["1", "online", "1"]
    assert [file["path"] for file in manifest["files"]] == ["cache/huggingface/datasets/words/list.txt"]
    assert (Path(manifest["folder"]) / manifest["files"][0]["path"]).read_text() == "fetched"
    rehearse(run, tmp_path)
    assert stand_in.tries == ["1", "online", "1", "1"]


def test_what_was_fetched_and_damaged_is_fetched_again(
    stand_in: StandInHarness, run: RunDocument, tmp_path: Path
) -> None:
    manifest = rehearse(run, tmp_path)
    words = Path(manifest["folder"]) / manifest["files"][0]["path"]
    words.write_text("fet")
    rehearse(run, tmp_path)
    assert stand_in.tries == ["1", "online", "1", "1", "online", "1"]
    assert words.read_text() == "fetched"


def test_a_harness_that_cannot_fetch_says_why(
    stand_in: StandInHarness, run: RunDocument, tmp_path: Path
) -> None:
    stand_in.variables = {"LOST": "1"}
    with pytest.raises(
        SlurmevalError, match=r"rehearsal of b: without network .*words: cannot be reached"
    ) as raised:
        rehearse(run, tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "b.json").exists()
    recorded = json.loads(run.paths.failure("m", "b").read_text())
    assert "words: cannot be reached" in recorded["reason"]
    stand_in.variables = {}
    rehearse(run, tmp_path)


def test_a_mistake_that_no_network_mends_is_tried_once(
    stand_in: StandInHarness, run: RunDocument, tmp_path: Path
) -> None:
    stand_in.variables = {"MISTAKEN": "1"}
    with pytest.raises(SlurmevalError, match=r"rehearsal of b: the harness .*'qestion' is undefined"):
        rehearse(run, tmp_path)
    assert stand_in.tries == ["1"]


def test_one_that_works_with_network_only_is_refused(
    stand_in: StandInHarness, run: RunDocument, tmp_path: Path
) -> None:
    stand_in.variables = {"FORGETS": "1"}
    with pytest.raises(SlurmevalError, match="it fetched what it lacked, but without network"):
        rehearse(run, tmp_path)


def test_one_that_is_not_to_be_rehearsed_is_not_started(
    stand_in: StandInHarness, run: RunDocument, tmp_path: Path
) -> None:
    run = replace(run, config=config(rehearse=False))
    assert rehearse(run, tmp_path)["files"] == []
    assert not stand_in.tries


def test_no_proxy_and_no_token_without_network(
    stand_in: StandInHarness, run: RunDocument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    seen: list[dict[str, str]] = []
    prepare = stand_in.prepare

    def spy(job: Job) -> Command:
        command = prepare(job)
        seen.append(command.env)
        return command

    monkeypatch.setattr(stand_in, "prepare", spy)
    rehearse(run, tmp_path)
    assert ["HF_TOKEN" in env for env in seen] == [False, True, False]
    assert [env.get("HF_HUB_OFFLINE") for env in seen] == ["1", None, "1"]
