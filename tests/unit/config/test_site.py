"""A site file is what it says, or one line says what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from slurmeval.config.load import load_site
from slurmeval.config.serving import Serving
from slurmeval.config.site import ServerJobs, Site
from slurmeval.errors import ConfigError, UserError
from slurmeval.slurm.request import serving_flags

PROJECT = Path(__file__).parents[3]
PROFILES = PROJECT / "profiles"
SITES = sorted(PROFILES.glob("**/site.yaml"))
STYLES = [
    re.findall(r"`([a-z_]+: .+?)`", line)
    for line in (PROJECT / "docs" / "sites.md").read_text().split("## Styles")[1].split("##")[0].splitlines()
    if line.startswith("| ") and "`" in line
]
"""The keys that each row of the table in docs/sites.md recommends."""


def problem(tmp_path: Path, text: str) -> str:
    """What is said about a site file of this text, without the name of the file."""
    file = tmp_path / "site.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_site(file, project=tmp_path)
    message = str(raised.value)
    assert message.startswith("site.yaml"), message
    assert message.isprintable()
    return message.removeprefix("site.yaml").removeprefix(": ")


@pytest.mark.parametrize("file", SITES, ids=lambda file: str(file.parent.relative_to(PROFILES)))
def test_site_of_the_project_is_good(file: Path) -> None:
    assert load_site(file)


def test_generic_site_shows_every_key_with_its_default() -> None:
    file = PROFILES / "slurm" / "site.yaml"
    assert yaml.safe_load(file.read_text()) == Site(version=1).model_dump(mode="json")


@pytest.mark.parametrize("keys", STYLES, ids=str)
def test_documented_style_is_understood(keys: list[str]) -> None:
    written = {name: value for key in keys for name, value in yaml.safe_load(key).items()}
    assert len(written) == len(keys)
    ServerJobs.model_validate(written, strict=True)


@pytest.mark.parametrize("file", SITES, ids=lambda file: str(file.parent.relative_to(PROFILES)))
def test_profile_names_the_site_beside_it(file: Path) -> None:
    profile = yaml.safe_load((file.parent / "config.yaml").read_text())
    assert (profile["executor"], profile["slurmeval-site"]) == ("slurmeval", file.name)
    common = yaml.safe_load((PROFILES / "local" / "config.yaml").read_text())
    del common["cores"]
    assert common.items() <= profile.items()


def test_site_survives_the_run_document() -> None:
    for file in SITES:
        site = load_site(file)
        assert Site.model_validate(site.model_dump(mode="json"), strict=True) == site


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a mapping (key: value)"),
        ("servers: {", ":2:1: did not find"),
        ("servers: {}", "version: is missing"),
        ("version: 2\nfuture: 1", "version: is 2; this program reads version 1"),
        ("version: 1\nserver: {}", "server: unknown key; did you mean 'servers'?"),
        ("version: 1\nservers: {acount: x}", "servers.acount: unknown key; did you mean 'account'?"),
        (
            "version: 1\nservers: {partition: gpu}\nservers: {}",
            ":3:1: two entries with one id: 'servers' stands in line 2 and again in line 3",
        ),
        (
            "version: 1\nservers: {partition: 3}",
            "servers.partition: 3 is a number; expected text (in quotes, if it looks like something else)",
        ),
        (
            "version: 1\nservers: {partition: ''}",
            "servers.partition: '': a word without spaces is needed; null ",
        ),
        (
            'version: 1\nservers: {account: "a\\nb"}',
            "servers.account: 'a\\nb': a word without spaces is needed",
        ),
        (
            "version: 1\nservers: {gpus: '--gpus={gpu}'}",
            "servers.gpus: '--gpus={gpu}': {gpu} is unknown; allowed: {gpus}, {total_gpus}",
        ),
        (
            "version: 1\nservers: {gpus: '--gpus={}'}",
            "servers.gpus: '--gpus={}': {} is unknown; allowed: {gpus}",
        ),
        (
            "version: 1\nservers: {gpus: '--gpus={gpus'}",
            "servers.gpus: '--gpus={gpus': the braces do not fit; ",
        ),
        (
            "version: 1\nservers: {gpus: '--gpus={gpus:d}'}",
            "servers.gpus: '--gpus={gpus:d}': braces hold a name only; ",
        ),
        (
            "version: 1\nservers: {gpus: '-G {gpus}'}",
            "servers.gpus: '-G {gpus}': a long flag of sbatch is needed",
        ),
        (
            "version: 1\nservers: {gpus: '--{gpus}'}",
            "servers.gpus: '--{gpus}': a long flag of sbatch is needed",
        ),
        (
            "version: 1\nservers: {gpus: '--gres=gpu:{gpus} --exclusive'}",
            "servers.gpus: '--gres=gpu:{gpus} --exclusive': one flag without spaces is needed",
        ),
        (
            "version: 1\nevaluations: {memory: '--mem={memory_per_gpu_gb}G'}",
            "evaluations.memory: '--mem={memory_per_gpu_gb}G': {memory_per_gpu_gb} is unknown; allowed: ",
        ),
        (
            "version: 1\nservers: {extra: ['-C fat']}",
            "servers.extra.0: '-C fat': a long flag of sbatch is needed",
        ),
        ("version: 1\nservers: {extra: [--]}", "servers.extra.0: '--': a long flag of sbatch is needed"),
        (
            "version: 1\nservers: {extra: [--constraint=fat]}",
            "servers.extra.0: '--constraint=fat': the key constraint says that",
        ),
        (
            "version: 1\nevaluations: {extra: [--time=10]}",
            "evaluations.extra.0: '--time=10': slurmeval gives --time itself",
        ),
        (
            "version: 1\nservers: {gpus: '--gres=gpu:{gpus}', extra: ['--gres=tmpfs:10G']}",
            "servers: --gres is given twice (gpus and extra); sbatch takes one only",
        ),
        (
            "version: 1\nevaluations: {extra: [--cpus-per-task=4]}",
            "evaluations: --cpus-per-task is given twice (cpus and extra)",
        ),
        ("version: 1\nservers: {address: login}", "servers.address: 'login': {host} is needed"),
        (
            "version: 1\nservers: {address: '{name}'}",
            "servers.address: '{name}': {name} is unknown; allowed: {host}",
        ),
        (
            "version: 1\nservers: {max_time_min: 5, min_time_min: 60}",
            "servers: max_time_min is less than min_time_min, 60",
        ),
        (
            "version: 1\nevaluations: {where: job}",
            "evaluations.where: 'job' is not allowed; did you mean 'jobs'? (allowed: jobs, server)",
        ),
        ("version: 1\npoll_s: 0", "poll_s: 0 is too small; expected at least 1"),
        ("version: 1\nservers: [a]", "servers: is a list; expected a mapping"),
        ("version: 1\nservers: {qos: [1]}\npoll_s: no", "servers.qos: is a list; expected text"),
    ],
)
def test_one_line_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    assert problem(tmp_path, text).startswith(message)


def test_missing_site_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^profiles/mine/site\.yaml: no such file$"):
        load_site(tmp_path / "profiles" / "mine" / "site.yaml", project=tmp_path)


POOLS = """
version: 1
servers:
  account: mine
  partition: small
  cpus_per_gpu: 8
  setup: [module load CUDA]
  pools:
    big: {partition: big, gpus: "--gres=gpu:a100:{gpus}", cpus_per_gpu: 16}
