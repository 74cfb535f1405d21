"""GPU time of a server by how many requests each evaluation has under way, by a law of batching.

    python timings/batching.py [--benchmarks 1,2,4,8,16] [--seats 256]

A step of the engine takes 10 ms and 0.06 ms for each sequence in it. Benchmarks are of unequal size (the k-th
has 1/k of the questions of the first), answers of unequal length; all evaluations start at once. The ideal
has every seat taken at each step. What a request waits for a seat is shown because its time-out counts it."""

from __future__ import annotations

import argparse
import random
from collections import deque
from collections.abc import Callable

from slurmeval.gateway.places import of_each

STEP_S, SEQUENCE_S = 0.010, 0.00006
QUESTIONS, TOKENS = 2000, 200

Policy = Callable[[int, int], int]
POLICIES: dict[str, Policy] = {
    "16 each": lambda seats, evaluations: 16,
    "shares once over": lambda seats, evaluations: -(-seats // max(1, evaluations)),
    "as slurmeval does": of_each,
    "all seats for each": lambda seats, evaluations: seats,
}


def lengths_of(sizes: list[int]) -> list[list[int]]:
    """Tokens of the answers of benchmarks of these sizes."""
    rng = random.Random(0)
    return [[max(1, round(rng.expovariate(1 / TOKENS))) for _ in range(size)] for size in sizes]


def simulate(lengths: list[list[int]], seats: int, policy: Policy) -> tuple[float, float]:
    """(seconds of the engine, longest time that a request waited for a seat).

    lengths: tokens of the answers of each evaluation; policy: requests under way of each by how many run.
    """
    asking = [deque(each) for each in lengths]
    in_flight = [0] * len(asking)
    queue: deque[tuple[int, int, float]] = deque()
    running: list[list[int]] = []  # tokens left, evaluation
    now = waited = 0.0
    while queue or running or any(asking):
        each = policy(seats, sum(1 for ours, left in zip(in_flight, asking, strict=True) if ours or left))
        for evaluation, questions in enumerate(asking):
            while questions and in_flight[evaluation] < each:
                queue.append((questions.popleft(), evaluation, now))
                in_flight[evaluation] += 1
        while queue and len(running) < seats:
            tokens, evaluation, asked = queue.popleft()
            waited = max(waited, now - asked)
            running.append([tokens, evaluation])
        steps = min(left for left, _ in running)
        now += steps * (STEP_S + SEQUENCE_S * len(running))
        for sequence in running:
            sequence[0] -= steps
            in_flight[sequence[1]] -= sequence[0] == 0
        running = [sequence for sequence in running if sequence[0]]
    return now, waited


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--benchmarks", default="1,2,4,8,16")
    parser.add_argument("--seats", type=int, default=256)
    given = parser.parse_args()
    for count in map(int, given.benchmarks.split(",")):
        sizes = [QUESTIONS // (k + 1) for k in range(count)]
        lengths = lengths_of(sizes)
        ideal = sum(map(sum, lengths)) / given.seats * (STEP_S + SEQUENCE_S * given.seats)
        print(f"{count} benchmarks, {sum(sizes)} questions: ideally {ideal:.0f} s")
        for name, policy in POLICIES.items():
            seconds, waited = simulate(lengths, given.seats, policy)
            print(f"  {name:20}: {seconds:6.0f} s, {seconds / ideal:.2f} times; waited {waited:.0f} s")


if __name__ == "__main__":
    main()
