"""``wgctl root list``: the chain of roots, and those that wait for signatures."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import click

from wgctl.options import Options, pass_options
from wgctl.output import (
    FAIR,
    NOTHING,
    Cell,
    Column,
    build_table,
    json_option,
    render_time,
    say,
    show,
    write_json,
)

if TYPE_CHECKING:
    from wgctl.views.root import ProposalRow


@click.command("list")
@click.option("--offline", is_flag=True, help="Ask no store: show what was verified before.")
@json_option
@pass_options
def command(options: Options, offline: bool, as_json: bool) -> None:
    """The chain of roots, and those that wait for signatures."""
    from meshd.registry.signing import render_fingerprint
    from wgctl.admin.session import read_registry
    from wgctl.views.root import build_proposal_rows, key_name
    from wgctl.views.root_changes import describe_changes

    ledger = read_registry(options, now=time.time(), offline=offline).ledger
    roots, proposals = ledger.chain.roots, build_proposal_rows(ledger)
    changes = [("the first one trusted here",)] + [
        tuple(describe_changes(old.root, new.root)) for old, new in pairwise(roots)
    ]
    signers = [
        [key_name(root.root, root.root, signature.kid) for signature in root.envelope.signatures]
        for root in roots
    ]
    if as_json:
        from wgctl.documents.signing import RootList, RootRow

        chain = tuple(
            RootRow(
                version=root.root.version,
                hash=root.hash,
                created_at=root.root.created_at,
                fingerprint=render_fingerprint(root.hash),
                signed_by=tuple(by),
                changes=what,
            )
            for root, by, what in zip(roots, signers, changes, strict=True)
        )
        write_json(RootList(mesh_id=ledger.mesh_id, proposals=tuple(proposals), roots=chain))
        return
    rows: list[list[Cell]] = [
        [
            str(root.root.version),
            render_fingerprint(root.hash),
            render_time(root.root.created_at),
            " ".join(by),
            "; ".join(text.strip() for text in what) or NOTHING,
        ]
        for root, by, what in zip(roots, signers, changes, strict=True)
    ]
    show(
        build_table(
            ["ROOT", "FINGERPRINT", "MADE", "SIGNED BY", Column(name="WHAT CHANGED", text=True)], rows
        )
    )
    _show_proposals(proposals)


def _show_proposals(proposals: list[ProposalRow]) -> None:
    for row in proposals:
        by = ", ".join(row.signed_by) or "nobody"
        say(f"root {row.version} ({row.fingerprint}) is proposed, signed by {by}:", FAIR)
        for line in (*row.changes, *row.missing):
            say(f"  {line}")
