"""uv gets packages from where pip would."""

from pathlib import Path

import pytest

from slurmeval.environments.indexes import (
    parse_pip_configuration,
    pip_configuration,
    uv_environment,
    uv_flags,
    uv_variables,
)

LISTED = """\
:env:.default-timeout='180'
:env:.find-links='/wheels one /wheels two'
global.cert='/etc/ca.crt'
global.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'
global.find-links='/elsewhere'
global.index-url='https://user:pass@mirror.example/simple'
install.trusted-host='mirror.example'
list.format='json'
"""


def test_pips_later_section_wins_and_others_are_left_out() -> None:
    options = parse_pip_configuration(LISTED)
    assert options["find-links"] == "/wheels one /wheels two"
    assert options["trusted-host"] == "mirror.example"
    assert "format" not in options


def test_options_become_uvs_variables() -> None:
    assert uv_variables(parse_pip_configuration(LISTED), {}) == {
        "UV_HTTP_TIMEOUT": "180",
        "UV_FIND_LINKS": "/wheels,one,/wheels,two",
        "SSL_CERT_FILE": "/etc/ca.crt",
        "UV_EXTRA_INDEX_URL": "https://a.example/simple https://b.example/simple",
        "UV_DEFAULT_INDEX": "https://user:pass@mirror.example/simple",
        "UV_INSECURE_HOST": "mirror.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_what_the_user_set_for_uv_stays() -> None:
    options = {"find-links": "/pip", "index-url": "https://pip.example"}
    mine = {"UV_FIND_LINKS": "/uv", "UV_INDEX_STRATEGY": "first-index"}
    assert uv_variables(options, mine) == {"UV_DEFAULT_INDEX": "https://pip.example"}


def test_pips_variables_and_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nproxy = http://proxy.example:3128\nno-index = true\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_FIND_LINKS", "/from/variable")
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    monkeypatch.delenv("ALL_PROXY", raising=False)
    monkeypatch.delenv("UV_CACHE_DIR", raising=False)
    monkeypatch.setenv("VIRTUAL_ENV", "/other")
    pip_configuration.cache_clear()
    try:
        environment = uv_environment(tmp_path / "cache")
        assert uv_flags() == ["--no-index"]
    finally:
        pip_configuration.cache_clear()
    assert environment["ALL_PROXY"] == "http://proxy.example:3128"
    assert environment["UV_FIND_LINKS"] == "/from/variable"
    assert environment["UV_CACHE_DIR"] == str(tmp_path / "cache")
    assert "VIRTUAL_ENV" not in environment
