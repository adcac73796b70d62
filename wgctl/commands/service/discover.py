"""``wgctl service discover``: this host's jails, as placements that could be signed.

On Linux meshd knows the bridges of containers and not the containers: a bridge's address is the host's, and
no service lives there. So nothing is proposed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import click

from meshd.errors import ConfigError
from meshd.terminal import echo
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json


@click.command("discover")
@json_option
@pass_options
def discover_command(options: Options, as_json: bool) -> None:
    """Jails of this host as placements that could be signed (FreeBSD).

    Those with an address in its granted networks: what their Bastille tags `svc.NAME.PORT` say, and those
    that have neither such a tag nor a placement. Run on the host; it prints what an administrator could
    sign, and signs nothing.
    """
    from meshd.backend.select import open_jail_host
    from wgctl.views.discovery import propose
    from wgctl.views.services import own_host

    now = time.time()
    ledger, own = own_host(options, now)
    jails = open_jail_host()
    if jails is None or not jails.has_stacks:
        raise ConfigError(
            "this system does not say at which addresses its containers are; "
            "an administrator types: wgctl service place HOST/SERVICE --jail NAME --address ADDRESS"
        )
    survey = jails.survey(own.granted_networks)
    found = propose(ledger.membership(now), own, survey.addresses, _read_tags(survey.roots))
    if as_json:
        from wgctl.documents.services import Discovered

        write_json(Discovered(host=own.name, jails=tuple(found)))
        return
    for line in dict.fromkeys(line for each in found for line in each.words(own.name)):
        echo(line)
    if not found:
        note("no jail with an address in this host's granted networks is without a placement")


def _read_tags(roots: Mapping[str, str]) -> dict[str, str]:
    """By jail. One whose tags cannot be read is shown as one without."""
    from meshd.backend.bastille import parse_tags, read_tags
    from meshd.errors import BackendError

    found = {}
    for jail, root in roots.items():
        try:
            found[jail] = read_tags(root)
        except BackendError as error:
            note(f"wgctl: warning: {error}")
            continue
        for tag in parse_tags(found[jail])[1]:
            note(f"wgctl: warning: jail {jail}: tag {tag[:60]!r} seen, svc.NAME or svc.NAME.PORT expected")
    return found
