"""Each site's file asks for jobs as that cluster's own examples do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.config.load import load_site
from slurmeval.config.serving import Serving
from slurmeval.config.site import Site
from slurmeval.slurm.request import evaluation_flags, serving_flags, staging_command

PROFILES = Path(__file__).parents[3] / "profiles"
BY_HAND: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "site_requests.yaml").read_text()
)
GB_PER_GPU = 64
TIME_MIN = 1440


def site_of(name: str) -> Site:
    return load_site((PROFILES if name == "slurm" else PROFILES / "sites") / name / "site.yaml")


def flags_by_hand(site: str, job: str) -> list[str] | None:
    line = BY_HAND[site][job]
    return None if line is None else sorted(line.split())


def test_every_site_is_written_by_hand() -> None:
    assert set(BY_HAND) == {"slurm", *(file.parent.name for file in PROFILES.glob("sites/*/site.yaml"))}


@pytest.mark.parametrize("site", BY_HAND)
def test_jobs_are_asked_for_as_in_the_examples_of_the_site(site: str) -> None:
    file, case = site_of(site), BY_HAND[site]
    gpus, pool = case["gpus_of_a_node"], case.get("pool")

    def server(gpus: int, nodes: int, pool: str | None) -> list[str]:
        memory_gb = gpus * GB_PER_GPU
        wanted = Serving(gpus=gpus, nodes=nodes, pool=pool, memory_gb=memory_gb, time_limit_min=TIME_MIN)
        return sorted(serving_flags(file, wanted))

    assert server(1, 1, None) == flags_by_hand(site, "one")
    assert server(gpus, 1, pool) == flags_by_hand(site, "node")
    assert server(gpus, 2, pool) == flags_by_hand(site, "two")

    evaluation = evaluation_flags(file, time_min=120, memory_gb=file.evaluations.memory_gb)
    wanted = None if file.evaluations.where == "server" else sorted(evaluation)
    assert wanted == flags_by_hand(site, "evaluation")

    srun = staging_command(file, {})
    added = {"--quiet", "--input=none", "--job-name=slurmeval-stage"}
    fetching = sorted({word for word in srun if word.startswith("--")} - added) if srun else None
    assert fetching == flags_by_hand(site, "staging")


@pytest.mark.parametrize("site", [site for site in BY_HAND if site != "slurm"])
def test_a_site_file_says_whether_it_was_tried_and_where_it_is_from(site: str) -> None:
    text = (PROFILES / "sites" / site / "site.yaml").read_text()
    heading = text.split("\nversion:")[0]
    for said in (
        "# Not tried: ",
        "# From http",
        "2026",
        "# Uncertain: ",
        "ACCOUNT" if site != "jean-zay" else "account",
    ):
        assert said in heading, said
    assert max(map(len, text.splitlines())) <= 120
