"""What a new grant of a known host changes, and what of it is a loss. Pure: values in, lines out.

A grant is signed whole, so whoever names one network of three takes two away. Nobody means that by the
way: a loss is shown and asked for before anything is signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from meshd.errors import ConfigError
from meshd.model.network import IPNetwork, network_key
from meshd.observe.wording import render_time
from meshd.registry.statement import Grant

NEVER = 0
"""As the end of a grant."""


class Difference(msgspec.Struct, frozen=True):
    """One line of a grant, before and after. ``taken``: what the host loses by it, for people."""

    what: str
    before: str
    after: str
    taken: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.what}: {self.before} -> {self.after}"


def choose_networks(
    name: str,
    kept: Iterable[IPNetwork],
    named: Sequence[IPNetwork] | None,
    added: Sequence[IPNetwork],
    removed: Sequence[IPNetwork],
) -> tuple[IPNetwork, ...] | None:
    """The networks to grant; None: as they are. ConfigError for one to be removed that is not granted."""
    if not added and not removed:
        return tuple(named) if named is not None else None
    present = set(kept)
    if strange := sorted(set(removed) - present, key=network_key):
        granted = " ".join(str(each) for each in sorted(present, key=network_key)) or "none"
        raise ConfigError(f"--remove-jails: {strange[0]}: not granted to {name}, granted: {granted}")
    return tuple(sorted((present | set(added)) - set(removed), key=network_key))


def find_differences(before: Grant, after: Grant, *, now: float) -> list[Difference]:
    """Of what people name; ``now`` decides whether an end that is named takes anything away."""
    found = [
        _of_words("addresses", before.addresses, after.addresses),
        _of_words("networks", before.networks, after.networks),
        Difference("region", before.region or "none", after.region or "none", ()),
        _of_words("roles", before.roles, after.roles),
        _of_words("tags", before.tags, after.tags),
        Difference("ends", _end(before.expires), _end(after.expires), _lost_time(before, after, now)),
    ]
    return [each for each in found if each.before != each.after]


def _of_words(what: str, before: Sequence[str], after: Sequence[str]) -> Difference:
    taken = tuple(f"{what} {each}" for each in before if each not in after)
    return Difference(what, " ".join(before) or "none", " ".join(after) or "none", taken)


def _lost_time(before: Grant, after: Grant, now: float) -> tuple[str, ...]:
    is_later = after.expires == NEVER or (before.expires != NEVER and after.expires >= before.expires)
    is_over = before.expires != NEVER and before.expires <= now
    return () if is_later or is_over else (f"membership after {_end(after.expires)}",)


def _end(at: int) -> str:
    return "never" if at == NEVER else render_time(at)
