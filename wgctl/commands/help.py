"""``wgctl help``: the help of a verb, as ``wgctl VERB --help`` shows it."""

from __future__ import annotations

import click

from meshd.terminal import echo
from wgctl.completing import VERB


@click.command("help", context_settings={"ignore_unknown_options": True})
@click.argument("verb", nargs=-1, type=VERB)
@click.pass_context
def command(ctx: click.Context, verb: tuple[str, ...]) -> None:
    """Show the help of a verb.

    As in: wgctl help service add.

    What a condition means is not here: wgctl explain CONDITION.
    """
    root = ctx.find_root()
    found, context = root.command, root
    for word in verb:
        if not isinstance(found, click.Group):
            raise click.UsageError(f"{context.command_path} has no verbs of its own, {word!r} seen")
        _, inner, _ = found.resolve_command(context, [word])
        assert inner is not None
        context = click.Context(inner, info_name=word, parent=context)
        found = inner
    echo(found.get_help(context))
