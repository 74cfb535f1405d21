"""`slurmeval doctor --site`: what is said of what the nodes have answered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurmeval.cli import main, site
from slurmeval.cli.machine import Check
from slurmeval.config.models import Config
from slurmeval.config.site import Site
from slurmeval.errors import UserError
from slurmeval.planning.plan import Plan
from slurmeval.site_check.facts import Gpu, Listening, NodeFacts, Place, Reached
from slurmeval.site_check.jobs import ProbeAnswer, kinds
from slurmeval.slurm.commands import SlurmAway

PROJECT = Path(__file__).parents[3]
SITE = Site.model_validate({"version": 1})
H100 = Gpu("NVIDIA H100 80GB HBM3", 81559.0, "580.65.06", "9.0")
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}


def facts(**given: Any) -> NodeFacts:
    place = Place("/r", True, True, 10**12)
    found = NodeFacts(
        node="gpu1",
        began=103.0,
        machine="x86_64",
        cores=8,
        python="3.11.2",
        places={"results": place, "HF_HOME": place},
        ahead_s=0.0,
        internet="timed out",
        containers="",
        containment=None,
        devices=["0"],
        gpus=[H100],
    )
    return replace(found, **given)


def answer(title: str = "servers", **given: Any) -> ProbeAnswer:
    kind = next(kind for kind in kinds(SITE, None, every_pool=False) if kind.title == title)
    reached = {"listening": Listening("gpu1", 4711), "reached": Reached(None, "cpu1")}
    return ProbeAnswer(kind, **({"job_id": "7", "submitted": 100.0, "facts": facts(), **reached} | given))


def plan(tmp_path: Path, gigabytes: float = 16.0, **model: Any) -> Plan:
    """A plan with one model of that size on one GPU."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MODEL))
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(int(gigabytes * 1e9))
    content = {
        "version": 1,
        "models": {"m": {"weights": {"folder": str(folder)}, "server": "s", **model}},
        "servers": {"s": {"gpus": 1}},
        "benchmarks": {"b": {"harness": "lm-eval", "task": "gsm8k"}},
        "evaluate": {"benchmarks": ["b"]},
    }
    return Plan(Config.model_validate(content), PROJECT, tmp_path / "hf", SITE)


def said(asked: ProbeAnswer, of_plan: Plan | None = None, site_of: Site = SITE) -> dict[str, Check]:
    found = list(site._of(asked, site_of, of_plan, offline=True))
    assert all(check.advice for check in found if check.level == "bad" and "fit" not in check.found)
    return {check.name: check for check in found}


def test_a_node_that_will_do(tmp_path: Path) -> None:
    found = said(answer(), plan(tmp_path))
    assert {check.level for check in found.values()} == {"ok"}
    assert found["servers"].found.startswith(
        "job 7 began on gpu1 3 s after it was submitted; x86_64, 8 cores"
    )
    assert found["servers: GPUs"].found == "1 given: NVIDIA H100 80GB HBM3 with 80 GiB, driver 580.65.06"
    assert found["servers: vllm-cuda"].found == "CUDA 13.0 runs with driver 580.65.06"
    assert found["servers: m"].found == (
        "16.0 GB of weights and 1.1 GB for the KV cache of 8,192 tokens on each GPU; "
        "68.4 GB are left for more requests"
    )
    assert found["servers: ports between nodes"].found == "cpu1 reaches gpu1"
    assert "servers and evaluations do not need it" in found["servers: internet"].found


def test_a_model_that_cannot_fit_is_told_with_the_sum(tmp_path: Path) -> None:
    found = said(answer(), plan(tmp_path, gigabytes=140.0))["servers: m"]
    assert found.level == "bad"
    assert "does not fit 1 GPU of 79.65 GB: each would hold 140.0 GB of weights and 1.1 GB" in found.found
    assert "servers.s.gpus: 2" in found.found


def test_a_model_that_nobody_knows_yet_is_no_fault(tmp_path: Path) -> None:
    weights = {"repo": "org/name", "revision": "0" * 40}
    found = said(answer(), plan(tmp_path, weights=weights))["servers: m"]
    assert (found.level, "not known yet" in found.found) == ("ok", True)


