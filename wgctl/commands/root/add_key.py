"""``wgctl root add-key``: a further root key, of another home or on paper."""

from __future__ import annotations

import time

import click

from meshd.terminal import echo
from wgctl.admin.key_addition import (
    finish_addition,
    key_fingerprint_option,
    read_key_request,
    require_compared_key,
)
from wgctl.admin.root_signing import Consent, report, root_options, sign_root
from wgctl.completing import FILE
from wgctl.files import check_writable
from wgctl.options import Options, pass_options


@click.command("add-key")
@click.argument("name")
@click.option("--key", type=FILE, metavar="FILE|-", help="What `wgctl root request` printed.")
@click.option("--new-paper", is_flag=True, help="Make the key here and show it once, for paper.")
@click.option(
    "--out", type=FILE, metavar="FILE|-", help="Where the holder's bundle goes. [default: NAME.bundle]"
)
@key_fingerprint_option
@root_options
@pass_options
def command(
    options: Options,
    name: str,
    key: str | None,
    new_paper: bool,
    out: str | None,
    fingerprint: str | None,
    consent: Consent,
) -> None:
    """Name a further root key in the next root."""
    from meshd.registry.export import EXPORT_FORMAT
    from meshd.registry.key_request import KeyRequest
    from meshd.registry.root_changes import add_key
    from meshd.registry.signing import SigningKey, render_recovery_words
    from wgctl.admin.paper import render_paper_key
    from wgctl.admin.session import open_session

    if (key is None) != new_paper:
        raise click.UsageError("either --key or --new-paper is needed")
    paper = SigningKey.generate() if new_paper else None
    if paper is not None:
        asked = KeyRequest(name=name, role="root", public=paper.public)
    else:
        asked = read_key_request(key or "", name, "root")
        require_compared_key(asked, fingerprint, consent)
    target = out or f"{name}.bundle"
    if paper is None:
        check_writable(target, "an export of a registry", {"format": EXPORT_FORMAT})
    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        root = add_key(session.ledger, public=asked.public, kid=asked.kid, name=name, role="root", now=now)
        if paper is not None and not consent.as_json:
            # Before it is signed: a key that nobody wrote down must not be in a root.
            echo(f"ROOT KEY {name}, shown this once. Write it on paper:\n", err=True)
            echo(f"{render_paper_key(paper)}\n", err=True)
        outcome = sign_root(session, root, consent)
        session.report_failures()
        if paper is None:
            finish_addition(session.ledger, outcome, consent, asked, target, now=now)
            return
    report(outcome, consent, kid=asked.kid, recovery_key=render_recovery_words(paper))
