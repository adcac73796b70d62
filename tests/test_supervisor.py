"""The tasks of a daemon: what ends ends, whatever it would begin."""

from __future__ import annotations

import asyncio

from meshd.supervisor import Supervisor


def test_what_ends_begins_nothing_anew() -> None:
    """As a delivery does: whoever is stopped gives its work to the next one."""
    began = 0

    async def scene() -> None:
        async with Supervisor() as tasks:

            async def deliver() -> None:
                nonlocal began
                began += 1
                try:
                    await asyncio.Event().wait()
                finally:
                    tasks.spawn("deliveries", deliver())

            tasks.spawn("deliveries", deliver())
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scene(), 20))
    assert began == 1
