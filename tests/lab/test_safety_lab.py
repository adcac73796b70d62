"""A daemon replaced in the middle of an apply, one that stood still, and a change that cuts hosts off."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fleets import admit_connected, founded_fleet
from until import wait_until

from meshd.lab.fleet import Fleet, Member
from meshd.lab.stream import Stream
from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint
from meshd.registry.bundle import build_request
from meshd.registry.record import build_record
from meshd.registry.signing import SigningKey

pytestmark = [pytest.mark.root, pytest.mark.slow]

DEADLINE_SECONDS = 60.0
UPGRADES = 5
HOSTS_AT_ONCE = 8
STOPPED_SECONDS = 8.0
CONFIRM_SECONDS = 4.0


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with founded_fleet(poll_seconds=0.1) as opened:
        yield opened


@pytest.fixture(scope="module")
def members(fleet: Fleet) -> list[Member]:
    """Three hosts whose jails reach each other."""
    return admit_connected(fleet, 3)


until = partial(wait_until, seconds=DEADLINE_SECONDS)


def newcomers(directory: Path, number: int) -> list[tuple[str, Path, str]]:
    """Enrollments of hosts that nobody will hear from -> (name, request file, WireGuard key)."""
    made = []
    for index in range(HOSTS_AT_ONCE):
        identity, key = SigningKey.generate(), PrivateKey.generate()
        record = build_record(
            mesh="",
            hid=identity.kid,
            gen=1,
            version=0,
            private_key=key,
            listen_port=51820,
            endpoints=[Endpoint.parse("198.18.255.1:51820")],
            networks=[],
        )
        name = f"passer{number}x{index}"
        path = directory / f"{name}.request"
        path.write_text(build_request(name, identity, record))
        made.append((name, path, str(key.public())))
    return made


def has_all(fleet: Fleet, member: Member, keys: set[str]) -> bool:
    return keys <= fleet.wireguard_peers(member)


def has_none(fleet: Fleet, member: Member, keys: set[str]) -> bool:
    return not keys & fleet.wireguard_peers(member)


def restart(fleet: Fleet, member: Member) -> None:
    """As an upgrade does it: SIGTERM to the old process, and at once the new one."""
    fleet.stop(member)
    fleet.start(member)


@pytest.mark.long
def test_an_upgrade_in_the_middle_of_an_apply_loses_nothing(
    fleet: Fleet, members: list[Member], tmp_path: Path
) -> None:
    first, second = members[:2]
    source, target = first.host.jails[0], second.host.jails[0]
    with (
        Stream(source, target, target.address, packets_per_second=500) as there,
        Stream(target, source, source.address, packets_per_second=500) as back,
    ):
        for number in range(UPGRADES):
            arriving = newcomers(tmp_path, number)
            for name, request, _ in arriving:
                bundle = tmp_path / f"{name}.bundle"
                fleet.wgctl("add-host", name, *fleet.compared(request), "--out", bundle)
                if name.endswith(f"x{number + 1}"):
                    restart(fleet, first)
            keys = {key for _, _, key in arriving}
            until("a new host is no peer", partial(has_all, fleet, first, keys))
            for name, _, _ in arriving:
                fleet.wgctl("remove-host", name, "--yes")
                if name.endswith(f"x{number}"):
                    restart(fleet, first)
            until("a host that left is a peer", partial(has_none, fleet, first, keys))
        reports = there.stop(), back.stop()
    print("\nupgrade:", *reports, sep="\n  ")
    assert [(report.lost, report.refused) for report in reports] == [(0, 0), (0, 0)]
    assert not {"apply_failed", "plan_held"} & {c.code for c in fleet.wait_started(first).conditions}


def test_a_daemon_that_stood_still_holds_it_against_nobody(fleet: Fleet, members: list[Member]) -> None:
    first = members[0]
    process = first.process
    assert process is not None
    until("not all answer", lambda: all(peer.path.up for peer in fleet.status(first).peers))
    before = {peer.name: peer.path for peer in fleet.status(first).peers}
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(STOPPED_SECONDS)
    os.kill(process.pid, signal.SIGCONT)
    seconds = until(
        "not all are asked again",
        lambda: all(peer.path.received > before[peer.name].received for peer in fleet.status(first).peers),
    )
    print(f"\nstood still for {STOPPED_SECONDS:g} s: all peers answered {seconds:.2f} s later")
    for peer in fleet.status(first).peers:
        assert peer.path.up and peer.path.loss_ratio <= before[peer.name].loss_ratio
    assert "paused" in first.log.read_text()


def test_a_change_after_which_hosts_fall_silent_is_rolled_back(fleet: Fleet, members: list[Member]) -> None:
    first, others = members[0], members[1:]
    text = first.config.read_text()
    fleet.stop(first)
    first.config.write_text(text + f"\n[safety]\nconfirm_seconds = {CONFIRM_SECONDS}\n")
    fleet.start(first)
    fleet.wait_started(first)
    until("not all answer", lambda: all(peer.path.up for peer in fleet.status(first).peers))
    process = first.process
    assert process is not None
    first.config.write_text(first.config.read_text().replace("listen_port = 51820", "listen_port = 51999"))
    os.kill(process.pid, signal.SIGHUP)
    until("the port is not another one", lambda: fleet.status(first).host.listen_port == 51999)
    for other in others:  # as a firewall does that passes the old port alone
        fleet.lab.cut(first.name, other.name)
    seconds = until("the port is not back", lambda: fleet.status(first).host.listen_port == 51820)
    for other in others:
        fleet.lab.heal(first.name, other.name)
    print(f"\nconfirmation time {CONFIRM_SECONDS:g} s: rolled back {seconds:.1f} s after the cut")
    status = fleet.status(first)
    assert status.change is not None and status.change.state == "held"
    assert "change_rolled_back" in {condition.code for condition in status.conditions}
    until("not all answer again", lambda: all(peer.path.up for peer in fleet.status(first).peers))
