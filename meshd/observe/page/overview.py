"""The first page: is all well, what is wrong, who is there, what changed."""

from __future__ import annotations

from typing import Final

from meshd.model.path import DIRECT
from meshd.observe.history import HOUR_STEP_SECONDS
from meshd.observe.page.charts import RingHost, ring, sparkline
from meshd.observe.page.frame import conditions, document, events, facts, section, table
from meshd.observe.page.heat_map import heat_map
from meshd.observe.page.markup import Child, Markup, element
from meshd.observe.page.view import PageView, grade_of, host_link, own_name, render_way, sentence_of, state_of
from meshd.observe.status import ClientStatus, ModuleStatus, PeerStatus, PlanStatus, Status, StoreStatus
from meshd.observe.wording import PathGrade, render_age, render_bytes, render_loss, render_rtt

MAX_EVENTS: Final = 30
MODULE_CLASSES: Final = {"ok": "good", "held": "fair", "pending": "fair", "failed": "bad", "broken": "bad"}
HEALTH_CLASSES: Final = {"pass": "good", "fail": "bad"}
MODULE_COLUMNS: Final = (
    ("module of this host", ""),
    ("state", ""),
    ("last success", "number"),
    ("why", ""),
)
PLACEMENT_COLUMNS: Final = (
    ("service", ""),
    ("host", ""),
    ("jail", ""),
    ("its host's own check", ""),
    ("checked", "number"),
)
PEER_COLUMNS: Final = (
    ("host", ""),
    ("region", "minor"),
    ("path", ""),
    ("round trip", "number"),
    ("lost", "number"),
    ("the last hour", ""),
    ("handshake", "number minor"),
    ("received", "number minor"),
    ("sent", "number minor"),
    ("endpoint", "mono minor"),
)
"""On a phone, what is minor is on the host's own page alone: fifty hosts are long enough without it."""

CLIENT_COLUMNS: Final = (
    ("client, without a meshd", ""),
    ("address", "mono"),
    ("handshake", "number"),
    ("received", "number"),
    ("sent", "number"),
    ("endpoint", "mono"),
)


def render_overview(view: PageView, *, live: bool = False) -> str:
    """The whole document."""
    status = view.status
    body = [
        _verdict(status),
        section("What is wrong", conditions(status.conditions, status.at)) if status.conditions else None,
        element(
            "div",
            section("The mesh", _hosts_picture(status)) if status.peers else None,
            element(
                "div", section("This host", _own_facts(status)), section("Registry", _registry_facts(status))
            ),
            class_="columns" if status.peers else None,
        ),
        section("Hosts", table(PEER_COLUMNS, [_peer_row(view, peer) for peer in status.peers]))
        if status.peers
        else None,
        section("Clients", table(CLIENT_COLUMNS, [_client_row(each, status.at) for each in status.clients]))
        if status.clients
        else None,
        section("Every pair", heat_map(view.matrix)) if len(view.matrix.rows) > 1 else None,
        _services(status),
        section("What changed lately", events(view.events[:MAX_EVENTS], status.at)),
    ]
    return document(view, own_name(status), body, live=live)


def _verdict(status: Status) -> Markup:
    """One sentence for who looks for a second."""
    silent = [peer.name for peer in status.peers if peer.configured and not peer.path.up]
    critical = sum(each.severity == "critical" for each in status.conditions)
    if not status.host.interface_up:
        text, kind = f"The interface {status.host.interface} is down.", "bad"
    elif silent:
        names = ", ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
        verb = "does" if len(silent) == 1 else "do"
        text, kind = f"{len(silent)} of {len(status.peers)} other hosts {verb} not answer: {names}.", "bad"
    elif critical:
        text, kind = "All hosts answer, but something critical is wrong here.", "bad"
    elif status.conditions:
        text, kind = "All hosts answer; something needs a look.", "fair"
    elif not status.peers:
        text, kind = "This is the only host of its mesh so far.", "fair"
    else:
        text, kind = f"All is well: all {len(status.peers)} other hosts answer.", "good"
    return element("p", text, class_=f"verdict {kind}", role="status")


def _hosts_picture(status: Status) -> Markup:
    own = RingHost(
        name=own_name(status),
        region=status.host.region,
        grade=None,
        says=f"{own_name(status)}: this host",
        link="/",
    )
    others = [
        RingHost(
            name=peer.name,
            region=peer.region,
            grade=grade_of(peer),
            says=sentence_of(peer),
            link=host_link(peer.name),
            via=peer.path.via if peer.path.up and peer.path.via != DIRECT else None,
        )
        for peer in status.peers
    ]
    return ring([own, *others])


