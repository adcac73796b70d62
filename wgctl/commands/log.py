"""``wgctl log``: what administrators signed, in the order that counts."""

from __future__ import annotations

import time
from typing import Final

import click

from meshd.errors import ConfigError
from wgctl.options import Options, pass_options
from wgctl.output import BAD, Cell, build_table, json_option, note, render_time, say, show, write_json

REPORT_FORMAT: Final = "wgctl-log/1"


@click.command("log")
@click.option("--host", metavar="NAME|HID", help="Only statements about this host.")
@click.option("--offline", is_flag=True, help="Ask no store: show what was verified before.")
@click.option("--adopt", is_flag=True,
              help="Go on from the log that the stores show. Only after a restored backup of this home.")
@json_option
@pass_options
def command(options: Options, host: str | None, offline: bool, adopt: bool, as_json: bool) -> None:
    """Signed statements, newest last."""
    from wgctl.registryview import build_statement_rows
    from wgctl.session import adopt_log, find_hids, read_registry

    now = time.time()
    if adopt:
        note(adopt_log(options, now=now))
    ledger = read_registry(options, now=now, offline=offline).ledger
    rows = build_statement_rows(ledger)
    if host is not None:
        wanted = find_hids(ledger, host)
        if not wanted:
            raise ConfigError(f"host {host!r}: no statement names it; see: wgctl list")
        rows = [row for row in rows if wanted & set(row.hids)]
    if as_json:
        write_json({"format": REPORT_FORMAT, "mesh_id": ledger.mesh_id, "statements": rows})
        return
    cells: list[list[Cell]] = [
        [
            render_time(row.at), f"{row.by_name} #{row.seq}",
            row.kind if row.counts else (f"{row.kind}, does not count", BAD), row.text,
        ]
        for row in rows
    ]
    if cells:
        show(build_table(["WHEN", "WHO", "WHAT", "ABOUT"], cells))
    else:
        say("nothing has been signed yet")
