"""Back ends of HAProxy from signed placements; near ones preferred at run time, by its own agent-check.

Which servers there are is topology and in the file. How much each one gets is a signal: HAProxy asks meshd on
this host, and a dead meshd takes nothing out of use. Whether one works is HAProxy's own health check.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.model.service import parse_check
from meshd.services.compose import digest
from meshd.services.latency import MIDPOINTS_SECONDS
from meshd.services.module import END_OF_QUESTION, MODULE_API, Signals
from meshd.services.plan import Command, File, LiveServer, LiveServers, ServicePlan, SocketAsk, SocketKeep
from meshd.services.view import PlacementView, ServiceEntry, ServiceView

LEAST_WEIGHT: Final = 5
_SAFE: Final = re.compile(r"[A-Za-z0-9_.:*@/-]+")


class HaproxyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``bind``: service to where it is offered on this host. ``replicas``: the same for reads, of services
    of kind patroni. ``main``: HAProxy's other files, for its check. ``socket``: its stats socket.
    ``state_file``: its server-state-file, so that a new process knows at once who was down. ``live``: servers
    come and go in the running process, where it can do that.
    """

    file: str
    bind: dict[str, str]
    replicas: dict[str, str] = {}
    replica_lag: str = "10MB"
    main: tuple[str, ...] = ()
    socket: str = ""
    state_file: str = ""
    live: bool = True
    agent_listen: str = "127.0.0.1:9199"
    check_interval: str = "3s"
    agent_interval: str = "5s"


class Haproxy:
    name: ClassVar[str] = "haproxy"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = HaproxyConfig

    def render(self, view: ServiceView, config: HaproxyConfig) -> ServicePlan:
        offers = _offers(view, config)
        blocks = [_block(view, config, service, place, role) for service, place, role in offers]
        consumed = {service.name: service for service, _, _ in offers}
        used = [each for service in consumed.values() for each in view.in_scope(service)]
        files = [argument for path in config.main for argument in ("-f", path)]
        verify = (_shows(view, config, offers),) if config.socket else ()
        return ServicePlan(
            files=(File(path=config.file, text="\n".join(blocks)),),
            checks=(
                Command(
                    argv=("haproxy", "-c", *files, "-f", f"{{staged:{config.file}}}"),
                    refuse=r"\[WARNING\].*\.meshd-new",  # of our file alone: others are the operator's
                ),
            ),
            calls=_hand_on(config),
            reload="reload",
            live=_live(view, config, offers),
            verify=verify,
            endpoints=tuple(each.id for each in used),
            services=tuple(consumed),
        )

    def signals(self, view: ServiceView, config: HaproxyConfig) -> Signals:
        """The answers to HAProxy's agents: only percentages and ``drain``. Never ``down``: whether a server
        works is not meshd's to say."""
        answers: dict[str, str] = {}
        for service, _, _ in _offers(view, config):
            places = view.in_scope(service)
            buckets = {each.id: view.bucket(each.host) for each in places}
            best = MIDPOINTS_SECONDS[min(buckets.values(), default=0)]
            spare = _may_drain(service, places)
            for each in places:
                weight = round(100 * best / MIDPOINTS_SECONDS[buckets[each.id]])
                drains = spare and each.state == "draining"
                answers[each.id] = "drain" if drains else f"{max(LEAST_WEIGHT, weight)}%"
        return Signals(answers=answers, agent_listen=config.agent_listen)


def _may_drain(service: ServiceEntry, places: Sequence[PlacementView]) -> bool:
    """Whether enough are left to do the work. Anybody who administers hosts drains any placement, at once and
    alone; so it takes no service away, neither from the mesh nor from this host's part of it."""
    return len(service.active) >= service.min_endpoints and any(each.state == "active" for each in places)


def _offers(view: ServiceView, config: HaproxyConfig) -> list[tuple[ServiceEntry, str, str]]:
    """Service, where it is offered, and as what. A service that is not declared is left out; if it was there
    before, the guards ask for the signed word that took it away."""
    found = []
    for role, offered in (("primary", config.bind), ("replica", config.replicas)):
        for name, place in offered.items():
            if not _SAFE.fullmatch(place):
                raise ConfigError(f"haproxy.bind.{name}: {place!r} seen, ADDRESS:PORT or a path expected")
            service = view.services.get(name)
            if role == "replica" and service is not None and service.kind != "patroni":
                raise ConfigError(f"haproxy.replicas.{name}: kind {service.kind!r} seen, patroni expected")
            if service is not None and view.in_scope(service):
                found.append((service, place, role))
    return found


def _block(view: ServiceView, config: HaproxyConfig, service: ServiceEntry, place: str, role: str) -> str:
    lines, port = [_head(config, service, place, role)], _check_port(service, role, config)
    for each in view.in_scope(service):
        lines.append(f'    server {_server(each)} {each.at} check{port} agent-send "{_question(each)}"')
    return "\n".join(lines) + "\n"


