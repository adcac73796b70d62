"""One Status, and what the other hosts said, as a document and as a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from meshd.model.path import DIRECT, PathStats
from meshd.observe.matrix import Matrix
from meshd.observe.status import ConditionStatus, PeerStatus, Status
from meshd.observe.wording import render_count
from wgctl.output import (
    BAD,
    FAINT,
    FAIR,
    GOOD,
    NOTHING,
    Cell,
    Column,
    build_table,
    render_age,
    render_bytes,
    render_duration,
    render_loss,
    render_rtt,
    rtt_style,
    styled,
)
from wgctl.views.matrix import build_matrix_table

if TYPE_CHECKING:
    from rich.console import RenderableType

REGISTRY_AGE_FAIR_SECONDS: Final = 900.0
SEVERITY_STYLE: Final[Mapping[str, str]] = {"critical": BAD, "warning": FAIR, "info": FAINT}
MAX_MATRIX_HOSTS: Final = 24
OLD_ROW_SECONDS: Final = 30.0
PEER_COLUMNS: Final = (
    Column(name="PEER"),
    Column(name="PATH"),
    Column(name="RTT", right=True),
    Column(name="LOSS", right=True, gives_way=1),
    Column(name="ADDRESS", gives_way=2),
    Column(name="HANDSHAKE", right=True, gives_way=3),
    Column(name="MTU", right=True, gives_way=6),
    Column(name="JITTER", right=True, gives_way=9),
    Column(name="RX", right=True, gives_way=7),
    Column(name="TX", right=True, gives_way=8),
    Column(name="NETWORKS", gives_way=5),
    Column(name="ENDPOINT", gives_way=4),
)


CLIENT_COLUMNS: Final = (
    Column(name="CLIENT"),
    Column(name="ADDRESS"),
    Column(name="HANDSHAKE", right=True),
    Column(name="RX", right=True, gives_way=2),
    Column(name="TX", right=True, gives_way=3),
    Column(name="ENDPOINT", gives_way=1),
)


class StatusReport(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="wgctl-status/1"):
    """``wgctl status``. ``matrix``: rows by measuring host, None for one of which nothing is known. ``ages``:
    seconds since a row was measured; ``told_by``: who told the row of a host that does not answer here."""

    status: Status
    matrix: dict[str, dict[str, PathStats] | None]
    ages: dict[str, float] = {}
    told_by: dict[str, str] = {}


def build_report(status: Status, matrix: Matrix | None) -> StatusReport:
    """``matrix``: what the other hosts said; None: they were not asked."""
    if matrix is None:
        return StatusReport(
            status=status, matrix={own_name(status): {peer.name: peer.path for peer in status.peers}}
        )
    rows = {name: matrix.rows.get(name) for name in matrix.hosts}
    return StatusReport(
        status=status,
        matrix={name: row.paths if row is not None else None for name, row in rows.items()},
        ages={name: row.age_seconds for name, row in rows.items() if row is not None},
        told_by={name: row.told_by for name, row in rows.items() if row is not None and row.told_by},
    )


def own_name(status: Status) -> str:
    return status.host.name or f"({status.host.hid[:8]})"


def render_report(report: StatusReport, *, now: float) -> RenderableType:
    """The whole page, what matters first: is all well, what is not, the peers, the matrix, the rest."""
    from rich.console import Group

    status = report.status
    parts: list[RenderableType] = [render_head(status), render_conditions(status.conditions, now)]
    if status.peers:
        parts += [styled(), _render_peers(status, now)]
    if status.clients:
        parts += [styled(), _render_clients(status, now)]
    if 1 < len(report.matrix) <= MAX_MATRIX_HOSTS:
        parts += [styled(), build_matrix_table(sorted(report.matrix), report.matrix)]
    elif len(report.matrix) > MAX_MATRIX_HOSTS:
        text = f"matrix of {len(report.matrix)} hosts: too large for a page, it is in: wgctl status --json"
        parts += [styled(), styled(text, FAINT)]
    if len(report.matrix) > 1:
        parts += [styled(line, FAINT) for line in _row_notes(report)]
    parts += [styled(), _render_details(status, now)]
    return Group(*parts)


def _row_notes(report: StatusReport) -> list[str]:
    """What to know of rows that are not the hosts' own word of now."""
    unknown = [name for name, row in sorted(report.matrix.items()) if row is None]
    lines = [f"nothing is known of what {', '.join(unknown)} measures"] if unknown else []
    old: dict[str, list[str]] = {}
    for name, age in sorted(report.ages.items()):
        if name in report.told_by:
            lines.append(f"{name}: as {report.told_by[name]} was told {render_duration(age)} ago")
        elif age > OLD_ROW_SECONDS:
            old.setdefault(render_duration(age), []).append(name)
    return lines + [f"measured {age} ago, no answer now: {', '.join(names)}" for age, names in old.items()]