def _peer_row(view: PageView, peer: PeerStatus) -> tuple[Child, ...]:
    now, path = view.status.at, peer.path
    rotation = f", key {peer.rotation}" if peer.rotation != "steady" else ""
    return (
        element("a", peer.name, href=host_link(peer.name)),
        peer.region,
        element("span", state_of(peer) + render_way(path) + rotation, class_=grade_of(peer)),
        render_rtt(path.srtt_seconds if path.up else None),
        render_loss(path.loss_ratio) if path.sent else "-",
        sparkline(view.history(peer.hid, HOUR_STEP_SECONDS)),
        render_age(peer.latest_handshake_at, now),
        render_bytes(peer.receive_bytes),
        render_bytes(peer.transmit_bytes),
        element("span", peer.endpoint, title=peer.endpoint_reason) if peer.endpoint else "",
    )


def _client_row(client: ClientStatus, now: float) -> tuple[Child, ...]:
    """Nobody measures a path to it, and an old handshake is no fault."""
    missing = element("span", f"{client.name}: not configured", class_="fair")
    return (
        client.name if client.configured else missing,
        client.addresses[0] if client.addresses else "",
        render_age(client.latest_handshake_at, now),
        render_bytes(client.receive_bytes),
        render_bytes(client.transmit_bytes),
        client.endpoint or "",
    )


def _services(status: Status) -> Markup | None:
    services = status.services
    placements = (*services.placements, *services.elsewhere)
    if not services.modules and not placements:
        return None
    names = {status.host.hid: own_name(status), **{peer.hid: peer.name for peer in status.peers}}
    rows = [
        (
            each.service,
            names.get(each.hid, each.hid[:8]),
            each.jail,
            element("span", each.health, class_=HEALTH_CLASSES.get(each.health, "fair")),
            f"{render_age(each.checked_at, status.at)} ago",
        )
        for each in sorted(placements, key=lambda each: (each.service, names.get(each.hid, "")))
    ]
    return section(
        "Services",
        table(PLACEMENT_COLUMNS, rows) if rows else None,
        table(MODULE_COLUMNS, [_module_row(status, each) for each in services.modules])
        if services.modules
        else None,
    )


def _module_row(status: Status, module: ModuleStatus) -> tuple[Child, ...]:
    state = element("span", module.state, class_=MODULE_CLASSES.get(module.state, "fair"))
    age = f"{render_age(module.last_success_at, status.at)} ago" if module.last_success_at else "never"
    return module.name, state, age, module.reason


def _own_facts(status: Status) -> Markup:
    host, rotation = status.host, status.rotation
    learned = [f"{each} (seen by others)" if each in host.learned else each for each in host.endpoints]
    followers = f": {', '.join(rotation.waited_for)} to follow" if rotation.waited_for else ""
    return facts(
        (
            ("addresses", ", ".join(host.addresses)),
            ("networks", ", ".join(host.networks)),
            ("endpoints", ", ".join(learned) + (", behind a NAT" if host.behind_nat else "")),
            ("interface", _interface_text(status)),
            ("public key", element("code", host.public_key) if host.public_key else None),
            ("key age", render_age(host.key_created_at, status.at) if host.key_created_at else None),
            ("key rotation", f"{rotation.state}{followers}" if rotation.state != "steady" else None),
            ("last turn", _plan_text(status.last_plan, status.at)),
        )
    )


def _interface_text(status: Status) -> str:
    host = status.host
    up = "up" if host.interface_up else "down"
    mtu = f", MTU {host.mtu_bytes}" if host.mtu_bytes else ""
    return f"{host.interface} {up}, port {host.listen_port}{mtu}, {host.backend}"


def _plan_text(plan: PlanStatus | None, now: float) -> str | None:
    if plan is None:
        return None
    wakes = f" ({', '.join(plan.wakes)})" if plan.wakes else ""
    changes = f": {'; '.join(plan.changes[:3])}" if plan.changes else ""
    held = f", held because {plan.held_because}" if plan.held_because else ""
    return f"{plan.outcome} {render_age(plan.at, now)} ago{wakes}{changes}{held}"


def _registry_facts(status: Status) -> Markup:
    registry = status.registry
    verified = f"{render_age(registry.verified_at, status.at)} ago" if registry.verified_at else "not yet"
    agrees = {True: "they hold what this host holds", False: "they differ", None: None}
    return facts(
        (
            ("hosts", str(registry.hosts)),
            ("generation", f"{registry.generation}, carried out {registry.applied_generation}"),
            ("root", str(registry.root_version)),
            ("verified by a store", verified),
            ("other hosts", agrees[status.exchange.agrees] if status.exchange else None),
            *((f"store {store.url}", _store_text(store)) for store in registry.stores),
        )
    )


def _store_text(store: StoreStatus) -> Markup:
    if store.up is None:
        return element("span", "not asked yet", class_="faint")
    if store.up:
        return element("span", "answers", class_=PathGrade.GOOD)
    return element("span", f"does not answer: {store.error or 'no reason given'}", class_=PathGrade.BAD)
