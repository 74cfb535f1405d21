"""A new engine is one file (`another/engine.py`): nothing of slurmeval's own names it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.load import load
from slurmeval.engines.registry import find_engine, names
from slurmeval.errors import UserError
from slurmeval.servers.launch import inherited
from tests.engine_runs import engine_runs_of
from tests.unit.config.test_bad_input import Refusal
from tests.unit.servers.conftest import Bench

FILE = Path(__file__).parent / "another" / "engine.py"


def test_it_serves_and_its_figures_are_booked(bench: Bench) -> None:
    bench.lease(engine=str(FILE))
    bench.wait_for_status("ready")
    endpoint = json.loads(bench.folder().endpoint.read_text())
    assert endpoint["model"] == "smol"
    bench.folder().stop.touch()
    bench.wait_for_exit()
    (line,) = engine_runs_of(bench.folder())
    assert line["generated_tokens"] == 7
    assert line["requests"] is None  # it does not count them


def test_its_failures_are_told_in_its_own_words(bench: Bench) -> None:
    bench.lease(engine=str(FILE), flags={"unknown": None})
    bench.wait_for_exit()
    assert bench.state()["reason"] == "Another does not know the model smol"


def test_a_config_names_it_and_its_flags_are_checked(
    project: Path, good: dict[str, Any], refusal: Refusal
) -> None:
    (project / "engine.py").write_text(FILE.read_text())
    (project / "containers" / "locks" / "engine-cpu.lock").write_text("another-llm-cpu==1\n")
    server = good["servers"]["cpu"]
    server.clear()
    server |= {"engine": "engine.py", "flags": {"fast": None}}
    (project / "c.yaml").write_text(json.dumps(good))
    assert load([project / "c.yaml"], project=project).servers["cpu"].lock == "engine-cpu"
    server["flags"] = {"port": 1}
    assert "servers.cpu.flags.port: slurmeval sets port itself" in refusal(good)
    server["flags"] = {"max-num-seqs": 1}
    assert "servers.cpu.flags.max-num-seqs: may alter answers" in refusal(good)
    server |= {"flags": {}, "gpus": 1, "environment": "engine-cpu"}
    assert "the environment engine-cpu computes on CPUs: set environment: engine-cuda" in refusal(good)


def test_an_engine_that_is_not_there_is_refused_in_one_line(good: dict[str, Any], refusal: Refusal) -> None:
    good["servers"]["cpu"]["engine"] = "vlm"
    said = "servers.cpu.engine: no engine 'vlm'; engines: external, sglang, vllm, or a Python file (*.py)"
    assert said in refusal(good)
    good["servers"]["cpu"]["engine"] = "none.py"
    assert "none.py: FileNotFoundError" in refusal(good)


def test_its_packages_and_name_are_part_of_the_key_of_answers() -> None:
    engine = find_engine(str(FILE))
    packages = {"another-llm": "1", "torch": "2", "requests": "3"}
    assert engine.versions(packages) == {"another-llm": "1", "torch": "2"}


def test_it_is_told_from_the_packages_of_others() -> None:
    engine = find_engine(str(FILE))
    assert engine.is_among({"another-llm": "1"}) and engine.is_among({"another-llm-cpu": "1"})
    assert not engine.is_among({"torch": "2", "another-llms": "3"})


def test_its_own_variables_pass_into_an_image(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOTHER_THREADS", "4")
    monkeypatch.setenv("VLLM_X", "1")
    spec = replace(bench.spec, image="/x.sif")
    assert "ANOTHER_THREADS" in inherited(find_engine(str(FILE)), spec)
    assert "VLLM_X" not in inherited(find_engine(str(FILE)), spec)


def test_a_file_without_an_engine_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(UserError, match="expected one class derived from Engine, found 0"):
        find_engine("empty.py", tmp_path)


@pytest.mark.parametrize("name", names())
def test_each_engine_of_the_package_has_a_folder_of_fixtures(name: str) -> None:
    folder = Path(__file__).parent / name
    engine = find_engine(name)
    figures = engine.figures((folder / "metrics.txt").read_text())
    assert figures.generated_tokens > 0 and figures.prompt_tokens > 0
    assert figures.requests is None or figures.requests > 0
    assert list(folder.glob("*.log"))
