"""``wgctl root threshold``: how many keys must agree."""

from __future__ import annotations

import time

import click

from wgctl.admin.root_signing import Consent, report, root_options, sign_root
from wgctl.options import Options, pass_options


@click.command("threshold")
@click.option("--root", "roots", type=click.IntRange(min=1), help="How many root keys sign a root.")
@click.option("--admin", "admins", type=click.IntRange(min=1), help="How many administrators make a grant.")
@root_options
@pass_options
def command(options: Options, roots: int | None, admins: int | None, consent: Consent) -> None:
    """Change how many keys must agree.

    A higher number of administrators also judges the grants of the past: let the others endorse those
    first (wgctl endorse --all), or hosts fall away.
    """
    from meshd.registry.root_changes import change_thresholds
    from wgctl.admin.session import open_session

    if roots is None and admins is None:
        raise click.UsageError("--root or --admin is needed")
    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        root = change_thresholds(session.ledger, root=roots, admin=admins, now=now)
        outcome = sign_root(session, root, consent)
        session.report_failures()
    report(outcome, consent)
