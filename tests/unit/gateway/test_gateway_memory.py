"""The bound on bodies in memory."""

from __future__ import annotations

import asyncio

import pytest

from slurmeval.gateway.memory import Memory


async def test_memory_is_given_out_in_the_order_of_asking_and_comes_back() -> None:
    memory = Memory(10)
    order: list[str] = []

    async def use(name: str, count: int, leave: asyncio.Event) -> None:
        with memory.holding() as share:
            await share.take(count)
            order.append(name)
            await leave.wait()

    leave = asyncio.Event()
    tasks = [asyncio.create_task(use(name, count, leave)) for name, count in (("a", 6), ("b", 6), ("c", 1))]
    await asyncio.sleep(0)
    assert (order, memory.free) == (["a"], 4)
    leave.set()
    await asyncio.gather(*tasks)
    assert (order, memory.free) == (["a", "b", "c"], 10)


async def test_one_that_gives_up_waiting_takes_nothing_and_blocks_nobody() -> None:
    memory = Memory(10)
    with memory.holding() as share:
        await share.take(8)
        big = asyncio.create_task(memory.take(10))
        small = asyncio.create_task(memory.take(2))
        await asyncio.sleep(0)
        big.cancel()
        with pytest.raises(asyncio.CancelledError):
            await big
        share.keep(7)
        await small
        assert memory.free == 1
    assert memory.free == 8
