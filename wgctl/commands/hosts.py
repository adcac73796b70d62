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
    Column,
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

COLUMNS: Final = (
    Column(name="NAME"),
    Column(name="STATE"),
    Column(name="ADDRESS"),
    Column(name="NETWORKS", gives_way=1),
    Column(name="REGION", gives_way=3),
    Column(name="ROLES", gives_way=4),
    Column(name="RECORD", gives_way=5),
    Column(name="HID", gives_way=2),
    Column(name="GRANTED", gives_way=6),
    Column(name="MORE ADDRESSES", gives_way=7),
)
STATE_STYLE: Final = {
    "member": GOOD,
    "client": GOOD,
    "waiting": FAIR,
    "proposed": FAIR,
    "unplaced": BAD,
    "revoked": FAINT,
}


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
        from wgctl.documents.members import HostList

        document = HostList(
            mesh_id=membership.mesh_id,
            mesh_name=membership.mesh_name,
            generation=membership.generation,
            root_version=membership.root_version,
            current=registry.current,
            hosts=tuple(rows),
            conditions=membership.conditions,
        )
        write_json(document)
        return
    say(
        f"{membership.mesh_name}: generation {membership.generation}, root {membership.root_version}"
        + ("" if registry.current else ", as verified before: no store was asked or answered")
    )
    _show(rows, now)
    for condition in membership.conditions:
        say(f"{condition.severity}: {condition.code}: {condition.text}", FAIR)


def _show(rows: list[HostRow], now: float) -> None:
    if not rows:
        say("no host yet; the first one: wgctl add-host NAME --request FILE, or --ssh root@HOST")
        return
    show(build_table(COLUMNS, [_cells(row, now) for row in rows]))
    because: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.reason:
            because.setdefault((row.state, row.reason), []).append(row.name)
    for (state, reason), names in because.items():
        say(f"{', '.join(names)}: {state}: {reason}", STATE_STYLE[state])


def _cells(row: HostRow, now: float) -> list[Cell]:
    verb = "revoked" if row.state == "revoked" else "granted"
    record = f"{render_age(row.record_at, now)} old" if row.record_version else NOTHING
    return [
        row.name,
        (row.state, STATE_STYLE[row.state]),
        row.addresses[0] if row.addresses else NOTHING,
        _networks(row),
        row.region or NOTHING,
        " ".join((*row.roles, *row.tags)) or NOTHING,
        record,
        row.hid[:8],
        f"{verb} by {row.statement_by_name} #{row.statement_seq} {render_time(row.statement_at)}"
        + (f", ends {render_time(row.expires_at)}" if row.expires_at else ""),
        " ".join(row.addresses[1:]) or NOTHING,
    ]


def _networks(row: HostRow) -> str:
    """Granted networks; those in brackets are not announced by the host, so not routed."""
    texts = [network if network in row.announced else f"[{network}]" for network in row.granted]
    texts += [network for network in row.announced if network not in row.granted]
    return " ".join(texts) or NOTHING
