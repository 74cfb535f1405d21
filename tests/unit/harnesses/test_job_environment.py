"""What a harness inherits of the user's shell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slurmeval.harnesses.job_environment import environment_variables
from tests.unit.harnesses.conftest import MakeJob

LM_EVAL = {"harness": "lm-eval", "task": "gsm8k"}


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell of a cluster with a proxy, another locale, and a certificate of the login node."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("LC_ALL", "zh_CN.GBK")
    monkeypatch.setenv("SSL_CERT_FILE", "/opt/conda/ssl/cacert.pem")


@pytest.mark.usefixtures("shell")
def test_offline_no_proxy_is_asked(make_job: MakeJob, tmp_path: Path) -> None:
    env = environment_variables(make_job(**LM_EVAL), tmp_path)
    assert (env["no_proxy"], env["NO_PROXY"]) == ("*", "*")
    assert not {"http_proxy", "https_proxy"} & env.keys()


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize("online", [True, False])
def test_with_a_network_proxies_are_asked_but_for_the_gateway(
    make_job: MakeJob, tmp_path: Path, online: bool
) -> None:
    job = replace(make_job(**LM_EVAL, network=not online), online=online)
    env = environment_variables(job, tmp_path)
    assert env["https_proxy"] == env["http_proxy"] == "http://127.0.0.1:9"
    assert env["no_proxy"] == env["NO_PROXY"] == "127.0.0.1,localhost"
    assert env.get("HF_HUB_OFFLINE") == (None if online else "1")


@pytest.mark.usefixtures("shell")
def test_locale_and_certificates_of_the_login_node_do_not_reach_a_harness(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = environment_variables(make_job(**LM_EVAL), tmp_path)
    assert (env["LC_ALL"], env["PYTHONUTF8"]) == ("C.UTF-8", "1")
    assert "SSL_CERT_FILE" not in env
    monkeypatch.setenv("SSL_CERT_FILE", __file__)
    assert environment_variables(make_job(**LM_EVAL), tmp_path)["SSL_CERT_FILE"] == __file__
