"""``wgctl rollback``: back to the state before the last applied plan."""

from __future__ import annotations

import click

from wgctl.options import Options, pass_options
from wgctl.output import json_option, write_json


@click.command("rollback")
@json_option
@pass_options
@click.pass_context
def command(ctx: click.Context, options: Options, as_json: bool) -> None:
    """Go back to the state before the last plan.

    The last one that meshd carried out on this host. Only what it touched goes back, and it stays so
    until wgctl apply. Revoked hosts and replaced keys do not come back. Ends with 0 when it is as
    before, 1 when there is nothing to go back to or the kernel refused something.
    """
    from wgctl.client import ControlClient
    from wgctl.views.plan import ROLLBACK_EXIT, show_rolled_back

    with ControlClient(options.control_socket()) as client:
        document = client.rollback()
    if as_json:
        write_json(document)
    else:
        show_rolled_back(document)
    ctx.exit(ROLLBACK_EXIT.get(document.outcome, 1))
