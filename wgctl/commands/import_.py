"""``wgctl import``: what another home exported, verified, kept and published."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from meshd.errors import ConfigError, RegistryError
from wgctl.files import read_text
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json

if TYPE_CHECKING:
    from meshd.registry.admission import Admission
    from meshd.registry.ledger import Ledger

REPORT_FORMAT: Final = "wgctl-import/1"


@click.command("import")
@click.argument("file", metavar="FILE|-")
@json_option
@pass_options
def command(options: Options, file: str, as_json: bool) -> None:
    """Take in what another home exported, and publish it.

    Nothing that is known is taken away by it: the registry afterwards is all that was known on
    either side.
    """
    from meshd.registry.export import open_export
    from wgctl.commands.admin import MAX_BUNDLE_BYTES
    from wgctl.session import open_session

    now = time.time()
    text = read_text(file, "a registry export", MAX_BUNDLE_BYTES)
    with open_session(options) as session:
        theirs, export = open_export(text, now)
        if theirs.mesh_id != session.ledger.mesh_id:
            raise ConfigError(
                f"{file}: mesh {theirs.mesh_id} seen, {session.ledger.mesh_id} expected: this home is in "
                f"{session.home.mesh.mesh_name}"
            )
        admissions = _offer(session.ledger, theirs, now=now)
        for key, body in export.proposed:
            admissions.append(session.ledger.offer(key, body.encode(), now=now))
        refused = [each for each in admissions if each.outcome == "refused" and each.key.startswith("root/")]
        if refused:
            raise RegistryError(f"{file}: {refused[0].key}: {refused[0].reason}")
        # Kept before any store is asked: a proposed root lives nowhere else until it is published.
        session.keep_proposals()
        session.cache.save(session.ledger)
        session.sync(now=now)
        session.report_failures()
        published = bool(session.reached)
        waiting = len(session.ledger.proposals())
        air_gapped = session.home.mesh.air_gapped
    new = _count(admissions, "log/"), _count(admissions, "host/"), _count(admissions, "root/")
    if as_json:
        write_json({
            "format": REPORT_FORMAT, "mesh_id": theirs.mesh_id, "statements": new[0], "records": new[1],
            "root_version": session.ledger.chain.version, "published": published,
        })
        return
    text = f"{file}: {new[0]} new statements, {new[1]} new host records, root {session.ledger.chain.version}"
    click.echo(f"{text}, {waiting} roots wait for signatures" if waiting else text)
    if not published and not air_gapped:
        note("wgctl: warning: kept here, but no store answered: the next wgctl command publishes it")


def _offer(ours: Ledger, theirs: Ledger, *, now: float) -> list[Admission]:
    """Host records last, as the statements before them are what verifies them."""
    objects = sorted(theirs.objects(), key=lambda item: item[0].startswith("host/"))
    return [ours.offer(key, body, now=now) for key, body in objects]


def _count(admissions: list[Admission], prefix: str) -> int:
    return sum(1 for each in admissions if each.outcome == "new" and each.key.startswith(prefix))
