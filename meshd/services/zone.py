"""The mesh's names as DNS zones (RFC 1035 master files), and as what unbound and dnsmasq read. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

import msgspec

from meshd.services.names import SERVICES_LABEL, Name, answering, host_names, service_names
from meshd.services.plan import GENERATION
from meshd.services.view import PlacementView, ServiceView

SERIAL: Final = f"_serial-{GENERATION}.{SERVICES_LABEL}"
"""No host, jail or service has such a name."""
SERIAL_ADDRESS: Final = "192.0.2.1"
"""For documentation (RFC 5737): nobody's."""
FAR: Final = 10
"""Between the priorities of two buckets, so that an operator's own records fit in between."""


class Record(msgspec.Struct, frozen=True):
    """``name`` and ``value`` are fully qualified, with a dot at the end."""

    name: str
    kind: str
    value: str


def forward_records(view: ServiceView, *, svcb: bool = False) -> list[Record]:
    """A and AAAA of every name in the order of use, and SRV (with ``svcb`` also SVCB) of every service."""
    records = [
        Record(f"{each.name}.{view.domain}.", _kind(address), address)
        for each in (*host_names(view), *service_names(view))
        for address in each.addresses
    ]
    for service in view.services.values():
        for place in answering(view, service):
            target, priority = target_name(view, place), view.bucket(place.host) * FAR
            if target is None:
                continue
            records.append(
                Record(
                    f"_{service.name}._tcp.{SERVICES_LABEL}.{view.domain}.",
                    "SRV",
                    f"{priority} 0 {place.port} {target}",
                )
            )
            if svcb:
                value = f"{priority + 1} {target} port={place.port}"
                records.append(Record(f"_{service.name}.{SERVICES_LABEL}.{view.domain}.", "SVCB", value))
    return records


def target_name(view: ServiceView, place: PlacementView) -> str | None:
    """The name whose address the placement has; None where it has none of its own."""
    wanted = f"{place.jail}.{place.host}" if place.jail else place.host
    for name in host_names(view):
        if name.name == wanted and place.address in name.addresses:
            return f"{wanted}.{view.domain}."
    return None


def reverse_zones(view: ServiceView, zones: Iterable[str]) -> dict[str, list[Record]]:
    """PTR records of all names whose address lies in one of these zones (``17.10.in-addr.arpa``), which the
    name server has to know: a zone made up here would be one that it does not serve."""
    found: dict[str, list[Record]] = {}
    for zone in zones:
        found[f"{zone.rstrip('.')}."] = [
            Record(f"{pointer}.", "PTR", f"{name.name}.{view.domain}.")
            for name in host_names(view)
            for address in name.addresses
            if (pointer := ipaddress.ip_address(address).reverse_pointer).endswith(f".{zone.rstrip('.')}")
        ]
    return found


def master_file(zone: str, records: list[Record], ttl_seconds: int, server: str) -> str:
    """The zone with an SOA whose serial is the generation at which it last changed: one query tells what is
    served. ``server``: the name in its NS record."""
    lines = [
        f"$ORIGIN {zone}",
        f"$TTL {ttl_seconds}",
        f"@ SOA {server} hostmaster.{zone} {GENERATION} 3600 600 86400 {ttl_seconds}",
        f"@ NS {server}",
    ]
    lines += [f"{each.name} {each.kind} {each.value}" for each in records]
    return "\n".join(lines) + "\n"


def unbound_file(domain: str, records: list[Record], zones: dict[str, list[Record]], ttl_seconds: int) -> str:
    """A ``server:`` clause to include. Its SOA tells the generation, as in a zone."""
    lines = ["server:"]
    for zone, inside in {f"{domain}.": records, **zones}.items():
        soa = f"{zone} {ttl_seconds} SOA {zone} hostmaster.{zone} {GENERATION} 3600 600 86400 {ttl_seconds}"
        lines += [f'    local-zone: "{zone}" static', f'    local-data: "{soa}"']
        lines += [
            f'    local-data: "{each.name} {ttl_seconds} {each.kind} {each.value}"'
            for each in inside
            if each.kind != "SVCB"
        ]
    return "\n".join(lines) + "\n"


def sort_list(view: ServiceView) -> str:
    """Every address of the mesh for BIND's ``sortlist``, the nearest first: BIND shuffles what it finds in a
    zone, or sorts it by number. One list does for all names, as the order of a name's addresses is that of
    their hosts."""
    hosts = sorted(view.hosts.values(), key=lambda host: (view.bucket(host.name), host.name))
    places = [each for service in view.services.values() for each in service.placements]
    addresses: list[str] = []
    for host in hosts:
        here = sorted((each for each in places if each.host == host.name), key=lambda each: each.jail)
        addresses += [each.address for each in here] + [*host.addresses]
    lines = [f"    {address};" for address in dict.fromkeys(addresses)]
    return "\n".join(["sortlist { { any; {", *lines, "}; }; };"]) + "\n"


def hosts_file(view: ServiceView) -> str:
    """For dnsmasq's ``addn-hosts``: one line each. The last one stands in for a serial."""
    names: list[Name] = [*host_names(view), *service_names(view)]
    names.append(Name(SERIAL, (SERIAL_ADDRESS,)))
    return "".join(f"{address} {each.name}.{view.domain}\n" for each in names for address in each.addresses)


def _kind(address: str) -> str:
    return "AAAA" if ":" in address else "A"
