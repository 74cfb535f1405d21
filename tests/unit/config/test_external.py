"""A server that is there already: what goes with its address, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.config.load import load
from slurmeval.config.serving import Serving
from slurmeval.harnesses import model_problems, problems
from tests.unit.config.conftest import COMMIT
from tests.unit.config.test_bad_input import Refusal, spoilt


@pytest.fixture
def external(good: dict[str, Any]) -> dict[str, Any]:
    """A good config with one model at a server that is there already."""
    good["models"] = {"tiny": {"server": "api"}}
    good["servers"] = {"api": {"url": "https://api.example.org/v1/", "api_key": "API_KEY"}}
    good["secrets"] = {"API_KEY": {}}
    return good


def test_a_model_needs_nothing_but_its_server(project: Path, external: dict[str, Any]) -> None:
    (project / "c.yaml").write_text(yaml.safe_dump(external))
    config = load([project / "c.yaml"], project=project)
    assert config.servers["api"].url == "https://api.example.org/v1"
    assert config.models["tiny"].source.repo is None


@pytest.mark.parametrize(
    ("url", "key", "tells"),
    [
        ("http://node7:8000/v1", "API_KEY", True),
        ("http://node7:8000/v1", None, False),
        ("https://node7:8000/v1", "API_KEY", False),
        ("http://127.0.0.1:8000/v1", "API_KEY", False),
        ("http://[::1]:8000/v1", "API_KEY", False),
        (None, None, False),
    ],
)
def test_a_key_that_others_may_read_is_known(url: str | None, key: str | None, tells: bool) -> None:
    assert Serving(url=url, api_key=key).tells_its_key is tells


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "servers/api/url",
            "api.example.org",
            "servers.api.url: expected an address that begins with http://",
        ),
        ("servers/api/url", "https://me:secret@x/v1", "servers.api.url: expected an address without user"),
        ("servers/api/url", "https://x/v1?key=1", "servers.api.url: expected an address without user"),
        (
            "servers/api/url",
            "https://x/v1/chat/completions/",
            "servers.api.url: expected an address up to and with the version, without /chat/completions",
        ),
        ("servers/api/gpus", 1, "servers.api.gpus: does not go with url"),
        ("servers/api/flags", {"x": 1}, "servers.api.flags: does not go with url"),
        ("servers/api/replicas", 2, "servers.api.replicas: does not go with url"),
        ("servers/api/api_key", "API_KEYS", "servers.api.api_key: unknown secret 'API_KEYS'"),
        ("servers/api/max_in_flight", 0, "servers.api.max_in_flight: 0"),
        ("servers/api/budget", {"tokens": 0}, "servers.api.budget.tokens: 0"),
        ("models/tiny/dtype", "float32", "models.tiny.dtype: the server at https://api.example.org/v1"),
        ("models/tiny/weights", {"folder": "weights"}, "models.tiny.weights: the server at https://"),
        ("models/tiny/reasoning", {"parser": "qwen3"}, "models.tiny.reasoning.parser: whoever started it"),
        ("models/tiny/tokenizer", {"repo": "a/b"}, "models.tiny.tokenizer.revision: is missing"),
        ("models/tiny/tokenizer", {"package": "a==1"}, "a tokenizer comes from a repo or a folder"),
    ],
)
def test_what_does_not_go_together_is_refused(
    key: str, value: Any, message: str, external: dict[str, Any], refusal: Refusal
) -> None:
    assert message in refusal(spoilt(external, key, value))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("servers/cpu/api_key", "X", "servers.cpu.api_key: goes with url"),
        ("servers/cpu/budget", {"requests": 1}, "servers.cpu.budget: goes with url"),
        ("servers/cpu/engine", "external", "servers.cpu.url: is missing"),
        ("models/tiny/served_name", "x", "models.tiny.served_name: goes with a server that has a url"),
        (
            "models/tiny/parameters",
            {"seed": None},
            "models.tiny.parameters: goes with a server that has a url",
        ),
        ("models/tiny/tokenizer", {"folder": "weights"}, "models.tiny.tokenizer: goes with a server"),
    ],
)
def test_its_keys_are_refused_elsewhere(
    key: str, value: Any, message: str, good: dict[str, Any], refusal: Refusal
) -> None:
    assert message in refusal(spoilt(good, key, value))


def test_what_tokenizes_prompts_itself_needs_a_tokenizer(project: Path, external: dict[str, Any]) -> None:
    external["benchmarks"]["humaneval"] = {
        "harness": "lm-eval", "task": "hellaswag", "endpoint": "completions",
    }  # fmt: skip
    file = project / "c.yaml"
    file.write_text(yaml.safe_dump(external))
    with pytest.raises(Exception, match=r"tokenizes prompts itself, .* set models\.<id>\.tokenizer"):
        load([file], project=project, check_benchmark=problems, check_pair=model_problems)
    external["models"]["tiny"]["tokenizer"] = {"repo": "owner/name", "revision": COMMIT}
    file.write_text(yaml.safe_dump(external))
    load([file], project=project, check_benchmark=problems, check_pair=model_problems)
