"""A member of the mesh that forges, floods or stalls, and somebody who is no member, on real sockets."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

import pytest
from exchange_host import ExchangeHost, build_host, client_for, partner_for, request_to
from meshes import NOW, SignedHost, SignedMesh
from msgspec.structs import replace

from meshd.errors import StoreError
from meshd.exchange.authentication import REQUEST_HEADER, AuthenticationError, Authenticator
from meshd.exchange.messages import (
    MAX_REQUEST_BYTES,
    Inventory,
    ObjectsRequest,
    Offer,
    WitnessRequest,
    render_message,
)
from meshd.exchange.server import LIMITS, NOBODY
from meshd.exchange.shared_ledger import BatchOutcome
from meshd.listener import ConnectionLimits
from meshd.registry.canonical import encode_base64

NONCE = "ab" * 16
QUESTION = render_message(WitnessRequest(nonce=NONCE))
NOTHING = Inventory(root=(0, ""), logs={}, records={})


def header_of(host: ExchangeHost, asker: SignedHost, verb: str, body: bytes) -> str:
    own = Authenticator(host.shared_ledger.mesh_id, asker.identity)
    return own.request(host.host.identity.public, verb, body)[0]


def objects(tesla: ExchangeHost) -> dict[str, bytes]:
    return dict(tesla.ledger.objects())


def ask_raw(tesla: ExchangeHost, port: int, source: str, data: bytes) -> bytes:
    """What comes back to these bytes; nothing when the connection is refused."""
    with socket.create_connection((tesla.address, port), 5, (source, 0)) as connection:
        try:
            connection.sendall(data)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        except OSError:
            return b""
        return answer


def test_a_member_is_answered_and_a_stranger_is_not_even_read(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost, port: int
) -> None:
    question = request_to(tesla, newton, "witness", QUESTION)
    assert b"200 OK" in ask_raw(tesla, port, tesla.addresses[newton.hid], question)
    assert ask_raw(tesla, port, "127.0.0.1", question) == b""
    assert tesla.server.outcomes() == {
        "answered": 1,
        "stranger": 1,
        "unauthenticated": 0,
        "limited": 0,
        "malformed": 0,
        "failed": 0,
    }


def test_forged_offers_change_nothing_and_name_the_giver(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost, port: int
) -> None:
    before = objects(tesla)
    other = SignedMesh.create()
    intruder = other.add("intruder")
    bohr = mesh.hosts["bohr"]
    changed = bytearray(bohr.body(version=int(NOW * 1000)))
    changed[len(changed) // 2] ^= 1
    statement = next(key for key in other.objects if key.startswith("log/"))
    admin = mesh.mesh.admin_key.kid
    forged = [
        (bohr.key, bytes(changed)),
        (bohr.key, intruder.body()),
        (f"log/{admin}/0000000004-{statement.rpartition('-')[2]}", other.objects[statement]),
        ("root/000001-" + "0" * 64 + ".json", b"{}"),
        ("../etc/passwd", b"x"),
        ("log/" + "x" * 5000, b""),
    ]
    client = client_for(mesh, port, newton)
    for item in forged:
        answer = client.offer(partner_for(tesla, newton), Offer(objects=(item,)))
        assert answer.outcomes == ("refused",), item[0][:40]
    assert objects(tesla) == before
    assert tesla.ledger.refusals() == (), "no store holds them, so nothing could ever close that"
    assert all(hid == newton.hid and accepted.forged for hid, _, accepted in tesla.received)


def test_what_nobody_vouches_for_is_not_kept_in_memory(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost, port: int
) -> None:
    other = SignedMesh.create()
    other.add("intruder")
    strange = tuple(item for item in other.objects.items() if item[0].startswith(("log/", "host/")))
    answer = client_for(mesh, port, newton).offer(partner_for(tesla, newton), Offer(objects=strange))
    assert set(answer.outcomes) == {"unknown"}
    assert not tesla.received[0][2].new_objects and not tesla.received[0][2].forged


def test_an_old_record_of_an_honest_host_is_no_lie(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost
) -> None:
    accepted = tesla.shared_ledger.accept([(newton.key, newton.body(version=5))])
    assert accepted.outcomes == ("refused",) and not accepted.forged


@pytest.mark.parametrize(
    ("line", "fields", "body", "status"),
    [
        ("POST /v1/{mesh}/offer", f"Content-Length: {MAX_REQUEST_BYTES + 1}", "", b"413"),
        ("POST /v1/{mesh}/offer", "Content-Length: 99999999999999999999", "", b"413"),
        ("POST /v1/{mesh}/offer", "Content-Length: -1", "", b"411"),
        ("POST /v1/{mesh}/offer", "Transfer-Encoding: chunked", "0\r\n\r\n", b"411"),
        ("POST /v1/{mesh}/offer", "Content-Length: 2", "[]", b"400"),
        ("POST /v1/{mesh}/witness", "Content-Length: 13", '{"nonce":"x"}', b"400"),
        ("POST /v1/{mesh}/dance", "Content-Length: 0", "", b"404"),
        ("POST /v1/0000/offer", "Content-Length: 0", "", b"404"),
        ("GET /v1/{mesh}/offer", "X: y", "", b"404"),
        ("POST /v1/{mesh}/offer/../offer", "X: y", "", b"404"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    mesh: SignedMesh,
    tesla: ExchangeHost,
    newton: SignedHost,
    port: int,
    line: str,
    fields: str,
    body: str,
    status: bytes,
) -> None:
    where = line.replace("{mesh}", mesh.ledger.mesh_id)
    header = header_of(tesla, newton, line.rpartition("/")[2], body.encode())
    question = f"{where} HTTP/1.1\r\n{REQUEST_HEADER}: {header}\r\n{fields}\r\n\r\n{body}"
    answer = ask_raw(tesla, port, tesla.addresses[newton.hid], question.encode())
    assert answer.split(b" ")[1] == status, answer[:80]
    assert tesla.server.outcomes()["failed"] == 0


def test_a_defect_in_what_a_request_calls_is_reported_and_the_next_request_is_answered(
    mesh: SignedMesh, tesla: ExchangeHost, port: int
) -> None:
    class Broken(list[tuple[str, Offer, BatchOutcome]]):
        def append(self, _: tuple[str, Offer, BatchOutcome]) -> None:
            raise KeyError("a defect")

    newton = mesh.hosts["newton"]
    client, partner = client_for(mesh, port, newton), partner_for(tesla, newton)
    nothing, received = Offer(objects=(), notified=()), tesla.received
    tesla.received = Broken()
    with pytest.raises(StoreError, match="500"):
        client.offer(partner, nothing)
    tesla.received = received
    client.offer(partner, nothing)
    assert tesla.reported == ["KeyError('a defect')", "well"]
    assert (tesla.server.outcomes()["failed"], tesla.server.outcomes()["answered"]) == (1, 1)


@pytest.mark.slow
def test_slow_bodies_of_a_host_end_and_do_not_keep_others_out(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost
) -> None:
    limits = ConnectionLimits(total=8, each=2, seconds=0.4, head_seconds=0.4, proven_each=2)
    with tesla.listening(limits) as port:
        source, bohr = tesla.addresses[newton.hid], mesh.hosts["bohr"]
        slow = [socket.create_connection((tesla.address, port), 5, (source, 0)) for _ in range(2)]
        for connection in slow:
            connection.sendall(request_to(tesla, newton, "offer", bytes(1000))[:-999])
        question = request_to(tesla, newton, "witness", QUESTION)
        wait_until(lambda: b" 429 " in ask_raw(tesla, port, source, question), "its two are taken")
        there = tesla.addresses[bohr.hid]
        assert b"200 OK" in ask_raw(tesla, port, there, request_to(tesla, bohr, "witness", QUESTION))
        for connection in slow:
            connection.settimeout(10)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            assert b"200" not in answer
            connection.close()
        wait_until(lambda: b"200 OK" in ask_raw(tesla, port, source, question), "and then it is served again")


def test_colluding_hosts_leave_a_place_for_every_other_host(mesh: SignedMesh) -> None:
    """Each proves who it is and then sends its body so slowly that it ends with its time alone."""
    colluders = [mesh.add(f"m{number}") for number in range(5)]
    tesla = build_host(mesh, "tesla")
    limits = ConnectionLimits(total=8, each=2, seconds=60.0, head_seconds=60.0, proven_each=2)
    with tesla.listening(limits) as port, contextlib.ExitStack() as stack:

        def hold_all() -> None:
            for host in colluders * 2:
                source = (tesla.addresses[host.hid], 0)
                slow = stack.enter_context(socket.create_connection((tesla.address, port), 5, source))
                with contextlib.suppress(OSError):  # one that had to give way
                    slow.sendall(request_to(tesla, host, "offer", bytes(1000))[:-999])

        for name in ("newton", "bohr"):
            hold_all()
            host = mesh.hosts[name]
            question = request_to(tesla, host, "witness", QUESTION)
            assert b"200 OK" in ask_raw(tesla, port, tesla.addresses[host.hid], question)


@pytest.mark.slow
@pytest.mark.parametrize("said", [b"", b"POST /v1/", "a whole head"])
def test_idle_connections_from_a_hosts_address_do_not_keep_the_host_out(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost, port: int, said: bytes | str
) -> None:
    """Any process of that machine may hold as many open as it likes: they give way to the host."""
    source = tesla.addresses[newton.hid]
    head = request_to(tesla, None, "offer", bytes(1000))[:-999]
    with contextlib.ExitStack() as stack:
        for _ in range(3 * LIMITS.each):
            idle = stack.enter_context(socket.create_connection((tesla.address, port), 5, (source, 0)))
            with contextlib.suppress(OSError):  # one that had to give way
                idle.sendall(head if isinstance(said, str) else said)
        client = client_for(mesh, port, newton)
        for _ in range(57):
            client.offer(partner_for(tesla, newton), Offer(objects=()))


def test_a_head_that_never_ends_is_cut_off_soon(tesla: ExchangeHost, newton: SignedHost) -> None:
    with tesla.listening(replace(LIMITS, head_seconds=0.2)) as port:
        source = tesla.addresses[newton.hid]
        with socket.create_connection((tesla.address, port), 5, (source, 0)) as idle:
            assert idle.recv(1) == b""


def test_another_process_at_a_hosts_address_is_not_the_host(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost, port: int
) -> None:
    """It may give what proves itself, and nothing is noted or said of the host for it."""
    source = tesla.addresses[newton.hid]
    plain = f"POST /v1/{mesh.ledger.mesh_id}/witness HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}"
    assert b" 401 " in ask_raw(tesla, port, source, plain.encode())
    assert b" 401 " in ask_raw(tesla, port, source, request_to(tesla, None, "witness", QUESTION))
    assert b" 401 " in ask_raw(
        tesla, port, source, request_to(tesla, mesh.hosts["bohr"], "witness", QUESTION)
    )
    nobody = client_for(mesh, port)
    assert nobody.objects(partner_for(tesla, newton), ObjectsRequest(have=NOTHING)).objects
    forged = Offer(
        objects=((newton.key, newton.body(version=9)[:-9] + b"x" * 9),), notified=(mesh.hosts["bohr"].hid,)
    )
    assert nobody.offer(partner_for(tesla, newton), forged).outcomes == ("refused",)
    assert [hid for hid, _, _ in tesla.received] == [NOBODY]


def test_another_process_spends_nothing_of_the_hosts_own(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost, port: int
) -> None:
    partner = partner_for(tesla, newton)
    nobody, host = client_for(mesh, port), client_for(mesh, port, newton)
    with pytest.raises(StoreError, match="429"):
        for _ in range(300):
            nobody.offer(partner, Offer(objects=()))
    host.offer(partner, Offer(objects=()))


def test_a_changed_body_is_not_the_hosts(tesla: ExchangeHost, newton: SignedHost, port: int) -> None:
    question = request_to(tesla, newton, "witness", QUESTION)
    head, end, body = question.partition(b"\r\n\r\n")
    changed = body.replace(b"ab", b"ac")
    assert changed != body
    assert b" 401 " in ask_raw(tesla, port, tesla.addresses[newton.hid], head + end + changed)


@pytest.mark.parametrize("point", [bytes(32), bytes([1]) + bytes(31)])
def test_a_key_of_small_order_opens_nothing(mesh: SignedMesh, tesla: ExchangeHost, point: bytes) -> None:
    """With such a key everybody computes the same secret."""
    server = Authenticator(mesh.ledger.mesh_id, tesla.host.identity)
    with pytest.raises(AuthenticationError, match="small order"):
        server.open(encode_base64(point + bytes(80)), "offer", mesh.hosts["newton"].identity.public)


def wait_until(condition: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.01)


@pytest.mark.slow
def test_a_host_that_asks_without_end_is_limited_and_the_others_are_not(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost, port: int
) -> None:
    bohr, partner = mesh.hosts["bohr"], partner_for(tesla, newton)
    client = client_for(mesh, port, newton)
    with pytest.raises(StoreError, match="429"):
        for _ in range(2000):
            client.offer(partner, Offer(objects=()))
    client_for(mesh, port, bohr).offer(partner_for(tesla, bohr), Offer(objects=()))


def test_connections_without_end_from_one_address_are_limited(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost
) -> None:
    source, other = tesla.addresses[newton.hid], tesla.addresses[mesh.hosts["bohr"].hid]
    assert not all(tesla.server.admits(source) for _ in range(3000))
    assert tesla.server.admits(other)
