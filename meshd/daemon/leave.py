"""``meshd leave``: this host leaves its mesh, and what is its own goes from this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meshd.errors import StateClaimedError, UnsafePlanError
from meshd.host.readiness import is_claimed
from meshd.host.state import HostState
from meshd.settings import FREEBSD, Settings, read_settings
from meshd.terminal import confirm, echo
from meshd.text_files import somebody_answers

if TYPE_CHECKING:
    from meshd.host.departure import Departure

THERE_IS_SOMETHING: Final = 5
STOP_COMMAND: Final = (
    "service meshd stop && sysrc meshd_enable=NO" if FREEBSD else "systemctl disable --now meshd"
)
"""Also at the next boot, which would bring the mesh up again."""


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would go, and change nothing: ends with 5, or 0.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def leave(config: Path, dry_run: bool, yes: bool) -> int:
    """Take this host out of its mesh; meshd must be stopped.

    Interfaces, routes and files of services that are proven to be this host's go; its keys are put aside. Cut
    off in the middle, the same command goes on. An administrator has to revoke the host (wgctl remove-host).
    """
    settings = read_settings(config)
    state = HostState(settings.state_dir)
    if not state.enrolled:
        echo(f"{state.directory}: no host lives here: nothing to leave")
        return 0
    if dry_run:
        return _show(settings, state, str(config))
    if not yes and not somebody_answers():
        raise click.UsageError("--yes is needed where nobody can be asked")
    try:
        with state.claimed():
            _leave(settings, state, config, asks=not yes)
    except StateClaimedError:
        raise UnsafePlanError(
            f"state_dir {state.directory}: a meshd works on it, nothing was changed; stop it first, also "
            f"for the next boot: {STOP_COMMAND}"
        ) from None
    return 0


def _show(settings: Settings, state: HostState, source: str) -> int:
    departure = _find(settings, state, source)
    if is_claimed(state):
        echo(f"a meshd works on {state.directory}: first type: {STOP_COMMAND}")
    for line in departure.lines():
        echo(f"would {line}")
    for text in departure.spared:
        echo(f"would leave alone: {text}")
    return THERE_IS_SOMETHING


def _find(settings: Settings, state: HostState, source: str) -> Departure:
    from meshd.daemon.doors import open_own_backend
    from meshd.host.departure import find_departure

    backend = open_own_backend(settings, state)
    try:
        return find_departure(settings, backend, source)
    finally:
        backend.close()


def _leave(settings: Settings, state: HostState, config: Path, *, asks: bool) -> None:
    from meshd.daemon.doors import open_own_backend
    from meshd.host.departure import depart, find_departure

    backend = open_own_backend(settings, state)
    try:
        departure = find_departure(settings, backend, str(config))
        if asks:
            for line in departure.lines():
                echo(line, err=True)
            confirm(f"Take {departure.name or 'this host'} out of its mesh?")
        for line in depart(departure, backend):
            echo(line)
    finally:
        backend.close()
    for line in _left_to_do(departure, config):
        echo(line)


def _left_to_do(departure: Departure, config: Path) -> list[str]:
    """What no program can do here, with what to type."""
    name = departure.name or "NAME"
    anchor = config.parent / "pf.anchor"
    pf = [f"pf: {anchor} is still there; take its lines out of pf.conf, then: pfctl -f /etc/pf.conf"]
    return [
        *(f"left alone: {text}" for text in departure.spared),
        *(pf if anchor.exists() else []),
        f"now an administrator types: wgctl remove-host {name}",
        f"until then the other hosts report {name} as silent, and let in who has its keys",
        f"its keys are in {departure.aside}; nobody needs them after that: rm -r {departure.aside}",
    ]
