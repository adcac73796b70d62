"""``wgctl log``: what administrators signed, in the order that counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from meshd.errors import ConfigError
from wgctl.completing import ADMIN, HOST
from wgctl.options import Options, pass_options
from wgctl.output import (
    BAD,
    FAINT,
    FAIR,
    Cell,
    Column,
    build_table,
    json_option,
    note,
    render_time,
    say,
    show,
    write_json,
)

if TYPE_CHECKING:
    from wgctl.views.registry import StatementRow


@click.command("log")
@click.option("--by", "admin", type=ADMIN, metavar="NAME|KEY", help="Only what this administrator signed.")
@click.option("--host", type=HOST, metavar="NAME|HID", help="Only statements about this host.")
@click.option("--offline", is_flag=True, help="Ask no store: show what was verified before.")
@click.option(
    "--adopt",
    is_flag=True,
    help="Go on from the log that the stores show. Only after a restored backup of this home.",
)
@json_option
@pass_options
def command(
    options: Options, admin: str | None, host: str | None, offline: bool, adopt: bool, as_json: bool
) -> None:
    """Signed statements, newest last."""
    from meshd.registry.root_changes import find_key
    from wgctl.admin.session import adopt_log, find_hids, read_registry
    from wgctl.views.registry import build_statement_rows

    now = time.time()
    if adopt:
        note(adopt_log(options, now=now))
    ledger = read_registry(options, now=now, offline=offline).ledger
    rows = build_statement_rows(ledger)
    if admin is not None:
        kid = find_key(ledger.chain.root, admin, retired=True)
        rows = [row for row in rows if row.by == kid]
    if host is not None:
        wanted = find_hids(ledger, host)
        if not wanted:
            raise ConfigError(f"host {host!r}: no statement names it; see: wgctl list")
        rows = [row for row in rows if wanted & set(row.hids) or row.to_all]
    if as_json:
        from wgctl.documents.members import StatementList

        write_json(StatementList(mesh_id=ledger.mesh_id, statements=tuple(rows)))
        return
    cells: list[list[Cell]] = [
        [
            render_time(row.at),
            f"{row.by_name} #{row.seq}",
            _kind(row),
            (row.hash[:12], FAINT),
            row.text,
        ]
        for row in rows
    ]
    if cells:
        show(build_table(["WHEN", "WHO", "WHAT", "STATEMENT", Column(name="ABOUT", text=True)], cells))
    else:
        say("nothing has been signed yet" if admin is None and host is None else "nothing was signed so")


def _kind(row: StatementRow) -> Cell:
    if not row.counts:
        return f"{row.kind}, does not count", BAD
    return (f"{row.kind}, waits for endorsement ({row.waits})", FAIR) if row.waits else row.kind
