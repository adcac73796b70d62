"""What services cost each region in milliseconds, and what could be placed better, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from meshd.errors import ConfigError, ControlError
from meshd.services.distance import FAR_SECONDS, Rows, Traffic, advise, traffic
from meshd.services.view import ServiceEntry, ServiceView
from wgctl.output import BAD, FAINT, GOOD, NOTHING, Cell, build_table, say, show

if TYPE_CHECKING:
    from wgctl.options import Options

MOST_NAMES = 3
"""Of hosts, in one line."""


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What this host's meshd knows: services and hosts, and who measured which path."""

    view: ServiceView
    rows: Rows

    def traffic(self, name: str) -> list[Traffic]:
        service = self.view.services.get(name)
        return traffic(self.view, service, self.rows) if service is not None else []

    def advice(self, name: str, used_by: str) -> list[str]:
        """Of one service; empty: of all. ConfigError: there is no ``used_by``."""
        users = self._users(used_by)
        chosen: list[ServiceEntry] = [each for each in self.view.services.values() if name in ("", each.name)]
        return [text for service in chosen for text in advise(self.view, service, self.rows, users)]

    def _users(self, name: str) -> tuple[str, ...]:
        if not name:
            return ()
        service = self.view.services.get(name)
        if service is None or not service.active:
            raise ConfigError(f"--used-by: {name[:63]!r} seen, a service with placements expected")
        return tuple(dict.fromkeys(each.host for each in service.active))


def ask_costs(options: Options) -> Costs | None:
    """None where no meshd runs here, or this host has no place in the mesh."""
    from meshd.observe.protocol import ServiceRequest
    from wgctl.client import ControlClient

    try:
        with ControlClient(options.control_socket()) as client:
            document, _ = client.service(ServiceRequest(action="list"))
            view = msgspec.json.decode(document.view, type=ServiceView | None)
            if view is None:
                return None
            return Costs(view=view, rows={name: row.paths for name, row in client.matrix().rows.items()})
    except (ConfigError, ControlError):
        return None


def show_traffic(found: list[Traffic]) -> None:
    """Where each region's hosts find the service, and the least and the most that it costs them."""
    if not found:
        return
    cells: list[list[Cell]] = [
        [
            each.region or NOTHING,
            ", ".join(each.hosts) if len(each.hosts) <= MOST_NAMES else f"{len(each.hosts)} hosts",
            each.placement.partition("/")[2].partition("@")[0] or ("none in its scope", BAD),
            _milliseconds(each),
        ]
        for each in found
    ]
    say("")
    show(build_table(["FROM REGION", "HOSTS", "NEAREST IS ON", "MS"], cells, right=["MS"]))


def _milliseconds(each: Traffic) -> Cell:
    least, most = each.least_milliseconds, each.most_milliseconds
    if least is None or most is None:
        return ("not measured" if each.placement else NOTHING, FAINT)
    text = f"{most:.0f}" if round(least) == round(most) else f"{least:.0f} to {most:.0f}"
    return (text, BAD if most >= 1000 * FAR_SECONDS else GOOD)
