"""A member of the mesh that lies, floods or stalls, and somebody who is no member, on real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest
from exchange_host import ExchangeHost, build_host, client_for, partner_for, raw_server
from meshes import NOW, SignedHost, SignedMesh

from meshd.errors import RegistryError, StoreError
from meshd.exchange import client as client_module
from meshd.exchange.client import ExchangeClient
from meshd.exchange.host_sync import SyncResult, ask_witness, fetch
from meshd.exchange.messages import (
    MAX_REQUEST_BYTES,
    ObjectsPage,
    ObjectsRequest,
    Offer,
    WitnessRequest,
    render_message,
)
from meshd.exchange.server import LIMITS
from meshd.exchange.witness import open_testimony
from meshd.listener import ConnectionLimits
from meshd.registry.ledger import Ledger

NONCE = "ab" * 16
HERE = IPv4Address("127.0.0.1")


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    for name in ("tesla", "newton", "bohr"):
        mesh.add(name)
    return mesh


@pytest.fixture
def tesla(mesh: SignedMesh) -> ExchangeHost:
    return build_host(mesh, "tesla")


@pytest.fixture
def newton(mesh: SignedMesh) -> SignedHost:
    return mesh.hosts["newton"]


@pytest.fixture
def port(tesla: ExchangeHost) -> Iterator[int]:
    with tesla.listening(LIMITS) as port:
        yield port


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


def post(mesh: SignedMesh, verb: str, body: bytes, *, length: object = None) -> bytes:
    head = f"POST /v1/{mesh.ledger.mesh_id}/{verb} HTTP/1.1\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


def test_a_member_is_answered_and_a_stranger_is_not_even_read(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost, port: int
) -> None:
    question = post(mesh, "witness", render_message(WitnessRequest(nonce=NONCE)))
    assert b"200 OK" in ask_raw(tesla, port, tesla.addresses[newton.hid], question)
    assert ask_raw(tesla, port, "127.0.0.1", question) == b""
    assert tesla.server.outcomes() == {
        "answered": 1,
        "stranger": 1,
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
    source = IPv4Address(tesla.addresses[newton.hid])
    for item in forged:
        answer = client_for(mesh, port).offer(IPv4Address(tesla.address), source, Offer(objects=(item,)))
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
    source = IPv4Address(tesla.addresses[newton.hid])
    answer = client_for(mesh, port).offer(IPv4Address(tesla.address), source, Offer(objects=strange))
    assert set(answer.outcomes) == {"unknown"}
    assert not tesla.received[0][2].new_objects and not tesla.received[0][2].forged


def test_an_old_record_of_an_honest_host_is_no_lie(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost
) -> None:
    accepted = tesla.shared_ledger.accept([(newton.key, newton.body(version=5))])
    assert accepted.outcomes == ("refused",) and not accepted.forged


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"POST /v1/{{mesh}}/offer HTTP/1.1\r\nContent-Length: {MAX_REQUEST_BYTES + 1}\r\n\r\n", b"413"),
        ("POST /v1/{mesh}/offer HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", b"413"),
        ("POST /v1/{mesh}/offer HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"411"),
        ("POST /v1/{mesh}/offer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        ("POST /v1/{mesh}/offer HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]", b"400"),
        ("POST /v1/{mesh}/witness HTTP/1.1\r\nContent-Length: 13\r\n\r\n" + '{"nonce":"x"}', b"400"),
        ("POST /v1/{mesh}/dance HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"404"),
        ("POST /v1/0000/offer HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"404"),
        ("GET /v1/{mesh}/offer HTTP/1.1\r\n\r\n", b"404"),
        ("GET /v1/{mesh}/heads/../heads HTTP/1.1\r\n\r\n", b"404"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost, port: int, head: str, status: bytes
) -> None:
    question = head.replace("{mesh}", mesh.ledger.mesh_id).encode()
    answer = ask_raw(tesla, port, tesla.addresses[newton.hid], question)
    assert answer.split(b" ")[1] == status, answer[:80]
    assert tesla.server.outcomes()["failed"] == 0


def test_slow_bytes_end_and_do_not_keep_others_out(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost
) -> None:
    with tesla.listening(ConnectionLimits(total=8, each=2, seconds=0.4)) as port:
        source = tesla.addresses[newton.hid]
        slow = [socket.create_connection((tesla.address, port), 5, (source, 0)) for _ in range(2)]
        for connection in slow:
            connection.sendall(post(mesh, "offer", b"", length=1000))
        question = post(mesh, "witness", render_message(WitnessRequest(nonce=NONCE)))
        wait_until(lambda: ask_raw(tesla, port, source, question) == b"", "its two are taken")
        other = tesla.addresses[mesh.hosts["bohr"].hid]
        assert b"200 OK" in ask_raw(tesla, port, other, question), "another host is not concerned"
        for connection in slow:
            connection.settimeout(10)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            assert b"200" not in answer
            connection.close()
        wait_until(lambda: b"200 OK" in ask_raw(tesla, port, source, question), "and then it is served again")


def wait_until(condition: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.01)


def test_a_host_that_asks_without_end_is_limited_and_the_others_are_not(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost, port: int
) -> None:
    source, other = tesla.addresses[newton.hid], tesla.addresses[mesh.hosts["bohr"].hid]
    for _ in range(1000):
        if not tesla.server.admits(source):
            break
    assert not tesla.server.admits(source)
    question = post(mesh, "witness", render_message(WitnessRequest(nonce=NONCE)))
    assert ask_raw(tesla, port, source, question) == b""
    assert b"200 OK" in ask_raw(tesla, port, other, question)


def test_a_replayed_testimony_is_refused(mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost) -> None:
    body = tesla.shared_ledger.answer_witness(NONCE)
    mesh_id, hid, key = mesh.ledger.mesh_id, tesla.host.hid, tesla.host.identity.public
    assert open_testimony(body, mesh=mesh_id, hid=hid, nonce=NONCE, identity_key=key).hid == hid
    with pytest.raises(RegistryError, match="nonce"):
        open_testimony(body, mesh=mesh_id, hid=hid, nonce="cd" * 16, identity_key=key)
    with pytest.raises(RegistryError, match="not signed"):
        open_testimony(body, mesh=mesh_id, hid=newton.hid, nonce=NONCE, identity_key=newton.identity.public)
    with pytest.raises(RegistryError, match="mesh"):
        open_testimony(body, mesh="0" * 32, hid=hid, nonce=NONCE, identity_key=key)
    with pytest.raises(RegistryError, match="type"):
        open_testimony(tesla.host.body(), mesh=mesh_id, hid=hid, nonce=NONCE, identity_key=key)


def test_a_testimony_is_no_host_record(mesh: SignedMesh, tesla: ExchangeHost) -> None:
    admission = mesh.ledger.offer(tesla.host.key, tesla.shared_ledger.answer_witness(NONCE), now=NOW)
    assert admission.outcome == "refused"


def test_a_witness_that_claims_more_than_it_hands_over_is_unproven(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost
) -> None:
    behind = Ledger(mesh.mesh.chain)
    asker = build_host(mesh, "newton", ledger=behind)
    with tesla.listening(LIMITS) as port:
        client = _Withholding(mesh_id=mesh.ledger.mesh_id, port=port)
        report = ask_witness(asker.shared_ledger, client, partner_for(tesla, newton), now=NOW)
    assert report.outcome == "unproven" and "statement 3" in report.why
    with tesla.listening(LIMITS) as port:
        report = ask_witness(asker.shared_ledger, client_for(mesh, port), partner_for(tesla, newton), now=NOW)
    assert report.outcome == "ahead"
    assert dict(behind.objects()) == objects(tesla)


class _Withholding(ExchangeClient):
    def objects(self, address: object, source: object, request: ObjectsRequest) -> ObjectsPage:
        return ObjectsPage(objects=())


def test_pages_without_end_end(mesh: SignedMesh, tesla: ExchangeHost) -> None:
    body = mesh.hosts["bohr"].body()
    asked = []

    def junk(request: ObjectsRequest) -> ObjectsPage:
        asked.append(request.after)
        return ObjectsPage(objects=((f"host/{len(asked):032x}.json", body),), more=True)

    def same(request: ObjectsRequest) -> ObjectsPage:
        asked.append(request.after)
        return ObjectsPage(objects=((mesh.hosts["bohr"].key, body),), more=True)

    fetch(tesla.shared_ledger, junk, SyncResult())
    assert len(asked) == 1, "nothing genuine in the first page"
    fetch(tesla.shared_ledger, same, SyncResult())
    assert len(asked) == 3, "a page must continue after the one before"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not HTTP"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno", "500"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", "302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000, "over"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nx", "cut off"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "not HTTP"),
        (b"", "HTTP|reset|closed"),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(mesh: SignedMesh, answer: bytes, why: str) -> None:
    with (
        raw_server(lambda connection: connection.sendall(answer)) as port,
        pytest.raises((StoreError, RegistryError), match=why),
    ):
        client_for(mesh, port).witness(HERE, None, WitnessRequest(nonce=NONCE))


@pytest.mark.parametrize("where", ["head", "body"])
def test_an_answer_in_slow_bytes_is_given_up(
    mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(client_module, "CALL_SECONDS", 0.3)

    def drip(connection: socket.socket) -> None:
        more = b"Content-Length: 5000\r\n\r\n" if where == "body" else b"X: "
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + more)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    with raw_server(drip) as port, pytest.raises(StoreError, match="in time"):
        client_for(mesh, port).witness(HERE, None, WitnessRequest(nonce=NONCE))
