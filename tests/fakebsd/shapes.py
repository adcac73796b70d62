"""The shapes of the state file. Imported by type checkers only: a tool must start fast."""

from __future__ import annotations

from typing import Literal, TypedDict

Family = Literal["inet", "inet6"]


class Peer(TypedDict):
    public_key: str
    preshared_key: str
    endpoint: str
    allowed_ips: list[str]  # newest first, as the kernel keeps them
    latest_handshake_at: int
    rx_bytes: int
    tx_bytes: int
    keepalive_seconds: int


class Device(TypedDict):
    private_key: str
    listen_port: int
    fwmark: int
    peers: list[Peer]


class Address(TypedDict):
    family: Family
    address: str
    length: int
    fib: int


class Link(TypedDict):
    name: str
    kind: str
    unit: int
    index: int
    up: bool
    running: bool
    lower_up: bool
    description: str
    groups: list[str]
    mtu: int
    addresses: list[Address]
    fib: int
    tunnel_fib: int
    nd6: str
    inet_routes_gone: bool  # taken away by `down`, back with `up`
    members: list[str]  # of a bridge
    device: Device | None


class Route(TypedDict):
    fib: int
    family: Family
    destination: str
    length: int
    link: str
    gateway: str
    source: str
    flags: str
    mtu: int  # 0 follows the interface


class Stack(TypedDict):
    links: list[Link]
    routes: list[Route]
    sysctls: dict[str, str]  # of a VNET jail: what differs from the host's


class Jail(TypedDict):
    jid: int
    name: str
    path: str
    hostname: str
    vnet: str
    ip4: str
    ip4_addresses: list[str]
    ip6_addresses: list[str]
    cpuset: int
    children_max: int


class Failure(TypedDict):
    command: str
    code: int
    stdout: str
    stderr: str
    times: int


class Pf(TypedDict):
    enabled: bool
    rules: dict[str, list[str]]  # by anchor; "" is the main ruleset
    translations: dict[str, list[str]]
    skipped: list[str]


class Host(TypedDict):
    release: str
    fibs: int
    sysctls: dict[str, str]
    rc_conf: dict[str, str]
    modules: list[str]
    missing_modules: list[str]
    jails: list[Jail]
    next_jid: int
    stacks: dict[str, Stack]
    taken_ports: list[int]
    random_ports: list[int]
    incremental_allowed_ips: Literal["works", "ignored", "refused"]
    retries_sleep: bool
    hangs: list[str]
    failures: list[Failure]
    pf: Pf
