"""``wgctl service``: what runs where in the mesh, and what this host makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from meshd.terminal import echo
from wgctl.verb_group import VerbGroup

VERBS: Final[Mapping[str, tuple[str, str]]] = {
    "add": ("declare:add_command", "Declare a service, or change it."),
    "place": ("placement:place_command", "Say on which host it lives."),
    "drain": ("placement:drain_command", "Give a placement no new work."),
    "remove": ("placement:remove_command", "Retire a placement, or a whole service."),
    "list": ("show:list_command", "Services of the signed registry, and this host's modules."),
    "show": ("show:show_command", "One service, or one module, in full."),
    "diff": ("module:diff_command", "What a module would change on this host."),
    "apply": ("module:apply_command", "Let a module change it now."),
    "rollback": ("module:rollback_command", "Back to the files before the last change."),
    "retry": ("module:retry_command", "Try again what failed or was refused."),
    "advise": (
        "module:advise_command",
        "What modules recommend, and placements that are far from who uses them.",
    ),
    "discover": ("discover:discover_command", "Placements that could be signed for this host's jails."),
    "garage": ("garage:command", "Garage's layout: shown, staged, and applied when you say so."),
    "schema": ("schema:schema_command", "JSON schemas of what a module is given and answers."),
}


class ServiceVerbs(VerbGroup):
    package = __name__
    verbs = VERBS


@click.group("service", cls=ServiceVerbs, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Services of the mesh, and this host's part in them.

    `add`, `place`, `drain` and `remove` sign, on the admin's machine; `diff` to `advise` ask meshd on a host.
    """
    if ctx.invoked_subcommand is None:
        echo(ctx.get_help())
