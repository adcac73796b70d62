"""The shorter way through another host: asked for, taken, measured, and left again. Pure.

The end with the lower id asks. The other one follows its packets, and goes by its own measurement from then
on: of the relayed path by probes, of the direct one by echoes. So nobody's word is believed for longer than
it takes to measure it.
"""

from __future__ import annotations

from typing import Final

from meshd.model.network import Endpoint
from meshd.paths.complaint import Complaint
from meshd.paths.course import Course
from meshd.paths.effects import AskRelay, Effect
from meshd.paths.hysteresis import HOLD_SECONDS, HOUR_SECONDS
from meshd.paths.latency import (
    BACK_PART,
    HOST_SECONDS,
    MAX_LOSS,
    REVIEW_SECONDS,
    LatencyTerms,
    Review,
    choose_reviewed,
    hold_seconds,
)
from meshd.paths.pair import Pair
from meshd.paths.pair_table import Event, Standing
from meshd.paths.search import Search, Way

FRESH_ANSWERS: Final = 20
"""Of probes, after which the round-trip time is that of the relayed path."""


def review(course: Course, hid: str, pair: Pair, now: float) -> list[Effect]:
    """What time brings to a pair that may go directly."""
    terms, look = course.limits.latency, course.peers[hid]
    is_wanted = terms is not None and course.limits.use and course.own_hid < hid and look.is_settled
    if terms is None or not is_wanted or pair.standing is not Standing.DIRECT:
        pair.review = None
        return []
    seconds = REVIEW_SECONDS + HOST_SECONDS * len(course.peers)
    if pair.review is None:
        pair.review = Review(next_at=now + seconds * _spread(hid))
    if pair.review.search is not None:
        pair.review.search.expire(now)
        return [] if pair.review.search.waits else _conclude(course, hid, pair, pair.review, terms, now)
    direct = look.path.srtt_seconds
    if now < pair.review.next_at or not look.path.up or direct is None:
        return []
    pair.review.next_at = now + seconds
    able = course.able - {hid} - pair.put_off.keys()
    chosen = choose_reviewed(pair.review, able, course.peers, direct, terms)
    if not chosen:
        pair.review.verdict.note(False, now)
        return []
    pair.review.asked_at |= dict.fromkeys(chosen, now)
    search = pair.review.search = Search(number=course.next_number(), begins_at=now, max_loss=MAX_LOSS)
    search.ask(chosen, course.peers, (), now)
    return [AskRelay(hid, relay, search.number, is_for_latency=True) for relay in chosen]


def hear(
    course: Course, hid: str, pair: Pair, number: int, relay: str, way: Way | None, answer: str, now: float
) -> list[Effect]:
    """What a host said that was asked for a shorter way."""
    search = pair.review.search if pair.review is not None else None
    if search is None or search.number != number:
        return []
    search.hear(relay, way, answer, now)
    return review(course, hid, pair, now)


def wake_at(pair: Pair) -> float | None:
    """When ``review`` is to be asked next; None: never."""
    if pair.review is None or pair.standing is not Standing.DIRECT:
        return None
    return pair.review.search.ends_at if pair.review.search is not None else pair.review.next_at


def _conclude(
    course: Course, hid: str, pair: Pair, found: Review, terms: LatencyTerms, now: float
) -> list[Effect]:
    """Everybody has answered."""
    search, direct = found.search, course.peers[hid].path.srtt_seconds
    assert search is not None
    found.search = None
    pair.last_asked, pair.last_asked_at = search.asked, now
    best = search.best(now)
    asked = search.asked[best] if best is not None else None
    is_shorter = asked is not None and direct is not None and terms.is_shorter(asked.total_seconds, direct)
    found.best = best if is_shorter else None
    found.verdict.note(is_shorter, now)
    if asked is None or best is None or direct is None or asked.rtt_seconds is None:
        return []
    if not found.verdict.stands(hold_seconds(terms, pair.left_at, now), now):
        return []
    why = f"the way through {course.name_of(best)} is {(direct - asked.total_seconds) * 1000:.0f} ms shorter"
    pair.direct = course.direct_place(pair, course.peers[hid])
    pair.review, pair.max_loss = None, MAX_LOSS
    pair.complaint = Complaint.SLOW
    pair.move(Event.BAD, why, now)
    pair.note(why, now)
    return course.open_known(hid, pair, best, Way(asked.rtt_seconds, asked.loss_ratio), now)


def find_return(course: Course, hid: str, pair: Pair, now: float) -> Endpoint | None:
    """Where a pair that left for a shorter way goes back to; None: it stays.

    A host that had promised a shorter way, and never has one, is not believed for an hour.
    """
    place, direct = pair.meter.well(HOLD_SECONDS, now), pair.meter.rtt_seconds()
    if place is None or direct is None:
        pair.verdict.note(False, now)
        return None
    path = course.peers[hid].path
    if pair.is_measured(path, course.limits.fresh_probes) and path.loss_ratio > MAX_LOSS:
        if pair.via is not None:
            pair.blame(pair.via, now)
        return place
    if path.srtt_seconds is None or path.received - pair.received_before < FRESH_ANSWERS:
        return None
    terms = course.limits.latency or LatencyTerms()
    is_shorter = terms.is_shorter(path.srtt_seconds, direct, BACK_PART)
    pair.was_shorter |= is_shorter
    pair.verdict.note(not is_shorter, now)
    if not pair.verdict.stands(hold_seconds(terms, pair.left_at[:-1], now), now):
        return None
    if not pair.was_shorter and pair.via is not None:
        pair.put_off[pair.via] = now + HOUR_SECONDS
    return place


def _spread(hid: str) -> float:
    """Pairs are reviewed one after the other."""
    return int(hid[-4:], 16) / 0x10000
