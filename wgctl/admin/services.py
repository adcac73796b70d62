"""What an operator wants to be said of services, made into statements: whole, and only what is news."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import msgspec

from meshd.errors import ConfigError
from meshd.model.service import Placement, PlacementState
from meshd.registry.ledger import Ledger
from meshd.registry.statement import Place, Service
from wgctl.admin.select_hosts import choose_granted
from wgctl.admin.signing_request import DeclareServices
from wgctl.views.registry import host_names

if TYPE_CHECKING:
    from wgctl.admin.session import AdminSession


class PlaceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """As the options of ``wgctl service place``; None: not named, as it was. ``tags``: an empty value
    takes the tag away."""

    host: str
    service: str
    jail: str | None
    address: str | None
    tags: Mapping[str, str]


def split_target(text: str) -> tuple[str, str]:
    """``HOST/SERVICE``; ConfigError says what is expected."""
    host, slash, service = text.partition("/")
    if not (host and slash and service) or "/" in service:
        raise ConfigError(f"{text[:80]!r} seen, HOST/SERVICE expected, as in tesla/postgres")
    return host, service


def place_words(ledger: Ledger, wanted: PlaceOptions) -> DeclareServices:
    """The placement with what is not named as it was. ConfigError when no address can be known."""
    [hid] = choose_granted(ledger, [wanted.host])
    known = _find(ledger, hid, wanted.service, wanted.jail, required=False)
    jail = known.jail if known is not None and wanted.jail is None else wanted.jail or ""
    address = wanted.address or (str(known.address) if known is not None else "")
    if not address:
        if jail:
            raise ConfigError(f"{wanted.host}/{wanted.service}: jail {jail} needs its --address")
        address = str(ledger.reduction().effective[hid].ranges.addresses[0])
    tags = {**(known.tags if known is not None else {}), **wanted.tags}
    tags = {name: value for name, value in tags.items() if value}
    place = Place(hid=hid, service=wanted.service, jail=jail, address=address, tags=tags, state="active")
    return DeclareServices(places=(place,))


def state_words(ledger: Ledger, target: str, jail: str | None, state: PlacementState) -> DeclareServices:
    """``HOST/SERVICE`` in another state; ``HOST`` alone: every placement on it that is not there yet."""
    if "/" in target:
        host, service = split_target(target)
        [hid] = choose_granted(ledger, [host])
        found = [cast(Placement, _find(ledger, hid, service, jail, required=True))]
    else:
        [hid] = choose_granted(ledger, [target])
        every = [
            each for service in ledger.reduction().services.services.values() for each in service.placements
        ]
        found = [each for each in every if each.hid == hid and each.state not in (state, "retired")]
        if not found:
            raise ConfigError(f"{target}: no placement on this host to be {state}; see: wgctl service list")
    return DeclareServices(
        places=tuple(
            Place(
                hid=each.hid,
                service=each.service,
                jail=each.jail,
                address=str(each.address),
                tags=dict(each.tags),
                state=state,
            )
            for each in found
        )
    )


def retire_words(ledger: Ledger, name: str) -> DeclareServices:
    """The end of a service; its name is free afterwards."""
    known = ledger.reduction().services.services.get(name)
    if known is None or known.retired:
        raise ConfigError(f"service {name[:63]!r}: not declared; see: wgctl service list")
    return DeclareServices(
        services=(
            Service(
                name=name,
                kind=known.kind,
                port=known.port,
                scope=known.scope,
                min_endpoints=known.min_endpoints,
                check=known.check,
                state="retired",
            ),
        )
    )


def commit_words(session: AdminSession, words: DeclareServices, *, now: float) -> list[int]:
    """Sign and publish what is not in force already; the numbers of the statements."""
    seqs = []
    bodies: list[Service | Place] = [*words.services, *words.places]
    for body in bodies:
        if not _is_said(session.ledger, body, session.home.mesh.admin_kid):
            signer = session.signer()
            signed = (
                signer.service(body, now=now) if isinstance(body, Service) else signer.place(body, now=now)
            )
            seqs.append(session.commit(signed))
    return seqs


def describe_words(ledger: Ledger, words: DeclareServices) -> list[str]:
    """A line for people each."""
    names = host_names(ledger)
    lines = [
        f"service {each.name}: kind {each.kind}, port {each.port}, scope {each.scope}, at least "
        f"{each.min_endpoints}, check {each.check or 'none'}: {each.state}"
        for each in words.services
    ]
    for place in words.places:
        where = names.get(place.hid, place.hid[:8]) + (f"/{place.jail}" if place.jail else "")
        tags = "".join(f" {name}={value}" for name, value in sorted(place.tags.items()))
        lines.append(f"{place.service} on {where} at {place.address}{tags}: {place.state}")
    return lines


def _find(ledger: Ledger, hid: str, service: str, jail: str | None, *, required: bool) -> Placement | None:
    known = ledger.reduction().services.services.get(service)
    placements = known.placements if known is not None else ()
    living = [each for each in placements if each.hid == hid and each.state != "retired"]
    found = [each for each in living if jail is None or each.jail == jail]
    if len(found) > 1:
        jails = ", ".join(each.jail or "(the host itself)" for each in found)
        raise ConfigError(f"{service}: placed on this host in {jails}: name one with --jail")
    if not found and required:
        raise ConfigError(f"{service[:63]!r}: not placed on this host; see: wgctl service list")
    return found[0] if found else None


def _is_said(ledger: Ledger, body: Service | Place, kid: str) -> bool:
    """Whether it is in force, or signed by this key and waits for others."""
    services = ledger.reduction().services
    waiting = (each.entry for each in services.unendorsed if each.entry.statement.by == kid)
    return any(entry.body == body for entry in (*services.in_force, *waiting))
