"""How many requests evaluations have under way by default."""

from __future__ import annotations

from typing import Any

import pytest

from slurmeval.config.models import Config
from slurmeval.engines.vllm import Vllm
from slurmeval.gateway.places import of_each
from slurmeval.planning.parallelism import by_default, shared_seats


def config(server: dict[str, Any], flags: dict[str, Any] | None = None) -> Config:
    return Config.model_validate(
        {
            "version": 1,
            "models": {"m": {"weights": {"folder": "w"}, "server": "s", "flags": flags or {}}},
            "servers": {"s": server},
            "benchmarks": {"b": {"harness": "lm-eval", "task": "b"}},
            "suites": {"all": ["b"]},
            "evaluate": {"suites": ["all"]},
        }
    )


@pytest.mark.parametrize("seats", [8, 64, 256, 1024])
@pytest.mark.parametrize("evaluations", [1, 2, 4, 16, 100])
def test_the_evaluations_of_a_model_fill_its_engine(seats: int, evaluations: int) -> None:
    each = of_each(seats, evaluations)
    assert each * evaluations >= seats
    assert 8 <= each <= max(8, seats)


@pytest.mark.parametrize(
    ("server", "flags", "one"),
    [
        ({"gpus": 1}, {}, 256),
        ({"gpus": 1, "flags": {"max-num-seqs": 64}}, {}, 64),
        ({"gpus": 1, "flags": {"max_num_seqs": "64"}}, {}, 64),
        ({"gpus": 1, "flags": {"max-num-seqs": 64}, "replicas": 3}, {}, 192),
        ({"gpus": 8, "flags": {"max-num-seqs": 64, "data-parallel-size": 8}}, {}, 512),
        ({"gpus": 1, "flags": {"max-num-seqs": 64}}, {"max-num-seqs": 32}, 32),
        ({"gpus": 1, "replicas": 9}, {}, 1024),
        ({}, {}, 8),
        ({"flags": {"max-num-seqs": 64}}, {}, 8),
    ],
)
def test_one_evaluation_takes_all_seats_of_its_servers(
    server: dict[str, Any], flags: dict[str, Any], one: int
) -> None:
    assert by_default(config(server, flags), "m", Vllm()) == one


def test_evaluations_fill_what_a_server_that_is_there_already_may_be_asked_at_once() -> None:
    api = {"url": "https://api.example.org/v1", "max_in_flight": 64}
    assert by_default(config(api), "m", Vllm()) == shared_seats(config(api), "m", Vllm()) == 64


def test_evaluations_on_cpus_share_nothing() -> None:
    assert shared_seats(config({}), "m", Vllm()) is None
