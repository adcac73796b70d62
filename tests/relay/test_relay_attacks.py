"""What strangers, forgers and greedy members get out of a relay: nothing, or no more than their share.

Who can write any source address on a datagram, and knows all public keys, is as strong as an attacker off
the path can be. Who is on the path can drop what it likes anyway, and is asked to gain nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay_messages import (
    PLENTY,
    A,
    B,
    C,
    D,
    Host,
    cookie,
    data,
    forwarder,
    initiation,
    response,
    shake_hands,
    table,
)
from trials import trials

from meshd.model.network import Endpoint
from meshd.relay.budget import MIN_BURST_BYTES
from meshd.relay.ends import MAX_LEARNED, MAX_SESSIONS, MAX_WAITING
from meshd.relay.forwarding import MAX_FLOWS, Forwarder
from meshd.relay.messages import is_for
from meshd.relay.table import RelayEnd, RelayPair, RelayTable

STRANGER = ("203.0.113.9", 51820)
HIJACKER = (A.address, 6666)
"""The address of an end, forged, and a port of the attacker's choice."""


def all_kinds(receiver: Host = B) -> list[bytes]:
    begun, answered = initiation(b"atck", receiver.key), response(b"atck", b"atck", receiver.key)
    return [begun, answered, cookie(b"atck"), data(b"atck"), b"", b"\4", os.urandom(1500)]


# --- strangers


def test_a_strangers_datagrams_go_nowhere_whatever_they_are() -> None:
    relay = forwarder((A, B), (A, C))
    shake_hands(relay, A, B)
    known = [data(B.index()), data(A.index()), cookie(B.index())]
    sent = [*all_kinds(A), *all_kinds(B), *known]
    assert [relay.forward(datagram, STRANGER, 1.0) for datagram in sent] == [[]] * len(sent)
    assert relay.counts().strangers == len(sent)


def test_a_stranger_teaches_no_place_however_good_its_handshake() -> None:
    relay = forwarder((A, B))
    relay.forward(initiation(A.index(), B.key), STRANGER, 0.0)
    relay.forward(response(B.index(), A.index(), A.key), STRANGER, 0.0)
    assert relay.counts().learned == ()
    assert relay.forward(initiation(B.index(), A.key), B.source, 0.0) == [A.source]


def test_known_hosts_that_are_no_pair_do_not_reach_each_other() -> None:
    relay = forwarder((A, B), (C, D))
    shake_hands(relay, C, D)
    for datagram in (initiation(A.index(), C.key), response(A.index(), C.index(), C.key)):
        assert relay.forward(datagram, A.source, 0.0) == []
    for datagram in (data(C.index()), cookie(C.index())):
        assert C.source not in relay.forward(datagram, A.source, 0.0)


def test_what_is_no_message_of_wireguard_goes_nowhere_even_from_an_end() -> None:
    relay = forwarder((A, B))
    junk = [b"", b"\4\0\0\0", b"\4\0\0\1" + bytes(60), b"\1" + bytes(200), b"\5" + bytes(147), bytes(1400)]
    assert [relay.forward(datagram, A.source, 0.0) for datagram in junk] == [[]] * len(junk)


def test_a_forged_mac1_goes_nowhere() -> None:
    relay = forwarder((A, B))
    for genuine in (initiation(A.index(), B.key), response(A.index(), B.index(), B.key)):
        forged = genuine[:-20] + bytes((genuine[-20] ^ 1,)) + genuine[-19:]
        assert relay.forward(forged, A.source, 0.0) == []
        assert relay.forward(genuine, A.source, 0.0) == [B.source]


# --- forged source addresses


def test_a_forged_port_does_not_take_the_place_of_a_told_endpoint() -> None:
    """The attacker knows all public keys, and the real end goes on being reached where it is."""
    relay = forwarder((A, B))
    relay.forward(initiation(b"atck", B.key), HIJACKER, 0.0)
    relay.forward(data(b"atck"), HIJACKER, 0.0)
    assert A.source in relay.forward(initiation(B.index(), A.key), B.source, 0.1)
    assert A.source in relay.forward(data(A.index()), B.source, 0.1)


