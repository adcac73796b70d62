"""Writes contrib/grafana/*.json: the dashboards as Grafana imports them, from one short description.

    .venv/bin/python tools/dashboards.py            write them
    .venv/bin/python tools/dashboards.py --check    exit status 1 if they are not what this makes

The model is Grafana's of schema version 39 (Grafana 11). A panel is a title, a kind, queries and a unit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).resolve().parents[1] / "contrib" / "grafana"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
WIDTH: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """``queries``: expression and legend. ``width``: of 24 columns. ``unit``: Grafana's name of it.
    ``steps``: from which value on which colour."""

    title: str
    kind: str
    queries: Sequence[tuple[str, str]]
    width: int = 12
    height: int = 8
    unit: str = "short"
    steps: Sequence[tuple[float | None, str]] = ((None, "green"),)
    instant: bool = False
    text: str = ""
    rename: dict[str, str] = field(default_factory=dict)


def good_below(fair: float, bad: float) -> tuple[tuple[float | None, str], ...]:
    return (None, "green"), (fair, "yellow"), (bad, "red")


UP: Final = ((None, "red"), (1.0, "green"))
LATENCY: Final = ((None, "green"), (0.05, "yellow"), (0.15, "orange"), (0.4, "red"))

FLEET: Final = (
    Panel(
        title="Hosts that are scraped",
        kind="stat",
        queries=[("count(meshd_build_info)", "hosts")],
        width=4,
        height=4,
        instant=True,
    ),
    Panel(
        title="Paths that answer",
        kind="stat",
        queries=[("sum(meshd_peer_up) / count(meshd_peer_up)", "up")],
        width=4,
        height=4,
        unit="percentunit",
        steps=((None, "red"), (0.9, "yellow"), (1.0, "green")),
        instant=True,
    ),
    Panel(
        title="Open conditions",
        kind="stat",
        queries=[('sum(meshd_condition{severity=~"critical|warning"})', "open")],
        width=4,
        height=4,
        steps=good_below(1.0, 5.0),
        instant=True,
    ),
    Panel(
        title="Oldest registry",
        kind="stat",
        queries=[("max(meshd_registry_age_seconds)", "age")],
        width=4,
        height=4,
        unit="s",
        steps=good_below(900.0, 1800.0),
        instant=True,
        text="How long ago a store last answered whole, on the host where that is longest ago.",
    ),
    Panel(
        title="Oldest key",
        kind="stat",
        queries=[("max(meshd_key_age_seconds)", "age")],
        width=4,
        height=4,
        unit="s",
        instant=True,
    ),
    Panel(
        title="Generations behind",
        kind="stat",
        queries=[("max(meshd_registry_applied_version) - min(meshd_registry_applied_version)", "behind")],
        width=4,
        height=4,
        steps=good_below(1.0, 10.0),
        instant=True,
        text="How many generations the last host is behind the first one.",
    ),
    Panel(
        title="Round trip of every pair",
        kind="table",
        queries=[("meshd_peer_rtt_seconds", "")],
        unit="s",
        steps=LATENCY,
        instant=True,
        height=10,
        rename={"instance": "from", "peer": "to", "Value": "round trip"},
    ),
    Panel(
        title="Paths that do not answer, or lose packets",
        kind="table",
        queries=[("meshd_peer_loss_ratio > 0", "")],
        unit="percentunit",
        steps=good_below(0.005, 0.05),
        instant=True,
        height=10,
        rename={"instance": "from", "peer": "to", "Value": "lost"},
    ),
    Panel(
        title="What is wrong",
        kind="table",
        queries=[("meshd_condition > 0", "")],
        instant=True,
        width=24,
        text="On the host: wgctl status shows the text, wgctl explain CODE what to do.",
        rename={"instance": "host", "code": "condition", "Value": "how many"},
    ),
    Panel(
        title="Round trip, the slowest pairs",
        kind="timeseries",
        queries=[("topk(10, meshd_peer_rtt_seconds)", "{{instance}} to {{peer}}")],
        unit="s",
    ),
    Panel(
        title="Loss",
        kind="timeseries",
        queries=[("meshd_peer_loss_ratio > 0", "{{instance}} to {{peer}}")],
        unit="percentunit",
    ),
    Panel(
        title="Changes carried out",
        kind="timeseries",
        queries=[("sum by (kind) (increase(meshd_plan_changes_total[$__rate_interval]))", "{{kind}}")],
    ),
    Panel(
        title="Traffic over the mesh",
        kind="timeseries",
        queries=[
            (
                "sum by (instance) (rate(meshd_peer_transmit_bytes_total[$__rate_interval]))",
                "{{instance}} sends",
            )
        ],
        unit="Bps",
    ),
    Panel(
        title="Placements by their own host's check",
        kind="table",
        queries=[("meshd_placement_up", "")],
        steps=UP,
        instant=True,
        rename={"instance": "host", "Value": "works"},
    ),
    Panel(
        title="Service modules",
        kind="table",
        queries=[("meshd_module_state", "")],
        steps=good_below(1.0, 3.0),
        instant=True,
        text="0 ok, 1 pending, 2 held, 3 failed, 4 broken, 5 released.",
        rename={"instance": "host", "Value": "state"},
    ),
)

HOST: Final = (
    Panel(
        title="Peers that answer",
        kind="stat",
        queries=[
            ('sum(meshd_peer_up{instance="$host"}) / count(meshd_peer_up{instance="$host"})', "up"),
        ],
        width=6,
        height=4,
        unit="percentunit",
        steps=((None, "red"), (0.9, "yellow"), (1.0, "green")),
        instant=True,
    ),
    Panel(
        title="Interface",
        kind="stat",
        queries=[('meshd_interface_up{instance="$host"}', "up")],
        width=6,
        height=4,
        steps=UP,
        instant=True,
    ),
    Panel(
        title="Registry age",
        kind="stat",
        queries=[('meshd_registry_age_seconds{instance="$host"}', "age")],
        width=6,
        height=4,
        unit="s",
        steps=good_below(900.0, 1800.0),
        instant=True,
    ),
    Panel(
        title="Open conditions",
        kind="table",
        queries=[('meshd_condition{instance="$host"} > 0', "")],
        width=6,
        height=4,
        instant=True,
        rename={"code": "condition", "Value": "how many"},
    ),
    Panel(
        title="Round trip",
        kind="timeseries",
        queries=[('meshd_peer_rtt_seconds{instance="$host"}', "{{peer}}")],
        unit="s",
    ),
    Panel(
        title="Loss",
        kind="timeseries",
        queries=[('meshd_peer_loss_ratio{instance="$host"}', "{{peer}}")],
        unit="percentunit",
    ),
    Panel(
        title="Received",
        kind="timeseries",
        queries=[('rate(meshd_peer_receive_bytes_total{instance="$host"}[$__rate_interval])', "{{peer}}")],
        unit="Bps",
    ),
    Panel(
        title="Sent",
        kind="timeseries",
        queries=[('rate(meshd_peer_transmit_bytes_total{instance="$host"}[$__rate_interval])', "{{peer}}")],
        unit="Bps",
    ),
    Panel(
        title="Age of handshakes",
        kind="timeseries",
        queries=[
            ('time() - (meshd_peer_last_handshake_timestamp_seconds{instance="$host"} > 0)', "{{peer}}")
        ],
        unit="s",
        text="Over three minutes with traffic: the session is dead (WireGuard makes a new one every two).",
    ),
    Panel(
        title="Largest packet of each path",
        kind="timeseries",
        queries=[('meshd_peer_mtu_bytes{instance="$host"}', "{{peer}}")],
        unit="bytes",
    ),
    Panel(
        title="Turns",
        kind="timeseries",
        queries=[
            (
                'sum by (outcome) (increase(meshd_reconciles_total{instance="$host"}[$__rate_interval]))',
                "{{outcome}}",
            )
        ],
    ),
    Panel(
        title="Other hosts' requests",
        kind="timeseries",
        queries=[
            (
                'sum by (outcome) (rate(meshd_exchange_requests_total{instance="$host"}[$__rate_interval]))',
                "{{outcome}}",
            )
        ],
        unit="reqps",
    ),
)


def build_dashboard(uid: str, title: str, panels: Iterable[Panel], *, by_host: bool) -> dict[str, Any]:
    """What Grafana's import takes."""
    variables: list[dict[str, Any]] = [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    ]
    if by_host:
        variables.append(
            {
                "name": "host",
                "label": "host",
                "type": "query",
                "datasource": SOURCE,
                "query": {"query": "label_values(meshd_build_info, instance)", "refId": "host"},
                "refresh": 2,
                "sort": 1,
            }
        )
    return {
        "uid": uid,
        "title": title,
        "tags": ["wireguard", "mesh"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": variables},
        "panels": [_panel(panel, number, place) for number, (panel, place) in enumerate(_place(panels), 1)],
    }


def _place(panels: Iterable[Panel]) -> Iterable[tuple[Panel, dict[str, int]]]:
    """From left to right, and a new row where there is no more room."""
    x = y = row_height = 0
    for panel in panels:
        if x + panel.width > WIDTH:
            x, y, row_height = 0, y + row_height, 0
        yield panel, {"x": x, "y": y, "w": panel.width, "h": panel.height}
        x, row_height = x + panel.width, max(row_height, panel.height)


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps = [{"value": value, "color": colour} for value, colour in panel.steps]
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": legend,
                "instant": panel.instant,
                "range": not panel.instant,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for at, (query, legend) in enumerate(panel.queries)
        ],
    }
    if panel.text:
        made["description"] = panel.text
    if panel.kind == "table":
        hidden = dict.fromkeys(("Time", "__name__", "job"), True)
        made["transformations"] = [
            {"id": "organize", "options": {"excludeByName": hidden, "renameByName": panel.rename}}
        ]
        made["fieldConfig"]["overrides"] = [
            {
                "matcher": {"id": "byName", "options": panel.rename.get("Value", "Value")},
                "properties": [{"id": "custom.cellOptions", "value": {"type": "color-text"}}],
            }
        ]
    if panel.kind == "stat":
        made["options"] = {"colorMode": "value", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return made


def files() -> dict[str, str]:
    """Name -> content."""
    made = {
        "mesh-fleet.json": build_dashboard("wg-mesh-fleet", "Mesh: the fleet", FLEET, by_host=False),
        "mesh-host.json": build_dashboard("wg-mesh-host", "Mesh: one host", HOST, by_host=True),
    }
    return {name: json.dumps(dashboard, indent=2) + "\n" for name, dashboard in made.items()}


def main(arguments: Sequence[str]) -> int:
    stale = [name for name, text in files().items() if not _is_there(name, text)]
    if "--check" in arguments:
        for name in stale:
            print(f"contrib/grafana/{name} is not what tools/dashboards.py makes")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text)
    return 0


def _is_there(name: str, text: str) -> bool:
    path = FOLDER / name
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
