"""What a hundred changes cost the pairs that they do not touch, and what a full disk costs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fleets import admit_connected, founded_fleet
from until import wait_until

from meshd.lab.fleet import Fleet, Member
from meshd.lab.stream import Stream
from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint, parse_network
from meshd.registry.bundle import build_request
from meshd.registry.record import build_record
from meshd.registry.signing import SigningKey

pytestmark = [pytest.mark.root, pytest.mark.slow]

CHANGES = 100
DEADLINE_SECONDS = 60.0


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with founded_fleet(poll_seconds=0.1) as opened:
        yield opened


@pytest.fixture(scope="module")
def pair(fleet: Fleet) -> tuple[Member, Member]:
    """Two hosts of the mesh whose jails reach each other."""
    first, second = admit_connected(fleet, 2)
    return first, second


until = partial(wait_until, seconds=DEADLINE_SECONDS)


def peer_of_all(fleet: Fleet, members: tuple[Member, ...], key: str) -> bool:
    return all(key in fleet.wireguard_peers(member) for member in members)


def peer_of_none(fleet: Fleet, members: tuple[Member, ...], key: str) -> bool:
    return not any(key in fleet.wireguard_peers(member) for member in members)


def request_of(directory: Path, number: int) -> tuple[str, Path, str]:
    """An enrollment of a host that nobody will hear from -> (name, request file, WireGuard key)."""
    identity, key = SigningKey.generate(), PrivateKey.generate()
    record = build_record(
        mesh="",
        hid=identity.kid,
        gen=1,
        version=0,
        private_key=key,
        listen_port=51820,
        endpoints=[Endpoint.parse("198.18.255.1:51820")],
        networks=[parse_network("10.17.250.0/24")],
    )
    name = f"passer{number}"
    path = directory / f"{name}.request"
    path.write_text(build_request(name, identity, record))
    return name, path, str(key.public())


@pytest.mark.long
def test_a_host_added_and_removed_a_hundred_times_costs_the_others_no_packet(
    fleet: Fleet, pair: tuple[Member, Member], tmp_path: Path
) -> None:
    first, second = pair
    source, target = first.host.jails[0], second.host.jails[0]
    with (
        Stream(source, target, target.address, packets_per_second=500) as there,
        Stream(target, source, source.address, packets_per_second=500) as back,
    ):
        for number in range(CHANGES):
            name, request, key = request_of(tmp_path, number)
            bundle = tmp_path / "bundle"
            fleet.wgctl(
                "add-host", name, *fleet.compared(request), "--jails", "10.17.250.0/24", "--out", bundle
            )
            until(f"{name} is no peer", partial(peer_of_all, fleet, pair, key))
            fleet.wgctl("remove-host", name, "--yes")
            until(f"{name} is a peer", partial(peer_of_none, fleet, pair, key))
            bundle.unlink()
        reports = there.stop(), back.stop()
    assert [(report.lost, report.refused) for report in reports] == [(0, 0), (0, 0)]
    assert min(report.sent for report in reports) > 500 * CHANGES * 0.2


@pytest.fixture
def small_disk(fleet: Fleet, pair: tuple[Member, Member]) -> Iterator[Path]:
    """The first host's state on a file system of 512 KiB of its own."""
    member = pair[0]
    state = member.host.directory / "state"
    fleet.stop(member)
    kept = state.with_name("state.kept")
    state.rename(kept)
    state.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "none", str(state)], check=True)
    try:
        subprocess.run(["cp", "-a", f"{kept}/.", str(state)], check=True)
        fleet.start(member)
        fleet.wait_started(member)
        yield state
        fleet.stop(member)
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)
        state.rmdir()
        kept.rename(state)


def codes(fleet: Fleet, member: Member) -> set[str]:
    return {condition.code for condition in fleet.status(member).conditions}


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_takes_nothing_costs_the_mesh_nothing_and_is_said(
    fleet: Fleet, pair: tuple[Member, Member], small_disk: Path, tmp_path: Path, how: str
) -> None:
    first, second = pair
    source, target = first.host.jails[0], second.host.jails[0]
    ballast = small_disk / "ballast"
    if how == "full":
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while file.write(bytes(4096)) == 4096:
                pass
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Stream(source, target, target.address, packets_per_second=500) as stream:
        name, request, key = request_of(tmp_path, 1000 + len(how))
        fleet.wgctl("add-host", name, *fleet.compared(request), "--out", tmp_path / "bundle")
        until(f"{name} is no peer", lambda: key in fleet.wireguard_peers(first))
        until("the disk is not complained of", lambda: "disk_failed" in codes(fleet, first))
        fleet.wgctl("remove-host", name, "--yes")
        until(f"{name} is a peer", lambda: key not in fleet.wireguard_peers(first))
        report = stream.stop()
    assert (report.lost, report.refused) == (0, 0)
    if how == "full":
        ballast.unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    until("the disk is still complained of", lambda: "disk_failed" not in codes(fleet, first))
    fleet.kill(first)
    fleet.start(first)
    fleet.wait_started(first)
    assert "disk_failed" not in codes(fleet, first)
