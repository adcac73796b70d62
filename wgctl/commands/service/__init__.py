"""``wgctl service``: what runs where in the mesh, and what this host makes of it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final

import click

from meshd.terminal import echo

VERBS: Final[Mapping[str, tuple[str, str]]] = {
    "add": ("declare", "Declare a service, or change it."),
    "place": ("placement", "Say on which host it lives."),
    "drain": ("placement", "Give a placement no new work."),
    "remove": ("placement", "Retire a placement, or a whole service."),
    "list": ("show", "Services of the signed registry, and this host's modules."),
    "show": ("show", "One service, or one module, in full."),
    "diff": ("module", "What a module would change on this host."),
    "apply": ("module", "Let a module change it now."),
    "rollback": ("module", "Back to the files before the last change."),
    "retry": ("module", "Try again what failed or was refused."),
    "advise": ("module", "Settings that a module recommends and never makes itself."),
    "discover": ("discover", "Placements that could be signed for this host's jails."),
    "schema": ("schema", "JSON schemas of what a module is given and answers."),
}


class ServiceVerbs(click.Group):
    """Loads a verb's module only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"wgctl.commands.service.{VERBS[cmd_name][0]}")
        found = getattr(module, f"{cmd_name}_command")
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


@click.group("service", cls=ServiceVerbs, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Services of the mesh, and this host's part in them.

    `add`, `place`, `drain` and `remove` sign, on the admin's machine; `diff` to `advise` ask meshd on a host.
    """
    if ctx.invoked_subcommand is None:
        echo(ctx.get_help())
