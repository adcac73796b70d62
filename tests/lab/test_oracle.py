"""The oracle's own honesty: it reports what pings did, and a silence as a silence."""

from __future__ import annotations

import threading
from ipaddress import ip_address

import pytest

from meshd.errors import BackendError
from meshd.lab.base import Lab
from meshd.lab.oracle import Oracle

pytestmark = pytest.mark.root


def test_an_address_that_nobody_has_is_none(lab: Lab, oracle: Oracle) -> None:
    oracle.add(lab.hosts[1], ip_address("198.18.200.200"), name="nobody")
    oracle.add(lab.hosts[1], ip_address("192.0.2.1"), name="no-route")
    answers = oracle.sweep([("east", "nobody"), ("east", "no-route"), ("east", "west")], 0.2)
    assert answers["east", "nobody"] is None
    assert answers["east", "no-route"] is None
    assert answers["east", "west"] is not None


def test_waiting_ends_at_the_deadline_and_keeps_what_did_answer(lab: Lab, oracle: Oracle) -> None:
    oracle.add(lab.hosts[1], ip_address("198.18.200.200"), name="nobody")
    progress: list[tuple[int, int]] = []
    pairs = [("east", "west"), ("east", "nobody")]
    answers = oracle.wait_all(pairs, 0.3, lambda answered, total: progress.append((answered, total)))
    assert answers["east", "west"] is not None
    assert answers["east", "nobody"] is None
    assert progress == [(1, 2)]


def test_waiting_sees_a_path_come_back(lab: Lab, oracle: Oracle) -> None:
    lab.cut("east", "west")
    healing = threading.Timer(0.3, lab.heal, ("east", "west"))
    healing.start()
    answers = oracle.wait_all([("east", "west"), ("west", "east")], 10.0)
    healing.join()
    assert all(seconds is not None and seconds >= 0.3 for seconds in answers.values())


def test_ipv6_is_asked_too(lab: Lab, oracle: Oracle) -> None:
    oracle.add(lab.hosts[0], ip_address("::1"), name="east-loopback")
    assert oracle.sweep([("east", "east-loopback")])["east", "east-loopback"] is not None


def test_an_unknown_place_is_an_error_not_a_silence(oracle: Oracle) -> None:
    with pytest.raises(BackendError, match="atlantis"):
        oracle.sweep([("east", "atlantis")])
