"""What Linux's packet filter does to packets between the tunnel and this host's containers.

A packet of each direction is led through the rules that ``nft -j list ruleset`` shows, those of iptables-nft
among them, as the kernel would lead it. Docker sets the policy of FORWARD to drop, translates what leaves its
bridge, and since version 28 drops in table raw what did not come from there. All of that is silent.

What a rule asks that is not known here (sets, marks, addresses of others) counts as no match. So a filter
that lets the mesh in by such a rule is not accused: see ``_walk``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Final

import msgspec

from meshd.model.network import IPNetwork, overlaps
from wgctl.checks.base import Check, ok, warn

NAME: Final = "packet filter"
MAX_DEPTH: Final = 16
"""The kernel's own limit of jumps."""
BRIDGE: Final = "\0bridge"
"""Stands for whatever interface the containers are on: rules name it, and only the kernel knows it."""
_VERDICTS: Final = ("accept", "drop", "reject", "return", "jump", "goto", "masquerade", "snat")
_ADVICE: Final = (
    "let the mesh pass before other rules; with Docker: iptables -I DOCKER-USER -i {wg} -j ACCEPT; "
    "iptables -I DOCKER-USER -o {wg} -j ACCEPT; see docs/operating.md, section Docker"
)


class Packet(msgspec.Struct, frozen=True):
    """One that begins a connection. ``inside``: the network of its end behind this host."""

    into: str
    out_of: str
    inside: IPNetwork
    inside_is_source: bool


class Ruleset(msgspec.Struct):
    """``bases``: those at a hook, in the order of their priority; ``rules``: by family, table and chain."""

    bases: list[dict[str, Any]] = msgspec.field(default_factory=list)
    rules: dict[tuple[str, str, str], list[list[dict[str, Any]]]] = msgspec.field(default_factory=dict)


def parse_ruleset(text: str) -> Ruleset:
    """``nft -j list ruleset``. ValueError when it is something else."""
    found = Ruleset()
    try:
        entries = json.loads(text)["nftables"]
        if not isinstance(entries, list):
            raise TypeError(type(entries))
        for entry in entries:
            if "chain" in entry:
                chain = entry["chain"]
                found.rules.setdefault((chain["family"], chain["table"], chain["name"]), [])
                if "hook" in chain:
                    found.bases.append(chain)
            elif "rule" in entry:
                rule = entry["rule"]
                key = (rule["family"], rule["table"], rule["chain"])
                found.rules.setdefault(key, []).append(rule["expr"])
        found.bases.sort(key=lambda chain: chain["prio"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"nft: {type(error).__name__} seen, its JSON expected") from None
    return found


def check_netfilter(ruleset: str | None, networks: Iterable[IPNetwork], interface: str) -> Iterator[Check]:
    """``ruleset``: what nft said, None: it is not there. ``networks``: those behind this host."""
    behind = sorted(networks, key=str)
    if not behind:
        return
    try:
        rules = parse_ruleset(ruleset) if ruleset else None
    except ValueError as error:
        yield warn(NAME, str(error), "nft list ruleset")
        return
    if rules is None:
        yield warn(
            NAME,
            "nft does not tell, so nobody looked whether containers are reached from the mesh",
            "install nftables and run wgctl doctor as root; see docs/operating.md, section Docker",
        )
        return
    obstacles = list(dict.fromkeys(_obstacles(rules, behind, interface)))
    for text in obstacles:
        yield warn(NAME, text, _ADVICE.format(wg=interface))
    if not obstacles:
        yield ok(NAME, f"forwards between {interface} and {', '.join(map(str, behind))}")


def _obstacles(rules: Ruleset, networks: Sequence[IPNetwork], interface: str) -> Iterator[str]:
    for network in networks:
        inward = Packet(interface, BRIDGE, network, inside_is_source=False)
        outward = Packet(BRIDGE, interface, network, inside_is_source=True)
        for chain in rules.bases:
            if chain["family"] not in ("inet", "ip" if network.version == 4 else "ip6"):
                continue
            where = f"{chain['family']} {chain['table']} {chain['name']}"
            hook = chain["hook"]
            if hook in ("prerouting", "forward") and _walk(rules, chain, inward) in ("drop", "reject"):
                yield f"{where} drops what is forwarded from {interface} to {network}"
            if hook == "forward" and _walk(rules, chain, outward) in ("drop", "reject"):
                yield f"{where} drops what is forwarded from {network} to {interface}"
            if hook == "postrouting" and _walk(rules, chain, outward) in ("masquerade", "snat"):
                yield f"{where} translates addresses of {network} on {interface}, and the mesh drops that"


def _walk(rules: Ruleset, base: Mapping[str, Any], packet: Packet) -> str:
    """The verdict on the packet at one hook."""
    return _chain(rules, base, base["name"], packet, 0) or base.get("policy", "accept")


def _chain(rules: Ruleset, base: Mapping[str, Any], name: str, packet: Packet, depth: int) -> str:
    """The verdict of one chain; empty: it has none."""
    if depth > MAX_DEPTH:
        return ""
    for expressions in rules.rules.get((base["family"], base["table"], name), []):
        verdict = next((word for each in expressions for word in _VERDICTS if word in each), "")
        if not verdict or not all(_matches(each["match"], packet) for each in expressions if "match" in each):
            continue
        if verdict == "return":
            return ""
        if verdict not in ("jump", "goto"):
            return verdict
        target = next(each[verdict]["target"] for each in expressions if verdict in each)
        if (found := _chain(rules, base, target, packet, depth + 1)) or verdict == "goto":
            return found
    return ""


def _matches(match: Mapping[str, Any], packet: Packet) -> bool:
    """Whether a rule's condition holds, as far as it is known."""
    left, right, negated = match.get("left", {}), match.get("right"), match.get("op") == "!="
    values = right.get("set", right) if isinstance(right, dict) else right
    values = values if isinstance(values, list) else [values]
    key = left.get("meta", {}).get("key")
    if key in ("iifname", "oifname", "iif", "oif"):
        name = packet.into if key.startswith("i") else packet.out_of
        return any(_is_interface(value, name, packet) for value in values) != negated
    if left.get("ct", {}).get("key") == "state":
        return ("new" in values) != negated
    payload = left.get("payload", {})
    if payload.get("field") in ("saddr", "daddr") and payload.get("protocol") in ("ip", "ip6"):
        if (payload["field"] == "saddr") != packet.inside_is_source:
            return False
        return any(_is_inside(value, packet.inside) for value in values) != negated
    return False


def _is_interface(value: object, name: str, packet: Packet) -> bool:
    """A name that is not the mesh's is taken for that of the containers' bridge."""
    if not isinstance(value, str):
        return False
    mesh = packet.into if packet.out_of == BRIDGE else packet.out_of
    pattern, wild = value.rstrip("*"), value.endswith("*")
    if name == BRIDGE:
        return not (mesh.startswith(pattern) if wild else mesh == value)
    return name.startswith(pattern) if wild else name == value


def _is_inside(value: object, network: IPNetwork) -> bool:
    if isinstance(value, dict) and "prefix" in value:
        value = f"{value['prefix']['addr']}/{value['prefix']['len']}"
    try:
        return overlaps(ip_network(str(value), strict=False), network)
    except ValueError:
        return False
