"""``meshd run``: wiring and signals. Everything else receives its parts."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from pathlib import Path

from meshd.daemon.doors import open_doors
from meshd.daemon.wiring import build_daemon
from meshd.host.leftovers import remove_leftovers
from meshd.host.state import HostState
from meshd.observe.logs import event, set_up_logging
from meshd.settings import Settings, read_settings

log = logging.getLogger("meshd")


def run_daemon(config: Path, settings: Settings) -> None:
    """``serve`` on an event loop of its own."""
    asyncio.run(serve(config, settings))


async def serve(config: Path, settings: Settings) -> None:
    """Run the daemon until SIGTERM or SIGINT. StateClaimedError: another one works on the state directory."""
    set_up_logging(settings.log.level, settings.log.format)
    state = HostState(settings.state_dir)
    with state.claimed():
        if removed := remove_leftovers(settings.state_dir, now=time.time()):
            event(log, logging.INFO, "leftovers_removed", files=", ".join(removed))
        doors = open_doors(settings, state)
        daemon = build_daemon(settings, doors, lambda: read_settings(config))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, daemon.stop)
        loop.add_signal_handler(signal.SIGHUP, daemon.reload_quietly)
        await daemon.run()
