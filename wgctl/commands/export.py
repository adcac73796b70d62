"""``wgctl export``: the registry as a file, for an air gap or a new administrator."""

from __future__ import annotations

import time

import click

from meshd.terminal import echo
from wgctl.completing import FILE
from wgctl.files import STANDARD_STREAM, check_writable, write_text
from wgctl.options import Options, pass_options
from wgctl.output import json_option, write_json


@click.command("export")
@click.option("--out", metavar="FILE|-", help="Where it goes. [default: MESH.registry]", type=FILE)
@click.option("--offline", is_flag=True, help="Ask no store: write what was verified before.")
@json_option
@pass_options
def command(options: Options, out: str | None, offline: bool, as_json: bool) -> None:
    """Write the verified registry to a file, to be carried.

    Roots, statements, host records and what waits for signatures; no secret. Whoever opens it verifies
    everything again.
    """
    from meshd.registry.export import EXPORT_FORMAT, build_export, render_export
    from meshd.registry.signing import render_fingerprint
    from wgctl.admin.session import read_registry

    if as_json and out == STANDARD_STREAM:
        raise click.UsageError("--json and --out - both want standard output")
    now = time.time()
    registry = read_registry(options, now=now, offline=offline)
    ledger = registry.ledger
    target = out or f"{ledger.chain.root.mesh_name}.registry"
    check_writable(target, "an export of this mesh", {"format": EXPORT_FORMAT, "mesh": ledger.mesh_id})
    export = build_export(ledger, now=now)
    write_text(target, render_export(export) + "\n")
    shown = render_fingerprint(ledger.chain.fingerprint)
    if as_json:
        from wgctl.documents.signing import Exported

        document = Exported(
            mesh_id=ledger.mesh_id,
            root_version=ledger.chain.version,
            root_fingerprint=shown,
            statements=len(ledger.entries()),
            proposed=len(export.proposed),
            current=registry.current,
            file=target,
        )
        write_json(document)
        return
    count = len(ledger.entries())
    waiting = f", {len(ledger.proposals())} roots that wait for signatures" if export.proposed else ""
    echo(
        f"{target}: root {ledger.chain.version} ({shown}), {count} statements{waiting}",
        err=target == STANDARD_STREAM,
    )