def render_head(status: Status) -> RenderableType:
    """One line that says how the host is."""
    host, total = status.host, len(status.peers)
    up = sum(peer.path.up for peer in status.peers)
    parts = [f"{own_name(status)} {host.addresses[0] if host.addresses else ''}".strip()]
    if not host.interface_up:
        parts.append(f"{host.interface} is DOWN")
    parts.append(f"{up} of {total} peers answer" if total else "no peers")
    is_well = host.interface_up and up == total
    return styled(": ".join((parts[0], ", ".join(parts[1:]))), GOOD if is_well else BAD)


def _render_details(status: Status, now: float) -> RenderableType:
    host, registry = status.host, status.registry
    interface = "up" if host.interface_up else "DOWN"
    mtu = f"mtu {host.mtu_bytes}, " if host.mtu_bytes else ""
    verified_for = now - registry.verified_at if registry.verified_at else None
    rows: list[list[Cell]] = [
        ["host", f"{own_name(status)} ({host.hid[:8]}) {' '.join(host.addresses)}"],
        ["networks", " ".join(host.networks) or "none announced"],
        ["endpoints", _own_endpoints_cell(status)],
        [
            "interface",
            (
                f"{host.interface} {interface}, port {host.listen_port}, {mtu}{host.backend}",
                "" if host.interface_up else BAD,
            ),
        ],
        [
            "registry",
            (
                f"{registry.mesh_name}: {registry.hosts} hosts, generation {registry.generation} "
                f"(applied {registry.applied_generation}), root {registry.root_version}"
            ),
        ],
        [
            "verified",
            (f"{render_duration(verified_for)} ago", _age_style(verified_for))
            if verified_for is not None
            else ("not yet since meshd started", FAIR),
        ],
    ]
    rows += _rotation_rows(status)
    rows += [["store", _store_cell(store.url, store.up, store.error)] for store in registry.stores]
    rows.append(["last plan", _plan_cell(status, now)])
    rows.append(["meshd", f"{status.version}, running for {render_duration(now - status.started_at)}"])
    return build_table(["", Column(text=True)], rows)


def _own_endpoints_cell(status: Status) -> Cell:
    host = status.host
    texts = [f"{each} (seen by others)" if each in host.learned else each for each in host.endpoints]
    nat = ", behind a NAT" if host.behind_nat else ""
    return (", ".join(texts) or "none published") + nat


def _rotation_rows(status: Status) -> list[list[Cell]]:
    """Whose key is being rotated: this host's, and others'; nothing is the rule."""
    own, rows = status.rotation, list[list[Cell]]()
    if own.state != "steady":
        waits = f", waits for {', '.join(own.waited_for)}" if own.waited_for else ""
        rows.append(["rotation", (f"this host's key: {own.state}{waits} ({own.reason})", FAIR)])
    for peer in status.peers:
        if peer.rotation != "steady":
            rows.append(["rotation", (f"{peer.name}: {peer.rotation}", FAIR)])
    return rows


def _age_style(seconds: float) -> str:
    return GOOD if seconds < REGISTRY_AGE_FAIR_SECONDS else FAIR


def _store_cell(url: str, up: bool | None, error: str | None) -> Cell:
    if up is None:
        return f"{url} not asked yet", FAINT
    if up:
        return f"{url} up", GOOD
    return f"{url} DOWN: {error or 'no reason known'}", BAD


