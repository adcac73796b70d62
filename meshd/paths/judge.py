"""What is seen of a pair, and what follows: it is bad, it is well again, its relay carries nothing. Pure."""

from __future__ import annotations

from typing import Final

from meshd.paths.complaint import Complaint, bearable_loss, find_complaint, is_well
from meshd.paths.course import RENEW_SECONDS, Course
from meshd.paths.effects import CloseRelay, Effect, RenewRelay, Reset
from meshd.paths.pair import FIRST_PAUSE_SECONDS, Pair
from meshd.paths.pair_table import Event, Standing
from meshd.paths.review import find_return
from meshd.paths.search import PeerLook

LOSSY_RELAY: Final = 0.1
"""Of packets: a relay that loses so many falls silent now and then without being dead."""
SILENCE_SECONDS: Final = 5.0
"""For so long such a one may be silent. To look for another one and find none but this costs as much."""
PROOF_SECONDS: Final = 4.0
"""A relay that has carried no answer by then is given up; two probe intervals if those are longer."""
OFFER_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 1.0


def judge(course: Course, hid: str, pair: Pair, now: float) -> list[Effect]:
    """What is seen of a pair: whether its path is bad, well again, or carried by a relay that carries."""
    look, limits = course.peers[hid], course.limits
    pair.returns.follow(look.path, look.places)
    if pair.is_carried:
        return _judge_relay(course, hid, pair, now)
    complaint = find_complaint(
        look.path,
        watched_seconds=now - pair.first_at,
        loss_ratio=limits.loss_ratio if pair.is_blamable(look.path, limits.fresh_probes) else 0.0,
    )
    if pair.standing is Standing.DIRECT:
        if complaint is None or not limits.use:
            return []
        pair.complaint, pair.direct = complaint, course.direct_place(pair, look)
        pair.max_loss = bearable_loss(look.path, complaint)
        if pair.offer is not None and now - pair.offer.at < OFFER_SECONDS:
            relay = pair.offer.relay
            if course.relay_of(relay) is not None and relay not in pair.put_off:
                effects = course.carry(hid, pair, relay, Event.TOLD, now)
                return [*effects, RenewRelay(hid, relay)]
        pair.move(Event.BAD, _complain(complaint, look), now)
        pair.note(pair.why, now)
        course.begin_search(hid, pair, now)
    elif pair.complaint is Complaint.SLOW and pair.search is not None and look.path.up and limits.use:
        return []
    elif look.path.up and limits.use and is_doubtful(course, hid, pair):
        return _doubt(hid, pair, look)
    elif is_well(look.path, pair.complaint, loss_ratio=limits.loss_ratio) or not limits.use:
        pair.move(Event.WELL, "it answers", now)
        pair.begin_way(look.path)
        pair.note("the direct path answers again", now)
        pair.end_search(now)
        pair.forget_refusals()
    elif complaint is not None and complaint is not pair.complaint:
        _complain_anew(pair, complaint, look, now)
    return []


def is_doubtful(course: Course, hid: str, pair: Pair) -> bool:
    """Whether what answers a pair that nobody carries may have come through a relay that it has left.

    Packets of the other end that still come through it lead WireGuard back there, and the next turn sets the
    direct place anew. So where it sends to says something only when that is not being set, when an answer
    has come since, and when it was seen after that answer.
    """
    look = course.peers[hid]
    if course.is_led_to_relay(hid, look):
        return True
    return bool(pair.left) and (pair.is_due or not look.is_fresh or not pair.is_answered(look.path))


def _doubt(hid: str, pair: Pair, look: PeerLook) -> list[Effect]:
    """Something answers, so nothing is to be set any more: WireGuard follows what answers, and the pair
    follows WireGuard."""
    if pair.is_due:
        pair.is_due = False
        pair.begin_way(look.path)
    return [] if look.is_fresh else [Reset(hid)]


def _complain_anew(pair: Pair, complaint: Complaint, look: PeerLook, now: float) -> None:
    """Nobody carries the pair, and its path is bad in another way than it was: another host will do now
    that did not before, or the other way round."""
    pair.complaint, pair.why = complaint, _complain(complaint, look)
    pair.max_loss = bearable_loss(look.path, complaint)
    pair.note(pair.why, now)
    asked_at = pair.last_asked_at if pair.last_asked_at is not None else now
    pair.retry_at = min(pair.retry_at, max(now, asked_at + FIRST_PAUSE_SECONDS))


def proof_at(course: Course, pair: Pair) -> float:
    """When a relay that carries the pair has to have carried an answer."""
    return pair.opened_at + max(PROOF_SECONDS, 2.5 * course.limits.probe_seconds)


def _judge_relay(course: Course, hid: str, pair: Pair, now: float) -> list[Effect]:
    look, limits = course.peers[hid], course.limits
    if not limits.use and pair.via is not None:
        pair.return_to = pair.return_to or pair.direct
        left = CloseRelay(hid, pair.via, is_return=True)
        return [*course.go_back(hid, pair, "the settings want no relay", now), left]
    if pair.is_answered(look.path):
        pair.silent_at = None
        if not pair.is_proven:
            pair.is_proven, pair.attempts = True, 0
            pair.failures.pop(pair.via or "", None)
        if (
            pair.is_measured(look.path, limits.fresh_probes)
            and 0 < limits.loss_ratio <= look.path.loss_ratio
            and now >= pair.retry_at
        ):
            why = f"it loses {look.path.loss_ratio:.0%} of the packets"
            most = bearable_loss(look.path, Complaint.LOSSY)
            return course.stop(hid, pair, why, now, max_loss=most)
        return []
    if pair.is_proven and look.path.loss_ratio >= LOSSY_RELAY:
        pair.silent_at = now if pair.silent_at is None else pair.silent_at
        return course.lose(hid, pair, now) if now >= pair.silent_at + SILENCE_SECONDS else []
    if pair.is_proven or now >= proof_at(course, pair):
        return course.lose(hid, pair, now)
    return []


def tend(course: Course, hid: str, pair: Pair, now: float) -> list[Effect]:
    """Of a pair that is carried: its lease, and whether the direct path is well again."""
    effects: list[Effect] = []
    look, via = course.peers[hid], pair.via
    assert via is not None
    if now >= pair.renew_at:
        pair.renew_at = now + RENEW_SECONDS
        effects.append(RenewRelay(hid, via))
    pair.meter.use([*filter(None, (pair.direct,)), *look.places], now)
    if pair.standing is Standing.RELAYED and look.is_settled:
        place, why = pair.meter.well(pair.hold_seconds(now), now), "the direct path is well again"
        if pair.complaint is Complaint.SLOW:
            place, why = find_return(course, hid, pair, now), "that way is shorter no more"
        if now < pair.returns.until:
            place = None
        if place is not None and pair.move(Event.PROVEN, why, now):
            pair.return_to, pair.ends_at = place, now + CLOSE_SECONDS
            effects.append(CloseRelay(hid, via, is_return=True))
    elif pair.standing is Standing.RETURNING and now >= pair.ends_at:
        effects += course.go_back(hid, pair, pair.why, now)
    return effects


def _complain(complaint: Complaint, look: PeerLook) -> str:
    if complaint is Complaint.LOSSY:
        return f"the direct path loses {look.path.loss_ratio:.0%} of the packets"
    if complaint is Complaint.UNREACHED:
        return "the direct path has never been there"
    return "the direct path is dead"
