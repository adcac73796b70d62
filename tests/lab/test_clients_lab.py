"""A phone: a plain WireGuard client with the file that wgctl wrote, among real hosts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fleets import admit_connected, founded_fleet
from until import wait_until

from meshd.errors import BackendError
from meshd.lab.base import LabHost
from meshd.lab.fleet import Fleet, Member

pytestmark = [pytest.mark.root, pytest.mark.slow]

DEADLINE_SECONDS = 90.0
QUICK_SECONDS = 60.0
COMMAND_SECONDS = 120.0

until = partial(wait_until, seconds=DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with founded_fleet(poll_seconds=0.2) as opened:
        yield opened


@pytest.fixture(scope="module")
def members(fleet: Fleet) -> list[Member]:
    return admit_connected(fleet, 2)


class Client:
    """A host of the lab without a meshd, brought up by wg-quick."""

    def __init__(self, fleet: Fleet, name: str, directory: Path) -> None:
        self.name, self.fleet = name, fleet
        self.place: LabHost = fleet.lab.add_host(name)
        self.file = directory / f"{name}.conf"

    def up(self) -> None:
        self._quick("up")

    def down(self) -> None:
        self._quick("down")

    def _quick(self, verb: str) -> None:
        done = self.place.run(["wg-quick", verb, str(self.file)], timeout_seconds=QUICK_SECONDS)
        assert done.returncode == 0, done.stderr

    def reaches(self, address: object) -> bool:
        return self.place.run(["ping", "-c", "1", "-W", "1", str(address)]).returncode == 0

    def key(self) -> str:
        return self.place.run(["wg", "show", self.name, "public-key"]).stdout.strip()


def is_heard(fleet: Fleet, member: Member) -> bool:
    return any(client.latest_handshake_at for client in fleet.status(member).clients)


def is_client(fleet: Fleet, member: Member, name: str) -> bool:
    return any(each.name == name for each in fleet.status(member).clients)


def is_gone(fleet: Fleet, member: Member, name: str) -> bool:
    return not is_client(fleet, member, name)


def is_no_peer(fleet: Fleet, member: Member, key: str) -> bool:
    return key not in fleet.wireguard_peers(member)


def is_outdated(fleet: Fleet, client: Client) -> bool:
    try:
        fleet.wgctl("client", "check", client.file)
    except BackendError:
        return True
    return False


@pytest.fixture
def phone(fleet: Fleet, members: list[Member], tmp_path: Path) -> Iterator[Client]:
    client = Client(fleet, "phone", tmp_path)
    fleet.wgctl("add-client", "phone", "--out", client.file)
    client.up()
    yield client
    client.down()
    fleet.lab.remove_host("phone")


def test_a_client_reaches_every_host_and_jail_until_it_is_revoked(
    fleet: Fleet, members: list[Member], phone: Client
) -> None:
    hosts = [address for member in members for address in fleet.addresses(member)]
    jails = [jail.address for member in members for jail in member.host.jails]
    for address in (*hosts, *jails):
        until(f"phone reaches {address}", partial(phone.reaches, address))
    for member in members:
        until("its handshake is seen", partial(is_heard, fleet, member))
        status = fleet.status(member)
        assert [client.name for client in status.clients] == ["phone"]
        assert all(peer.path.up for peer in status.peers) and not status.conditions
    assert "is right" in fleet.wgctl("client", "check", phone.file)
    key = phone.key()
    fleet.wgctl("remove-host", "phone", "--yes")
    for member in members:
        until("phone is a peer of nobody", partial(is_no_peer, fleet, member, key))
    assert not [address for address in (*hosts, *jails) if phone.reaches(address)]


def test_the_file_says_that_a_host_has_another_key_and_the_new_one_works(
    fleet: Fleet, members: list[Member], tmp_path: Path
) -> None:
    """A rotation waits for no client, so the file that it has is over then."""
    first = members[0]
    client = Client(fleet, "laptop", tmp_path)
    fleet.wgctl("add-client", "laptop", "--out", client.file)
    client.up()
    address = fleet.addresses(first)[0]
    until("laptop reaches it", lambda: client.reaches(address))
    before = fleet.status(first).host.public_key
    fleet.wgctl("rotate-keys", first.name)
    until("another key", lambda: fleet.status(first).host.public_key not in (before, None))
    until("the rotation is over", lambda: fleet.status(first).rotation.state == "steady")
    until("wgctl knows", lambda: is_outdated(fleet, client))
    client.down()
    text = fleet.wgctl("client", "config", "laptop", "--key-from", client.file)
    client.file.write_text(text)
    client.up()
    until("laptop reaches it again", lambda: client.reaches(address))
    client.down()
    fleet.wgctl("remove-host", "laptop", "--yes")
    fleet.lab.remove_host("laptop")


def test_an_administrators_laptop_revokes_over_the_mesh_while_the_store_is_gone(
    fleet: Fleet, members: list[Member], tmp_path: Path
) -> None:
    """wgctl runs on the client itself: the hosts take what it signed, and it takes theirs."""
    client = Client(fleet, "desk", tmp_path)
    fleet.wgctl("add-client", "desk", "--out", client.file)
    fleet.wgctl("add-client", "stolen", "--out", tmp_path / "stolen.conf")
    client.up()
    until("desk reaches it", lambda: client.reaches(fleet.addresses(members[0])[0]))
    until("both have it", lambda: all(is_client(fleet, member, "stolen") for member in members))
    store = Path(fleet.store_urls[0].removeprefix("file://"))
    store.rename(store.with_name("away"))
    try:
        wgctl = Path(sys.executable).with_name("wgctl")
        argv = [str(wgctl), "--home", str(fleet.home), "remove-host", "stolen", "--yes"]
        done = client.place.run(argv, timeout_seconds=COMMAND_SECONDS)
        assert done.returncode == 0, done.stderr
        assert "2 hosts have it, but it is in no store yet" in done.stderr
        for member in members:
            until("it is gone", partial(is_gone, fleet, member, "stolen"))
    finally:
        store.with_name("away").rename(store)
        client.down()
        fleet.wgctl("remove-host", "desk", "--yes")
        fleet.lab.remove_host("desk")
