"""The file of a plain WireGuard client, as wg-quick(8) reads it, and what is wrong with an old one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from meshd.errors import ConfigError
from meshd.mesh.desired import allowed_ips
from meshd.model.host import Host, Membership
from meshd.model.instant import render_time
from meshd.model.keys import PrivateKey
from meshd.model.network import IPAddress, network_key

NO_KEY: Final = "(the key that this client has; wgctl has never seen it)"
_SECTION: Final = re.compile(r"\[(interface|peer)\]", re.IGNORECASE)
_SETTING: Final = re.compile(r"(?P<name>[A-Za-z]+)\s*=\s*(?P<value>.*)")


class PeerLines(msgspec.Struct, frozen=True, kw_only=True):
    """One host, as a client has it. ``name``: for people."""

    name: str
    public_key: str
    allowed_ips: tuple[str, ...]
    endpoint: str


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``unreachable``: names of hosts that a client cannot call, as nobody knows where they are."""

    name: str
    mesh_name: str
    generation: int
    addresses: tuple[str, ...]
    peers: tuple[PeerLines, ...]
    unreachable: tuple[str, ...]


class ClientFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says. ``peers`` by public key."""

    addresses: frozenset[str]
    private_key: PrivateKey | None
    peers: Mapping[str, PeerLines]


def build_client_config(membership: Membership, name: str, addresses: Sequence[IPAddress]) -> ClientConfig:
    """Every host that can be called, with all that lies behind it, for the client of that name."""
    hosts = sorted(membership.with_daemon.values(), key=lambda host: (host.name, host.hid))
    callable_hosts = [host for host in hosts if host.record is not None and host.record.endpoints]
    return ClientConfig(
        name=name,
        mesh_name=membership.mesh_name,
        generation=membership.generation,
        addresses=tuple(f"{address}/{address.max_prefixlen}" for address in addresses),
        peers=tuple(_peer_lines(host) for host in callable_hosts),
        unreachable=tuple(host.name for host in hosts if host not in callable_hosts),
    )


def _peer_lines(host: Host) -> PeerLines:
    assert host.record is not None
    return PeerLines(
        name=host.name,
        public_key=str(host.record.public_key),
        allowed_ips=tuple(map(str, sorted(allowed_ips(host), key=network_key))),
        endpoint=str(host.record.endpoints[0]),
    )


def render_client_config(config: ClientConfig, key: PrivateKey | None, *, now: float) -> str:
    """The text, secret if it has the ``key``. ``now``: unix seconds, when it is made."""
    lines = [
        f"# {config.name}, a client of mesh {config.mesh_name}",
        f"# made by wgctl at {render_time(now)} from generation {config.generation} of the registry",
        "# Hosts change their keys and places. Is this file still right? wgctl client check FILE",
        *(f"# {name}: cannot be called, as it names no endpoint" for name in config.unreachable),
        "[Interface]",
        f"PrivateKey = {key.reveal_text()}" if key is not None else f"# PrivateKey = {NO_KEY}",
        f"Address = {', '.join(config.addresses)}",
    ]
    for peer in config.peers:
        lines += [
            "",
            f"# {peer.name}",
            "[Peer]",
            f"PublicKey = {peer.public_key}",
            f"AllowedIPs = {', '.join(peer.allowed_ips)}",
            f"Endpoint = {peer.endpoint}",
        ]
    return "\n".join(lines) + "\n"


def render_key_alone(name: str, key: PrivateKey) -> str:
    """What is on the disk before the grant is signed, for ``wgctl client config`` to go on from."""
    return (
        f"# {name}: not granted yet, or not told; once it is, to have all of its file:\n"
        f"#   wgctl client config {name} --key-from FILE --out FILE\n"
        f"[Interface]\nPrivateKey = {key.reveal_text()}\n"
    )


def render_for_phone(config: ClientConfig, key: PrivateKey) -> str:
    """The same for a QR code, without a word that a phone does not need: secret."""
    lines = (line.partition("#")[0].strip() for line in render_client_config(config, key, now=0).splitlines())
    return "\n".join(line.replace(" = ", "=").replace(", ", ",") for line in lines if line) + "\n"


def parse_client_file(text: str, source: str) -> ClientFile:
    """Read such a file again, or one that somebody edited. ConfigError names ``source``."""
    sections: list[tuple[str, dict[str, str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.partition("#")[0].strip()
        if (section := _SECTION.fullmatch(plain)) is not None:
            sections.append((section[1].lower(), {}))
        elif (setting := _SETTING.fullmatch(plain)) is not None and sections:
            sections[-1][1].setdefault(setting["name"].lower(), setting["value"].strip())
        elif plain:  # not repeated: it may be a private key, as wg genkey writes one
            raise ConfigError(
                f"{source}: line {number} is neither a section nor a setting, a file of wg-quick expected"
            )
    own = [values for kind, values in sections if kind == "interface"]
    if len(own) != 1:
        raise ConfigError(f"{source}: {len(own)} sections [Interface] seen, one of wg-quick expected")
    peers = [values for kind, values in sections if kind == "peer"]
    return ClientFile(
        addresses=frozenset(_words(own[0].get("address", ""))),
        private_key=_parse_key(own[0].get("privatekey", ""), source),
        peers={
            each.get("publickey", ""): PeerLines(
                name="",
                public_key=each.get("publickey", ""),
                allowed_ips=tuple(_words(each.get("allowedips", ""))),
                endpoint=each.get("endpoint", ""),
            )
            for each in peers
        },
    )


def find_outdated(file: ClientFile, wanted: ClientConfig) -> Iterator[str]:
    """What a file says that is not so any more, for people; nothing: it is right."""
    if file.addresses != set(wanted.addresses):
        yield f"its address is {', '.join(wanted.addresses)}"
    for peer in wanted.peers:
        known = file.peers.get(peer.public_key)
        if known is None:
            yield f"{peer.name}: its key is not in the file: a new host, or a new key of an old one"
        elif set(known.allowed_ips) != set(peer.allowed_ips):
            yield f"{peer.name}: what lies behind it is {', '.join(peer.allowed_ips)}"
        elif known.endpoint != peer.endpoint:
            yield f"{peer.name}: it is reached at {peer.endpoint}"
    gone = file.peers.keys() - {peer.public_key for peer in wanted.peers}
    if gone:
        what = "a key that no host has" if len(gone) == 1 else f"{len(gone)} keys that no host has"
        yield f"it has {what}"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _parse_key(text: str, source: str) -> PrivateKey | None:
    try:
        return PrivateKey.parse(text) if text else None
    except ValueError as error:
        raise ConfigError(f"{source}: PrivateKey: {error}") from None
