"""What hosts say to each other for the sake of a pair that cannot talk directly. Pure.

    ask     do you reach that host, and may you carry us?       to a host that may relay
    open    carry us                                            likewise
    renew   go on                                               likewise
    close   you may stop soon                                   likewise
    told    that host has me carry the two of you               from the relaying host to the other end
    ended   that host has ended it                              likewise
    able    I can carry you by now                              from a host to who asked it before

Who asks is proven (meshd.exchange.authentication), and is one end of the pair, or the relaying host itself.
Nothing in it says where anybody is: each goes by what its own WireGuard knows.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from meshd.errors import RegistryError
from meshd.exchange.rows import HID_HEX_DIGITS, MAX_RTT_SECONDS
from meshd.registry.canonical import learn
from meshd.registry.envelope import is_hex

MAX_WORD: Final = 40


class RelayRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``other``: the hid of the other end. ``is_return``: the pair goes directly from now on.
    ``is_for_latency``: its direct path is well, and this way is shorter."""

    kind: Literal["ask", "open", "renew", "close", "told", "ended", "able"]
    other: str
    is_return: bool = False
    is_for_latency: bool = False


class RelayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``refusal``: a word of ``meshd.paths.leases.Refusal``, empty where it is granted. ``rtt_seconds`` and
    ``loss_ratio``: from the answering host to the other end."""

    refusal: str = ""
    rtt_seconds: float | None = None
    loss_ratio: float = 0.0


learn(RelayRequest, RelayAnswer)


def check_relay_request(request: RelayRequest) -> None:
    """RegistryError unless it names a host."""
    if not is_hex(request.other, HID_HEX_DIGITS):
        raise RegistryError(
            f"RelayRequest: {request.other[:40]!r} seen, a hid of {HID_HEX_DIGITS} digits expected"
        )


def check_relay_answer(answer: RelayAnswer) -> None:
    """RegistryError unless every figure is one."""
    if len(answer.refusal) > MAX_WORD:
        raise RegistryError(
            f"RelayAnswer: a refusal of {len(answer.refusal)} characters seen, a word expected"
        )
    if answer.rtt_seconds is not None and not 0.0 <= answer.rtt_seconds <= MAX_RTT_SECONDS:
        raise RegistryError(
            f"RelayAnswer: rtt_seconds {answer.rtt_seconds:g} seen, 0 to {MAX_RTT_SECONDS:g} expected"
        )
    if not 0.0 <= answer.loss_ratio <= 1.0:
        raise RegistryError(f"RelayAnswer: loss_ratio {answer.loss_ratio:g} seen, 0 to 1 expected")
