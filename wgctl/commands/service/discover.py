"""``wgctl service discover``: this host's jails, as placements that could be signed.

On Linux meshd knows the bridges of containers and not the containers: a bridge's address is the host's, and
no service lives there. So nothing is proposed.
"""

from __future__ import annotations

import shlex
import time
from typing import Final

import click

from meshd.errors import ConfigError
from meshd.terminal import echo
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json

REPORT_FORMAT: Final = "wgctl-service-discover/1"


@click.command("discover")
@json_option
@pass_options
def discover_command(options: Options, as_json: bool) -> None:
    """Jails of this host that have an address in its granted networks and no placement (FreeBSD).

    Run on the host; it prints what an administrator could sign and signs nothing.
    """
    from meshd.backend.select import open_jail_host
    from wgctl.views.services import find_unplaced, own_host

    now = time.time()
    ledger, own = own_host(options, now)
    jails = open_jail_host()
    if jails is None or not jails.has_stacks:
        raise ConfigError(
            "this system does not say at which addresses its containers are; "
            "an administrator types: wgctl service place HOST/SERVICE --jail NAME --address ADDRESS"
        )
    found = find_unplaced(ledger, own, jails.survey(own.granted_networks).addresses, now)
    if as_json:
        write_json(
            {
                "format": REPORT_FORMAT,
                "host": own.name,
                "jails": [{"jail": jail, "address": address} for jail, address in found],
            }
        )
        return
    for jail, address in found:
        echo(f"wgctl service place {own.name}/SERVICE --jail {shlex.quote(jail)} --address {address}")
    if not found:
        note("no jail with an address in this host's granted networks is without a placement")
