"""Hosts that keep copies of each other's data, for the modules that arrange it."""

from __future__ import annotations

from typing import Any

import msgspec
from service_rig import a_view

from meshd.services.view import ServiceView

HOSTS = tuple("abcdef")


def a_fleet(
    kind: str, states: dict[str, str] | None = None, roles: dict[str, str] | None = None, **changes: Any
) -> ServiceView:
    """``app`` of ``kind`` on the hosts named in ``states``."""
    view = a_view(1, *HOSTS)
    states, roles = states or dict.fromkeys(HOSTS, "active"), roles or {}
    places = tuple(
        msgspec.structs.replace(
            each, state=states[each.host], tags={"role": roles[each.host]} if each.host in roles else {}
        )
        for each in view.services["app"].placements
        if each.host in states
    )
    app = msgspec.structs.replace(view.services["app"], kind=kind, placements=places)
    return msgspec.structs.replace(view, services={"app": app}, **changes)


def key(letter: str) -> str:
    """A public key by its letters; ssh-keygen would not take it."""
    return f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43}"
