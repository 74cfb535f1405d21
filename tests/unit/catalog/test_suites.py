"""The suites in config/suites: each loads beside any config, and every benchmark fits the catalog."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval import catalog
from slurmeval.cli.tasks import runs_in
from slurmeval.config.load import load
from slurmeval.config.models import Benchmark, Config
from slurmeval.harnesses import problems

PROJECT = Path(__file__).parents[3]
FILES = sorted((PROJECT / "config" / "suites").glob("*.yaml"))
ASKED_FOR = {
    *("starter", "knowledge", "reasoning", "maths", "code", "instruction_following", "tool_use"),
    *("safety", "long_context", "multilingual", "open_llm_leaderboard"),
}
BASE = {
    "version": 1,
    "models": {"tiny": {"weights": {"folder": "weights"}, "server": "cpu"}},
    "servers": {"cpu": {}},
}


def content(file: Path) -> dict[str, Any]:
    values = yaml.safe_load(file.read_text())
    assert isinstance(values, dict)
    return values


def loaded(tmp_path: Path, *files: Path) -> Config:
    """A config that includes suite files and runs all their suites."""
    (tmp_path / "containers" / "locks").mkdir(parents=True)
    (tmp_path / "containers" / "locks" / "vllm-cpu.lock").touch()
    (tmp_path / "weights").mkdir()
    suites = [suite for file in files for suite in content(file)["suites"]]
    config = BASE | {"include": [str(file) for file in files], "evaluate": {"suites": suites}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return load([tmp_path / "config.yaml"], project=tmp_path, check_benchmark=problems)


@pytest.fixture(scope="module")
def all_of_them(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return loaded(tmp_path_factory.mktemp("suites"), *FILES)


def benchmarks_of(config: Config, suite: str) -> list[Benchmark]:
    return [config.benchmarks[name] for name in config.suites[suite]]


def test_there_is_a_file_for_each_that_people_run() -> None:
    assert {file.stem for file in FILES} == ASKED_FOR
    for file in FILES:
        assert file.stem in content(file)["suites"], "its first suite has the file's name"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_suite_loads_by_itself(file: Path, tmp_path: Path) -> None:
    config = loaded(tmp_path, file)
    assert set(config.suites) == set(content(file)["suites"])


def test_all_suites_load_together(all_of_them: Config) -> None:
    assert set(all_of_them.suites) >= ASKED_FOR
    used = {name for names in all_of_them.suites.values() for name in names}
    assert used == set(all_of_them.benchmarks), "no benchmark is in no suite"


def test_no_two_files_say_the_same_twice() -> None:
    """Files may be included in any combination only because an id stands in one of them."""
    for section in ("benchmarks", "suites"):
        for one, other in itertools.combinations(FILES, 2):
            assert not set(content(one)[section]) & set(content(other)[section]), (one.stem, other.stem)


def test_none_takes_an_id_of_the_config_that_people_edit() -> None:
    theirs = set(content(PROJECT / "config" / "config.yaml")["benchmarks"])
    for file in FILES:
        assert not theirs & set(content(file)["benchmarks"]), file.stem


def test_every_benchmark_fits_the_catalog(all_of_them: Config) -> None:
    for name, benchmark in all_of_them.benchmarks.items():
        assert benchmark.harness == "nemo", name
        assert catalog.problems(benchmark.task, benchmark.endpoint) == [], name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_benchmark_says_how_it_asks_and_where_it_runs(file: Path) -> None:
    """In an image where the harness has no lock that will do; else where `harness_runtime` says."""
    for name, written in content(file)["benchmarks"].items():
        assert {"harness", "task", "endpoint"} <= set(written), name
        image = runs_in(catalog.tasks()[written["task"]]) == "image"
        assert written.get("runtime") == ("image" if image else None), name


def test_no_suite_needs_a_judge(all_of_them: Config) -> None:
    """Which one judges is for those to choose who run it."""
    for name, benchmark in all_of_them.benchmarks.items():
        assert not catalog.tasks()[benchmark.task].asks_judge, name


def test_suites_for_base_models_ask_only_what_base_models_answer(all_of_them: Config) -> None:
    for suite in all_of_them.suites:
        endpoints = {benchmark.endpoint for benchmark in benchmarks_of(all_of_them, suite)}
        if suite.endswith("_base"):
            assert endpoints == {"completions"}, suite
        elif suite != "open_llm_leaderboard":
            assert endpoints == {"chat"}, suite


def test_the_starter_suite_needs_nothing_and_is_small(all_of_them: Config) -> None:
    for benchmark in benchmarks_of(all_of_them, "starter"):
        assert benchmark.runtime is None
        task = catalog.tasks()[benchmark.task]
        assert task.needs == () and not task.executes_code, task
        assert not benchmark.secrets and not benchmark.network
        assert benchmark.limit is not None and benchmark.limit <= 100


def test_the_suite_of_code_is_what_runs_code(all_of_them: Config) -> None:
    for suite in ("code", "code_base"):
        for benchmark in benchmarks_of(all_of_them, suite):
            assert catalog.tasks()[benchmark.task].executes_code, benchmark.task


def test_what_is_gated_says_where_to_accept(all_of_them: Config) -> None:
    for file in FILES:
        for name, written in content(file)["benchmarks"].items():
            repo = catalog.tasks()[written["task"]].gated
            if repo is not None:
                assert f"https://huggingface.co/datasets/{repo}" in file.read_text(), name


def test_docs_have_every_suite(all_of_them: Config) -> None:
    text = (PROJECT / "docs" / "tasks.md").read_text()
    for suite, names in all_of_them.suites.items():
        assert f"| `{suite}` | {len(names)} |" in text, suite
