"""What HAProxy's agents are told of signed placements, whoever signed them."""

from __future__ import annotations

import msgspec
import pytest
from service_rig import a_view

from meshd.services.modules.haproxy import Haproxy, HaproxyConfig
from meshd.services.view import ServiceView

CONFIG = HaproxyConfig(file="/nowhere/mesh.cfg", bind={"app": "127.0.0.1:80"})


def drained(*hosts: str, least: int = 1, scope: str = "mesh") -> ServiceView:
    """Hosts b and d are in this one's region, which is a's: no, those of odd numbers are."""
    view = a_view(1, "a", "b", "c", "d")
    app = view.services["app"]
    places = tuple(
        msgspec.structs.replace(each, state="draining" if each.host in hosts else "active")
        for each in app.placements
    )
    app = msgspec.structs.replace(app, placements=places, min_endpoints=least, scope=scope)
    return msgspec.structs.replace(view, services={"app": app})


def told(view: ServiceView) -> dict[str, str]:
    answers = Haproxy().signals(view, CONFIG).answers
    return {name.partition("/")[2].partition("@")[0]: answer for name, answer in answers.items()}


def test_what_drains_gets_no_new_work() -> None:
    assert told(drained("b")) == {"a": "100%", "b": "drain", "c": "5%", "d": "5%"}


@pytest.mark.parametrize(
    ("hosts", "least", "scope"),
    [("abcd", 1, "mesh"), ("abcd", 0, "mesh"), ("abc", 2, "mesh"), ("ac", 1, "region"), ("a", 1, "host")],
)
def test_whoever_drains_every_placement_ends_no_service(hosts: str, least: int, scope: str) -> None:
    """Any administrator drains any placement, alone and at once, and so does a thief of one's key."""
    assert "drain" not in told(drained(*hosts, least=least, scope=scope)).values()
