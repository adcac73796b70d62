"""The root document: who may say what about the mesh, checked as far as one document can be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv6Network
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from meshd.errors import RegistryError
from meshd.model.network import IPNetwork
from meshd.registry.canonical import decode_as, decode_base64, learn
from meshd.registry.envelope import (
    KID_HEX_DIGITS,
    MAX_ROOT_BYTES,
    MAX_SIGNATURES,
    ROOT_TYPE,
    Envelope,
    expect_type,
    is_hex,
    key_id,
    payload_hash,
    verify_signature,
)
from meshd.registry.ranges import RangeTable, Span, network_span, parse_signed_network

ROOT_FORMAT: Final = "wg-meshd-root/1"
MAX_ROOT_VERSION: Final = 999_999
MAX_SEQ: Final = 10**9
MAX_HOSTS: Final = 10_000
MAX_KEYS: Final = 128
MAX_STORES: Final = 16
MAX_STORE_URL_CHARACTERS: Final = 512
MAX_RANGES: Final = 256
"""Ranges of a mesh, overlay and jail together."""
MAX_POOLS: Final = 2_048
"""Pools of all keys together, retired ones included: what one root may cost its readers to compare."""
MAX_LINK_PREFIX: Final = 96
"""An IPv6 range leaves at least 32 bits for what is derived from the hid."""
KNOWN_ROOTS: Final = 16
PUBLIC_KEY_BYTES: Final = 32
HASH_HEX_DIGITS: Final = 64

Role = Literal["root", "admin"]
KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_NAME_FORM: Final = "1 to 63 letters, digits, . _ @ -"


class FormerPools(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an admin might grant until root ``root`` took some of it away: for its statements up to
    ``until`` (seq, hash), ``overlay`` and ``jail`` are its pools."""

    root: int
    until: tuple[int, str]
    overlay: tuple[str, ...]
    jail: tuple[str, ...]


class RootKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``key``: base64 of the Ed25519 public key. ``pools``: the ranges that it may grant alone.

    ``since``: the version of the root that named the key first. ``former``: oldest first.
    """

    key: str
    roles: tuple[Role, ...]
    name: str
    pools: tuple[str, ...]
    since: int
    former: tuple[FormerPools, ...]


class RetiredKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A former admin: of its log just the statements up to ``cut`` (seq, hash) count; seq 0: none.

    What it might grant is in ``former`` alone.
    """

    key: str
    name: str
    since: int
    former: tuple[FormerPools, ...]
    cut: tuple[int, str]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    root: int
    admin: int


class Ranges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``overlay`` holds the hosts' own addresses, ``jail`` the networks behind them; disjoint."""

    overlay: tuple[str, ...]
    jail: tuple[str, ...]


