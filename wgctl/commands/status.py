"""``wgctl status``: how this host sees the mesh now, and how the others see it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from meshd.errors import ControlError
from wgctl.options import Options, pass_options
from wgctl.output import BAD, is_terminal, json_option, show, styled, terminal_console, write_json

if TYPE_CHECKING:
    from wgctl.views.status import StatusReport

WATCH_SECONDS: Final = 2.0


@click.command("status")
@click.option("--watch", is_flag=True, help=f"Draw again every {WATCH_SECONDS:.0f} s until Ctrl-C.")
@click.option("--local", is_flag=True, help="Only what this host knows: ask no other host.")
@json_option
@pass_options
def command(options: Options, watch: bool, local: bool, as_json: bool) -> None:
    """How this host sees the mesh now.

    Ends with 0 when meshd answered, whatever it said, and 3 when it did not.
    """
    from wgctl.views.status import render_report

    if watch and as_json:
        raise click.UsageError("--watch and --json exclude each other")
    if watch and not is_terminal():
        raise click.UsageError("--watch needs a terminal")
    if watch:
        _watch(options, local)
        return
    report = _build(options, local)
    if as_json:
        write_json(report)
    else:
        show(render_report(report, now=time.time()))


def _build(options: Options, local: bool) -> StatusReport:
    from wgctl.client import ControlClient
    from wgctl.views.status import build_report

    with ControlClient(options.control_socket()) as client:
        status = client.status()
        return build_report(status, None if local else client.matrix())


def _watch(options: Options, local: bool) -> None:
    from rich.live import Live

    from wgctl.views.status import render_report

    with Live(console=terminal_console(), screen=True, auto_refresh=False) as live:
        while True:
            try:
                page = render_report(_build(options, local), now=time.time())
            except ControlError as error:  # a restart of meshd is what one may be watching
                page = styled(str(error), BAD)
            live.update(page, refresh=True)
            time.sleep(WATCH_SECONDS)
