"""One other host: its path over an hour and a day, what it is, and what is wrong with it."""

from __future__ import annotations

from meshd.observe.history import DAY_STEP_SECONDS, HOUR_STEP_SECONDS
from meshd.observe.page.charts import chart, describe
from meshd.observe.page.frame import conditions, document, events, facts, section
from meshd.observe.page.markup import Markup, element
from meshd.observe.page.pair import paths_from
from meshd.observe.page.view import PageView, grade_of, own_name, sentence_of
from meshd.observe.recent import RecentEvent
from meshd.observe.status import PeerStatus
from meshd.observe.wording import render_age, render_bytes, render_loss, render_rtt, render_time

MAX_EVENTS = 20


def find_peer(view: PageView, name: str) -> PeerStatus | None:
    """The host of that name."""
    return next((peer for peer in view.status.peers if peer.name == name), None)


def render_peer(view: PageView, peer: PeerStatus, *, live: bool = False) -> str:
    """The whole document."""
    status = view.status
    own = [each for each in status.conditions if peer.name in each.subject.split()]
    lately = [each for each in view.events if _is_about(each, peer)][:MAX_EVENTS]
    body = [
        element(
            "p",
            f"{own_name(status)} to {sentence_of(peer)}",
            class_=f"verdict {grade_of(peer)}",
            role="status",
        ),
        section("What is wrong", conditions(own, status.at)) if own else None,
        section("The path over the last hour", _picture(view, peer, HOUR_STEP_SECONDS)),
        section("The path over the last day", _picture(view, peer, DAY_STEP_SECONDS)),
        section("The path now", _path_facts(peer, status.at)),
        section("The host", _host_facts(peer)),
        section("Its paths to all hosts", paths_from(peer.name, view.matrix)),
        section("What changed lately", events(lately, status.at)),
        element("p", element("a", "all hosts", href="/")),
    ]
    return document(view, peer.name, body, live=live)


def _picture(view: PageView, peer: PeerStatus, step_seconds: int) -> Markup:
    span = view.history(peer.hid, step_seconds)
    text = "Line: round trip; bars from below: loss. " + describe(span).capitalize() + "."
    return element("figure", element("div", chart(span), class_="wide"), element("figcaption", text))


def _path_facts(peer: PeerStatus, now: float) -> Markup:
    path = peer.path
    return facts(
        (
            ("goes", "directly" if path.via == "direct" else f"by way of {path.via}"),
            ("round trip", render_rtt(path.srtt_seconds)),
            ("its variation", render_rtt(path.rttvar_seconds)),
            ("its least", render_rtt(path.minimum_rtt_seconds)),
            ("jitter", render_rtt(path.jitter_seconds)),
            ("lost", render_loss(path.loss_ratio) if path.sent else None),
            ("probes", f"{path.received} of {path.sent} answered"),
            ("last answer", _ago(path.last_reply_at, now)),
            ("last handshake", _ago(peer.latest_handshake_at, now)),
            ("endpoint", element("code", peer.endpoint) if peer.endpoint else None),
            ("why that one", peer.endpoint_reason),
            ("largest packet", f"{peer.mtu_bytes} bytes" if peer.mtu_bytes else None),
            ("received", render_bytes(peer.receive_bytes)),
            ("sent", render_bytes(peer.transmit_bytes)),
        )
    )


def _host_facts(peer: PeerStatus) -> Markup:
    version = f"{peer.record_version}" if peer.record_version is not None else "has published none"
    return facts(
        (
            ("region", peer.region),
            ("roles", ", ".join(peer.roles)),
            ("addresses", ", ".join(peer.addresses)),
            ("networks", ", ".join(peer.networks)),
            ("public key", element("code", peer.public_key) if peer.public_key else None),
            ("key rotation", peer.rotation),
            ("granted by", peer.granted_by),
            ("record", version),
            ("id", element("code", peer.hid)),
        )
    )


def _ago(at: float | None, now: float) -> str:
    return f"{render_age(at, now)} ago ({render_time(at)})" if at else "never"


def _is_about(event: RecentEvent, peer: PeerStatus) -> bool:
    words = {word.strip(",;:()") for _, value in event.fields for word in value.split()}
    return peer.name in words or peer.hid[:8] in words
