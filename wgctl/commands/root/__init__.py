"""``wgctl root``: the root documents, who signs them, and what to do when keys are lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from meshd.terminal import echo
from wgctl.verb_group import VerbGroup

VERBS: Final[Mapping[str, tuple[str, str]]] = {
    "list": ("list_", "The chain of roots, and those that wait for signatures."),
    "show": ("show", "One root, the newest by default: keys, pools, thresholds, ranges."),
    "sign": ("sign", "Add a signature to a root that somebody proposed."),
    "threshold": ("threshold", "Change how many keys must agree."),
    "request": ("request", "Make a root key in this home and print the request to be named."),
    "add-key": ("add_key", "Name a further root key in the next root."),
    "join": ("join", "Open the bundle in the home that made the request, or in a new one without keys."),
    "remove-key": ("remove_key", "A root key no longer signs root documents."),
    "check-paper": ("check_paper", "Whether the key on paper is a root key of this mesh."),
    "recover": ("recover", "Replace a lost admin home by this new one, with the recovery key from paper."),
    "refound": ("refound", "All root keys are lost: begin a new chain of roots for the same mesh."),
    "trust": ("trust", "Make this home trust another root of its mesh, because you know that it is right."),
}


class RootVerbs(VerbGroup):
    package = __name__
    verbs = VERBS


@click.group("root", cls=RootVerbs, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Root documents: list, sign, thresholds, recovery.

    A root names the administrators and their pools. The next one counts when enough root keys of the
    last one and of itself have signed it.
    """
    if ctx.invoked_subcommand is None:
        echo(ctx.get_help())
