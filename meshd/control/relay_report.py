"""What a pair's path is, since when and why, as a document for people. Pure."""

from __future__ import annotations

from collections.abc import Callable

from meshd.model.path import DIRECT, RELAY_PORT_OFFSET, PathStats
from meshd.observe.path_document import AskedStatus, PathDocument, StepStatus
from meshd.paths.complaint import Complaint
from meshd.paths.pair import Pair
from meshd.paths.search import Asked


def build_path_document(
    pair: Pair,
    path: PathStats,
    *,
    own: str,
    host: str,
    name_of: Callable[[str], str],
    unix_at: Callable[[float], float],
    hold_seconds: float,
) -> PathDocument:
    """
    Args:
        own, host: names of the two ends.
        name_of: of a host, by hid.
        unix_at: the unix time of an instant of the monotonic clock.
        hold_seconds: before the direct path is used again.
    """
    search, asked = pair.search, pair.last_asked
    if search is not None and search.asked:
        asked = search.asked
    since = pair.meter.answering_since() if pair.is_carried else None
    vain_at = pair.returns.vain_at
    return PathDocument(
        own=own,
        host=host,
        via=name_of(pair.via) if pair.is_carried and pair.via is not None else DIRECT,
        standing=str(pair.standing),
        since=unix_at(pair.since),
        why=pair.why,
        path=path,
        direct=str(pair.direct) if pair.direct is not None else None,
        direct_answers_since=unix_at(since) if since is not None else None,
        direct_rtt_seconds=pair.meter.rtt_seconds() if pair.is_carried else None,
        echo_port_offset=RELAY_PORT_OFFSET,
        hold_seconds=hold_seconds,
        direct_vain_at=unix_at(vain_at) if vain_at is not None else None,
        direct_again_at=unix_at(pair.returns.until) if vain_at is not None else None,
        is_for_latency=pair.is_carried and pair.complaint is Complaint.SLOW,
        switches=pair.switches,
        asked=tuple(_asked(name_of(hid), each) for hid, each in asked.items()),
        asked_at=unix_at(pair.last_asked_at) if pair.last_asked_at is not None else None,
        steps=tuple(StepStatus(at=unix_at(step.at), text=step.text) for step in pair.steps),
    )


def _asked(name: str, asked: Asked) -> AskedStatus:
    return AskedStatus(
        host=name,
        rtt_seconds=asked.own_rtt_seconds,
        further_rtt_seconds=asked.rtt_seconds,
        answer=asked.answer or ("it can" if asked.rtt_seconds is not None else "not answered yet"),
        was_tried=asked.was_tried,
    )
