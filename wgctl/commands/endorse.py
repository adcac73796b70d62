"""``wgctl endorse``: agree with what another administrator granted."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from meshd.errors import ConfigError
from meshd.terminal import confirm, echo
from wgctl.completing import HOST
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json

if TYPE_CHECKING:
    from meshd.registry.reducer import UnendorsedGrant
    from meshd.registry.services import UnendorsedStatement


@click.command("endorse")
@click.argument("what", metavar="[STATEMENT|HOST]", required=False, type=HOST)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Every grant of others that is in force or waits and that you have not endorsed.",
)
@click.option("--yes", is_flag=True, help="Do not ask. A host that waits needs its --fingerprint then.")
@click.option(
    "--fingerprint",
    "fingerprints",
    multiple=True,
    help="With --yes: of a host's identity that you have compared; again for more.",
)
@json_option
@pass_options
def command(
    options: Options,
    what: str | None,
    everything: bool,
    yes: bool,
    fingerprints: tuple[str, ...],
    as_json: bool,
) -> None:
    """Agree with another administrator's grant, service or placement.

    Needed where the root wants more than one administrator behind a grant. STATEMENT: the first digits
    of its hash, as `wgctl log` shows them.
    """
    from wgctl.admin.endorsement import describe_endorsable, find_endorsable, find_uncovered
    from wgctl.admin.session import open_session
    from wgctl.views.registry import describe_statement

    if (what is None) != everything:
        raise click.UsageError("either STATEMENT|HOST or --all is needed")
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("--yes is needed where nobody can be asked")
    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        session.require_store()
        entries = find_endorsable(session.ledger, session.home.mesh.admin_kid, what)
        for entry in entries:
            note(describe_endorsable(session.ledger, entry))
        uncovered = find_uncovered(session.ledger, entries, what, fingerprints)
        if yes and uncovered:
            raise ConfigError(
                f"{len(uncovered)} of {len(entries)} wait; --yes does not cover a key that nobody compared: "
                "type --fingerprint for each, as meshd enroll showed it on the host; nothing was signed"
            )
        if entries and not yes:
            confirm(f"Endorse {len(entries)} statements?")
        signer = session.signer() if entries else None
        seqs = [session.commit(signer.endorse(entry.hash, now=now)) for entry in entries if signer]
        reduction = session.ledger.reduction()
        waiting: dict[str, UnendorsedGrant | UnendorsedStatement] = {}
        waiting |= {each.entry.hash: each for each in reduction.unendorsed}
        waiting |= {each.entry.hash: each for each in reduction.services.unendorsed}
        texts = {
            hash_hex: describe_statement(session.ledger, waiting[hash_hex].entry) for hash_hex in waiting
        }
        session.report_failures()
    left = [waiting[entry.hash] for entry in entries if entry.hash in waiting]
    if as_json:
        from wgctl.documents.members import Endorsed

        document = Endorsed(
            endorsed=tuple(entry.hash for entry in entries),
            statements=tuple(seqs),
            waiting=tuple(each.entry.hash for each in left),
        )
        write_json(document)
        return
    echo(f"{len(entries)} statements endorsed" if entries else "there is nothing to endorse")
    for each in left:
        echo(f"{texts[each.entry.hash]} waits on: {len(each.signers)} of {each.needed} administrators agree")
