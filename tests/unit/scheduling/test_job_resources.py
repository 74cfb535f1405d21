"""Snakemake's options on resources count for all jobs of a run, or are refused with one line."""

from __future__ import annotations

from typing import Any

import pytest

from slurmeval.config.site import Site
from slurmeval.errors import UserError
from slurmeval.scheduling.job_resources import of_site, request_of, site_of_options
from slurmeval.scheduling.snakemake_compat import ResourceOptions
from slurmeval.slurm.request import evaluation_flags, gpu_evaluation_flags, server_flags


def options(**given: Any) -> ResourceOptions:
    return ResourceOptions(
        **{"set_resources": {}, "set_threads": [], "defaults": {}, "limits": [], **given}  # type: ignore[arg-type]
    )


def site(**evaluations: Any) -> Site:
    return Site.model_validate({"version": 1, "evaluations": evaluations})


def test_the_rule_says_what_the_site_file_says() -> None:
    filled = of_site(site(account="p1", constraint="NOGPU", memory_gb=1.5))
    assert filled == {"mem_mb": 1536, "slurm_account": "p1", "constraint": "NOGPU"}
    assert of_site(None) == {}


def test_a_job_asks_for_what_snakemake_says() -> None:
    resources = {"mem_mb": 8000, "runtime": 90, "slurm_account": "p2", "qos": "short", "tmpdir": "/tmp"}
    request = request_of(site(account="p1", partition="cpu"), resources, threads=3)
    flags = evaluation_flags(request.site, time_min=request.time_min, memory_gb=request.memory_gb)
    assert flags[:3] == ["--account=p2", "--partition=cpu", "--qos=short"]
    assert {"--cpus-per-task=3", "--mem=8000M", "--time=90"} <= {*flags}


def test_a_job_with_gpus_of_its_own_asks_as_servers_do() -> None:
    file = Site.model_validate(
        {"version": 1, "evaluations": {"partition": "cpu"}, "servers": {"partition": "gpu", "account": "p1"}}
    )
    flags = gpu_evaluation_flags(file, None, gpus=2, time_min=90, memory_gb=48)
    as_server = server_flags(file.servers.of(None), gpus=2, nodes=1, cpus=None, memory_gb=48, time_min=90)
    assert flags == as_server
    assert {"--partition=gpu", "--account=p1", "--time=90"} <= {*flags}
    assert any(flag.startswith(("--gres=gpu:2", "--gpus")) for flag in flags), flags


def test_defaults_count_for_all_jobs_where_the_site_file_says_nothing() -> None:
    told = site_of_options(site(account="p1"), options(defaults={"slurm_account": "p2", "tmpdir": "/tmp"}))
    assert (told.evaluations.account, told.servers.account, told.staging.account) == ("p1", "p2", "p2")


@pytest.mark.parametrize(
    ("given", "evaluations", "said"),
    [
        (
            {"set_resources": {"lease": ["mem_mb"]}},
            {},
            "--set-resources lease: has no effect; .*servers.<id>",
        ),
        ({"set_threads": ["report"]}, {}, "--set-threads report: has no effect; expected the rule evaluate"),
        (
            {"set_resources": {"evaluate": ["gpu"]}},
            {},
            "--set-resources evaluate:gpu: not known; expected one of",
        ),
        ({"defaults": {"slurm_extra": "x"}}, {}, "--default-resources slurm_extra: not known"),
        ({"defaults": {"slurm_account": "a b"}}, {}, "--default-resources: account: "),
        ({"set_resources": {"evaluate": ["mem_mb"]}}, {"memory": None}, "evaluations.memory is null"),
        ({"set_resources": {"evaluate": ["runtime"]}}, {"where": "server"}, "run in servers' jobs"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    given: dict[str, Any], evaluations: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        site_of_options(site(**evaluations), options(**given))


def test_a_resource_that_snakemake_counts_is_allowed() -> None:
    given = options(set_resources={"evaluate": ["licences"]}, limits=["licences"])
    assert site_of_options(site(), given) == site()
