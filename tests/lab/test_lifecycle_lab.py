"""Keys change under running daemons: an identity, then every root key; one is lost. Packets do not notice."""

from __future__ import annotations

import re
from functools import partial

import pytest
from until import wait_until

from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES
from meshd.lab.oracle import Oracle
from meshd.lab.select import open_lab
from meshd.lab.stream import Stream

pytestmark = [pytest.mark.root, pytest.mark.slow]

DEADLINE_SECONDS = 60.0


until = partial(wait_until, seconds=DEADLINE_SECONDS)


def codes(fleet: Fleet, member: Member) -> set[str]:
    return {condition.code for condition in fleet.status(member).conditions}


def test_a_new_identity_and_a_new_root_lose_no_packet() -> None:
    lab = open_lab()
    fleet = Fleet(lab)
    oracle = Oracle()
    try:
        fleet.found()
        members = [fleet.prepare(PLACES[number], jails=1) for number in range(2)]
        for member in members:
            fleet.admit(member)
            fleet.wait_started(member)
            oracle.add(member.host.jails[0], member.host.jails[0].address)
        first, second = members
        jails = first.host.jails[0].name, second.host.jails[0].name
        assert None not in oracle.wait_all([jails, jails[::-1]], DEADLINE_SECONDS).values()
        target = second.host.jails[0]
        with Stream(first.host.jails[0], target, target.address) as there:
            _rotate_identity(fleet, first)
            _replace_root(fleet, members)
            report = there.stop()
        assert (report.lost, report.refused) == (0, 0) and report.sent > 100
    finally:
        oracle.close()
        fleet.close()
        lab.close()


def test_a_key_that_is_lost_while_the_interface_stands_costs_no_packet() -> None:
    """``wireguard.key`` is removed, ``meshd enroll`` makes another one, and the daemon starts anew."""
    lab = open_lab()
    fleet = Fleet(lab)
    oracle = Oracle()
    try:
        fleet.found()
        members = [fleet.prepare(PLACES[number], jails=1) for number in range(2)]
        for member in members:
            fleet.admit(member)
            fleet.wait_started(member)
            oracle.add(member.host.jails[0], member.host.jails[0].address)
        first, second = members
        source, target = first.host.jails[0], second.host.jails[0]
        pairs = [(source.name, target.name), (target.name, source.name)]
        assert None not in oracle.wait_all(pairs, DEADLINE_SECONDS).values()
        before = fleet.status(first).host.public_key
        path = first.host.directory / "state" / "wireguard.key"
        with Stream(source, target, target.address) as there, Stream(target, source, source.address) as back:
            fleet.stop(first)
            path.unlink()
            fleet.meshd(first, "enroll", "--name", first.name, "--out", first.request)
            fleet.start(first)
            status = fleet.wait_started(first)
            reports = there.stop(), back.stop()
        assert status.host.public_key == before and "key_taken_back" in first.log.read_text()
        assert "plan_held" not in codes(fleet, first)
        assert [(report.lost, report.refused) for report in reports] == [(0, 0), (0, 0)]
    finally:
        oracle.close()
        fleet.close()
        lab.close()


def _rotate_identity(fleet: Fleet, member: Member) -> None:
    state = member.host.directory / "state"
    hid = fleet.status(member).host.hid
    fleet.meshd(member, "enroll", "--new-identity", "--out", member.request)
    request = (*fleet.compared(member.request), "--new-identity", "--out", member.bundle)
    fleet.wgctl("add-host", member.name, *request)
    until("the next identity was not taken up", lambda: not (state / "identity.next.key").exists())
    # Its first record under it is there once the enrolment record has been replaced.
    until("no record under the new identity", lambda: " member " in _row(fleet, member.name))
    assert fleet.status(member).host.hid == hid
    assert not {"identity_replaced", "registry_object_refused"} & codes(fleet, member)


def _row(fleet: Fleet, name: str) -> str:
    return next(line for line in fleet.wgctl("list").splitlines() if line.startswith(name))


def _replace_root(fleet: Fleet, members: list[Member]) -> None:
    (fleet.home / "root.key").unlink()
    said = fleet.wgctl("root", "refound", "--name", "ada", "--out", fleet.home.parent / "anew", "--yes")
    found = re.search(r"fingerprint ((?:[0-9a-f]{4}-){5}[0-9a-f]{4})", said)
    assert found is not None
    for member in members:
        assert fleet.status(member).registry.root_version == 1
        fleet.stop(member)
        fleet.meshd(member, "trust-root", found[1], "--yes")
        fleet.start(member)
        fleet.wait_started(member)
        assert fleet.status(member).registry.root_version == 2
        assert "plan_held" not in codes(fleet, member)
