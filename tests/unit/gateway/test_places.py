"""Places for requests, whose number changes as evaluations begin and end."""

from __future__ import annotations

import asyncio

from slurmeval.gateway.places import Places


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Crowd:
    """Many who want a place, and hold it until they are told to leave."""

    def __init__(self, places: Places) -> None:
        self.places, self.inside = places, 0
        self.leave = asyncio.Semaphore(0)

    async def visit(self) -> None:
        async with self.places:
            self.inside += 1
            try:
                await self.leave.acquire()
            finally:
                self.inside -= 1


def test_their_number_may_grow_and_shrink() -> None:
    async def scene() -> list[int]:
        places = Places(2)
        crowd = Crowd(places)
        visits = [asyncio.create_task(crowd.visit()) for _ in range(10)]
        await settled()
        seen = [crowd.inside]
        places.resize(5)
        await settled()
        seen.append(crowd.inside)
        places.resize(1)  # who has one keeps it
        for leaving in (3, 1, 1):
            for _ in range(leaving):
                crowd.leave.release()
            await settled()
            seen.append(crowd.inside)
        places.resize(100)
        await settled()
        seen.append(crowd.inside)
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        return seen

    assert asyncio.run(scene()) == [2, 5, 2, 1, 1, 5]


def test_one_that_gives_up_leaves_its_place_to_the_next() -> None:
    """While it waits, and in the very moment in which it gets one."""

    async def scene() -> int:
        places = Places(1)
        crowd = Crowd(places)
        visits = [asyncio.create_task(crowd.visit()) for _ in range(4)]
        await settled()
        visits[1].cancel()
        await settled()
        places.resize(2)
        visits[2].cancel()  # it has its place, and has not run since
        await settled()
        inside = crowd.inside
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        return inside

    assert asyncio.run(scene()) == 2, "the first and the last"
