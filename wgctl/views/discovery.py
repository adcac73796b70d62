"""Jails of a host as words that an administrator could sign. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import msgspec

from meshd.backend.bastille import ServiceTag, parse_tags
from meshd.model.host import Host, Membership
from meshd.model.network import IPAddress, contained_in_any, host_network


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A placement that nobody has signed. ``service`` empty: nobody says what lives there. ``port``: as the
    jail's tag says. ``declared_port`` None: there is no service of that name yet."""

    jail: str
    address: str
    service: str = ""
    port: int | None = None
    declared_port: int | None = None

    def words(self, host: str) -> list[str]:
        """What to type, on the administrator's machine; a line of ``#`` is for the reader."""
        place = f"--jail {shlex.quote(self.jail)} --address {self.address}"
        if not self.service:
            return [f"wgctl service place {host}/SERVICE {place}"]
        lines = []
        if self.declared_port is None:
            lines.append(f"wgctl service add {self.service} --kind WORD --port {self.port or 'PORT'}")
        elif self.port is not None and self.port != self.declared_port:
            declared = f"{self.service} is declared with port {self.declared_port}"
            lines.append(f"# {declared}, jail {self.jail} says {self.port}")
        return [*lines, f"wgctl service place {host}/{self.service} {place}"]


def propose(
    membership: Membership, own: Host, addresses: Mapping[IPAddress, str], tags: Mapping[str, str]
) -> list[Proposal]:
    """``addresses``: to the jail's name; ``tags``: by the jail's name, as its file has them."""
    inside: dict[str, list[IPAddress]] = {}
    for address, jail in sorted(addresses.items(), key=lambda each: (each[0].version, each[0])):
        if contained_in_any(host_network(address), own.granted_networks):
            inside.setdefault(jail, []).append(address)
    found: list[Proposal] = []
    for jail, at in sorted(inside.items()):
        services, _ = parse_tags(tags.get(jail, ""))
        placed = _placed(membership, at)
        if services:
            found += [_tagged(membership, jail, at[0], tag) for tag in services if tag.service not in placed]
        elif not placed:
            found += [Proposal(jail=jail, address=str(each)) for each in at]
    return found


def _placed(membership: Membership, addresses: list[IPAddress]) -> set[str]:
    """Names of living services that have one of these addresses."""
    return {
        service.name
        for service in membership.services.values()
        for each in service.placements
        if each.address in addresses and each.state != "retired" and not service.retired
    }


def _tagged(membership: Membership, jail: str, address: IPAddress, tag: ServiceTag) -> Proposal:
    service = membership.services.get(tag.service)
    return Proposal(
        jail=jail,
        address=str(address),
        service=tag.service,
        port=tag.port,
        declared_port=service.port if service is not None and not service.retired else None,
    )
