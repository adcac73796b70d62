"""``wgctl root remove-key``: a root key that signs no more."""

from __future__ import annotations

import time

import click

from wgctl.admin.root_signing import Consent, report, root_options, sign_root
from wgctl.completing import ADMIN
from wgctl.options import Options, pass_options


@click.command("remove-key")
@click.argument("name", metavar="NAME|KEY", type=ADMIN)
@root_options
@pass_options
def command(options: Options, name: str, consent: Consent) -> None:
    """A root key no longer signs root documents."""
    from meshd.registry.root_changes import find_key, remove_root_key
    from wgctl.admin.session import open_session

    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        chain = session.ledger.chain
        outcome = sign_root(
            session, remove_root_key(session.ledger, find_key(chain.root, name), now=now), consent
        )
        session.report_failures()
    report(outcome, consent)
