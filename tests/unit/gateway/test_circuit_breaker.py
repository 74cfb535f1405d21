"""When failures in a row are a failure of the server."""

from __future__ import annotations

import pytest

from slurmeval.gateway.circuit_breaker import CircuitBreaker


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("slurmeval.gateway.circuit_breaker.time.monotonic", lambda: now[0])
    return now


def fail(state: CircuitBreaker, count: int, error: str = "the server answered 500") -> None:
    for _ in range(count):
        state.failed(error, "m/0001")


@pytest.mark.parametrize(
    ("count", "seconds", "given_up"),
    [(1, 10_000, False), (19, 61, False), (20, 59, False), (20, 60, True), (3, 599, False), (3, 600, True)],
)
def test_many_in_a_minute_or_few_in_ten(
    clock: list[float], count: int, seconds: float, given_up: bool
) -> None:
    state = CircuitBreaker()
    fail(state, count)
    clock[0] += seconds
    assert (state.failure() is not None) == given_up


def test_one_good_answer_ends_it(clock: list[float]) -> None:
    state = CircuitBreaker()
    fail(state, 20)
    clock[0] += 100
    state.answered()
    assert state.failure() is None
    assert state.reason() is None
    fail(state, 20)
    assert state.failure() is None


def test_the_reason_says_what_was_seen(clock: list[float]) -> None:
    state = CircuitBreaker()
    fail(state, 25)
    clock[0] += 61
    assert state.failure() == (
        "the server answers 500 to everything (25 in a row over 61 s, the last at m/0001)"
    )
    fail(state, 1, "the connection to the server broke: it was closed by the server")
    assert state.failure() == (
        "requests fail (26 in a row over 61 s, the last at m/0001); "
        "the last: the connection to the server broke: it was closed by the server"
    )


def test_the_reason_says_what_the_server_said_last() -> None:
    state = CircuitBreaker()
    fail(state, 1, "the server answered 429: request 1: no credit")
    fail(state, 1, "the server answered 429: request 2: no credit")
    assert state.reason() == (
        "the server answers 429 to everything (2 in a row over 0 s, the last at m/0001): request 2: no credit"
    )


def test_a_lost_server_is_lost() -> None:
    state = CircuitBreaker()
    state.lost = "no server for 5 s: it is draining"
    state.answered()
    assert state.failure() == state.reason() == "no server for 5 s: it is draining"