def _head(config: HaproxyConfig, service: ServiceEntry, place: str, role: str) -> str:
    """All of a block but its servers."""
    lines = [f"listen {_backend(service, role)}", f"    bind {place}", "    mode tcp"]
    lines += [f"    {line}" for line in _health_lines(service, role, config).lines]
    lines.append("    option redispatch 1")  # a server that refuses is not asked three times more
    if config.state_file:
        lines.append("    load-server-state-from-file global")
    lines.append(f"    default-server {_options(config)}")
    return "\n".join(lines)


def _options(config: HaproxyConfig) -> str:
    address, _, port = config.agent_listen.rpartition(":")
    return (
        f"inter {config.check_interval} fall 3 rise 2 on-marked-down shutdown-sessions weight 100 "
        f"agent-check agent-addr {address} agent-port {port} agent-inter {config.agent_interval}"
    )


def _check_port(service: ServiceEntry, role: str, config: HaproxyConfig) -> str:
    port = _health_lines(service, role, config).port
    return f" port {port}" if port else ""


def _question(place: PlacementView) -> str:
    """Ended by a sign that is in no name: a line feed cannot be said on the stats socket."""
    return f"{place.id}{END_OF_QUESTION}"


def _live(
    view: ServiceView, config: HaproxyConfig, offers: list[tuple[ServiceEntry, str, str]]
) -> LiveServers | None:
    """Servers as they run. What is added so gets nothing from ``default-server``, so it is told all. A name
    that would mean something on the socket is left to the reload."""
    places = [each for service, _, _ in offers for each in view.in_scope(service)]
    if not (config.live and config.socket) or not all(_SAFE.fullmatch(each.id) for each in places):
        return None
    backends: dict[str, dict[str, LiveServer]] = {}
    frame = [config.socket]
    for service, place, role in offers:
        options = f"{_options(config)} check{_check_port(service, role, config)}"
        backends[_backend(service, role)] = {
            _server(each): LiveServer(
                address=each.address,
                port=each.port,
                agent=_question(each),
                options=f"{options} agent-send {_question(each)}",
            )
            for each in view.in_scope(service)
        }
        frame.append(_head(config, service, place, role) + options)
    return LiveServers(target=config.socket, backends=backends, frame=digest("\n".join(frame)))


def _hand_on(config: HaproxyConfig) -> tuple[SocketKeep, ...]:
    """A new process takes every server for one that works until it has checked it; so it is told before."""
    if not (config.socket and config.state_file):
        return ()
    return (SocketKeep(target=config.socket, send="show servers state\n", path=config.state_file),)


class _Health(msgspec.Struct, frozen=True):
    lines: tuple[str, ...]
    port: int | None


def _health_lines(service: ServiceEntry, role: str, config: HaproxyConfig) -> _Health:
    """Patroni says which one leads and how far a replica is behind; others are asked as they are declared."""
    check = parse_check(service.check)
    if service.kind == "patroni":
        uri = "/primary" if role == "primary" else f"/replica?lag={config.replica_lag}"
        port = check.port if check is not None and check.kind == "http" and check.port else 8008
        return _Health((f"option httpchk HEAD {uri}", "http-check expect status 200"), port)
    if check is not None and check.kind == "http":
        return _Health(
            (f"option httpchk GET {check.path}", "http-check expect rstatus (2|3)[0-9][0-9]"), check.port
        )
    if service.kind in ("redis", "valkey"):
        lines = ("option tcp-check", "tcp-check send PING\\r\\n", "tcp-check expect rstring PONG|NOAUTH")
        return _Health(lines, check.port if check else None)
    return _Health((), check.port if check else None)


def _shows(
    view: ServiceView, config: HaproxyConfig, offers: list[tuple[ServiceEntry, str, str]]
) -> SocketAsk:
    """The running process has every server at its address, and of ours no other; after a reload that never
    came it has not."""
    expected = [
        f" {_server(each)} {each.address} " for service, _, _ in offers for each in view.in_scope(service)
    ]
    names = [f" {_backend(service, role)} " for service, _, role in offers]
    ours = "|".join(
        f"{re.escape(_backend(service, role))} [0-9]+ {re.escape(_server(each))} "
        for service, _, role in offers
        for each in view.in_scope(service)
    )
    return SocketAsk(
        target=config.socket,
        send="show servers state\n",
        expect=(*names, *dict.fromkeys(expected)),
        refuse=rf"(?m)^[0-9]+ (?!{ours or '$'})mesh_\S+ [0-9]+ \S+",
    )


def _backend(service: ServiceEntry, role: str) -> str:
    return f"mesh_{service.name}" + ("_replica" if role == "replica" else "")


def _server(place: PlacementView) -> str:
    jail = re.sub(r"[^A-Za-z0-9_.-]", "_", place.jail)
    return place.host + (f"_{jail}" if jail else "")
