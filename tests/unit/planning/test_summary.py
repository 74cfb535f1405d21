"""What a plan says, and what it finds that a cluster cannot give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slurmeval.config.models import Config
from slurmeval.config.site import Site
from slurmeval.planning.fitting import requests, unfit
from slurmeval.planning.forecast import Uptime
from slurmeval.planning.summary import WIDTH, Summary, duration, lines, summarize
from slurmeval.slurm.parsing import Partition

SITE = Site(version=1)
LONG_NAME = "a-model-with-a-name-that-leaves-no-room-for-anything-beside-it"


def config(models: tuple[str, ...] = ("small", "large"), at_once: int | None = None, **large: Any) -> Config:
    """`large` edits the server of the model `large`."""
    return Config.model_validate(
        {
            "version": 1,
            "models": {
                name: {"weights": {"folder": "w"}, "server": "big" if name == "large" else "one"}
                for name in models
            },
            "servers": {"one": {"gpus": 1, "time_limit_min": 90}, "big": {"gpus": 4, **large}},
            "benchmarks": {name: {"harness": "lm-eval", "task": "t"} for name in ("first", "second")},
            "suites": {"all": ["first", "second"]},
            "evaluate": {"suites": ["all"]},
            "server_jobs": {"max_at_once": at_once},
        }
    )


def words(found: list[str]) -> str:
    """The text, however its lines are broken."""
    return " ".join(" ".join(found).split())


class Told:
    """A forecast as a test wants it: each evaluation takes an hour, each start half an hour."""

    def __init__(self, unknown: int = 0, starting: bool = True, other_model: int = 0) -> None:
        self.told = Uptime(0, unknown, starting, other_model)

    def uptime(self, server: str, evaluations: list[tuple[str, str]]) -> Uptime:
        seconds = 3600.0 * (len(evaluations) - self.told.unknown) + 1800 * self.told.starting
        return replace(self.told, seconds=seconds)

    def time_limit_min(self, benchmark: str) -> float:
        return {"first": 30, "second": 240}[benchmark]


ALL = [("small", "first"), ("small", "second"), ("large", "first"), ("large", "second")]


def summary(planned: list[tuple[str, str]] = ALL, **arguments: Any) -> Summary:
    given = {"config": config(), "site": SITE, "forecast": Told(), "planned": planned, "in_all": 4}
    return summarize(**(given | arguments))


def test_the_second_run_of_a_failed_evaluation() -> None:
    found = lines(summary([("small", "second")]))
    assert found[:2] == [
        "Will submit 1 server and 1 evaluation: 2 Slurm jobs.",
        "Of 4 evaluations, 3 are done already.",
    ]
    here = lines(summary([("small", "second")], site=None))
    assert here[0] == "Will start 1 server and 1 evaluation on this machine."


def test_nothing_to_be_done() -> None:
    assert lines(summary([])) == ["Will submit no server and no evaluation.", "Of 4 evaluations, 4 are done."]
    left = lines(summary([], finished=1))
    assert left[1:] == ["Of 4 evaluations, 3 are done.", "An earlier run has left 1 evaluation finished."]


def test_evaluations_whose_answers_are_all_stored_need_no_server() -> None:
    planned = [("small", "first"), ("small", "second"), ("large", "first")]
    found = lines(summary(planned, answered={("small", "second"), ("large", "first")}))
    assert found[:3] == [
        "Will submit 1 server and 3 evaluations: 4 Slurm jobs.",
        "Of 4 evaluations, 1 is done already.",
        "Without a server, from stored answers: 2 evaluations.",
    ]
    assert not any(line.startswith("large") for line in found)
    assert lines(summary([("small", "first")], site=None, answered={("small", "first")})) == [
        "Will start no server and 1 evaluation on this machine.",
        "Of 4 evaluations, 3 are done already.",
        "Without a server, from stored answers: 1 evaluation.",
    ]


def test_evaluations_that_ask_nobody_need_no_server() -> None:
    given = config()
    entry = given.benchmarks["second"].model_copy(update={"harness": "patching", "task": "tense"})
    given = given.model_copy(update={"benchmarks": {**given.benchmarks, "second": entry}})
    for answered in (set(), {("small", "second")}):  # one that ran before is not told twice
        found = lines(summary([("small", "first"), ("small", "second")], config=given, answered=answered))
        assert found[:3] == [
            "Will submit 1 server and 2 evaluations: 3 Slurm jobs.",
            "Of 4 evaluations, 2 are done already.",
            "Without a server, by themselves: 1 evaluation.",
        ]


def test_gpu_hours_by_model_and_in_all() -> None:
    found = lines(summary(config=config(nodes=2, replicas=3)))
    assert found[2:6] == [
        "model         servers   GPUs  time limit  evaluations      up for  GPU-hours",
        "small               1      1  1 h 30 min            2  2 h 30 min        2.5",
        "large               3  2 × 4        24 h            2  2 h 30 min       60.0",
        "all                 4     25                        4                   62.5",
    ]
    assert found[0] == "Will submit 4 servers and 4 evaluations: 8 Slurm jobs."
    text = words(found)
    assert "Expected: 62.5 GPU-hours, about 2 h 30 min from start to end, not counting the queue." in text
    assert "Earlier runs tell of 4 of 4 evaluations, and of 2 of 2 server starts." in text
    assert found[-1] == "One try of an evaluation may take 30 min to 4 h."


def test_what_is_unknown_is_said_to_be() -> None:
    found = lines(summary(forecast=Told(unknown=2, starting=False)))
    assert found[3].split()[-2:] == ["unknown", "unknown"]
    assert "Expected: GPU-hours and time are unknown, nothing of it has run here before." in found
    partly = lines(summary(forecast=Told(unknown=1, other_model=1)))
    assert partly[3].endswith("> 1 h 30 min      > 1.5")
    text = words(partly)
    assert "Expected: more than 7.5 GPU-hours, more than 1 h 30 min from start to end" in text
    assert "tell of 2 of 4 evaluations (2 of them on another model)" in text


@pytest.mark.parametrize(
    ("at_once", "site", "lasts"),
    [(None, SITE, "2 h 30 min"), (2, SITE, "2 h 30 min"), (1, SITE, "5 h"), (None, None, "5 h")],
)
def test_how_long_it_takes_is_bounded_by_servers_at_once(
    at_once: int | None, site: Site | None, lasts: str
) -> None:
    assert f"about {lasts} from start to end" in words(
        lines(summary(config=config(at_once=at_once), site=site))
    )


def test_replicas_take_a_slot_each() -> None:
    assert summary(config=config(at_once=2, replicas=2)).lasts_s == 2 * 9000
    assert summary(config=config(at_once=3, replicas=2)).lasts_s == 9000
    assert summary(config=config(at_once=1, replicas=9)).lasts_s == 2 * 9000


def test_without_gpus_there_are_no_columns_of_them() -> None:
    found = lines(summary([("large", "first")], config=config(gpus=0)))
    assert found[3].split() == ["model", "servers", "time", "limit", "evaluations", "up", "for"]
    assert "GPU" not in words(found)


def test_lines_are_narrow_and_tables_end() -> None:
    models = ("large", *(f"{LONG_NAME}-{number}" for number in range(60)))
    planned = [(model, "first") for model in models]
    found = lines(summary(planned, config=config(models), in_all=200, forecast=Told(unknown=1)))
    assert max(map(len, found)) <= WIDTH
    assert "… and 11 further models" in found
    assert f"{LONG_NAME}-3" in found
    assert len(found) < 120


def test_what_a_site_says_bounds_the_time_limit() -> None:
    site = Site.model_validate({"version": 1, "servers": {"max_time_min": 60}, "evaluations": {}})
    assert [row.time_limit_min for row in summary(site=site).rows] == [60, 60]


def test_evaluations_inside_their_server_are_no_jobs() -> None:
    site = Site.model_validate({"version": 1, "evaluations": {"where": "server"}})
    assert lines(summary(site=site))[0] == "Will submit 2 servers and 4 evaluations: 2 Slurm jobs."
    shared = Site.model_validate({"version": 1, "servers": {"gpus_per_job": 4}})
    assert lines(summary(site=shared))[0].endswith("at most 6 Slurm jobs.")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(59, "59 s"), (60, "1 min"), (3599, "1 h"), (3900, "1 h 05 min"), (200_000, "56 h")],
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told


GPU = Partition("gpu", 120, 4, 256_000, 64, 2, True, "UP")


def test_requests_that_are_alike_are_asked_once() -> None:
    first = config(("a", "b", "large"))
    more = {"third", *(f"b{number}" for number in range(9))}
    alike = first.model_copy(
        update={"benchmarks": first.benchmarks | dict.fromkeys(more, first.benchmarks["first"])}
    )
    asked = requests(SITE, alike, ["a", "b", "large"], {"first": 30, "second": 240, "third": 30})
    assert [each.title for each in asked] == [
        "servers of a, b",
        "server of large",
        "evaluations on first, third",
        "evaluation on second",
    ]
    assert "--gpus-per-node=4" in asked[1].flags
    (many,) = requests(SITE, alike, [], {f"b{number}": 30.0 for number in range(9)})
    assert many.title == "evaluations on b0, b1, b2, b3 and 5 more"


def test_an_evaluation_on_gpus_of_its_own_asks_for_them() -> None:
    content = config().model_dump(mode="json")
    content["benchmarks"]["first"] = {"harness": "patching", "patching": {"gpus": 8, "memory_gb": 100}}
    (asked,) = requests(SITE, Config.model_validate(content), [], {"first": 30})
    assert (asked.title, asked.gpus, asked.memory_gb) == ("evaluation on first", 8, 100)
    assert "--gpus-per-node=8" in asked.flags
    assert unfit(asked, {"gpu": GPU}) == "partition gpu: 4 GPUs a node (8 asked for)"


def test_jobs_that_fit() -> None:
    small, *_ = requests(SITE, config(), ["small"], {})
    assert unfit(small, {"gpu": GPU}) is None
    assert unfit(small, {"gpu": replace(GPU, max_time_min=None)}) is None


@pytest.mark.parametrize(
    ("server", "site", "partition", "reason"),
    [
        ({}, {}, {}, "partition gpu: at most 2 h (24 h asked for)"),
        ({"gpus": 8}, {"max_time_min": 60}, {}, "partition gpu: 4 GPUs a node (8 asked for)"),
        ({"nodes": 3}, {"max_time_min": 60}, {}, "partition gpu: 2 nodes (3 asked for)"),
        ({"memory_gb": 300}, {"max_time_min": 60}, {}, "partition gpu: 250 GB a node (300 asked for)"),
        ({"cpus": 65}, {"max_time_min": 60}, {}, "partition gpu: 64 cores a node (65 asked for)"),
        ({}, {"max_time_min": 60}, {"state": "DOWN"}, "partition gpu: it is DOWN"),
        ({}, {"partition": "a100"}, {}, "there is no partition a100"),
        ({}, {}, {"default": False}, "no partition is named, and the cluster has no default one"),
    ],
)
def test_jobs_that_do_not_fit(
    server: dict[str, Any], site: dict[str, Any], partition: dict[str, Any], reason: str
) -> None:
    wanted = Site.model_validate({"version": 1, "servers": site})
    (asked,) = requests(wanted, config(**server), ["large"], {})
    assert unfit(asked, {"gpu": replace(GPU, **partition)}) == reason


def test_one_of_several_partitions_is_enough() -> None:
    site = Site.model_validate({"version": 1, "servers": {"partition": "gpu,long"}})
    (asked,) = requests(site, config(), ["large"], {})
    long = replace(GPU, name="long", max_time_min=None)
    assert unfit(asked, {"gpu": GPU, "long": long}) is None
    assert (
        unfit(asked, {"gpu": GPU})
        == "partition gpu: at most 2 h (24 h asked for); there is no partition long"
    )


def test_what_is_not_asked_for_cannot_be_lacking() -> None:
    site = {"version": 1, "servers": {"memory": None, "cpus": None, "max_time_min": 60}}
    (asked,) = requests(Site.model_validate(site), config(memory_gb=999, cpus=999), ["large"], {})
    assert unfit(asked, {"gpu": GPU}) is None


def test_a_server_that_is_there_already_is_not_started_and_is_no_job() -> None:
    there = Config.model_validate(
        {
            "version": 1,
            "models": {"small": {"server": "api"}},
            "servers": {"api": {"url": "http://127.0.0.1:9/v1"}},
            "benchmarks": {name: {"harness": "lm-eval", "task": "t"} for name in ("first", "second")},
            "suites": {"all": ["first", "second"]},
            "evaluate": {"suites": ["all"]},
        }
    )
    found = summary(ALL[:2], config=there, in_all=2)
    assert lines(found)[0] == "Will submit no server and 2 evaluations: 2 Slurm jobs."
    assert found.lasts_s == 9000
    on_one_machine = summary(ALL[:2], config=there, site=None, in_all=2)
    assert lines(on_one_machine)[0] == "Will start no server and 2 evaluations on this machine."
    assert "at once" not in words(lines(on_one_machine))


def test_a_server_that_is_there_already_needs_no_job() -> None:
    content = config().model_dump(mode="json", exclude_unset=True)
    content["servers"]["one"] = {"url": "https://api.example.org/v1"}
    content["models"]["small"] = {"server": "one"}
    asked = requests(SITE, Config.model_validate(content), ["small", "large"], {"first": 30})
    assert [each.title for each in asked] == ["server of large", "evaluation on first"]
    (alone,) = requests(SITE, Config.model_validate(content), ["small"], {"first": 30})
    loading_min = asked[1].time_min - alone.time_min
    assert loading_min == (1800 - 120) / 60, "it waits for no weights"
