"""``wgctl plan``: what meshd would change now, and why."""

from __future__ import annotations

import click

from wgctl.options import Options, pass_options
from wgctl.output import json_option, write_json


@click.command("plan")
@json_option
@pass_options
@click.pass_context
def command(ctx: click.Context, options: Options, as_json: bool) -> None:
    """What meshd would change on this host, and why.

    Ends with 0 when there is nothing to do, 5 when there are changes, 4 when they are held.
    """
    from wgctl.client import ControlClient
    from wgctl.views.plan import PLAN_HAS_CHANGES, PLAN_HELD, show_plan

    with ControlClient(options.control_socket()) as client:
        plan = client.plan()
    if as_json:
        write_json(plan)
    else:
        show_plan(plan)
    if plan.held_because is not None:
        ctx.exit(PLAN_HELD)
    if plan.changes:
        ctx.exit(PLAN_HAS_CHANGES)
