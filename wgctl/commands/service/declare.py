"""``wgctl service add``: declare a service, or change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wgctl.completing import SERVICE
from wgctl.options import Options, pass_options
from wgctl.output import json_option
from wgctl.parameters import draft_option

if TYPE_CHECKING:
    from meshd.registry.ledger import Ledger
    from wgctl.admin.signing_request import DeclareServices


@click.command("add")
@click.argument("name", type=SERVICE)
@click.option("--kind", metavar="WORD", help="What speaks there: patroni, redis, http, ... [needed once]")
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port. [needed once]")
@click.option(
    "--scope",
    type=click.Choice(["mesh", "region", "host"]),
    help="How far away a consumer may be. [default: mesh]",
)
@click.option(
    "--min-endpoints",
    type=click.IntRange(0, 1000),
    help="With fewer active placements no consumer is changed. [default: 1]",
)
@click.option(
    "--check",
    metavar="CHECK",
    help="How a placement's own host looks whether it works: tcp, tcp=:PORT, http=:PORT/PATH or none.",
)
@draft_option
@json_option
@pass_options
def add_command(
    options: Options,
    name: str,
    kind: str | None,
    port: int | None,
    scope: str | None,
    min_endpoints: int | None,
    check: str | None,
    draft: str | None,
    as_json: bool,
) -> None:
    """Declare a service, or change what is not its kind.

    What is not named stays as it is. The kind of a name is fixed until the service is removed.
    """
    from wgctl.commands.service.signing import say_words

    def make(ledger: Ledger) -> DeclareServices:
        from meshd.registry.statement import Service
        from wgctl.admin.signing_request import DeclareServices

        found = ledger.reduction().services.services.get(name)
        known = found if found is not None and not found.retired else None
        if known is None and (kind is None or port is None):
            raise click.UsageError(f"service {name[:63]!r} is new: --kind and --port are needed")
        wanted = ("" if check == "none" else check) if check is not None else (known.check if known else "")
        body = Service(
            name=name,
            kind=kind or (known.kind if known else ""),
            port=port or (known.port if known else 0),
            scope=scope or (known.scope if known else "mesh"),
            min_endpoints=min_endpoints
            if min_endpoints is not None
            else (known.min_endpoints if known else 1),
            check=wanted,
            state="active",
        )
        return DeclareServices(services=(body,))

    say_words(options, make, draft, as_json)
