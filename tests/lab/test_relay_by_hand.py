"""The relay between real WireGuard: paths are cut, keys change, NATs stand in between.

Run with ``-s`` to see the figures.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from nat import put_behind_nat
from relay_scene import (
    PORT,
    RATE,
    RELAY_PORT,
    Machine,
    RelayOn,
    RelayScene,
    end_of,
    heard,
    marker,
    relay_scene,
    tapped,
)
from until import wait_until

from meshd.lab.stream import Reports, StreamEnd, StreamsBothWays
from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint
from meshd.relay.table import RelayEnd

pytestmark = [pytest.mark.root, pytest.mark.slow]


def streams(*pairs: tuple[Machine, Machine]) -> StreamsBothWays:
    ends = [(StreamEnd(a.host, a.overlay), StreamEnd(b.host, b.overlay)) for a, b in pairs]
    return StreamsBothWays(ends, packets_per_second=RATE)


def losses(reports: Reports) -> list[int]:
    return [report.lost for report in reports.values()]


def open_pair(scene: RelayScene) -> tuple[Machine, Machine]:
    """Two machines in a live session, whom the relay knows."""
    _, a, b = scene.machines
    a.open_tunnel()
    b.open_tunnel()
    scene.connect(a, b)
    scene.relay.use((end_of(a), end_of(b)))
    return a, b


def test_a_pair_whose_path_is_cut_goes_on_through_the_relay_and_back_without_loss() -> None:
    """It is set on one end alone; the other one follows what it hears (roaming)."""
    with relay_scene("third", "first", "second") as scene, ExitStack() as stack:
        a, b = open_pair(scene)
        cut = stack.enter_context(streams((a, b)))
        time.sleep(1)
        scene.lab.cut(a.host.name, b.host.name)
        cut_at = time.monotonic()
        a.call(b, scene.relay_endpoint)
        wait_until("the other end does not follow", lambda: b.sees(a) == scene.relay_endpoint)
        took = time.monotonic() - cut_at
        time.sleep(1)
        reports = cut.stop()
        print(f"\nthrough the relay after {took:.3f} s at most; {figures(reports)}")
        for report in reports.values():
            lost_at = report.last_lost_at  # the two commands may be quicker than the next packet
            assert lost_at is None or lost_at <= cut_at + took
        handshake = a.handshake_at(b)
        scene.lab.heal(a.host.name, b.host.name)
        back = stack.enter_context(streams((a, b)))
        time.sleep(1)
        wait_until("the pair does not come back", lambda: goes_directly(a, b))
        time.sleep(1)
        assert losses(back.stop()) == [0, 0]
        assert a.handshake_at(b) == handshake, "the session was another one"


def goes_directly(a: Machine, b: Machine) -> bool:
    """Packets that are under way through the relay lead an end back to it, so it is told again."""
    if b.sees(a) == a.endpoint and a.sees(b) == b.endpoint:
        return True
    a.call(b, b.endpoint)
    return False


def figures(reports: Reports) -> list[str]:
    return [
        f"lost {each.lost} of {each.sent}, longest gap {each.longest_gap_seconds:.3f} s"
        for each in reports.values()
    ]


def test_what_the_third_host_passes_on_is_the_same_bytes_and_none_of_the_packet() -> None:
    with relay_scene("third", "first", "second") as scene:
        a, b = open_pair(scene)
        a.call(b, scene.relay_endpoint)
        a.reach(b)
        said = marker()
        with tapped(scene.machines[0].host) as tap:
            assert a.ping(b, pattern=said.hex())
            datagrams = heard(tap)
        came = [payload for port, payload in datagrams if port == scene.relay_endpoint.port]
        went = [payload for port, payload in datagrams if port == PORT]
        assert came == went and len(came) == 2
        assert all(payload[0] == 4 for payload in came)
        seen = b"".join(payload for _, payload in datagrams)
        assert not any(said[start : start + 4] in seen for start in range(13))
        assert a.overlay.packed + b.overlay.packed not in seen


@pytest.mark.long
def test_two_pairs_of_one_host_at_one_relay_and_the_next_handshake_of_both() -> None:
    """Live sessions go to both partners until the relay has seen a handshake, two minutes later at most.

    Of four streams that are two that have two partners: six copies of four datagrams.
    """
    with relay_scene("third", "first", "second", "fourth") as scene, ExitStack() as stack:
        third, a, b, d = scene.machines
        for machine in (a, b, d):
            machine.open_tunnel()
        for other in (b, d):
            scene.connect(a, other)
            scene.lab.cut(a.host.name, other.host.name)
        scene.relay.use((end_of(a), end_of(b)), (end_of(a), end_of(d)))
        before = [a.handshake_at(other) for other in (b, d)]
        for other in (b, d):
            a.call(other, scene.relay_endpoint)
            a.reach(other)
        running = stack.enter_context(streams((a, b), (a, d)))
        before_it = copies_of_each(third)

        def is_new() -> bool:
            scene.relay.counts()  # it tells once a second: often enough to look
            return all(a.handshake_at(other) > at for other, at in zip((b, d), before, strict=True))

        wait_until("no new handshake", is_new, 400.0)
        time.sleep(2)
        after_it = copies_of_each(third)
        time.sleep(1)
        reports = running.stop()
        print(f"\n{figures(reports)}; {before_it:.2f} copies, then {after_it:.2f}")
        counts = scene.relay.last_counts()
        print(counts)
        assert (counts.unmatched, counts.over_budget, counts.unsent) == (0, 0, 0)
        assert losses(reports) == [0, 0, 0, 0]
        assert before_it > 1.2 and after_it < 1.1


def copies_of_each(third: Machine) -> float:
    """Datagrams that go out for each that comes in."""
    with tapped(third.host) as tap:
        time.sleep(1)
        ports = [port for port, _ in heard(tap)]
    return ports.count(PORT) / ports.count(RELAY_PORT)


def test_two_hosts_behind_nats_that_never_reached_each_other_do_through_a_third_one() -> None:
    """Both NATs give another port towards each destination, so nobody knows one beforehand."""
    with relay_scene("third", "first", "second") as scene, ExitStack() as stack:
        third, a, b = scene.machines
        third.open_tunnel()
        for number, machine in enumerate((a, b)):
            put_behind_nat(scene.lab.add_host(f"router{number}"), machine.host, lan=f"192.168.{70 + number}")
            machine.open_tunnel()
            machine.add_peer(third, third.endpoint, keepalive=25)
            third.add_peer(machine, None)
            machine.reach(third)
        told = [third.sees(machine) for machine in (a, b)]
        assert None not in told and PORT not in {each.port for each in told if each}
        scene.relay.use((end_of(a, told[0]), end_of(b, told[1])))
        for machine, other in ((a, b), (b, a)):
            machine.add_peer(other, scene.relay_endpoint, keepalive=25)
        a.reach(b)
        b.reach(a)
        running = stack.enter_context(streams((a, b)))
        time.sleep(3)
        reports = running.stop()
        print(f"\n{figures(reports)}")
        assert losses(reports) == [0, 0]
        counts = scene.relay.counts()
        assert {key for key, _ in counts.learned} == {a.public, b.public}


def test_both_keys_of_a_rotating_host_work_through_the_relay_and_the_old_one_goes_without_loss() -> None:
    """Its second interface has the next key and another port."""
    with relay_scene("third", "first", "second") as scene, ExitStack() as stack:
        a, b = open_pair(scene)
        scene.lab.cut(a.host.name, b.host.name)
        a.call(b, scene.relay_endpoint)
        a.reach(b)
        old = stack.enter_context(streams((a, b)))
        following = replace(a, key=PrivateKey.generate(), overlay=IPv4Address("10.9.1.2"))
        twin = replace(b, overlay=IPv4Address("10.9.1.3"))
        second = Endpoint(a.host.address, PORT + 1)
        scene.relay.use((RelayEnd((a.public, following.public), a.endpoint, second), end_of(b)))
        following.open_tunnel("wg100", PORT + 1)
        following.add_peer(twin, scene.relay_endpoint, interface="wg100")
        both = f"{b.overlay}/32,{twin.overlay}/32"
        a.do("wg", "set", "wg100", "peer", str(b.public), "allowed-ips", both)
        b.do("ip", "address", "replace", f"{twin.overlay}/32", "dev", "wg0")
        b.add_peer(following, None)
        following.reach(twin)
        new = stack.enter_context(streams((following, twin)))
        time.sleep(1)
        assert losses(old.stop()) == [0, 0]
        a.do("ip", "link", "delete", "wg0")
        scene.relay.use((RelayEnd((following.public,), second), end_of(b)))
        time.sleep(1)
        assert losses(new.stop()) == [0, 0]


def test_a_relay_that_dies_is_followed_by_one_that_finds_the_session_by_itself() -> None:
    with relay_scene("third", "first", "second") as scene, ExitStack() as stack:
        a, b = open_pair(scene)
        scene.lab.cut(a.host.name, b.host.name)
        a.call(b, scene.relay_endpoint)
        a.reach(b)
        handshake = a.handshake_at(b)
        scene.relay.close()
        scene.relay = RelayOn(scene.machines[0].host)
        scene.relay.use((end_of(a), end_of(b)))
        a.reach(b)
        running = stack.enter_context(streams((a, b)))
        time.sleep(1)
        assert losses(running.stop()) == [0, 0]
        assert a.handshake_at(b) == handshake
