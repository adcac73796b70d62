"""``wgctl service schema``: what a module in any language is given, and what it answers."""

from __future__ import annotations

import click

from meshd.terminal import echo


@click.command("schema")
def schema_command() -> None:
    """JSON schemas (2020-12) of the view that a module is given and of the plan that it answers."""
    from meshd.services.render import render_schemas

    echo(render_schemas(), nl=False)
