"""What a host wants of another one for the sake of a pair. Values."""

from __future__ import annotations

import msgspec


class AskRelay(msgspec.Struct, frozen=True):
    """Whether ``relay`` reaches ``other``, and how well."""

    other: str
    relay: str
    number: int
    """Of the search; an answer carries it back."""
    is_for_latency: bool = False
    """The direct path is well: who needs a relay comes first."""


class OpenRelay(msgspec.Struct, frozen=True):
    """``relay`` is to carry the pair of this host and ``other``."""

    other: str
    relay: str
    number: int
    is_for_latency: bool = False


class RenewRelay(msgspec.Struct, frozen=True):
    """``relay`` is to go on."""

    other: str
    relay: str


class CloseRelay(msgspec.Struct, frozen=True):
    """``relay`` may stop soon. ``is_return``: the pair goes directly from now on, at both ends."""

    other: str
    relay: str
    is_return: bool


class Reset(msgspec.Struct, frozen=True):
    """An endpoint is to be set that the kernel may not have: a turn is wanted."""

    other: str


Effect = AskRelay | OpenRelay | RenewRelay | CloseRelay | Reset
