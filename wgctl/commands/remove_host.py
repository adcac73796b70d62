"""``wgctl remove-host``: revoke a host for good."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from meshd.errors import ConfigError
from meshd.terminal import confirm, echo
from wgctl.completing import HOST
from wgctl.options import Options, pass_options
from wgctl.output import json_option, write_json
from wgctl.parameters import draft_option

if TYPE_CHECKING:
    from wgctl.admin.session import AdminSession


@click.command("remove-host")
@click.argument("host", metavar="NAME|HID", type=HOST)
@click.option("--why", default="", metavar="TEXT", help="Kept in the signed statement.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@draft_option
@json_option
@pass_options
def command(options: Options, host: str, why: str, yes: bool, draft: str | None, as_json: bool) -> None:
    """Revoke a host or a client for good.

    Every other host drops it as soon as it hears of it. It can come back only with a new identity.
    """
    from wgctl.admin.select_hosts import revocable_hids, several_hosts, unknown_host
    from wgctl.admin.session import find_hids, open_session
    from wgctl.views.registry import host_names

    now = time.time()
    if draft is not None:
        _write_draft(options, draft, host, why, now, as_json)
        return
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("--yes is needed where nobody can be asked")
    with open_session(options) as session:
        session.sync(now=now)
        session.require_store()
        reduction = session.ledger.reduction()
        hids = find_hids(session.ledger, host)
        living = sorted(hids & revocable_hids(session.ledger))
        if not living:
            gone = sorted(hids & reduction.revoked.keys())
            if not gone:
                raise ConfigError(unknown_host(session.ledger, host))
            seq, hid = None, gone[-1]
        elif len(living) > 1:
            raise ConfigError(several_hosts(host, living))
        else:
            hid = living[0]
            name = host_names(session.ledger)[hid]
            if not yes:
                confirm(f"Revoke {name} ({hid[:8]}) for good?")
            seq = session.revoke(hid, why, now=now)
        session.report_failures()
        key_state = _withdraw_key(session, hid)
        name = host_names(session.ledger)[hid]
        by = str(session.ledger.reduction().revoked[hid].provenance)
    if as_json:
        from wgctl.documents.members import HostRemoved

        changed = seq is not None
        write_json(HostRemoved(name=name, hid=hid, statement=seq, changed=changed, s3_key=key_state))
    elif seq is None:
        echo(f"{name} ({hid[:8]}) was revoked before, by {by}; {key_state}")
    else:
        echo(f"{name} ({hid[:8]}) is revoked by statement {seq}; {key_state}")


def _withdraw_key(session: AdminSession, hid: str) -> str:
    """What became of the host's S3 key. The revocation counts whatever that is."""
    home = session.home
    if session.alone or not home.mesh.garage_admin:
        return "take its S3 key away, if it has one"
    from wgctl.admin.garage import withdraw_host_key
    from wgctl.admin.host_keys import HOST_KEYS, KeyFolder

    folder = KeyFolder(home.directory / HOST_KEYS)
    return withdraw_host_key(home.mesh, session.store_urls, folder, hid)


def _write_draft(options: Options, path: str, host: str, why: str, now: float, as_json: bool) -> None:
    from wgctl.admin.select_hosts import choose_revocable
    from wgctl.admin.signing_request import RemoveHost, draft_operation, report_draft

    report_draft(
        path,
        draft_operation(
            options,
            path,
            lambda ledger: RemoveHost(hid=choose_revocable(ledger, host), why=why),
            now=now,
        ),
        as_json,
    )
