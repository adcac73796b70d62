"""What an end of a pair wants, as a request to the relaying host, and what its answer means. Pure."""

from __future__ import annotations

from typing import Final, Literal

from meshd.exchange.relaying import RelayAnswer, RelayRequest
from meshd.paths.effects import AskRelay, CloseRelay, OpenRelay, RenewRelay
from meshd.paths.leases import Refusal
from meshd.paths.search import Way

REFUSALS: Final = {each.name.lower(): each for each in Refusal}
SILENT: Final = "it does not answer"

RelayEffect = AskRelay | OpenRelay | RenewRelay | CloseRelay


def build_request(effect: RelayEffect) -> RelayRequest:
    return RelayRequest(
        kind=_kind_of(effect),
        other=effect.other,
        is_return=isinstance(effect, CloseRelay) and effect.is_return,
        is_for_latency=isinstance(effect, AskRelay | OpenRelay) and effect.is_for_latency,
    )


def explain(answer: RelayAnswer | None) -> str | None:
    """Why it will not, in words of ours; None: it will."""
    if answer is None:
        return SILENT
    if not answer.refusal:
        return None
    known = REFUSALS.get(answer.refusal)
    return str(known) if known is not None else "it refused for a reason that is not known here"


def way_of(answer: RelayAnswer | None) -> Way | None:
    """Its half of the way; None: it cannot."""
    if answer is None or answer.refusal or answer.rtt_seconds is None:
        return None
    return Way(answer.rtt_seconds, answer.loss_ratio)


def _kind_of(effect: RelayEffect) -> Literal["ask", "open", "renew", "close"]:
    match effect:
        case AskRelay():
            return "ask"
        case OpenRelay():
            return "open"
        case RenewRelay():
            return "renew"
        case CloseRelay():
            return "close"
