"""``wgctl doctor``: check everything that can be looked at, and say what to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from meshd.errors import MeshError
from wgctl.options import Options, pass_options
from wgctl.output import BAD, FAIR, GOOD, Cell, build_table, json_option, say, show, write_json

if TYPE_CHECKING:
    from meshd.settings import Settings
    from wgctl.checks.base import Check

REPORT_FORMAT: Final = "wgctl-doctor/1"
WORDS: Final = {"ok": ("OK", GOOD), "warn": ("WARN", FAIR), "fail": ("FAIL", BAD)}


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
        write_json({"format": REPORT_FORMAT, "failed": failed, "warned": warned, "checks": checks})
    else:
        _show(checks, failed, warned)
    ctx.exit(1 if failed else 0)


def _run_checks(options: Options, *, now: float) -> Iterator[Check]:
    from wgctl.checks.admin import check_home
    from wgctl.checks.files import check_boot_file, check_settings, check_state
    from wgctl.checks.system import check_forwarding, check_wireguard

    has_home = options.has_home
    expected = options.config is not None or options.socket is not None or not has_home
    settings, check = check_settings(options.config_path, expected=expected)
    yield check
    if settings is not None:
        yield from check_state(settings)
        yield from check_boot_file(settings)
        yield check_wireguard(settings)
        yield from check_forwarding(settings)
        yield from _check_filter(settings)
    if expected or settings is not None:
        yield from _check_meshd(options, now)
    if has_home:
        yield from check_home(options, now=now)


def _check_filter(settings: Settings) -> Iterator[Check]:
    from meshd.settings import FREEBSD

    if not FREEBSD and settings.jail_networks:
        from wgctl.checks.netfilter import check_netfilter
        from wgctl.checks.system import read_ruleset

        yield from check_netfilter(read_ruleset(), settings.jail_networks, settings.wireguard.interface)

    if FREEBSD:
        from wgctl.checks.fibs import check_fibs
        from wgctl.checks.pf import check_pf

        yield from check_fibs(settings)
        yield from check_pf(settings)


def _check_meshd(options: Options, now: float) -> Iterator[Check]:
    from wgctl.checks.base import fail, ok
    from wgctl.checks.daemon import check_metrics, check_status
    from wgctl.client import START_COMMAND, ControlClient

    try:
        path = options.control_socket()
        with ControlClient(path) as client:
            status = client.status()
    except MeshError as error:
        yield fail("meshd", str(error), f"{START_COMMAND}, and see its log")
        return
    yield ok("meshd", f"version {status.version} answers on {path}")
    yield from check_status(status, now=now)
    yield from check_metrics(status)


def _show(checks: list[Check], failed: int, warned: int) -> None:
    rows: list[list[Cell]] = [[WORDS[check.result], check.name, check.text, check.advice] for check in checks]
    show(build_table(["", "CHECK", "SEEN", "WHAT TO DO"], rows))
    style = BAD if failed else FAIR if warned else GOOD
    say(f"{len(checks)} checks: {failed} failed, {warned} to look at", style)
