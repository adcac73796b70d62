"""``wgctl rollback``: back to the state before the last applied plan."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from meshd.errors import UnsafePlanError
from meshd.terminal import confirm
from meshd.text_files import somebody_answers
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, render_age, write_json

if TYPE_CHECKING:
    from meshd.observe.status import ChangeStatus

MAX_SHOWN: Final = 8


@click.command("rollback")
@click.option("--yes", is_flag=True, help="Do not ask about routes that go.")
@json_option
@pass_options
@click.pass_context
def command(ctx: click.Context, options: Options, yes: bool, as_json: bool) -> None:
    """Go back to the state before the last plan.

    The last one that meshd carried out on this host. Shows how old it is, and asks before routes go.
    Only what it touched goes back, and it stays so until wgctl apply. Revoked hosts and replaced keys do
    not come back. Ends with 0 when it is as before, 1 when there is nothing to go back to or the kernel
    refused something, 4 when routes would go and nobody can be asked.
    """
    from wgctl.client import ControlClient
    from wgctl.views.plan import ROLLBACK_EXIT, show_rolled_back

    with ControlClient(options.control_socket()) as client:
        change = client.status().change
        if change is not None and change.state != "held":
            _announce(change, yes, now=time.time())
        document = client.rollback()
    if as_json:
        write_json(document)
    else:
        show_rolled_back(document)
    ctx.exit(ROLLBACK_EXIT.get(document.outcome, 1))


def _announce(change: ChangeStatus, agreed: bool, *, now: float) -> None:
    """What is about to be undone. UnsafePlanError where routes would go and nobody can be asked."""
    age = render_age(change.applied_at, now)
    note(f"the last plan, {change.plan}, is {age} old: {change.changes} changes, {change.hosts} hosts")
    if change.routes_back:
        note(f"  routes that come back: {_some(change.routes_back)}")
    if not change.routes_away:
        return
    routes = _some(change.routes_away)
    note(f"  routes that go: {routes}")
    if agreed:
        return
    if not somebody_answers():
        raise UnsafePlanError(f"a rollback would take the routes to {routes} away; if that is wanted: --yes")
    confirm("Go back to what was before?")


def _some(words: Sequence[str]) -> str:
    more = len(words) - MAX_SHOWN
    return " ".join(words[:MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")
