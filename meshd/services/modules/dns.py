"""Names of the mesh for a name server of this host: NSD, Knot, BIND, unbound or dnsmasq.

Each host renders its own copy, in the order of its own distances, and serves it to its own jails: the
simplest way to an answer that is near, and one that no other host can take away. resolv.conf is never
touched.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final, Literal

import msgspec

from meshd.errors import ConfigError
from meshd.services.module import MODULE_API
from meshd.services.names import host_names, unnamed
from meshd.services.plan import GENERATION, Command, DnsAsk, File, Probe, ServicePlan
from meshd.services.view import ServiceView
from meshd.services.zone import (
    SERIAL,
    SERIAL_ADDRESS,
    Record,
    forward_records,
    hosts_file,
    master_file,
    reverse_zones,
    sort_list,
    unbound_file,
)

Server = Literal["nsd", "knot", "bind", "unbound", "dnsmasq"]
_REVERSE: Final = re.compile(r"[0-9a-f.]+\.(in-addr|ip6)\.arpa\.?")
ZONE_SERVERS: Final = ("nsd", "knot", "bind")


class DnsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``directory``: of zone files, for NSD, Knot and BIND, and of BIND's ``mesh.sortlist``; ``file``: for
    unbound and dnsmasq. ``ask``: where the server answers, to see what it serves. ``reverse``: zones of that
    server, as 17.10.in-addr.arpa. ``control``: how the server is told, with its options."""

    server: Server
    directory: str = ""
    file: str = ""
    ask: str = "127.0.0.1:53"
    ttl_seconds: int = 30
    reverse: tuple[str, ...] = ()
    svcb: bool = False
    control: tuple[str, ...] = ()


class Dns:
    name: ClassVar[str] = "dns"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = DnsConfig

    def render(self, view: ServiceView, config: DnsConfig) -> ServicePlan:
        if not 1 <= config.ttl_seconds <= 86400:
            raise ConfigError(f"dns.ttl_seconds: {config.ttl_seconds} seen, 1 to 86400 expected")
        for zone in config.reverse:
            if not _REVERSE.fullmatch(zone):
                raise ConfigError(f"dns.reverse: {zone[:80]!r} seen, as 17.10.in-addr.arpa expected")
        zones = reverse_zones(view, config.reverse)
        if config.server in ZONE_SERVERS:
            files, checks = _zone_files(view, config, zones)
        else:
            files, checks = _one_file(view, config, zones)
        return ServicePlan(
            files=files,
            checks=checks,
            reload="reload",
            reload_argv=_told(config),
            verify=_probes(view, config, zones),
            verify_seconds=15.0,
            endpoints=tuple(each.id for service in view.services.values() for each in service.placements),
            services=tuple(view.services),
            notes=unnamed(view),
        )


def _zone_files(
    view: ServiceView, config: DnsConfig, zones: dict[str, list[Record]]
) -> tuple[tuple[File, ...], tuple[Command, ...]]:
    if not config.directory:
        raise ConfigError(f"dns.directory: needed for {config.server}")
    files, checks = [], []
    every = {f"{view.domain}.": forward_records(view, svcb=config.svcb), **zones}
    for zone, records in every.items():
        path = f"{config.directory}/{zone}zone"
        text = master_file(zone, records, config.ttl_seconds, _own_name(view))
        files.append(File(path=path, text=text, comment=";"))
        checks.append(_zone_check(config.server, zone, path))
    if config.server == "bind":
        path = f"{config.directory}/{view.domain}.sortlist"
        files.append(File(path=path, text=sort_list(view)))
        checks.append(_sort_list_check(path))
    return tuple(files), tuple(checks)


def _zone_check(server: Server, zone: str, path: str) -> Command:
    staged = f"{{staged:{path}}}"
    match server:
        case "nsd":
            return Command(argv=("nsd-checkzone", zone, staged))
        case "knot":
            return Command(argv=("kzonecheck", "-o", zone, staged))
        case _:
            return Command(argv=("named-checkzone", "-k", "fail", zone, staged))


def _sort_list_check(path: str) -> Command:
    """It stands among BIND's options, and is checked among none but these."""
    main = f'options {{ include "{{staged:{path}}}"; }};\n'
    return Command(argv=("named-checkconf", "{beside}/check.conf"), beside={"check.conf": main})


def _one_file(
    view: ServiceView, config: DnsConfig, zones: dict[str, list[Record]]
) -> tuple[tuple[File, ...], tuple[Command, ...]]:
    if not config.file:
        raise ConfigError(f"dns.file: needed for {config.server}")
    if config.server == "dnsmasq":
        return (File(path=config.file, text=hosts_file(view)),), ()
    text = unbound_file(view.domain, forward_records(view), zones, config.ttl_seconds)
    check = Command(argv=("unbound-checkconf", f"{{staged:{config.file}}}"), refuse=r"error:|warning:")
    return (File(path=config.file, text=text),), (check,)


def _told(config: DnsConfig) -> tuple[str, ...]:
    """The server's own way to be told; without ``control`` the service manager's is used."""
    if not config.control:
        return ()
    match config.server:
        case "unbound":
            return (*config.control, "reload_keep_cache")
        case "knot":
            return (*config.control, "-b", "zone-reload")
        case _:
            return (*config.control, "reload")


def _probes(view: ServiceView, config: DnsConfig, zones: dict[str, list[Record]]) -> tuple[Probe, ...]:
    """The serial of every zone and this host's own address, asked of the running server: NSD says "ok" to a
    reload of a zone that it then answers with SERVFAIL."""
    probes: list[Probe] = []
    if config.server != "dnsmasq":
        probes = [
            DnsAsk(server=config.ask, name=zone, record="SOA", expect=(f"serial {GENERATION}",))
            for zone in (f"{view.domain}.", *zones)
        ]
    for name in host_names(view):
        if name.name == view.self_name:
            address = name.addresses[0]
            kind: Literal["A", "AAAA"] = "AAAA" if ":" in address else "A"
            probes.append(DnsAsk(server=config.ask, name=_own_name(view), record=kind, expect=(address,)))
    if config.server == "dnsmasq":
        serial = f"{SERIAL}.{view.domain}."
        probes.append(DnsAsk(server=config.ask, name=serial, record="A", expect=(SERIAL_ADDRESS,)))
    return tuple(probes)


def _own_name(view: ServiceView) -> str:
    return f"{view.self_name}.{view.domain}."
