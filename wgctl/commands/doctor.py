"""``wgctl doctor``: check everything that can be looked at, and say what to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from meshd.errors import MeshError
from wgctl.options import Options, pass_options
from wgctl.output import BAD, FAIR, GOOD, Cell, Column, build_table, json_option, say, show, write_json

if TYPE_CHECKING:
    from meshd.settings import Settings
    from wgctl.checks.base import Check

WORDS: Final = {"fail": ("FAIL", BAD), "warn": ("WARN", FAIR), "ok": ("OK", GOOD)}


@click.command("doctor")
@json_option
@pass_options
@click.pass_context
def command(ctx: click.Context, options: Options, as_json: bool) -> None:
    """Check this host and this admin home; say what to do.

    Works without meshd. Ends with 1 when a check failed, with 0 when there are at most warnings.
    """
    checks = list(_run_checks(options, now=time.time()))
    failed = sum(check.result == "fail" for check in checks)
    warned = sum(check.result == "warn" for check in checks)
    if as_json:
        from wgctl.documents.machine import Examined

        write_json(Examined(failed=failed, warned=warned, checks=tuple(checks)))
    else:
        _show(checks, failed, warned)
    ctx.exit(1 if failed else 0)


def _run_checks(options: Options, *, now: float) -> Iterator[Check]:
    from wgctl.checks.admin import check_home
    from wgctl.checks.files import check_boot_file, check_settings, check_state
    from wgctl.checks.system import check_forwarding, check_network, check_wireguard, network_of

    has_home = options.has_home
    expected = options.config is not None or options.socket is not None or not has_home
    settings, check = check_settings(options.config_path, expected=expected)
    network = network_of(_find_daemon(options)) if expected or settings is not None else ()
    yield check
    yield from check_network(network)
    if settings is not None:
        yield from check_state(settings)
        yield from check_boot_file(settings)
        yield check_wireguard(settings)
        yield from check_forwarding(settings, network)
        yield from _check_filter(settings, network)
    if expected or settings is not None:
        yield from _check_meshd(options, settings, now, is_here=not network)
    if has_home:
        yield from check_home(options, now=now)


def _find_daemon(options: Options) -> int | None:
    """Its process id; None where no meshd answers, or nobody tells."""
    from wgctl.checks.ports import peer_pid
    from wgctl.client import ControlClient

    try:
        with ControlClient(options.control_socket()) as client:
            return peer_pid(client.connection)
    except MeshError:
        return None


def _check_filter(settings: Settings, network: tuple[str, ...]) -> Iterator[Check]:
    from meshd.settings import FREEBSD

    if not FREEBSD and settings.jail_networks:
        from wgctl.checks.netfilter import check_netfilter
        from wgctl.checks.system import read_ruleset

        yield from check_netfilter(
            read_ruleset(network), settings.jail_networks, settings.wireguard.interface
        )

    if FREEBSD:
        from wgctl.checks.fibs import check_fibs
        from wgctl.checks.pf import check_pf

        yield from check_fibs(settings)
        yield from check_pf(settings)


def _check_meshd(
    options: Options, settings: Settings | None, now: float, *, is_here: bool
) -> Iterator[Check]:
    """``is_here``: meshd's network is this shell's, so that its ports can be looked at."""
    from wgctl.checks.base import fail, ok
    from wgctl.checks.daemon import check_metrics, check_status
    from wgctl.checks.interfaces import check_same_key
    from wgctl.checks.ports import check_ports, peer_pid
    from wgctl.checks.rights import check_rights, read_rights
    from wgctl.client import START_COMMAND, ControlClient

    pid = None
    try:
        path = options.control_socket()
        with ControlClient(path) as client:
            pid = peer_pid(client.connection)
            status = client.status()
    except MeshError as error:
        yield fail("meshd", str(error), f"{START_COMMAND}, and see its log")
        yield from check_ports(settings, pid) if settings is not None else ()
        return
    yield ok("meshd", f"version {status.version} answers on {path}")
    if settings is not None and is_here:
        yield from check_ports(settings, pid)
        yield from check_same_key(settings, status.host.public_key)
    yield from check_rights(
        [store.url for store in status.registry.stores], read_rights(pid) if pid else None
    )
    yield from check_status(status, now=now)
    if is_here:
        yield from check_metrics(status)


def _show(checks: list[Check], failed: int, warned: int) -> None:
    """The verdict, then what failed, what is to be looked at, and what is well."""
    style = BAD if failed else FAIR if warned else GOOD
    say(f"{len(checks)} checks: {failed} failed, {warned} to look at", style)
    rows: list[list[Cell]] = []
    for check in sorted(checks, key=lambda each: list(WORDS).index(each.result)):
        rows.append([WORDS[check.result], check.name, check.text])
        if check.advice:
            rows.append(["", "", f"do: {check.advice}"])
    show(build_table(["", "CHECK", Column(name="SEEN, AND WHAT TO DO", text=True)], rows))
