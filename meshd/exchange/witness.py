"""Signed answers about what a host holds and what its stores show it, and their comparison. Pure.

A store can show each reader another registry. Hosts that ask each other, with a nonce so that no
old answer can be shown for a new one, find that out. Times within a testimony are ages in seconds,
so that no clock has to be right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from meshd.errors import RegistryError
from meshd.exchange.messages import MAX_ANSWER_BYTES
from meshd.model.network import Endpoint
from meshd.registry.canonical import decode_as, encode, learn
from meshd.registry.envelope import expect_type, parse_envelope, render_envelope, verify_signature
from meshd.registry.ranges import parse_signed_endpoint
from meshd.registry.signing import SigningKey

WITNESS_TYPE: Final = "application/vnd.wg-meshd.witness.v1+json"

VIEW_GRACE_SECONDS: Final = 10.0
"""A store may take so long until all its readers see what one of them has seen."""

Head = tuple[int, str]
NO_HEAD: Final[Head] = (0, "")


class StoreView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one store showed at the newest complete poll, ``polled_ago`` seconds before.

    ``heads``: by admin the newest verified statement that was listed, (0, "") for none, and for
    how many seconds it has been the newest.
    """

    url: str
    polled_ago: int
    heads: dict[str, tuple[int, str, int]]


