"""``wgctl apply``: let meshd carry out its plan now."""

from __future__ import annotations

import click

from wgctl.options import Options, pass_options
from wgctl.output import json_option, write_json


@click.command("apply")
@click.option("--force", is_flag=True, help="Go ahead with a plan that is held as dangerous.")
@json_option
@pass_options
@click.pass_context
def command(ctx: click.Context, options: Options, force: bool, as_json: bool) -> None:
    """Let meshd carry out its plan now.

    Ends with 0 when the kernel is as wanted, 1 when something was refused, 4 when the plan is held.
    """
    from wgctl.client import ControlClient
    from wgctl.views.plan import APPLY_EXIT, show_applied

    with ControlClient(options.control_socket()) as client:
        document = client.apply(force=force)
    if as_json:
        write_json(document)
    else:
        show_applied(document)
    ctx.exit(APPLY_EXIT.get(document.outcome, 1))
