"""What the routing socket told, and so what need not be read again; on a host whose kernel tells."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
from bsd_news import KernelNews, TellingTools
from fakebsd import FakeBSD

from meshd.backend.freebsd import FreeBSDBackend
from meshd.backend.freebsd_changes import EXPECTED_SECONDS, MAX_AGE_SECONDS, ChangeLog
from meshd.backend.rtsock import Kind, RouteMessage
from meshd.errors import BackendError
from meshd.model.keys import PrivateKey
from meshd.model.network import Route

PREFIX = ip_network("10.17.2.0/24")
LOOK = [
    "ifconfig wg0",
    "netstat -rnW -f inet --libxo json",
    "netstat -rnW -f inet6 --libxo json",
    "wg show wg0 dump",
]


class Host:
    def __init__(self, directory: Path, fibs: tuple[int, ...] = ()) -> None:
        self.bsd = FakeBSD(directory / "bsd", fibs=max(1, len(fibs)))
        self.news = KernelNews(self.bsd)
        self.elapsed = 0.0
        self.changes = self.news.changes
        self.changes._elapsed = lambda: self.elapsed
        self.backend = FreeBSDBackend(
            TellingTools(self.bsd, self.news), directory / "routes.json", fibs, self.changes
        )

    def say(self, line: str) -> None:
        done = self.bsd.answer(line.split())
        assert done.returncode == 0, done
        self.news.tell()

    def hear(self) -> bool:
        """The event loop's part; whether there was any news."""
        return bool(self.news.routing.take().recheck)

    def looks(self, name: str = "wg0") -> list[str]:
        """The calls of one look."""
        start = len(self.bsd.calls())
        self.seen = self.backend.observe(name)
        return [" ".join(words) for words in self.bsd.calls()[start:]]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    backend = host.backend
    backend.create_interface("wg0")
    backend.set_private_key("wg0", PrivateKey.generate())
    backend.add_address("wg0", ip_interface("10.99.0.1/32"))
    backend.set_up("wg0")
    backend.set_routes("wg0", [Route(destination=PREFIX, interface="wg0")])
    host.hear()
    host.looks()
    yield host
    host.news.close()


def test_what_nothing_was_told_of_is_not_read_again_but_for_the_peers(host: Host) -> None:
    assert host.looks() == LOOK[3:]
    assert host.seen.up and {route.destination for route in host.seen.routes} == {PREFIX}


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("ifconfig wg0 down", LOOK),
        ("ifconfig wg0 mtu 1300", LOOK),
        ("ifconfig wg0 inet 10.99.0.7/32 alias", [LOOK[0], LOOK[1], LOOK[3]]),
        ("ifconfig wg0 inet6 fd99::7/128 alias", [LOOK[0], LOOK[2], LOOK[3]]),
        ("ifconfig wg0 inet 10.99.0.1 -alias", LOOK[:2] + LOOK[3:]),
        ("route -n delete -inet 10.17.2.0/24 -interface wg0", LOOK[1:2] + LOOK[3:]),
        ("route -n add -inet 10.17.3.0/24 127.0.0.1", LOOK[1:2] + LOOK[3:]),
        ("route -n add -inet6 fd17::/64 ::1", LOOK[2:]),
        ("ifconfig lo1 create", LOOK[3:]),
        ("ifconfig wg0 name mesh0", LOOK[:3]),
        ("ifconfig wg0 destroy", LOOK[:3]),
    ],
)
def test_what_somebody_else_changes_is_read_again_and_no_more(host: Host, line: str, read: list[str]) -> None:
    host.say(line)
    host.hear()
    assert host.looks() == read
    seen = host.seen
    fresh = FreeBSDBackend(TellingTools(host.bsd, host.news), host.bsd.directory.parent / "routes.json")
    assert seen == fresh.observe("wg0")


def test_an_interface_that_comes_under_the_name_is_seen(host: Host) -> None:
    assert host.looks("wg100") == [LOOK[0].replace("wg0", "wg100")]
    assert host.looks("wg100") == []
    host.say("ifconfig wg100 create")
    host.hear()
    assert host.looks("wg100")[0] == "ifconfig wg100" and host.seen.device is not None


