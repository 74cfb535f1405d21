"""Config files that are good, and what becomes of several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.config.load import load
from slurmeval.config.models import Config
from slurmeval.engines.flags import misspelt
from slurmeval.engines.vllm import Vllm
from slurmeval.errors import ConfigError

PROJECT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml", "one-gpu.yaml"])
def test_configs_of_the_repository_are_good(name: str) -> None:
    assert load([PROJECT / "config" / name], project=PROJECT).version == 1


def test_config_yaml_shows_every_key() -> None:
    """The file that a cluster user edits explains every key by having it."""
    written = yaml.safe_load((PROJECT / "config" / "config.yaml").read_text())
    config = Config.model_validate(written)
    shown = {
        "": (Config, written),
        "models": (type(next(iter(config.models.values()))), next(iter(written["models"].values()))),
        "servers": (type(next(iter(config.servers.values()))), next(iter(written["servers"].values()))),
        "benchmarks": (
            type(next(iter(config.benchmarks.values()))),
            {key: None for entry in written["benchmarks"].values() for key in entry},
        ),
        "gateway": (type(config.gateway), written["gateway"]),
        "staging": (type(config.staging), written["staging"]),
        "report": (type(config.report), written["report"]),
        "evaluate": (type(config.evaluate), written["evaluate"]),
        "server_jobs": (type(config.server_jobs), written["server_jobs"]),
    }
    of_a_server_that_is_there_already = {
        # docs/own-benchmark.md, judges.md, perplexity.md, patching.md
        "benchmarks": {"questions", "judging", "perplexity", "patching"},
        "models": {"tokenizer", "served_name", "parameters"},
        "servers": {"url", "api_key", "max_in_flight", "budget"},
    }
    for place, (section, keys) in shown.items():
        apart = of_a_server_that_is_there_already.get(place, set())
        assert set(section.model_fields) - apart == set(keys), place


def test_loads_what_is_written(loaded: Callable[..., Config], good: dict[str, Any]) -> None:
    config = loaded(good)
    assert config.models["tiny"].dtype == "float32"
    assert config.benchmarks["asdiv"].limit == 20
    assert config.benchmarks["asdiv"].parallelism is None


def test_anchors_and_merge_keys_work(loaded: Callable[..., Config], good: dict[str, Any]) -> None:
    text = yaml.safe_dump({key: value for key, value in good.items() if key != "models"}) + (
        "models:\n"
        "  tiny: &tiny {weights: {folder: weights}, server: cpu}\n"
        "  half: {<<: *tiny, dtype: float16}\n"
        "  same: *tiny\n"
    )
    config = loaded(text)
    assert config.models["half"].dtype == "float16"
    assert config.models["same"] == config.models["tiny"]


def test_exponents_are_numbers(loaded: Callable[..., Config], good: dict[str, Any]) -> None:
    text = yaml.safe_dump(good) + "gateway: {hold_s: 1e2}\n"
    assert loaded(text).gateway.hold_s == 100


def test_dates_stay_text(loaded: Callable[..., Config], good: dict[str, Any]) -> None:
    assert loaded(yaml.safe_dump(good) + "report: {title: 2026-01-02}\n").report.title == "2026-01-02"


def test_byte_order_mark_is_skipped(loaded: Callable[..., Config], good: dict[str, Any]) -> None:
    assert loaded(b"\xef\xbb\xbf" + yaml.safe_dump(good).encode()).version == 1


def test_later_files_lie_over_earlier_ones(project: Path) -> None:
    later = project / "later.yaml"
    later.write_text("benchmarks: {asdiv: {limit: 3}}\nreport: {title: Mine}\n")
    config = load([project / "c.yaml", later], project=project)
    assert config.benchmarks["asdiv"].limit == 3
    assert config.benchmarks["asdiv"].task == "lm-evaluation-harness.asdiv"
    assert config.report.title == "Mine"


def test_error_names_the_file_that_set_the_value(project: Path) -> None:
    later = project / "later.yaml"
    later.write_text("benchmarks: {asdiv: {limit: -3}}\n")
    with pytest.raises(ConfigError, match=r"^later\.yaml: benchmarks\.asdiv\.limit: -3 is too small"):
        load([project / "c.yaml", later], project=project)


def test_overrides_come_last_and_are_named(loaded: Callable[..., Config], good: dict[str, Any]) -> None:
    assert loaded(good, {"report": {"title": "x"}}).report.title == "x"
    with pytest.raises(ConfigError, match=r"^--config: report\.titel: unknown key; did you mean 'title'\?$"):
        loaded(good, {"report": {"titel": "x"}})


def test_texts_in_overrides_are_read_as_yaml(loaded: Callable[..., Config], good: dict[str, Any]) -> None:
    """Snakemake hands over `--config 'report={samples_per_page: 10}'` with the text '10'."""
    config = loaded(
        good, {"report": {"samples_per_page": "10"}, "staging": {"pinned": "false"}, "results": "out"}
    )
    assert config.report.samples_per_page == 10
    assert config.staging.pinned is False
    assert config.results == "out"


def test_overriding_an_alias_changes_one_entry(loaded: Callable[..., Config], good: dict[str, Any]) -> None:
    text = yaml.safe_dump({key: value for key, value in good.items() if key != "models"}) + (
        "models:\n  tiny: &tiny {weights: {folder: weights}, server: cpu}\n  same: *tiny\n"
    )
    config = loaded(text, {"models": {"same": {"dtype": "float16"}}})
    assert config.models["tiny"].dtype == "auto"


def test_includes_are_relative_to_their_file(project: Path, good: dict[str, Any]) -> None:
    benchmarks, suites = good.pop("benchmarks"), good.pop("suites")
    (project / "parts" / "more").mkdir(parents=True)
    (project / "parts" / "b.yaml").write_text(
        yaml.safe_dump({"version": 1, "include": ["more/s.yaml"], "benchmarks": benchmarks})
    )
    (project / "parts" / "more" / "s.yaml").write_text(yaml.safe_dump({"suites": suites}))
    (project / "c.yaml").write_text(yaml.safe_dump({**good, "include": ["parts/b.yaml"]}))
    config = load([project / "c.yaml"], project=project)
    assert list(config.benchmarks) == list(benchmarks)
    assert list(config.suites) == sorted(suites)


def test_error_in_an_included_file_names_it(project: Path, good: dict[str, Any]) -> None:
    (project / "more.yaml").write_text("suites: {typo: [asdif]}\n")
    (project / "c.yaml").write_text(yaml.safe_dump({**good, "include": ["more.yaml"]}))
    with pytest.raises(
        ConfigError, match=r"^more\.yaml: suites\.typo\.0: unknown benchmark 'asdif'; did you"
    ):
        load([project / "c.yaml"], project=project)


@pytest.mark.parametrize(
    ("included", "message"),
    [
        ("suites: {small: [asdiv]}", "more.yaml: suites.small: two entries with one id; c.yaml has it too"),
        ("include: [c.yaml]", "more.yaml: include: c.yaml includes itself"),
        ("include: [more.yaml]", "more.yaml: include: more.yaml includes itself"),
        ("include: [gone.yaml]", "more.yaml: include: 'gone.yaml': no such file (looked for gone.yaml)"),
        ("include: gone.yaml", "more.yaml: include: expected a list of files"),
        (
            "evaluate: {suites: [small]}",
            "more.yaml: evaluate: not allowed in an included file, only models, ",
        ),
        ("version: 2", "more.yaml: version: is 2; this program reads version 1"),
        ("suites: [small]", "more.yaml: suites: is a list; expected a mapping (id: entry)"),
        ("", "more.yaml: is empty; expected a mapping (key: value)"),
    ],
)
def test_bad_includes_are_refused(project: Path, good: dict[str, Any], included: str, message: str) -> None:
    (project / "more.yaml").write_text(included)
    (project / "c.yaml").write_text(yaml.safe_dump({**good, "include": ["more.yaml"]}))
    with pytest.raises(ConfigError) as caught:
        load([project / "c.yaml"], project=project)
    assert str(caught.value).startswith(message)


def test_what_the_harness_cannot_do_is_refused_with_its_key(project: Path) -> None:
    def check(benchmark: Any) -> list[str]:
        return ["repeats: it asks once"] if benchmark.harness == "nemo" else []

    with pytest.raises(ConfigError, match=r"^c\.yaml: benchmarks\.asdiv\.repeats: it asks once$"):
        load([project / "c.yaml"], project=project, check_benchmark=check)


def test_large_config_loads_within_a_second(project: Path, good: dict[str, Any]) -> None:
    models = {f"model-{number}": good["models"]["hub"] for number in range(50)}
    benchmarks = {f"benchmark-{number}": good["benchmarks"]["asdiv"] for number in range(200)}
    large = {
        **good,
        "models": models,
        "benchmarks": benchmarks,
        "suites": {"all": list(benchmarks)},
        "evaluate": {"suites": ["all"]},
    }

    class WithoutAliases(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    (project / "c.yaml").write_text(yaml.dump(large, Dumper=WithoutAliases))
    assert len(load([project / "c.yaml"], project=project).benchmarks) == 200


def test_the_home_folder_is_written_as_a_tilde(
    good: dict[str, Any], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project))
    (project / "more.yaml").write_text("suites:\n  more: [asdiv]\n")
    good["include"] = ["~/more.yaml"]
    good["results"] = "~/results"
    good["models"]["tiny"]["weights"] = {"folder": "~/weights"}
    (project / "c.yaml").write_text(yaml.safe_dump(good))
    config = load([project / "c.yaml"], project=project)
    assert config.results == str(project / "results")
    assert config.models["tiny"].weights.folder == str(project / "weights")
    assert config.suites["more"] == ["asdiv"]


@pytest.mark.parametrize("name", ["qwen3", "a_plugin_of_mine", "bitsandbytes"])
def test_a_name_far_from_all_that_vllm_has_may_be_another_vllms(name: str) -> None:
    rules = Vllm().flag_rules()
    assert misspelt(rules, name, rules.reasoning_parsers | rules.quantizations) is None