def test_a_forged_port_does_not_get_the_datagrams_of_a_session() -> None:
    """Even whoever forges the answers of the other end, too, has made a session of its own alone."""
    relay = forwarder((A, B))
    shake_hands(relay, A, B)
    relay.forward(initiation(b"atck", B.key), HIJACKER, 1.0)
    assert relay.forward(response(b"fals", b"atck", A.key), B.source, 1.0) == [HIJACKER]
    assert relay.forward(data(A.index()), B.source, 1.1) == [A.source]
    assert relay.forward(data(B.index()), A.source, 1.1) == [B.source]


def test_who_saw_the_indices_of_a_session_pass_cannot_lead_it_elsewhere_by_forged_handshakes() -> None:
    relay = forwarder((A, B))
    shake_hands(relay, A, B)
    relay.forward(data(B.index()), A.source, 20.0)
    relay.forward(data(A.index()), B.source, 20.0)
    relay.forward(initiation(A.index(), B.key), HIJACKER, 21.0)
    relay.forward(response(B.index(), A.index(), A.key), (B.address, 6666), 21.0)
    assert relay.forward(data(A.index()), B.source, 21.1) == [A.source]
    assert relay.forward(data(B.index()), A.source, 21.1) == [B.source]


def test_whoever_copies_a_handshake_from_elsewhere_does_not_get_its_answer() -> None:
    """On the path it could; this is the copy that comes second."""
    relay = forwarder((A, B))
    begun = initiation(A.index(), B.key)
    relay.forward(begun, A.source, 0.0)
    relay.forward(begun, HIJACKER, 0.01)
    assert relay.forward(response(B.index(), A.index(), A.key), B.source, 0.02) == [A.source]


def test_a_learned_place_in_use_is_not_displaced_by_what_shows_no_more() -> None:
    """A host that rotates has two, one for each of its keys."""
    relay = forwarder((A, B))
    natted = ((A.address, 7000), (A.address, 7001))
    for session, source in enumerate(natted):
        shake_hands(relay, A, B, source=source, session=session)
    for number in range(50):
        now = 1.0 + number
        forged = (A.address, 10_000 + number)
        relay.forward(initiation(os.urandom(4), B.key), forged, now)
        relay.forward(data(B.index(0)), forged, now)
        assert set(natted) < set(relay.forward(initiation(os.urandom(4), A.key), B.source, now))
        for session, source in enumerate(natted):
            relay.forward(data(B.index(session)), source, now)


def test_a_nat_that_changed_its_port_is_found_again_by_the_next_handshake() -> None:
    relay = forwarder((A, B))
    for number in range(5):
        source = (A.address, 7000 + number)
        shake_hands(relay, A, B, source=source, now=15.0 * number, session=number)
        assert relay.forward(data(A.index(number)), B.source, 15.0 * number) == [source]


def test_forged_ports_are_looked_at_a_few_times_a_second_and_no_more() -> None:
    """What they cost the other end, and this one's processor, is bounded whatever their number."""
    relay = forwarder((A, B))
    passed = 0
    for number in range(2000):
        source = (A.address, 1024 + number % 60_000)
        passed += len(relay.forward(initiation(os.urandom(4), B.key), source, number / 200))
    assert 0 < passed <= 10 + 5 * 10 + 1


def test_an_index_guessed_wrong_from_a_forged_port_goes_nowhere_once_a_session_is_known() -> None:
    relay = forwarder((A, B))
    shake_hands(relay, A, B)
    assert relay.forward(data(b"gues"), HIJACKER, 1.0) == []


def test_a_member_who_forges_anothers_address_takes_nothing_from_that_ones_pairs() -> None:
    """WireGuard on the relaying host follows the member there, so the table has two ends at one place."""
    forger = RelayEnd((D.key,), A.end.endpoint)
    relay = Forwarder()
    relay.use(RelayTable(pairs=(RelayPair(forger, C.end), RelayPair(A.end, B.end)), bytes_per_second=PLENTY))
    assert B.source in relay.forward(data(B.index(1)), A.source, 0.0)
    assert A.source in relay.forward(data(A.index(1)), B.source, 0.0)
    shake_hands(relay, A, B)
    assert relay.forward(initiation(b"atck", C.key), A.source, 0.0) == [C.source]
    assert relay.forward(response(B.index(), b"atck", D.key), C.source, 0.0) == [A.source]
    for _ in range(2):
        assert B.source in relay.forward(data(B.index()), A.source, 0.0)
        assert relay.forward(data(A.index()), B.source, 0.0) == [A.source]


