"""Checks of what meshd says: interface, peers, stores, clock, metrics, conditions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from meshd.errors import MeshError
from meshd.observe.status import PeerStatus, Status
from wgctl.checks.base import Check, fail, ok, warn
from wgctl.checks.metrics_port import fetch_metrics
from wgctl.output import render_duration

CLOCK_TOLERANCE_SECONDS: Final = 300.0
STALE_AFTER_SECONDS: Final = 900.0
MAX_NAMED: Final = 8


def check_status(status: Status, *, now: float) -> Iterator[Check]:
    """Everything that one Status tells. ``now``: this machine's clock, unix seconds."""
    yield _check_interface(status)
    yield from _check_peers(status)
    yield from _check_mtus(status)
    yield from _check_stores(status, now)
    yield _check_plan(status)
    yield check_clock(status.registry.newest_signed_at, now)
    for condition in status.conditions:
        if condition.severity == "info":
            continue
        result = fail if condition.severity == "critical" else warn
        subject = f" {condition.subject}" if condition.subject else ""
        age = render_duration(now - condition.since)
        yield result(
            "condition",
            f"{condition.code}{subject}, for {age}: {condition.text}",
            f"wgctl explain {condition.code}",
        )


def check_metrics(status: Status) -> Iterator[Check]:
    """Ask our own exporter, as Prometheus does."""
    for url in status.metrics_urls:
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            continue
        try:
            fetch_metrics(parts.hostname, parts.port)
            yield ok("metrics", f"{url} answers")
        except MeshError as error:
            yield fail("metrics", f"{url}: {error}", "see metrics.listen in the settings, and meshd's log")


def check_clock(newest_at: float, now: float) -> Check:
    """A host record or statement from the future: one of two clocks is wrong, ours or its author's."""
    ahead = newest_at - now
    if ahead <= CLOCK_TOLERANCE_SECONDS:
        return ok("clock", "nothing in the registry is from the future")
    text = f"the newest signed object is {render_duration(ahead)} ahead of this host's clock"
    return warn("clock", text, "compare `date -u` here and on the other hosts; run ntpd or chronyd on each")


def _check_interface(status: Status) -> Check:
    host = status.host
    if host.name is None:
        advice = "wgctl add-host on the admin's machine, then meshd join BUNDLE here"
        return fail("membership", f"host {host.hid[:8]} is not a member: no valid grant", advice)
    if any(condition.code == "interface_taken" for condition in status.conditions):
        advice = "give meshd another name: wireguard.interface in meshd.toml, then restart it"
        return fail("interface", f"{host.interface} is somebody else's", advice)
    if not host.interface_up:
        return fail("interface", f"{host.interface} is down", "wgctl plan, then wgctl apply; see meshd's log")
    return ok("interface", f"{host.interface} is up on port {host.listen_port} ({host.backend})")


def _check_peers(status: Status) -> Iterator[Check]:
    configured = [peer for peer in status.peers if peer.configured]
    silent = [peer for peer in configured if not peer.path.up]
    if silent:
        advice = (
            "is the host up, does UDP reach its endpoint, does its firewall let WireGuard in? "
            "there: wgctl doctor"
        )
        yield fail("peers", f"{len(silent)} of {len(configured)} do not answer: {_names(silent)}", advice)
    else:
        yield ok("peers", f"all {len(configured)} configured peers answer")
    homeless = [peer for peer in configured if peer.endpoint is None]
    if homeless:
        yield warn(
            "endpoints",
            f"no endpoint known of {_names(homeless)}",
            "they must call us; give one of the two sides host.endpoints in meshd.toml",
        )
    trying = [peer for peer in configured if peer.endpoint_reason and "no answer" in peer.endpoint_reason]
    if trying:
        places = ", ".join(
            f"{peer.name} at {peer.endpoint} ({peer.endpoint_reason})" for peer in trying[:MAX_NAMED]
        )
        yield warn(
            "endpoints",
            f"candidates are being tried: {places}",
            "is host.endpoints there right? there: wgctl status, line endpoints",
        )
    yield from _check_unconfigured([peer for peer in status.peers if not peer.configured])


def _check_unconfigured(peers: list[PeerStatus]) -> Iterator[Check]:
    """Two causes, and each has hands of its own: there, or here."""
    if silent := [peer for peer in peers if peer.record_version is None]:
        yield warn(
            "peers",
            f"granted but not configured: {_names(silent)}",
            "they have not published a record: meshd join BUNDLE there, and start meshd",
        )
    if here := [peer for peer in peers if peer.record_version is not None]:
        yield fail(
            "peers",
            f"granted, with a record, and not configured on this host: {_names(here)}",
            "the cause is on this host: see the conditions below, and wgctl plan",
        )


def _check_mtus(status: Status) -> Iterator[Check]:
    """What is narrow is taken care of; what got narrower, or is too narrow for IPv6, is a condition."""
    measured = [peer for peer in status.peers if peer.mtu_bytes is not None]
    whole = status.host.mtu_bytes or 0
    narrow = [f"{peer.name} {peer.mtu_bytes}" for peer in measured if (peer.mtu_bytes or 0) < whole]
    if narrow:
        yield ok("path MTU", f"below the interface's {whole} bytes, with routes to match: {_some(narrow)}")
    elif measured:
        yield ok("path MTU", f"{len(measured)} measured paths carry the interface's {whole} bytes")


def _check_stores(status: Status, now: float) -> Iterator[Check]:
    stores = status.registry.stores
    any_up = any(store.up for store in stores)
    for store in stores:
        if store.up is False:
            result = warn if any_up else fail
            yield result(
                "store",
                f"{store.url}: {store.error or 'down'}",
                "the mesh goes on from its verified copy; bring the store back to see changes",
            )
        elif store.up:
            yield ok("store", f"{store.url} answers")
    verified_at = status.registry.verified_at
    if verified_at is None:
        yield warn("registry", "no store has answered since meshd started", "see the stores above")
    elif now - verified_at > STALE_AFTER_SECONDS:
        yield warn(
            "registry",
            f"last complete look at a store {render_duration(now - verified_at)} ago",
            "see the stores above",
        )
    else:
        yield ok(
            "registry",
            f"generation {status.registry.generation}, verified {render_duration(now - verified_at)} ago",
        )


def _check_plan(status: Status) -> Check:
    plan = status.last_plan
    if plan is None:
        return warn("plan", "meshd has made no plan yet", "wait a few seconds, then: wgctl plan")
    if any(condition.code == "interface_taken" for condition in status.conditions):
        return fail("plan", "none: the interface is somebody else's", "see interface_taken below")
    if plan.outcome == "held":
        return fail("plan", f"held: {plan.held_because}", "wgctl plan; if it is right: wgctl apply --force")
    if plan.outcome in ("failed", "partial"):
        first = plan.failed[0] if plan.failed else "no reason given"
        return fail("plan", f"{plan.outcome}: {first}", "wgctl plan; see meshd's log")
    return ok("plan", f"the last one was {plan.outcome}")


def _names(peers: list[PeerStatus]) -> str:
    return _some([peer.name for peer in peers])


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
