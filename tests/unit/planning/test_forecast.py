"""What earlier runs say of the next: durations, time limits, the order of models."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.models import Config
from slurmeval.paths import Paths
from slurmeval.planning.forecast import Forecast
from slurmeval.results import schema
from slurmeval.results.partitions import write_rows

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODELS = ("small", "large", "new")
BENCHMARKS = ("first", "second", "third")
OF_SMALL = [("small", name) for name in BENCHMARKS]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def evaluation(model: str, benchmark: str, began: float, ended: float, **columns: Any) -> dict[str, Any]:
    row = {"model": model, "benchmark": benchmark, "status": "ok", "limit": 10, "n_repeats": 1}
    row |= {"n_samples": 10, "n_requests": 10, "n_replayed": 0}
    return row | {"started_at": at(began), "ended_at": at(ended)} | columns


def engine_run(model: str, started: float, ready: float, ended: float | None) -> dict[str, Any]:
    row = {"model": model, "server_id": f"{model}/0001", "restart": 0, "engine_run": 1}
    row |= {"submitted_at": at(started - 5), "started_at": at(started), "ready_at": at(ready)}
    return row if ended is None else row | {"ended_at": at(ended)}


Write = Callable[..., None]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "results", tmp_path / "environments", tmp_path / "hf", tmp_path / "images")


@pytest.fixture
def write(paths: Paths) -> Write:
    """Writes the tables that an earlier run has left."""

    def make(evaluations: Iterable[dict[str, Any]], engine_runs: Iterable[dict[str, Any]] = ()) -> None:
        paths.results.mkdir(exist_ok=True)
        write_rows(paths.all_evaluations, schema.EVALUATIONS, evaluations)
        write_rows(paths.all_servers, schema.SERVERS, engine_runs)

    return make


@pytest.fixture
def forecast(paths: Paths) -> Callable[..., Forecast]:
    """`first={"limit": 5}` edits that benchmark; `gpus` are those of the model `large`."""

    def make(gpus: int = 0, **edits: dict[str, Any]) -> Forecast:
        benchmark = {"harness": "lm-eval", "task": "t", "limit": 10}
        servers = {"one": {}, "big": {"gpus": gpus, "nodes": 2, "replicas": 2}}
        uses = {"large": "big"}
        config = Config.model_validate(
            {
                "version": 1,
                "models": {
                    name: {"weights": {"folder": "w"}, "server": uses.get(name, "one")} for name in MODELS
                },
                "servers": servers,
                "benchmarks": {name: benchmark | edits.get(name, {}) for name in BENCHMARKS},
                "suites": {"all": list(BENCHMARKS)},
                "evaluate": {"suites": ["all"]},
            }
        )
        return Forecast(config, BENCHMARKS, paths)

    return make


MakeForecast = Callable[..., Forecast]


def test_without_history_nothing_is_made_up(forecast: MakeForecast) -> None:
    found = forecast()
    estimate = found.expected_s("small", "first")
    assert (estimate.seconds, estimate.source) == (None, "unknown")
    uptime = found.uptime("small", OF_SMALL)
    assert (uptime.seconds, uptime.unknown, uptime.starting, uptime.known) == (0, 3, False, False)


def test_own_history_comes_before_that_of_other_models(forecast: MakeForecast, write: Write) -> None:
    write([evaluation("small", "first", 0, 100), evaluation("large", "first", 0, 400)])
    found = forecast()
    assert (found.expected_s("small", "first").seconds, found.expected_s("small", "first").source) == (
        100,
        "history",
    )
    assert (found.expected_s("new", "first").seconds, found.expected_s("new", "first").source) == (
        250,
        "other model",
    )
    assert found.expected_s("new", "second").source == "unknown"


def test_waiting_for_the_server_is_the_servers_start(forecast: MakeForecast, write: Write) -> None:
    write(
        [evaluation("small", "first", 0, 100), evaluation("small", "second", 70, 90)],
        [engine_run("small", 5, 65, 100)],
    )
    found = forecast()
    assert found.expected_s("small", "first").seconds == 35
    assert found.expected_s("small", "second").seconds == 20
    assert found.starting_s("small").seconds == 60


def test_a_server_whose_end_nobody_wrote_down_has_ended_by_the_next(
    forecast: MakeForecast, write: Write
) -> None:
    write(
        [evaluation("small", "first", 1000, 1200)],
        [engine_run("small", 5, 65, None), engine_run("small", 1001, 1101, 1200)],
    )
    assert forecast().expected_s("small", "first").seconds == 99


def test_evaluations_share_their_server(forecast: MakeForecast, write: Write) -> None:
    """Up for as long as any of them ran, not for the sum; what another model lends is marked."""
    write(
        [
            evaluation("small", "first", 100, 200),
            evaluation("small", "second", 150, 220),
            evaluation("large", "third", 5000, 5030),
        ],
        [engine_run("small", 40, 100, 230)],
    )
    uptime = forecast().uptime("small", OF_SMALL)
    assert (uptime.seconds, uptime.unknown, uptime.other_model, uptime.known) == (60 + 120 + 30, 0, 1, True)


def test_a_judges_server_is_up_for_all_whom_it_judges(paths: Paths, write: Write) -> None:
    rows = [evaluation("small", "judged", 0, 200), evaluation("large", "judged", 210, 300)]
    write(rows, [engine_run("judge", 40, 100, 310), engine_run("small", -90, -50, -10)])
    content = {
        "version": 1,
        "models": {name: {"weights": {"folder": "w"}, "server": "s"} for name in ("small", "large", "judge")},
        "servers": {"s": {}},
        "benchmarks": {
            "qa": {"harness": "lm-eval", "task": "t", "limit": 10},
            "judged": {"harness": "judge", "limit": 10, "judging": {"of": "qa", "judge": "judge"}},
        },
        "evaluate": {"models": ["small", "large"], "benchmarks": ["judged"]},
    }
    found = Forecast(Config.model_validate(content), ["qa", "judged"], paths)
    assert found.expected_s("small", "judged").seconds == 100  # not while the judge was loaded
    uptime = found.uptime("judge", [("small", "judged"), ("large", "judged")])
    assert (uptime.seconds, uptime.unknown, uptime.other_model) == (60 + 100 + 90, 0, 0)
    # What is judged is known of no server but the judge's
    assert found.order(["small", "judge"]) == ["judge", "small"]


@pytest.mark.parametrize(
    ("past", "now", "seconds"),
    [
        ({}, {"limit": 30}, 300),
        ({}, {"repeats": 4, "limit": 5}, 200),
        ({}, {"limit": None}, None),
        ({"limit": None, "n_samples": 1000}, {"limit": None}, 100),
        ({"limit": None, "n_samples": 1000}, {"limit": 100}, 10),
        ({"limit": None, "n_samples": 50}, {"limit": 100}, 100),
        ({"n_replayed": 6}, {}, None),
        ({"n_replayed": 5}, {}, 100),
        ({"status": "failed", "error_class": "harness_error"}, {}, None),
        ({"status": "failed", "error_class": "time_limit"}, {}, None),
    ],
)
def test_history_counts_at_the_size_of_now(
    forecast: MakeForecast, write: Write, past: dict[str, Any], now: dict[str, Any], seconds: float | None
) -> None:
    write([evaluation("small", "first", 0, 100, **past)])
    assert forecast(first=now).expected_s("small", "first").seconds == seconds


def test_partitions_count_where_the_run_was_killed_before_the_tables(
    forecast: MakeForecast, write: Write, paths: Paths
) -> None:
    write([{"model": "small", "benchmark": "first", "status": "missing"}])
    for benchmark in ("first", "unwanted"):
        partition = paths.evaluation("small", benchmark)
        partition.parent.mkdir(parents=True, exist_ok=True)
        write_rows(partition, schema.EVALUATIONS, [evaluation("small", benchmark, 0, 50)])
    (partition.parent / ".second.parquet.new").write_bytes(b"")
    (partition.parent / "third.parquet").write_bytes(b"half a file")
    found = forecast()
    assert found.expected_s("small", "first").seconds == 50
    assert found.expected_s("small", "third").source == "unknown"


def test_tables_of_other_columns_are_no_history(forecast: MakeForecast, paths: Paths) -> None:
    paths.results.mkdir()
    write_rows(paths.all_evaluations, schema.METRICS, [])
    paths.all_servers.write_bytes(b"no table")
    assert forecast().expected_s("small", "first").source == "unknown"


@pytest.mark.parametrize(
    ("edits", "minutes"),
    [
        ({"time_limit_min": 7.5}, 7.5),
        ({"limit": None}, 240),
        # 60 min, and 10 samples at 8 at once: two rounds of 600 s
        ({}, 80),
        ({"repeats": 4, "request_timeout_s": 60, "parallelism": 1}, 100),
        ({"limit": 100_000}, 1440),
    ],
)
def test_time_limits_without_history(forecast: MakeForecast, edits: dict[str, Any], minutes: float) -> None:
    assert forecast(first=edits).time_limit_min("first") == minutes


def test_time_limits_from_history(forecast: MakeForecast, write: Write) -> None:
    failed = {"status": "failed", "error_class": "time_limit"}
    write(
        [
            evaluation("small", "first", 0, 60),
            evaluation("small", "second", 0, 3600),
            evaluation("large", "second", 0, 7200),
            evaluation("small", "third", 0, 2400),
            evaluation("large", "third", 0, 7200, **failed),
        ]
    )
    found = forecast(second={"limit": 20})
    assert found.time_limit_min("first") == 30
    assert found.time_limit_min("second") == 3 * 120 * 2
    assert found.time_limit_min("third") == 2 * 120
    assert forecast(first={"time_limit_min": 5}).time_limit_min("first") == 5


def test_models_that_hold_gpus_least_come_first(forecast: MakeForecast, write: Write) -> None:
    write(
        [evaluation("large", name, 0, 100) for name in BENCHMARKS]
        + [evaluation("small", name, 0, 300) for name in BENCHMARKS],
        [engine_run("large", -10, 0, 100), engine_run("small", -10, 0, 300)],
    )
    assert forecast(gpus=0).order(["new", "small", "large"]) == ["large", "small", "new"]
    # two servers of two nodes with four GPUs each
    assert forecast(gpus=4).order(["new", "small", "large"]) == ["small", "large", "new"]
    assert forecast().order([]) == []
