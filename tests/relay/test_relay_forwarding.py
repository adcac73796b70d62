"""Where a datagram goes on to: to the other end of its pair, and to nobody else."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec
import pytest
from relay_messages import (
    A,
    B,
    C,
    D,
    Host,
    cookie,
    data,
    forwarder,
    initiation,
    key,
    response,
    shake_hands,
    table,
)

from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint
from meshd.relay.forwarding import Forwarder
from meshd.relay.messages import is_for, mac1_key, read_message
from meshd.relay.table import RelayEnd, RelayPair, RelayTable

AT_ANOTHER_PORT = (A.address, 7000)
VECTOR_A = PublicKey.parse("XGWOExDDifhhSU7eklAeaUtqyviuK97C6cjoYQXSjiE=")
VECTOR_B = PublicKey.parse("VLHT7/P/jT1/nzYK/aNcB1UtlH8vRrzh0TpLhiNP0w4=")
VECTORS = (
    bytes.fromhex(
        "01000000d13cc928c3d1d12036719d12f147755b48556e5b1d962f0576475fb608d8dd11393d631bda77c77eca3b9ac23cb7c527"
        "769890bfba29f98915d9fe1e656ec848cf0af78674674a75bcf51ac421c4b6d36b85df525d940f5bc1c4b2a098fcb572c6a7df2c"
        "dd7f62778b8c1745eea28fa19a8a802965dd7fd9dd24d8625527b73900000000000000000000000000000000"
    ),
    bytes.fromhex(
        "020000007ad5b4d6d13cc9285ee3ac4f4a5bcc29fd19b09fa7a62b8713846319a7dbb8808057176ad1411247581c8a05c82d2e1f"
        "1f3c0c3424173cfe88abbdc9f57975314d7ebf8c8bfe4ff800000000000000000000000000000000"
    ),
)


def test_a_live_session_goes_on_both_ways_from_the_first_datagram() -> None:
    """No handshake has passed here yet, and none is due for two minutes."""
    relay = forwarder((A, B))
    assert relay.forward(data(B.index()), A.source, 0.0) == [B.source]
    assert relay.forward(data(A.index()), B.source, 0.0) == [A.source]


def test_a_session_of_one_of_several_partners_is_found_by_all_until_a_handshake_passed() -> None:
    relay = forwarder((A, B), (A, C), (A, D))
    unknown = relay.forward(data(C.index()), A.source, 0.0)
    assert sorted(unknown) == [B.source, C.source, D.source]
    shake_hands(relay, A, C)
    assert relay.forward(data(C.index()), A.source, 1.0) == [C.source]
    assert relay.forward(data(A.index()), C.source, 1.0) == [A.source]


def test_a_handshake_goes_to_the_owner_of_the_key_that_it_is_for() -> None:
    relay = forwarder((A, B), (A, C))
    assert relay.forward(initiation(A.index(), C.key), A.source, 0.0) == [C.source]
    assert relay.forward(response(C.index(), A.index(), A.key), C.source, 0.0) == [A.source]


def test_an_overloaded_ends_cookie_reaches_who_began_the_handshake() -> None:
    relay = forwarder((A, B), (A, C))
    relay.forward(initiation(A.index(), C.key), A.source, 0.0)
    assert relay.forward(cookie(A.index()), C.source, 0.0) == [A.source]
    shake_hands(relay, A, C)
    assert relay.forward(cookie(C.index()), A.source, 0.0) == [C.source]


def test_a_new_handshake_of_a_pair_leaves_the_session_before_it_alone() -> None:
    relay = forwarder((A, B), (A, C))
    shake_hands(relay, A, B, session=1)
    shake_hands(relay, B, A, session=2, now=120.0)
    for session in (1, 2):
        assert relay.forward(data(B.index(session)), A.source, 121.0) == [B.source]
        assert relay.forward(data(A.index(session)), B.source, 121.0) == [A.source]


def test_an_end_behind_a_nat_is_found_at_the_port_that_the_nat_gave_it() -> None:
    relay = forwarder((A, B))
    shake_hands(relay, A, B, source=AT_ANOTHER_PORT)
    assert relay.forward(data(B.index()), AT_ANOTHER_PORT, 1.0) == [B.source]
    assert relay.forward(data(A.index()), B.source, 1.0) == [AT_ANOTHER_PORT]
    assert relay.counts().learned == ((A.key, Endpoint.parse("192.0.2.1:7000")),)


def test_both_ends_behind_nats_find_each_other() -> None:
    there = B.address, 8000
    relay = forwarder((A, B))
    assert relay.forward(initiation(A.index(1), B.key), AT_ANOTHER_PORT, 0.0) == [B.source]
    assert set(relay.forward(initiation(B.index(2), A.key), there, 5.0)) == {A.source, AT_ANOTHER_PORT}
    assert relay.forward(response(A.index(2), B.index(2), B.key), AT_ANOTHER_PORT, 5.0) == [there]
    assert relay.forward(data(A.index(2)), there, 5.0) == [AT_ANOTHER_PORT]
    assert relay.forward(data(B.index(2)), AT_ANOTHER_PORT, 5.0) == [there]


def test_a_live_session_behind_a_nat_goes_on_without_a_handshake() -> None:
    relay = forwarder((A, B))
    assert relay.forward(data(B.index()), AT_ANOTHER_PORT, 0.0) == [B.source]
    assert set(relay.forward(data(A.index()), B.source, 0.1)) == {A.source, AT_ANOTHER_PORT}


def test_two_hosts_behind_one_nat_are_told_apart_by_the_answers_to_their_handshakes() -> None:
    neighbour = Host(5)
    there = RelayEnd((neighbour.key,), Endpoint(ip_address(A.address), 51999))
    relay = Forwarder()
    pairs = (RelayPair(A.end, B.end), RelayPair(there, B.end))
    relay.use(RelayTable(pairs=pairs, bytes_per_second=1 << 30))
    for host, port in ((A, 7001), (neighbour, 7002)):
        source = A.address, port
        assert relay.forward(initiation(host.index(), B.key), source, 0.0) == [B.source]
        answer = response(B.index(host.number), host.index(), host.key)
        assert relay.forward(answer, B.source, 0.0) == [source]
        assert relay.forward(data(host.index()), B.source, 0.0) == [source]
    assert dict(relay.counts().learned) == {
        A.key: Endpoint.parse("192.0.2.1:7001"),
        neighbour.key: Endpoint.parse("192.0.2.1:7002"),
    }


def test_both_keys_of_a_rotating_host_work_at_the_ports_of_both_interfaces() -> None:
    second = A.address, 51821
    rotating = RelayEnd((A.key, key(11)), A.end.endpoint, Endpoint(ip_address(A.address), 51821))
    relay = forwarder((A, B))
    shake_hands(relay, A, B, session=1)
    relay.use(RelayTable(pairs=(RelayPair(rotating, B.end),), bytes_per_second=1 << 30))
    assert relay.forward(initiation(B.index(2), key(11)), B.source, 1.0) == [second]
    assert relay.forward(response(b"new.", B.index(2), B.key), second, 1.0) == [B.source]
    assert relay.forward(data(b"new."), B.source, 1.0) == [second]
    assert relay.forward(data(A.index(1)), B.source, 1.0) == [A.source]
    retired = RelayEnd((key(11),), Endpoint(ip_address(A.address), 51821))
    relay.use(RelayTable(pairs=(RelayPair(retired, B.end),), bytes_per_second=1 << 30))
    assert relay.forward(data(b"new."), B.source, 1.0) == [second]
    assert relay.forward(data(B.index(2)), second, 1.0) == [B.source]


def test_a_handshake_stays_between_interfaces_of_the_same_kind() -> None:
    """While A rotates, B has its one key on both interfaces. And who returns may be ahead of the table."""
    second_a, second_b = (A.address, 51821), (B.address, 51821)
    a = RelayEnd((A.key, key(11)), A.end.endpoint, Endpoint(ip_address(A.address), 51821))
    b = RelayEnd((B.key, key(12)), B.end.endpoint, Endpoint(ip_address(B.address), 51821))
    relay = Forwarder()
    relay.use(RelayTable(pairs=(RelayPair(a, b),), bytes_per_second=1 << 30))
    assert relay.forward(initiation(A.index(1), B.key), second_a, 0.0) == [second_b]
    assert relay.forward(response(B.index(1), A.index(1), key(11)), second_b, 0.0) == [second_a]
    assert relay.forward(data(A.index(1)), second_b, 0.0) == [second_a]
    assert relay.forward(data(B.index(1)), second_a, 0.0) == [second_b]
    assert relay.forward(initiation(B.index(2), key(11)), B.source, 1.0) == [A.source]
    assert relay.forward(response(A.index(2), B.index(2), B.key), A.source, 1.0) == [B.source]
    assert relay.forward(data(B.index(2)), A.source, 1.0) == [B.source]


def test_the_sessions_of_an_end_that_moves_move_with_it() -> None:
    relay = forwarder((A, B), (A, C))
    shake_hands(relay, A, B)
    moved = msgspec.structs.replace(A.end, endpoint=Endpoint.parse("198.51.100.7:51820"))
    pairs = (RelayPair(moved, B.end), RelayPair(moved, C.end))
    relay.use(RelayTable(pairs=pairs, bytes_per_second=1 << 30))
    assert relay.forward(data(A.index()), B.source, 1.0) == [("198.51.100.7", 51820)]
    assert relay.forward(data(B.index()), ("198.51.100.7", 51820), 1.0) == [B.source]
    assert relay.forward(data(B.index()), A.source, 1.0) == []


def test_the_same_table_again_changes_nothing_and_another_pair_disturbs_nobody() -> None:
    relay = forwarder((A, B))
    shake_hands(relay, A, B, source=AT_ANOTHER_PORT)
    for newer in (table((A, B)), table((A, B), (A, C)), table((C, A), (B, A))):
        relay.use(newer)
        assert relay.forward(data(B.index()), AT_ANOTHER_PORT, 1.0) == [B.source]
        assert relay.forward(data(A.index()), B.source, 1.0) == [AT_ANOTHER_PORT]


def test_a_pair_that_is_no_longer_served_is_forgotten_at_once() -> None:
    relay = forwarder((A, B), (A, C))
    shake_hands(relay, A, B)
    relay.use(table((A, C)))
    assert relay.forward(data(A.index()), B.source, 0.0) == []
    assert relay.forward(data(B.index()), A.source, 0.0) == [C.source]
    assert relay.counts().strangers == 1


def test_what_was_passed_on_is_counted_for_its_pair() -> None:
    relay = forwarder((A, B), (A, C))
    shake_hands(relay, A, B)
    relay.forward(data(B.index(), 1000), A.source, 0.0)
    counts = {each.keys: each for each in relay.counts().pairs}
    assert counts[A.key, B.key].datagrams == 3
    assert counts[A.key, B.key].bytes == 148 + 92 + 1000
    assert counts[A.key, C.key].datagrams == 0


@pytest.mark.parametrize(
    "said",
    [
        {"pairs": (RelayPair(A.end, A.end),)},
        {"pairs": (RelayPair(A.end, B.end), RelayPair(B.end, A.end))},
        {"pairs": (RelayPair(A.end, B.end), RelayPair(RelayEnd((A.key,), D.end.endpoint), C.end))},
        {"pairs": tuple(RelayPair(A.end, Host(number).end) for number in range(10, 15))},
        {"pairs": tuple(RelayPair(Host(n, 1).end, Host(n, 2).end) for n in range(2))},
        {"echoes": (b"short",)},
        {"bytes_per_second": -1},
    ],
    ids=["itself", "twice", "key-of-two", "five-partners", "one-key-twice", "token", "rate"],
)
def test_a_table_that_says_two_things_or_too_much_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"relay|token"):
        RelayTable(**said)  # type: ignore[arg-type]


def test_mac1_names_the_receiver_of_a_handshake_that_wireguard_itself_made() -> None:
    """Between two of wireguard-go on a loopback; who begins, and the answer."""
    begun, answered = VECTORS
    for message, receiver, other in ((begun, VECTOR_B, VECTOR_A), (answered, VECTOR_A, VECTOR_B)):
        assert is_for(message, mac1_key(receiver))
        assert not is_for(message, mac1_key(other))
    first, second = read_message(begun), read_message(answered)
    assert first is not None and second is not None
    assert second.receiver == first.sender
