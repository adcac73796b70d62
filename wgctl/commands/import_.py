"""``wgctl import``: what another home exported, verified, kept and published."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from meshd.terminal import echo
from wgctl.completing import FILE
from wgctl.files import MAX_BUNDLE_BYTES, read_text
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json

if TYPE_CHECKING:
    from meshd.registry.admission import Admission


@click.command("import")
@click.argument("file", metavar="FILE|-", type=FILE)
@json_option
@pass_options
def command(options: Options, file: str, as_json: bool) -> None:
    """Take in what another home exported, and publish it.

    Nothing that is known is taken away by it: the registry afterwards is all that was known on
    either side.
    """
    from wgctl.admin.import_registry import take_in
    from wgctl.admin.session import open_session

    now = time.time()
    text = read_text(file, "a registry export", MAX_BUNDLE_BYTES)
    with open_session(options) as session:
        admissions = take_in(session, text, file)
        session.sync(now=now)
        session.report_failures()
        published = bool(session.reached)
        waiting = len(session.ledger.proposals())
        air_gapped = session.home.mesh.air_gapped
    new = _count(admissions, "log/"), _count(admissions, "host/"), _count(admissions, "root/")
    if as_json:
        from wgctl.documents.signing import Imported

        document = Imported(
            mesh_id=session.ledger.mesh_id,
            statements=new[0],
            records=new[1],
            root_version=session.ledger.chain.version,
            published=published,
        )
        write_json(document)
        return
    text = f"{file}: {new[0]} new statements, {new[1]} new host records, root {session.ledger.chain.version}"
    echo(f"{text}, {waiting} roots wait for signatures" if waiting else text)
    if not published and not air_gapped:
        note("wgctl: warning: kept here, but no store answered: the next wgctl command publishes it")


def _count(admissions: list[Admission], prefix: str) -> int:
    return sum(1 for each in admissions if each.outcome == "new" and each.key.startswith(prefix))
