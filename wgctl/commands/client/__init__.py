"""``wgctl client``: the files of clients, which no meshd keeps right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from meshd.terminal import echo
from wgctl.verb_group import VerbGroup

VERBS: Final[Mapping[str, tuple[str, str]]] = {
    "config": ("config", "Print a client's file for wg-quick, as it should be now."),
    "check": ("check", "Whether a client's file is still right."),
}


class ClientVerbs(VerbGroup):
    package = __name__
    verbs = VERBS


@click.group("client", cls=ClientVerbs, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Files of clients: print one, check one.

    Clients are laptops and phones without a meshd, made by `wgctl add-client`. Nobody tells one that a host
    has come, gone, or has another key: its file has to be made anew.
    """
    if ctx.invoked_subcommand is None:
        echo(ctx.get_help())