def test_one_ends_place_is_not_taken_for_anothers() -> None:
    """B is told at a port of the address that A has as well: behind one NAT."""
    near = RelayEnd((B.key,), Endpoint(ip_address(A.address), 51999))
    relay = Forwarder()
    relay.use(RelayTable(pairs=(RelayPair(A.end, C.end), RelayPair(near, D.end)), bytes_per_second=PLENTY))
    shake_hands(relay, A, C)
    assert relay.forward(data(C.index()), (A.address, 51999), 0.0) == [D.source]
    assert relay.forward(initiation(b"atck", C.key), (A.address, 51999), 0.0) == []
    assert relay.counts().learned == ()


def test_an_answer_to_another_end_teaches_nothing_of_it() -> None:
    """Its address is another one than the handshake came from, so the answer goes where it was told to be."""
    near = RelayEnd((Host(5).key,), Endpoint(ip_address(D.address), 51999))
    relay = Forwarder()
    pairs = tuple(RelayPair(end, B.end) for end in (A.end, D.end, near))
    relay.use(RelayTable(pairs=pairs, bytes_per_second=PLENTY))
    assert relay.forward(initiation(b"atck", B.key), (D.address, 6666), 0.0) == [B.source]
    assert relay.forward(response(b"fals", b"atck", A.key), B.source, 0.0) == [A.source]
    assert relay.counts().learned == ()
    assert relay.forward(initiation(B.index(), A.key), B.source, 0.0) == [A.source]


# --- floods and greed


def spent(relay: Forwarder, sender: Host, index: bytes, seconds: float, rate: int) -> int:
    """Bytes that went on of a steady stream of 1,000 byte datagrams."""
    steps, datagram = int(seconds * rate / 1000), data(index, 1000)
    return sum(
        1000 * len(relay.forward(datagram, sender.source, number * seconds / steps))
        for number in range(steps)
    )


RATE = 100_000
BURSTS = 2 * MIN_BURST_BYTES
"""Of the whole and of all shares."""


def test_no_more_than_the_budget_goes_through() -> None:
    relay = forwarder((A, B), rate=RATE)
    shake_hands(relay, A, B)
    assert spent(relay, A, B.index(), 10.0, 5 * RATE) <= 10 * RATE + BURSTS
    dropped = sum(each.dropped for each in relay.counts().pairs)
    assert dropped == relay.counts().over_budget > 0


def test_a_member_beyond_its_budget_takes_nothing_from_the_others_share() -> None:
    relay = forwarder((A, B), (C, D), rate=RATE)
    shake_hands(relay, A, B)
    shake_hands(relay, C, D)
    quiet = sent = 0
    for number in range(5000):  # in ten seconds
        now = number / 500
        relay.forward(data(B.index(), 1000), A.source, now)
        if number % 25 == 0:  # 20 kB/s of the 25 that are its share
            sent += 1
            quiet += len(relay.forward(data(D.index(), 1000), C.source, now))
    assert quiet == sent


def test_every_copy_of_a_datagram_that_goes_to_several_partners_is_paid_for() -> None:
    relay = forwarder((A, B), (A, C), (A, D), rate=RATE)
    assert spent(relay, A, b"none", 10.0, 5 * RATE) <= 10 * RATE + BURSTS


def test_a_relay_without_a_budget_passes_nothing_on() -> None:
    relay = forwarder((A, B), rate=0)
    assert relay.forward(data(B.index()), A.source, 5.0) == []


def test_memory_is_bounded_in_floods_of_every_kind_from_forged_sources() -> None:
    relay = forwarder((A, B), (A, C))
    ports = [*range(1024, 1324), 51820]
    for number in range(1500):
        now = number / 25
        source = A.source if number % 3 else (A.address, ports[number % len(ports)])
        index = os.urandom(4)
        relay.forward(initiation(index, B.key), source, now)
        if number % 2:
            relay.forward(response(os.urandom(4), index, A.key), B.source, now)
        relay.forward(data(index), A.source, now)
        relay.forward(data(index), (f"198.51.{number % 250}.1", 1000 + number), now)
    for end in relay._ends:
        assert len(end.waiting) <= MAX_WAITING
        assert len(end.sessions) <= MAX_SESSIONS
        assert len(end.learned) <= MAX_LEARNED
    assert len(relay._flows) <= MAX_FLOWS
    assert len(relay._at_place) <= 3 * (2 + MAX_LEARNED)
    assert len(relay._at_host) == len(relay._unknown_ports) == 3