class Root(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload. ``prev``: hash of the previous payload, empty in version 1.

    ``created_at``: unix seconds. ``stores``: URLs without credentials. ``heads``: by kid the statement
    (seq, hash) up to which this root has recorded a log: nothing that is not recorded was before it.
    """

    format: Literal["wg-meshd-root/1"]
    mesh: str
    mesh_name: str
    version: int
    prev: str
    keys: dict[str, RootKey]
    retired: dict[str, RetiredKey]
    thresholds: Thresholds
    ranges: Ranges
    max_hosts: int
    heads: dict[str, tuple[int, str]]
    stores: tuple[str, ...]
    created_at: int


learn(Root)


class Tenure(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may grant in one part of its log: up to ``until``, when root ``root`` ended it, or from
    there on (None)."""

    root: int
    until: tuple[int, str] | None
    overlay: tuple[Span, ...]
    jail: tuple[Span, ...]


class TrustedRoot(msgspec.Struct, frozen=True, kw_only=True):
    """A root with its texts parsed. ``public_keys`` include retired admins, ``pools`` are of keys in use.

    ``tenures``: of each key, oldest first; the last one is today's, or that in which a key was retired.
    """

    root: Root
    hash: str
    envelope: Envelope
    overlay: tuple[IPNetwork, ...]
    jail: tuple[IPNetwork, ...]
    public_keys: Mapping[str, bytes]
    pools: Mapping[str, tuple[IPNetwork, ...]]
    tenures: Mapping[str, tuple[Tenure, ...]]

    def seniority(self, kid: str) -> tuple[int, str]:
        """Keys that roots have named for longer sort before others; unknown ones last."""
        entry = self.root.keys.get(kid) or self.root.retired.get(kid)
        return (entry.since if entry is not None else MAX_ROOT_VERSION + 1), kid

    @property
    def link_ranges(self) -> tuple[IPv6Network, ...]:
        return tuple(network for network in self.overlay if isinstance(network, IPv6Network))

    def is_admin(self, kid: str) -> bool:
        """True for keys that may sign statements today."""
        return "admin" in self.roles(kid)

    def roles(self, kid: str) -> tuple[Role, ...]:
        """What the key may do today; nothing for an unknown or retired one."""
        key = self.root.keys.get(kid)
        return key.roles if key is not None else ()

    def admin_key(self, kid: str) -> bytes | None:
        """The key that verifies the log ``kid``, of today's and retired admins; None: no such log."""
        if self.is_admin(kid) or kid in self.root.retired:
            return self.public_keys[kid]
        return None

    @property
    def logs(self) -> frozenset[str]:
        """Every kid whose log may hold statements that count."""
        admins = {kid for kid in self.root.keys if self.is_admin(kid)}
        return frozenset(admins | self.root.retired.keys())

    def is_signed(self, envelope: Envelope) -> bool:
        """True when enough of this root's root keys signed the envelope."""
        signers = sum(
            1
            for kid, key in self.root.keys.items()
            if "root" in key.roles and verify_signature(envelope, self.public_keys[kid])
        )
        return signers >= self.root.thresholds.root


def parse_root(envelope: Envelope) -> TrustedRoot:
    """A root document that is right in itself; whether to trust it is the chain's decision."""
    expect_type(envelope, ROOT_TYPE)
    return replace(parse_root_payload(envelope.payload), envelope=envelope)


@lru_cache(maxsize=KNOWN_ROOTS)
def parse_root_payload(payload: bytes) -> TrustedRoot:
    """As parse_root, for a payload whose signatures travel apart. A value that nobody changes, remembered:
    a command reads its few roots from cache, store and hosts, and a fifth of its work was to parse them."""
    if len(payload) > MAX_ROOT_BYTES:
        raise RegistryError(f"root: {len(payload)} bytes seen, at most {MAX_ROOT_BYTES} expected")
    root = decode_as(payload, Root, "root")
    what = f"root {root.version}"
    _check_numbers(root, what)
    public_keys = _public_keys(root, what)
    overlay, jail = _networks(root.ranges.overlay, what), _networks(root.ranges.jail, what)
    _check_disjoint(((network, "range") for network in (*overlay, *jail)), what, same_owner=False)
    for network in overlay:
        if network.version == 6 and network.prefixlen > MAX_LINK_PREFIX:
            raise RegistryError(f"{what}: overlay range {network}: at most /{MAX_LINK_PREFIX} expected")
    if not overlay:
        raise RegistryError(f"{what}: no overlay range")
    pools = _pools(root, (*overlay, *jail), what)
    return TrustedRoot(
        root=root,
        hash=payload_hash(payload),
        envelope=Envelope(payload=payload, payload_type=ROOT_TYPE, signatures=()),
        overlay=overlay,
        jail=jail,
        public_keys=public_keys,
        pools=pools,
        tenures=_tenures(root, pools, overlay, jail, what),
    )


def _check_numbers(root: Root, what: str) -> None:
    def expect(ok: bool, name: str, seen: object, expected: str) -> None:
        if not ok:
            raise RegistryError(f"{what}: {name}: {str(seen)[:80]!r} seen, {expected} expected")

    roots = sum(1 for key in root.keys.values() if "root" in key.roles)
    admins = sum(1 for key in root.keys.values() if "admin" in key.roles)
    expect(is_hex(root.mesh, KID_HEX_DIGITS), "mesh", root.mesh, "32 lower-case hex digits")
    expect(KEY_NAME.fullmatch(root.mesh_name) is not None, "mesh_name", root.mesh_name, _NAME_FORM)
    expect(1 <= root.version <= MAX_ROOT_VERSION, "version", root.version, f"1 to {MAX_ROOT_VERSION}")
    expect(
        root.prev == "" if root.version == 1 else is_hex(root.prev, HASH_HEX_DIGITS),
        "prev",
        root.prev,
        "the previous root's hash, nothing in root 1",
    )
    expect(1 <= root.max_hosts <= MAX_HOSTS, "max_hosts", root.max_hosts, f"1 to {MAX_HOSTS}")
    keys = len(root.keys) + len(root.retired)
    expect(keys <= MAX_KEYS, "keys", keys, f"at most {MAX_KEYS}")
    # Counted before anything is compared: what follows costs time by their number.
    ranges = len(root.ranges.overlay) + len(root.ranges.jail)
    expect(ranges <= MAX_RANGES, "ranges", ranges, f"at most {MAX_RANGES}")
    pools = sum(len(key.pools) for key in root.keys.values())
    pools += sum(len(each.overlay) + len(each.jail) for _, entry in _entries(root) for each in entry.former)
    expect(pools <= MAX_POOLS, "pools", pools, f"at most {MAX_POOLS}")
    expect(
        1 <= root.thresholds.root <= min(roots, MAX_SIGNATURES // 2),
        "thresholds.root",
        root.thresholds.root,
        f"1 to {min(roots, MAX_SIGNATURES // 2)}, as there are {roots} root keys",
    )
    expect(
        1 <= root.thresholds.admin <= max(admins, 1),
        "thresholds.admin",
        root.thresholds.admin,
        f"1 to {max(admins, 1)}, as there are {admins} admin keys",
    )
    expect(len(root.stores) <= MAX_STORES, "stores", len(root.stores), f"at most {MAX_STORES}")
    for url in root.stores:
        expect(
            "://" in url and "@" not in url and len(url) <= MAX_STORE_URL_CHARACTERS,
            "stores",
            url,
            "a URL without credentials",
        )
    for kid in root.keys.keys() & root.retired.keys():
        expect(False, "retired", kid, "a key that is not also in use")


def _entries(root: Root) -> list[tuple[str, RootKey | RetiredKey]]:
    return [*root.keys.items(), *root.retired.items()]


def _public_keys(root: Root, what: str) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    for kid, entry in _entries(root):
        raw = decode_base64(entry.key, f"{what}: key {kid}", size=PUBLIC_KEY_BYTES)
        if key_id(raw) != kid:
            raise RegistryError(f"{what}: key id {kid[:40]!r} seen, {key_id(raw)} expected")
        if KEY_NAME.fullmatch(entry.name) is None:
            raise RegistryError(f"{what}: key name {entry.name[:80]!r} seen, {_NAME_FORM} expected")
        keys[kid] = raw
        if not 1 <= entry.since <= root.version:
            raise RegistryError(f"{what}: key {kid}: since {entry.since} seen, 1 to {root.version} expected")
    for kid, retired in root.retired.items():
        if not _is_head(retired.cut):
            raise RegistryError(f"{what}: cut of {kid}: seq and hash, or 0 and nothing, expected")
    for kid, head in root.heads.items():
        if kid not in keys or not _is_head(head):
            raise RegistryError(f"{what}: head of {kid[:40]!r}: a key's seq and hash expected")
    for kid, key in root.keys.items():
        if not key.roles or len(set(key.roles)) != len(key.roles):
            raise RegistryError(f"{what}: key {kid}: each role once, and at least one, expected")
    return keys


def _pools(root: Root, ranges: tuple[IPNetwork, ...], what: str) -> dict[str, tuple[IPNetwork, ...]]:
    """The pools of the keys in use, which are disjoint."""
    pools = {kid: _networks(entry.pools, what) for kid, entry in root.keys.items()}
    mesh = _table(ranges)
    for kid, networks in pools.items():
        for network in networks:
            if not mesh.holds(network_span(network)):
                raise RegistryError(f"{what}: pool {network} of {kid} is outside the ranges of the mesh")
    in_use = ((network, kid) for kid in root.keys for network in pools[kid])
    _check_disjoint(in_use, what, same_owner=True)
    return pools


def _is_head(head: tuple[int, str]) -> bool:
    """A statement by number and hash, or 0 and nothing."""
    seq, hash_hex = head
    return is_hex(hash_hex, HASH_HEX_DIGITS) and seq <= MAX_SEQ if seq else hash_hex == ""


def _tenures(
    root: Root,
    pools: Mapping[str, tuple[IPNetwork, ...]],
    overlay: tuple[IPNetwork, ...],
    jail: tuple[IPNetwork, ...],
    what: str,
) -> dict[str, tuple[Tenure, ...]]:
    tenures: dict[str, tuple[Tenure, ...]] = {}
    addresses, networks = _table(overlay), _table(jail)
    for kid, entry in _entries(root):
        ended = [
            Tenure(
                root=former.root,
                until=former.until,
                overlay=tuple(map(network_span, _networks(former.overlay, what))),
                jail=tuple(map(network_span, _networks(former.jail, what))),
            )
            for former in entry.former
        ]
        versions = [tenure.root for tenure in ended]
        if versions != sorted(set(versions)) or not all(1 <= each <= root.version for each in versions):
            raise RegistryError(f"{what}: former pools of {kid}: rising versions of roots expected")
        if not all(_is_head(former.until) for former in entry.former):
            raise RegistryError(f"{what}: former pools of {kid}: seq and hash, or 0 and nothing, expected")
        own = [network_span(each) for each in pools.get(kid, ())]
        today = Tenure(
            root=root.version,
            until=None,
            overlay=tuple(span for span in own if addresses.holds(span)),
            jail=tuple(span for span in own if networks.holds(span)),
        )
        tenures[kid] = tuple(ended) if ended and kid in root.retired else (*ended, today)
    return tenures


def _table(ranges: Iterable[IPNetwork]) -> RangeTable:
    """Disjoint ranges, to be looked up in."""
    table = RangeTable()
    table.add((network_span(network) for network in ranges), "range")
    return table


def _check_disjoint(owned: Iterable[tuple[IPNetwork, str]], what: str, *, same_owner: bool) -> None:
    """Networks hold one another or are apart, so that a sweep in order meets each overlap."""
    around: list[tuple[Span, IPNetwork, str]] = []
    for span, network, owner in sorted((network_span(network), network, owner) for network, owner in owned):
        # A network of the same beginning is the larger one's inside: the longer span sorts last.
        while around and not _meets(around[-1][0], span):
            around.pop()
        if around and not (same_owner and owner == around[-1][2]):
            raise RegistryError(f"{what}: {network} ({owner}) overlaps {around[-1][1]} ({around[-1][2]})")
        around.append((span, network, owner))


def _meets(earlier: Span, span: Span) -> bool:
    return earlier[0] == span[0] and span[1] <= earlier[2]


def _networks(texts: Iterable[str], what: str) -> tuple[IPNetwork, ...]:
    try:
        return tuple(parse_signed_network(text) for text in texts)
    except ValueError as error:
        raise RegistryError(f"{what}: {error}") from None