"""


def test_pool_says_what_differs_and_the_rest_is_shared(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(POOLS)
    site = load_site(file)
    big = serving_flags(site, Serving(pool="big", gpus=2))
    assert {"--account=mine", "--partition=big", "--gres=gpu:a100:2", "--cpus-per-task=32"} <= set(big)
    small = serving_flags(site, Serving(gpus=2))
    assert {"--partition=small", "--gpus-per-node=2", "--cpus-per-task=16"} <= set(small)
    assert site.servers.of("big").setup == ["module load CUDA"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("{partitions: big}", "servers.pools.big.partitions: unknown key; did you mean 'partition'?"),
        ("{pools: {}}", "servers.pools.big.pools: unknown key"),
        ('{extra: ["--gpus-per-node=2"]}', "--gpus-per-node is given twice (gpus and extra)"),
        ("{min_time_min: 100, max_time_min: 1}", "max_time_min is less than min_time_min, 100"),
        ("small", "servers.pools.big: 'small' is text; expected a mapping"),
    ],
)
def test_pool_that_will_not_do_is_refused(keys: str, message: str, tmp_path: Path) -> None:
    assert message in problem(tmp_path, f"version: 1\nservers:\n  pools:\n    big: {keys}\n")


def test_pool_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(POOLS)
    with pytest.raises(UserError, match=r"'huge' is not in the site file's servers\.pools \(big\)"):
        serving_flags(load_site(file), Serving(pool="huge", gpus=1))
