"""What a look at the kernel's routes costs a host that has many of others."""

from __future__ import annotations

import importlib.util
from ipaddress import ip_network

import pytest

from meshd.backend.netlink_routes import TableRoute, split_routes


def test_routes_of_others_are_named_without_a_search_for_the_library_that_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host in the middle of the Internet has a million, and each search would be half a millisecond."""
    routes = [
        TableRoute(
            destination=ip_network(f"10.{number}.0.0/16"),
            protocol=4,
            kind=1,
            interface_index=0,
            mtu_bytes=None,
        )
        for number in range(3)
    ]
    first = split_routes("wg0", None, routes)
    searches: list[str] = []
    monkeypatch.setattr(importlib.util, "find_spec", searches.append)
    assert split_routes("wg0", None, routes) == first
    assert {each.description for each in first[1].values()} == {"route of protocol static"}
    assert not searches
