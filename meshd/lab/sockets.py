"""The daemon's own sockets on this system: ``python -m meshd.lab.sockets ADDRESS...``.

contrib/freebsd-check.sh runs it inside a jail with a network stack of its own: the prober has
to measure these addresses, and the kernel's wake-ups are named as far as they open.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final

from meshd.backend.events import open_event_sources
from meshd.errors import BackendError
from meshd.probe.base import ProbeTarget
from meshd.probe.rawsocket import RawIcmpSocket
from meshd.probe.transport import IcmpProber
from meshd.supervisor import Supervisor

REPLIES: Final = 5
INTERVAL_SECONDS: Final = 0.2
DEADLINE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.05


async def measure(addresses: Sequence[str], say: Callable[[str], None], deadline_seconds: float) -> bool:
    """Whether each of them answered ``REPLIES`` times; says how fast, or why not. Raises BackendError
    where there are no raw sockets."""
    targets = tuple(ProbeTarget(hid=text, address=ip_address(text)) for text in addresses)
    prober = IcmpProber(INTERVAL_SECONDS)
    async with Supervisor() as tasks:
        await prober.start(tasks)
        try:
            prober.set_targets(targets)
            return await _answer(prober, addresses, say, deadline_seconds)
        finally:
            await prober.stop()


async def _answer(
    prober: IcmpProber, addresses: Sequence[str], say: Callable[[str], None], deadline_seconds: float
) -> bool:
    deadline = time.monotonic() + deadline_seconds
    while True:
        stats = prober.snapshot(time.time())
        silent = [text for text in addresses if stats[text].received < REPLIES]
        if not silent or time.monotonic() > deadline:
            break
        await asyncio.sleep(LOOK_SECONDS)
    for text in addresses:
        if text in silent:
            why = prober.refusals().get(text) or "no answer"
            say(f"FAILED: {text}: {stats[text].received} of {REPLIES} replies seen: {why}")
        else:
            say(f"ok: {text} answers in {(stats[text].srtt_seconds or 0.0) * 1000:.3f} ms")
    return not silent


def describe_kernel(say: Callable[[str], None]) -> None:
    """What this kernel does beyond what is needed. Raises BackendError where there are no raw sockets."""
    for family in (socket.AF_INET, socket.AF_INET6):
        opened = RawIcmpSocket(family)
        say(f"ok: {family.name}: packets are stamped by the {'kernel' if opened.stamped else 'reader'}")
        opened.close()
    sources = open_event_sources()
    say(f"ok: wake-ups: {', '.join(type(source).__name__ for source in sources) or 'none'}")
    for source in sources:
        source.close()


def main(arguments: Sequence[str] | None = None, deadline_seconds: float = DEADLINE_SECONDS) -> int:
    addresses = sys.argv[1:] if arguments is None else list(arguments)
    try:
        describe_kernel(print)
        whole = asyncio.run(measure(addresses, print, deadline_seconds))
    except BackendError as error:
        print(f"FAILED: {error}")
        return 1
    except ValueError as error:
        print(f"usage: python -m meshd.lab.sockets ADDRESS...: {error}", file=sys.stderr)
        return 2
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
