"""Which servers share a job."""

from __future__ import annotations

from typing import Any

import pytest

from slurmeval.config.serving import Serving
from slurmeval.config.site import Site
from slurmeval.planning.shared_jobs import job_of, packed, shared_jobs


def server(**keys: Any) -> Serving:
    return Serving.model_validate(keys)


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ([1, 1, 1, 1], [["a", "b", "c", "d"]]),
        ([2, 4, 1, 1], [["a", "c", "d"]]),
        ([3, 3, 1, 1], [["a", "c"], ["b", "d"]]),
        ([4, 4], []),
        ([0, 1], []),
        ([1], []),
    ],
)
def test_each_goes_to_the_first_job_with_room(gpus: list[int], expected: list[list[str]]) -> None:
    servers = {name: server(gpus=count) for name, count in zip("abcd", gpus, strict=False)}
    assert packed(servers, 4) == expected


@pytest.mark.parametrize("keys", [{"nodes": 2}, {"replicas": 2}])
def test_what_is_more_than_one_server_shares_no_job(keys: dict[str, int]) -> None:
    assert packed({"a": server(gpus=1, **keys), "b": server(gpus=1)}, 4) == []


def test_a_shared_job_asks_for_all() -> None:
    site = Site.model_validate({"version": 1, "servers": {"gpus_per_job": 8, "cpus_per_gpu": 4}})
    servers = [
        server(gpus=2, memory_gb=50, time_limit_min=60),
        server(gpus=1, memory_gb=30, time_limit_min=90),
    ]
    job = job_of(site, servers)
    asked = job.slurm_additional_parameters
    assert (asked["gpus-per-node"], asked["cpus-per-task"], asked["mem"]) == ("8", "12", "80G")
    assert job.timeout_min == 90


def test_servers_of_two_pools_share_no_job() -> None:
    pools = {"a": {"gpus_per_job": 4}, "b": {}}
    site = Site.model_validate({"version": 1, "servers": {"gpus_per_job": 2, "pools": pools}})
    servers = {f"{pool}-{number}": server(gpus=1, pool=pool) for pool in (None, "a") for number in range(3)}
    assert shared_jobs(site, servers) == [["None-0", "None-1"], ["a-0", "a-1", "a-2"]]