def test_what_a_flood_costs_is_bounded_whatever_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look for a receiver costs most: a hash for each key of each partner. Strangers are worth none, and
    forged ports a few a second."""
    relay, hashed = forwarder((A, B), (A, C), (A, D)), 0

    def count(datagram: bytes, key: bytes) -> bool:
        nonlocal hashed
        hashed += 1
        return is_for(datagram, key)

    monkeypatch.setattr("meshd.relay.ends.is_for", count)
    forged = initiation(b"atck", Host(9).key)
    for number in range(2000):
        relay.forward(forged, ("203.0.113.9", 1024 + number), number / 1000)
    assert hashed == 0
    for number in range(2000):
        relay.forward(forged, (A.address, 1024 + number), number / 1000)
    assert hashed <= 3 * (10 + 2 * 5 + 1)
    hashed = 0
    relay.forward(forged, A.source, 3.0)
    assert hashed <= 3


def test_two_ends_that_are_forged_at_once_get_no_running_session_out_of_its_way() -> None:
    """Whoever forges both told endpoints and knows both keys fills the table of sessions. What goes without
    its entry goes to the partners still, and to nobody else."""
    relay = forwarder((A, B), (A, C))
    shake_hands(relay, A, B)
    for number in range(3 * MAX_SESSIONS):
        index = number.to_bytes(4, "big")
        relay.forward(initiation(index, B.key), A.source, 1.0)
        relay.forward(response(index, index, A.key), B.source, 1.0)
    assert relay.forward(data(A.index()), B.source, 2.0) == [A.source]
    there = relay.forward(data(B.index()), A.source, 2.0)
    assert B.source in there and set(there) <= {B.source, C.source}


def test_after_a_flood_of_forged_handshakes_a_real_one_still_passes() -> None:
    """From the told endpoint itself: what waits for answers is full of others."""
    relay = forwarder((A, B))
    relay.forward(initiation(A.index(), B.key), A.source, 0.0)
    for _ in range(10 * MAX_WAITING):
        relay.forward(initiation(os.urandom(4), B.key), A.source, 0.01)
    assert relay.forward(response(B.index(), A.index(), A.key), B.source, 0.05) == [A.source]
    assert relay.forward(data(B.index()), A.source, 0.1) == [B.source]
    assert relay.forward(data(A.index()), B.source, 0.1) == [A.source]


# --- all of it, in any order

HOSTS = (A, B, C, D, Host(5), Host(6))
PORTS = (51820, 51821, 7000, 7001)


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    index = st.sampled_from([host.index(number) for host in HOSTS for number in range(2)] + [b"atck"])
    receiver = draw(st.sampled_from(HOSTS)).key
    kind = draw(st.integers(0, 4))
    if kind == 1:
        return initiation(draw(index), receiver)
    if kind == 2:
        return response(draw(index), draw(index), receiver)
    if kind == 3:
        return cookie(draw(index))
    return data(draw(index), draw(st.integers(32, 1500))) if kind == 4 else draw(st.binary(max_size=200))


sources = st.tuples(
    st.sampled_from([host.address for host in HOSTS] + ["203.0.113.9"]), st.sampled_from(PORTS)
)
pairs = st.lists(
    st.sampled_from([(a, b) for a in HOSTS for b in HOSTS if a.number < b.number]), unique=True, max_size=6
).filter(lambda chosen: all(sum(host in pair for pair in chosen) <= 4 for host in HOSTS))


@pytest.mark.slow
@trials()
@given(st.lists(st.tuples(pairs, st.lists(st.tuples(datagrams(), sources), max_size=40)), max_size=4))
def test_whatever_comes_in_goes_to_a_partner_of_its_source_or_nowhere(
    phases: Sequence[tuple[list[tuple[Host, Host]], list[tuple[bytes, tuple[str, int]]]]],
) -> None:
    relay = Forwarder()
    now = 0.0
    for chosen, sent in phases:
        relay.use(table(*chosen))
        for datagram, source in sent:
            now += 0.3
            partners = {
                other.address
                for pair in chosen
                for one, other in (pair, pair[::-1])
                if one.address == source[0]
            }
            there = relay.forward(datagram, source, now)
            assert {address for address, _ in there} <= partners
            assert len(there) == len(set(there)) <= 4 * (2 + MAX_LEARNED)
            assert not there or read_kind(datagram) in (1, 2, 3, 4)
        relay.forget_silent(now)


def read_kind(datagram: bytes) -> int:
    return datagram[0] if datagram else 0