def _plan_cell(status: Status, now: float) -> Cell:
    plan = status.last_plan
    if plan is None:
        return "none yet", FAINT
    why = f" ({', '.join(plan.wakes)})" if plan.wakes else ""
    text = f"{plan.outcome} {render_age(plan.at, now)} ago{why}, {render_count(len(plan.changes), 'change')}"
    if plan.held_because:
        return f"{text}: HELD: {plan.held_because} (wgctl plan; wgctl apply --force)", BAD
    if plan.failed:
        return f"{text}, {len(plan.failed)} refused: {plan.failed[0]}", BAD
    return text


def _render_peers(status: Status, now: float) -> RenderableType:
    peers = sorted(status.peers, key=lambda peer: (peer.path.up, _is_as_it_should_be(peer), peer.name))
    return build_table(PEER_COLUMNS, [_peer_row(peer, now, status.host.mtu_bytes) for peer in peers])


def _is_as_it_should_be(peer: PeerStatus) -> bool:
    return peer.path.via == DIRECT and not peer.path.loss_ratio


def _render_clients(status: Status, now: float) -> RenderableType:
    """Nobody probes them: the last handshake is all that is known, and an old one is no fault."""
    rows: list[list[Cell]] = [
        [
            client.name if client.configured else (f"{client.name} (not configured)", FAIR),
            client.addresses[0] if client.addresses else NOTHING,
            render_age(client.latest_handshake_at, now),
            render_bytes(client.receive_bytes),
            render_bytes(client.transmit_bytes),
            client.endpoint or NOTHING,
        ]
        for client in status.clients
    ]
    return build_table(CLIENT_COLUMNS, rows)


def _peer_row(peer: PeerStatus, now: float, interface_mtu_bytes: int | None) -> list[Cell]:
    path = peer.path
    style = rtt_style(path.srtt_seconds, up=path.up, loss_ratio=path.loss_ratio)
    if not peer.configured:
        state: Cell = ("no record yet" if peer.record_version is None else "not configured", FAIR)
    else:
        state = (path.via, GOOD) if path.up else ("down", BAD)
    return [
        peer.name,
        state,
        (render_rtt(path.srtt_seconds if path.up else None), style),
        (render_loss(path.loss_ratio) if path.sent else NOTHING, style if path.loss_ratio else ""),
        peer.addresses[0] if peer.addresses else NOTHING,
        render_age(peer.latest_handshake_at, now),
        _mtu_cell(peer.mtu_bytes, interface_mtu_bytes),
        render_rtt(path.jitter_seconds if path.up else None),
        render_bytes(peer.receive_bytes),
        render_bytes(peer.transmit_bytes),
        " ".join(peer.networks) or NOTHING,
        _endpoint_cell(peer),
    ]


def _endpoint_cell(peer: PeerStatus) -> Cell:
    if peer.endpoint is None:
        return "none known", FAIR
    return f"{peer.endpoint} ({peer.endpoint_reason})" if peer.endpoint_reason else peer.endpoint


def _mtu_cell(mtu_bytes: int | None, interface_mtu_bytes: int | None) -> Cell:
    if mtu_bytes is None:
        return NOTHING
    return str(mtu_bytes), FAIR if mtu_bytes < (interface_mtu_bytes or 0) else ""


def render_conditions(conditions: tuple[ConditionStatus, ...], now: float) -> RenderableType:
    """What is not as it should be, and where it says what to do."""
    from rich.console import Group

    if not conditions:
        return styled("no open conditions", GOOD)
    rank = {"critical": 0, "warning": 1, "info": 2}
    rows: list[list[Cell]] = [
        [
            (condition.severity, SEVERITY_STYLE.get(condition.severity, "")),
            condition.code + (f" {condition.subject}" if condition.subject else ""),
            render_age(condition.since, now),
            condition.text,
        ]
        for condition in sorted(conditions, key=lambda each: (rank.get(each.severity, 3), each.since))
    ]
    table = build_table(["CONDITION", "CODE", "SINCE", Column(name="WHAT", text=True)], rows)
    return Group(table, styled("what to do: wgctl explain CODE", FAINT))
