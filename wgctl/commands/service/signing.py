"""Common to the verbs that sign: here, or as a draft for where the key is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from meshd.terminal import echo
from wgctl.options import Options
from wgctl.output import write_json

if TYPE_CHECKING:
    from meshd.registry.ledger import Ledger
    from wgctl.admin.signing_request import DeclareServices


def say_words(
    options: Options, make: Callable[[Ledger], DeclareServices], draft: str | None, as_json: bool
) -> None:
    """Sign what ``make`` makes of the newest registry, and tell what came of it."""
    from wgctl.admin.services import commit_words, describe_words
    from wgctl.admin.session import open_session
    from wgctl.admin.signing_request import draft_operation, report_draft

    now = time.time()
    if draft is not None:
        report_draft(draft, draft_operation(options, draft, make, now=now), as_json)
        return
    with open_session(options) as session:
        session.sync(now=now)
        session.require_store()
        words = make(session.ledger)
        seqs = commit_words(session, words, now=now)
        waiting = {each.entry.statement.seq: each for each in session.ledger.reduction().services.unendorsed}
        lines = describe_words(session.ledger, words)
        session.report_failures()
    left = [waiting[seq] for seq in seqs if seq in waiting]
    if as_json:
        from wgctl.documents.services import WordsSigned

        document = WordsSigned(
            said=tuple(lines),
            statements=tuple(seqs),
            changed=bool(seqs),
            waiting=tuple(each.entry.hash for each in left),
        )
        write_json(document)
        return
    for line in lines:
        echo(line)
    echo(f"signed: statement {', '.join(map(str, seqs))}" if seqs else "said before: nothing was signed")
    for each in left:
        agree = f"{len(each.signers)} of {each.needed} administrators agree"
        echo(f"it waits: {agree}; another one types: wgctl endorse {each.entry.hash[:12]}")