class Testimony(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload. ``at``: unix seconds by the witness's own clock, for people. ``seen``: the endpoint at
    which the witness sees the host that asked, empty when it does not know."""

    mesh: str
    hid: str
    nonce: str
    at: int
    root: tuple[int, str]
    heads: dict[str, tuple[int, str]]
    records: str
    stores: tuple[StoreView, ...]
    seen: str = ""

    @property
    def seen_endpoint(self) -> Endpoint | None:
        """None unless it says so in the one spelling of a numeric endpoint."""
        try:
            endpoint = parse_signed_endpoint(self.seen)
        except ValueError:
            return None
        return endpoint if isinstance(endpoint, Endpoint) else None


learn(Testimony)


class Held(Protocol):
    """What a testimony is compared with."""

    def has_root(self, version: int, hash_hex: str) -> bool: ...
    def has_statement(self, hash_hex: str) -> bool: ...


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Two signed histories, or two views of one store. ``text`` names both."""

    text: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a witness says beside what we hold; its word alone, until it hands over what it speaks of.

    ``ahead``: what it has and we do not, for people. ``behind``: we have more. ``splits``: statements that it
    holds in place of ours; ``other_root``: likewise a root.
    """

    ahead: tuple[str, ...] = ()
    behind: bool = False
    records_differ: bool = False
    splits: tuple[Split, ...] = ()
    other_root: Split | None = None

    @property
    def equal(self) -> bool:
        return not (self.claims or self.behind or self.records_differ)

    @property
    def claims(self) -> tuple[str, ...]:
        """All of what it says it holds and we do not."""
        roots = (self.other_root,) if self.other_root is not None else ()
        return (*self.ahead, *(split.text for split in (*roots, *self.splits)))


def sign_testimony(testimony: Testimony, key: SigningKey) -> bytes:
    return render_envelope(key.sign(encode(testimony), WITNESS_TYPE))


def open_testimony(body: bytes, *, mesh: str, hid: str, nonce: str, identity_key: bytes) -> Testimony:
    """Bytes -> what that host says now, in answer to this nonce. RegistryError for anything else."""
    envelope = parse_envelope(body, MAX_ANSWER_BYTES)
    expect_type(envelope, WITNESS_TYPE)
    what = f"witness {hid[:8]}"
    if len(envelope.signatures) != 1 or not verify_signature(envelope, identity_key):
        raise RegistryError(f"{what}: not signed by that host's identity key")
    testimony = decode_as(envelope.payload, Testimony, what)
    for name, seen, expected in (
        ("mesh", testimony.mesh, mesh),
        ("hid", testimony.hid, hid),
        ("nonce", testimony.nonce, nonce),
    ):
        if seen != expected:
            raise RegistryError(f"{what}: {name} {seen[:40]!r} seen, {expected} expected")
    return testimony


def compare(own: Testimony, other: Testimony, held: Held, *, name: str) -> Comparison:
    """What ``other`` says beside what we hold; ``name`` is the other host's."""
    ahead: list[str] = []
    splits: list[Split] = []
    other_root: Split | None = None
    behind = other.root[0] < own.root[0]
    if other.root[0] > own.root[0]:
        ahead.append(f"root {other.root[0]}")
    elif not held.has_root(*other.root):
        other_root = _split(f"{name} trusts root {_say(other.root)}", f"this host root {_say(own.root)}")
    if other.root[0] == own.root[0]:
        # A root may cut logs, so heads compare only under the same one.
        for kid in sorted(own.heads.keys() | other.heads.keys()):
            ours, theirs = own.heads.get(kid, NO_HEAD), other.heads.get(kid, NO_HEAD)
            if theirs == NO_HEAD or held.has_statement(theirs[1]):
                behind = behind or theirs != ours
            elif theirs[0] > ours[0]:
                ahead.append(f"statement {theirs[0]} of admin {kid[:8]}")
            else:
                splits.append(
                    _split(
                        f"{name} holds statement {_say(theirs)} of admin {kid[:8]}",
                        f"this host {_say(ours)} and not that one",
                    )
                )
    return Comparison(
        ahead=tuple(ahead),
        behind=behind,
        records_differ=own.records != other.records,
        splits=tuple(splits),
        other_root=other_root,
    )


def compare_views(own: Sequence[StoreView], other: Sequence[StoreView], *, name: str) -> tuple[Split, ...]:
    """Stores that showed one of two hosts less, although it looked after the other had seen more."""
    theirs = {view.url: view for view in other}
    splits = []
    for view in own:
        seen = theirs.get(view.url)
        if seen is None:
            continue
        for kid in sorted(view.heads.keys() | seen.heads.keys()):
            if _shows_less(view, seen, kid) or _shows_less(seen, view, kid):
                splits.append(
                    _split(
                        f"{view.url} shows {name} {_shown(seen, kid)} of admin {kid[:8]}",
                        f"and this host {_shown(view, kid)}",
                    )
                )
    return tuple(splits)


def _shows_less(view: StoreView, than: StoreView, kid: str) -> bool:
    *head, age = than.heads.get(kid, (*NO_HEAD, 0))
    seen = view.heads.get(kid, (*NO_HEAD, 0))[:2]
    return tuple(seen) < tuple(head) and view.polled_ago + VIEW_GRACE_SECONDS < age


def _shown(view: StoreView, kid: str) -> str:
    seq, hash_hex, _ = view.heads.get(kid, (*NO_HEAD, 0))
    return f"statement {_say((seq, hash_hex))}" if seq else "no statement"


def _split(there: str, here: str) -> Split:
    return Split(text=f"{there}, {here}")


def _say(head: Head) -> str:
    return f"{head[0]} ({head[1][:12]})"


class ShownHeads:
    """What the complete polls of one store have shown, poll after poll. Not thread-safe."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._polled_at: float | None = None
        self._heads: dict[str, tuple[Head, float]] = {}
        self._unshown: dict[str, tuple[Head, float, int]] = {}

    def update(self, shown: Mapping[str, Head], heads: Mapping[str, Head], now: float) -> None:
        """A complete poll ended: ``shown`` is what it listed, ``heads`` what this host holds.

        What began by a clock that was ahead began ``now``, or it would have no age until then.
        """
        self._polled_at = now
        before = self._heads
        self._heads = {
            kid: (head, min(before[kid][1], now) if kid in before and before[kid][0] == head else now)
            for kid, head in shown.items()
        }
        unshown = self._unshown
        self._unshown = {}
        for kid, head in heads.items():
            if shown.get(kid, NO_HEAD) < head:
                _, since, polls = unshown.get(kid, (head, now, 0))
                self._unshown[kid] = (head, min(since, now), polls + 1)

    @property
    def lags(self) -> bool:
        """The newest poll did not show everything that this host holds."""
        return bool(self._unshown)

    def withheld(self, now: float, *, polls: int, seconds: float) -> list[tuple[str, Head]]:
        """(admin, head) that so many polls in a row, over so many seconds, did not show."""
        return [
            (kid, head)
            for kid, (head, since, seen) in sorted(self._unshown.items())
            if seen >= polls and now - since >= seconds
        ]

    def view(self, now: float) -> StoreView | None:
        """For a testimony; None before the first complete poll."""
        if self._polled_at is None:
            return None
        return StoreView(
            url=self._url,
            polled_ago=_age(now, self._polled_at),
            heads={kid: (*head, _age(now, since)) for kid, (head, since) in self._heads.items()},
        )


def _age(now: float, since: float) -> int:
    return max(int(now - since), 0)
