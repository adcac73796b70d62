"""``wgctl drain``: pairs of other hosts go through this one no more."""

from __future__ import annotations

import click

from meshd.errors import ConfigError
from wgctl.completing import HOST
from wgctl.options import Options, pass_options
from wgctl.output import json_option, say, write_json


@click.command("drain")
@click.argument("host", required=False, type=HOST)
@click.option("--end", is_flag=True, help="As before: it may carry others again.")
@json_option
@pass_options
def command(options: Options, host: str | None, end: bool, as_json: bool) -> None:
    """Keep pairs of other hosts from going through this one.

    HOST is this host; the command runs on the host that it is about. Pairs that it carries find another one
    and lose nothing; those that find none stay. A restart of meshd ends it: for good there is relay.enabled.
    """
    from wgctl.client import ControlClient

    with ControlClient(options.control_socket()) as client:
        own = client.status().host
        if host is not None and host not in (own.name, own.hid):
            raise ConfigError(f"{host}: this is {own.name or own.hid[:8]}; run it there: wgctl drain {host}")
        document = client.drain(end=end)
    if as_json:
        write_json(document)
        return
    name = own.name or own.hid[:8]
    if not document.is_drained:
        say(f"{name} may carry pairs of other hosts")
        return
    say(f"{name} takes no pair of other hosts any more")
    for pair in document.pairs:
        say(f"  still carried, until they have found another one: {pair}")
