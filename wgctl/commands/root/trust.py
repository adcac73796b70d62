"""``wgctl root trust``: this home trusts another root, because its operator knows that it is right."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from meshd.terminal import confirm, echo
from wgctl.completing import FILE
from wgctl.files import MAX_BUNDLE_BYTES, read_text
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json


@click.command("trust")
@click.argument("what", metavar="FINGERPRINT|FILE", type=FILE)
@click.option("--fingerprint", help="With FILE: of a root in it. Needed with --yes.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also when over a fifth of the hosts would fall away.")
@json_option
@pass_options
def command(
    options: Options, what: str, fingerprint: str | None, yes: bool, force: bool, as_json: bool
) -> None:
    """Make this home trust another root of its mesh, because you know that it is right.

    Only after `wgctl root refound` elsewhere. What was trusted before is kept.
    """
    from wgctl.admin.session import open_session
    from wgctl.admin.trust_root import find_ledger, reanchor_home

    if not yes and not sys.stdin.isatty():
        raise click.UsageError("--yes is needed where nobody can be asked")
    if yes and fingerprint is None and Path(what).exists():
        raise click.UsageError("--yes does not cover a root that nobody compared: type its --fingerprint")
    now = time.time()
    text = read_text(what, "a registry export", MAX_BUNDLE_BYTES) if Path(what).exists() else None
    with open_session(options) as session:
        session.sync(now=now)
        ledger, lines = find_ledger(session, what, text, fingerprint, force=force, now=now)
        for line in lines:
            note(line)
        if not yes:
            confirm("Trust it?")
        backup = reanchor_home(session, ledger, None, now=now)
    if as_json:
        from wgctl.documents.signing import RootTrusted

        chain = ledger.chain
        write_json(RootTrusted(version=chain.version, hash=chain.fingerprint, backup=str(backup)))
        return
    echo(f"this home trusts root {ledger.chain.version} now; what it trusted before is in {backup}")
