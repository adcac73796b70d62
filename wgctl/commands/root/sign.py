"""``wgctl root sign``: a further signature below a root that somebody proposed."""

from __future__ import annotations

import time

import click

from wgctl.admin.root_signing import Consent, report, root_options, sign_proposal
from wgctl.options import Options, pass_options


@click.command("sign")
@click.argument("which", metavar="VERSION|FINGERPRINT")
@root_options
@pass_options
def command(options: Options, which: str, consent: Consent) -> None:
    """Add a signature to a root that somebody proposed.

    Shows what differs from the root in force. With --yes only its FINGERPRINT will do.
    """
    from msgspec.structs import replace

    from wgctl.admin.find_root import find_proposal
    from wgctl.admin.session import open_session

    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        proposal = find_proposal(session.ledger, which)
        outcome = sign_proposal(session, proposal, replace(consent, fingerprints=(which,)))
        session.report_failures()
    report(outcome, consent)
