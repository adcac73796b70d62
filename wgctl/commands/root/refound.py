"""``wgctl root refound``: all root keys are lost; a new chain of roots for the same mesh."""

from __future__ import annotations

import sys
import time

import click

from meshd.errors import RegistryError
from meshd.terminal import confirm, echo
from wgctl.completing import FILE
from wgctl.files import check_writable, write_text
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json


@click.command("refound")
@click.option("--name", required=True, help="What the new root key is called: NAME-root.")
@click.option(
    "--out", required=True, type=FILE, metavar="FILE", help="Where the registry for meshd trust-root goes."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_options
def command(options: Options, name: str, out: str, yes: bool, as_json: bool) -> None:
    """All root keys are lost: begin a new chain of roots for the same mesh.

    Nobody believes it by itself. Every host goes on as it is until its operator types `meshd trust-root`
    there, every other admin home until `wgctl root trust`.
    """
    from meshd.registry.export import EXPORT_FORMAT, build_export, render_export
    from meshd.registry.root import root_objects
    from meshd.registry.signing import SigningKey, render_fingerprint, render_recovery_words
    from wgctl.admin.paper import render_paper_key
    from wgctl.admin.recovery import carry_registry, refound
    from wgctl.admin.session import open_session
    from wgctl.admin.trust_root import reanchor_home

    if not yes and not sys.stdin.isatty():
        raise click.UsageError("--yes is needed where nobody can be asked")
    check_writable(out, "an export of a registry", {"format": EXPORT_FORMAT})
    now = time.time()
    with open_session(options) as session:
        session.sync(now=now)
        session.warn_of_own_log()
        roles = session.ledger.chain.current.roles(session.home.mesh.root_kid)
        if "root" in session.home.purposes and "root" in roles:
            raise RegistryError("this home holds a root key that is in force: sign the next root with it")
        admin = session.home.read_admin_key()
        root, paper = SigningKey.generate(), SigningKey.generate()
        chain = refound(session.ledger, root, paper, name=name, now=now)
        ledger = carry_registry(session.ledger, chain)
        if not yes:
            note(f"root {chain.version} begins a new chain; every host must be told by hand to trust it")
            confirm("Begin it?")
        if not as_json:
            echo("RECOVERY KEY, shown this once, for paper; the old one is worthless:\n", err=True)
            echo(f"{render_paper_key(paper)}\n", err=True)
        backup = reanchor_home(session, ledger, root, now=now, opened=admin)
        write_text(out, render_export(build_export(ledger, now=now)) + "\n")
        session.publish(root_objects(chain.current.envelope), what="the new root is")
        session.report_failures()
    shown = render_fingerprint(chain.fingerprint)
    if as_json:
        from wgctl.documents.signing import Refounded

        document = Refounded(
            version=chain.version,
            hash=chain.fingerprint,
            fingerprint=shown,
            recovery_key=render_recovery_words(paper),
            registry=out,
            backup=str(backup),
        )
        write_json(document)
        return
    echo(f"root {chain.version} begins a new chain; fingerprint {shown}")
    echo(f"  what was trusted here before is kept in {backup}")
    echo("Now on every host, with meshd stopped:")
    echo(f"    meshd trust-root {shown}      (or with {out}, where no store is reached)")
    echo("and in every other admin home:")
    echo(f"    wgctl root trust {shown}")
