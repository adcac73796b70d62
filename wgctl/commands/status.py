"""``wgctl status``: how this host sees the mesh now, and how the others see it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from meshd.errors import ControlError, MeshError
from meshd.model.text import printable
from meshd.terminal import echo
from wgctl.options import Options, pass_options
from wgctl.output import BAD, is_terminal, json_option, show, styled, terminal_console, write_json

if TYPE_CHECKING:
    from wgctl.views.status import StatusReport

WATCH_SECONDS: Final = 2.0


@click.command("status")
@click.option("--watch", is_flag=True, help=f"Draw again every {WATCH_SECONDS:.0f} s until Ctrl-C.")
@click.option("--local", is_flag=True, help="Only what this host knows: ask no other host.")
@click.option("--history", is_flag=True, help="How this host's paths have gone over the last 24 hours.")
@click.option("--check", is_flag=True, help="One line and an exit code for Nagios and its like.")
@json_option
@pass_options
@click.pass_context
def command(
    ctx: click.Context,
    options: Options,
    watch: bool,
    local: bool,
    history: bool,
    check: bool,
    as_json: bool,
) -> None:
    """How this host sees the mesh now.

    Ends with 0 when meshd answered, whatever it said, and 3 when it did not. With --check: 0 all is well,
    1 warning, 2 critical or no meshd, 3 not known.
    """
    from wgctl.views.status import render_report

    if watch + as_json + check > 1:
        raise click.UsageError("--watch, --json and --check exclude each other")
    if history and (watch or check):
        raise click.UsageError("--history goes with neither --watch nor --check")
    if check:
        ctx.exit(_check(options))
    if watch and not is_terminal():
        raise click.UsageError("--watch needs a terminal")
    if watch:
        _watch(options, local)
        return
    if history:
        _show_history(options, as_json)
        return
    report = _build(options, local)
    if as_json:
        write_json(report)
    else:
        show(render_report(report, now=time.time()))


def _show_history(options: Options, as_json: bool) -> None:
    from meshd.observe.trend import HistoryRequest
    from wgctl.client import ControlClient
    from wgctl.views.history import render_history

    with ControlClient(options.control_socket()) as client:
        document = client.history(HistoryRequest())
    if as_json:
        write_json(document)
    else:
        show(render_history(document))


def _check(options: Options) -> int:
    """For a monitoring plugin a daemon that is gone is critical; what cannot be asked is unknown."""
    from wgctl.client import ControlClient, NotPermittedError
    from wgctl.views.check_line import CRITICAL, UNKNOWN, check_line, render_line

    try:
        with ControlClient(options.control_socket()) as client:
            line, code = check_line(client.status())
    except NotPermittedError as error:
        line, code = render_line(UNKNOWN, str(error)), UNKNOWN
    except ControlError as error:
        line, code = render_line(CRITICAL, str(error)), CRITICAL
    except MeshError as error:
        line, code = render_line(UNKNOWN, str(error)), UNKNOWN
    echo(printable(line))
    return code


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