def test_our_own_changes_are_read_again_and_are_no_news(host: Host) -> None:
    other = ip_network("10.17.3.0/24")
    start = len(host.bsd.calls())
    host.backend.set_routes("wg0", [Route(destination=other, interface="wg0")])
    assert [words[0] for words in host.bsd.calls()[start:]] == ["route"]
    assert host.looks() == LOOK[1:2] + LOOK[3:]
    assert {route.destination for route in host.seen.routes} == {PREFIX, other}
    assert not host.hear()
    assert host.looks() == LOOK[3:]
    host.backend.remove_routes("wg0", [other])
    assert host.looks() == LOOK[1:2] + LOOK[3:]
    assert not host.hear() and {route.destination for route in host.seen.routes} == {PREFIX}


def test_somebody_who_undoes_our_change_at_once_is_news(host: Host) -> None:
    host.backend.set_routes("wg0", [Route(destination=ip_network("10.17.3.0/24"), interface="wg0")])
    host.say("route -n delete -inet 10.17.3.0/24 -interface wg0")
    assert host.hear()
    assert host.looks() == LOOK[1:2] + LOOK[3:]
    assert {route.destination for route in host.seen.routes} == {PREFIX}


def test_a_change_of_ours_that_was_refused_is_not_waited_for(host: Host) -> None:
    host.bsd.fail("route -n add -inet 10.17.3.0/24", stderr="route: No buffer space available\n")
    with pytest.raises(BackendError, match=r"10\.17\.3\.0"):
        host.backend.set_routes("wg0", [Route(destination=ip_network("10.17.3.0/24"), interface="wg0")])
    host.say("route -n add -inet 10.17.3.0/24 -interface wg0")
    assert host.hear()


def test_the_same_route_through_another_interface_is_news(host: Host) -> None:
    host.backend.remove_routes("wg0", [PREFIX])
    host.hear()
    host.changes.expect(Kind.ADD, PREFIX, "wg0")
    host.say("route -n add -inet 10.17.2.0/24 127.0.0.1")
    assert host.hear()


def test_what_is_expected_too_long_is_news(host: Host) -> None:
    host.changes.expect(Kind.ADD, ip_network("10.17.3.0/24"), "wg0")
    host.elapsed += EXPECTED_SECONDS + 1
    host.say("route -n add -inet 10.17.3.0/24 -interface wg0")
    assert host.hear()


@pytest.mark.slow
def test_everything_is_read_again_now_and_then_and_after_a_loss_and_when_nobody_listens(host: Host) -> None:
    host.elapsed += MAX_AGE_SECONDS
    assert host.looks() == LOOK
    assert host.looks() == LOOK[3:]
    host.changes.lose()
    assert host.looks() == LOOK
    host.changes.listen(on=False)
    assert host.looks() == LOOK and host.looks() == LOOK


def test_a_change_while_it_is_being_read_is_read_again(host: Host) -> None:
    """The stamp is of before the look: what is told during it makes the answer an old one."""
    stamp = host.changes.of_routes(4)
    host.changes.note(RouteMessage(kind=Kind.ADD))
    assert host.changes.of_routes(4) != stamp


def test_of_tables_that_are_named_nothing_is_known(tmp_path: Path) -> None:
    """A routing socket hears of its own fib alone."""
    host = Host(tmp_path, fibs=(0, 1))
    host.backend.create_interface("wg0")
    host.looks()
    calls = host.looks()
    assert sum(call.startswith("netstat") for call in calls) == 4
    host.news.close()


def test_an_interface_without_a_number_is_never_expected() -> None:
    changes = ChangeLog(index_of=lambda name: 0)
    changes.listen(on=True)
    changes.expect(Kind.ADD, PREFIX, "wg0")
    assert not changes.note(
        RouteMessage(kind=Kind.ADD, address=PREFIX.network_address, prefix_length=24, index=0)
    )
