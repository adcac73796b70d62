"""``wgctl list``: who is in the signed registry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from wgctl.options import Options, pass_options
from wgctl.output import (
    BAD,
    FAINT,
    FAIR,
    GOOD,
    NOTHING,
    Cell,
    build_table,
    json_option,
    render_age,
    render_time,
    say,
    show,
    write_json,
)

if TYPE_CHECKING:
    from wgctl.views.registry import HostRow

REPORT_FORMAT: Final = "wgctl-list/1"
STATE_STYLE: Final = {"member": GOOD, "waiting": FAIR, "proposed": FAIR, "unplaced": BAD, "revoked": FAINT}


@click.command("list")
@click.option("--offline", is_flag=True, help="Ask no store: show what was verified before.")
@json_option
@pass_options
def command(options: Options, offline: bool, as_json: bool) -> None:
    """Hosts of the signed registry.

    From the admin home, or on a host without one from the registry that its meshd has verified.
    """
    from wgctl.admin.session import read_registry
    from wgctl.views.registry import build_host_rows

    now = time.time()
    registry = read_registry(options, now=now, offline=offline)
    rows = build_host_rows(registry.ledger, now=now)
    membership = registry.ledger.membership(now)
    if as_json:
        write_json(
            {
                "format": REPORT_FORMAT,
                "mesh_id": membership.mesh_id,
                "mesh_name": membership.mesh_name,
                "generation": membership.generation,
                "root_version": membership.root_version,
                "current": registry.current,
                "hosts": rows,
                "conditions": [
                    {"code": each.code, "severity": each.severity, "subject": each.subject, "text": each.text}
                    for each in membership.conditions
                ],
            }
        )
        return
    say(
        f"{membership.mesh_name}: generation {membership.generation}, root {membership.root_version}"
        + ("" if registry.current else ", as verified before: no store was asked or answered")
    )
    _show(rows, now)
    for condition in membership.conditions:
        say(f"{condition.severity}: {condition.code}: {condition.text}", FAIR)


def _show(rows: list[HostRow], now: float) -> None:
    headers = ["NAME", "HID", "STATE", "ADDRESSES", "NETWORKS", "REGION", "ROLES", "GRANTED", "RECORD"]
    show(build_table(headers, [_cells(row, now) for row in rows]))
    for row in rows:
        if row.reason:
            say(f"{row.name} ({row.hid[:8]}) {row.state}: {row.reason}", STATE_STYLE[row.state])


def _cells(row: HostRow, now: float) -> list[Cell]:
    verb = "revoked" if row.state == "revoked" else "granted"
    record = f"{render_age(row.record_version / 1000, now)} old" if row.record_version else NOTHING
    return [
        row.name,
        row.hid[:8],
        (row.state, STATE_STYLE[row.state]),
        " ".join(row.addresses),
        _networks(row),
        row.region or NOTHING,
        " ".join((*row.roles, *row.tags)) or NOTHING,
        f"{verb} by {row.statement_by_name} #{row.statement_seq} {render_time(row.statement_at)}",
        record,
    ]


def _networks(row: HostRow) -> str:
    """Granted networks; those in brackets are not announced by the host, so not routed."""
    texts = [network if network in row.announced else f"[{network}]" for network in row.granted]
    texts += [network for network in row.announced if network not in row.granted]
    return " ".join(texts) or NOTHING