def test_an_old_driver_is_told(tmp_path: Path) -> None:
    old = replace(H100, driver="535.104.05")
    found = said(answer(facts=facts(gpus=[old])), plan(tmp_path))["servers: vllm-cuda"]
    assert (found.level, "needs 580.65.06 or later" in found.found) == ("bad", True)


@pytest.mark.parametrize(
    ("changed", "name", "level", "words"),
    [
        (
            {"gpus": [], "gpus_unknown": "there is no nvidia-smi on this node"},
            "GPUs",
            "warn",
            "1 given (0), but",
        ),
        (
            {"gpus": [], "devices": [], "gpus_unknown": "there is none"},
            "GPUs",
            "bad",
            "none given to the job",
        ),
        (
            {"places": {"results": Place("/r", False, True, 0)}},
            "file system",
            "bad",
            "does not see results (/r)",
        ),
        ({"places": {"results": Place("/r", True, False, 0)}}, "file system", "bad", "/r cannot be written"),
        ({"places": {"results": Place("/r", True, True, 0)}}, "file system", "warn", "0 GiB free"),
        ({"scratch": "/tmp, in memory", "scratch_usable": False}, "scratch", "warn", "/tmp, in memory"),
        ({"ahead_s": 40.0}, "clock of the file system", "warn", "40 s off"),
    ],
)
def test_what_a_node_lacks_is_told(changed: dict[str, Any], name: str, level: str, words: str) -> None:
    found = said(answer(facts=facts(**changed)))[f"servers: {name}"]
    assert (found.level, words in found.found) == (level, True), found


@pytest.mark.parametrize(
    ("given", "level", "words"),
    [
        (
            {"reached": Reached("Connection timed out", "cpu1")},
            "bad",
            "cpu1 does not reach gpu1:4711: Connection",
        ),
        ({"listening": Listening("", 0, "gpu1.x cannot be resolved"), "reached": None}, "bad", "be resolved"),
        ({"reached": None}, "warn", "not tried"),
    ],
)
def test_closed_ports_are_told(given: dict[str, Any], level: str, words: str) -> None:
    found = said(answer(**given))["servers: ports between nodes"]
    assert (found.level, words in found.found) == (level, True), found


def test_evaluations_inside_servers_need_no_ports_but_containment() -> None:
    inside = Site.model_validate({"version": 1, "evaluations": {"where": "server"}})
    found = said(answer(reached=None, facts=facts(containment="no user namespaces")), None, inside)
    assert found["servers: ports between nodes"].level == "ok"
    assert found["servers: containment"].level == "warn"


def test_a_job_without_answer_is_bad() -> None:
    waiting = said(answer(facts=None, waits="Priority"))["servers"]
    assert (waiting.level, "job 7 still waits (Priority)" in waiting.found) == ("bad", True)
    assert said(answer(facts=None, fault="Slurm does not take the job"))["servers"].level == "bad"


def test_staging_needs_the_internet() -> None:
    away = Site.model_validate({"version": 1, "staging": {"where": "jobs"}})
    kind = next(kind for kind in kinds(away, None, every_pool=False) if kind.role == "staging")
    found = said(ProbeAnswer(kind, "8", 100.0, facts()), None, away)
    assert found["staging: internet"].level == "bad"


def test_a_profile_names_its_site_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("slurmeval-site: here.yaml\n")
    (tmp_path / "here.yaml").touch()
    assert site.site_file(tmp_path) == tmp_path / "here.yaml"
    assert site.site_file(tmp_path / "here.yaml") == tmp_path / "here.yaml"
    for text, words in (("jobs: 5\n", "has no slurmeval-site"), ("{", "it is no YAML")):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(UserError, match=words):
            site.site_file(tmp_path)
    with pytest.raises(UserError, match="No such file"):
        site.site_file(tmp_path / "gone")


def test_the_command_says_when_slurm_is_away_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_: object) -> None:
        raise SlurmAway("Unable to contact slurm controller")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.yaml").write_text("version: 1\n")
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("slurmeval.site_check.jobs.commands.submit", away)
    assert main.run(["doctor", "--site", "site.yaml", "--offline"]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1].startswith("Not ready, or not known: config, Slurm.")
    assert [path.name for path in tmp_path.iterdir()] == ["site.yaml"]


def test_a_machine_without_slurm_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main.run(["doctor", "--site", "profiles/slurm", "--offline"]) == 1
    assert "bad  Slurm: no sbatch is here — run this on a login node" in capsys.readouterr().out
