"""What a host is answered by whoever is no host, or lies: it believes nothing of it, and waits for little."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from ipaddress import IPv4Address

import msgspec
import pytest
from exchange_host import ExchangeHost, build_host, client_for, partner_for, raw_server
from meshes import NOW, SignedHost, SignedMesh
from msgspec.structs import replace

from meshd.errors import RegistryError, StoreError
from meshd.exchange import client as client_module
from meshd.exchange import witness as witness_module
from meshd.exchange.authentication import ANSWER_HEADER, AuthenticationError, Authenticator
from meshd.exchange.client import ExchangeClient
from meshd.exchange.host_sync import SyncResult, ask_witness, fetch
from meshd.exchange.messages import (
    ObjectsPage,
    ObjectsRequest,
    Offer,
    WitnessRequest,
)
from meshd.exchange.partner import Partner
from meshd.exchange.server import LIMITS
from meshd.exchange.shared_ledger import WASTE_SECONDS_AT_ONCE, SharedLedger
from meshd.exchange.stats import StatsRecorder
from meshd.exchange.witness import open_testimony
from meshd.model.condition import Severity
from meshd.registry.canonical import encode, encode_base64
from meshd.registry.envelope import ROOT_TYPE
from meshd.registry.ledger import Ledger
from meshd.registry.root import root_objects

NONCE = "ab" * 16


def here(host: ExchangeHost) -> Partner:
    """That host's identity, at the place of a raw server."""
    identity = host.host.identity.public
    return Partner(
        hid=host.host.hid, name="tesla", identity_key=identity, address=IPv4Address("127.0.0.1"), source=None
    )


def objects(tesla: ExchangeHost) -> dict[str, bytes]:
    return dict(tesla.ledger.objects())


def test_a_process_in_the_place_of_a_host_is_not_believed(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost
) -> None:
    """While meshd is away anybody on its machine may listen there, and say that all is taken."""
    impostor = build_host(mesh, "bohr")
    impostor.addresses |= {tesla.host.hid: impostor.address}
    with impostor.listening(LIMITS) as port:
        partner = replace(
            partner_for(tesla, newton),
            address=IPv4Address(impostor.address),
            source=IPv4Address(impostor.addresses[newton.hid]),
        )
        client = client_for(mesh, port, newton)
        with pytest.raises((StoreError, RegistryError)):
            client.offer(partner, Offer(objects=()))
    answer = b'{"outcomes":[]}'
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n"
    for more in ("", f"{ANSWER_HEADER}: x\r\n", f"{ANSWER_HEADER}: {encode_base64(bytes(32))}\r\n"):
        said = f"{head}{more}\r\n".encode() + answer
        with (
            raw_server(lambda connection, said=said: connection.sendall(said)) as port,  # type: ignore[misc]
            pytest.raises(AuthenticationError),
        ):
            client_for(mesh, port, newton).offer(here(tesla), Offer(objects=()))


def test_an_answer_to_another_request_is_not_believed(mesh: SignedMesh, tesla: ExchangeHost) -> None:
    newton = mesh.hosts["newton"]
    asker = Authenticator(mesh.ledger.mesh_id, newton.identity)
    server = Authenticator(mesh.ledger.mesh_id, tesla.host.identity)
    calls = [asker.request(tesla.host.identity.public, "offer", b"x") for _ in range(2)]
    opened, _ = server.open(calls[0][0], "offer", newton.identity.public)
    calls[0][1].check(opened.seal(b"y"), b"y")
    for call, answer in ((calls[1][1], b"y"), (calls[0][1], b"z")):
        with pytest.raises(AuthenticationError):
            call.check(opened.seal(b"y"), answer)
    with pytest.raises(AuthenticationError):
        server.open(calls[0][0], "witness", newton.identity.public)
    elsewhere = Authenticator("0" * 32, tesla.host.identity)
    with pytest.raises(AuthenticationError):
        elsewhere.open(calls[0][0], "offer", newton.identity.public)


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
    admission = mesh.ledger.offer(tesla.host.key, tesla.shared_ledger.answer_witness(NONCE))
    assert admission.outcome == "refused"


def test_a_witness_that_claims_more_than_it_hands_over_is_unproven(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost
) -> None:
    behind = Ledger(mesh.mesh.chain)
    asker = build_host(mesh, "newton", ledger=behind)
    with tesla.listening(LIMITS) as port:
        own = Authenticator(mesh.ledger.mesh_id, newton.identity)
        client = _Withholding(mesh_id=mesh.ledger.mesh_id, port=port, authenticator=lambda: own)
        report = ask_witness(asker.shared_ledger, client, partner_for(tesla, newton), now=NOW)
    assert report.outcome == "unproven" and "statement 3" in report.why
    with tesla.listening(LIMITS) as port:
        report = ask_witness(
            asker.shared_ledger, client_for(mesh, port, newton), partner_for(tesla, newton), now=NOW
        )
    assert report.outcome == "ahead"
    assert dict(behind.objects()) == objects(tesla)


@pytest.mark.parametrize("lie", ["another root", "another statement"])
def test_a_witness_that_claims_another_history_without_handing_it_over_is_named_as_a_liar(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    """Its signature proves that it said so, and nothing else: no critical word of a split on it."""
    truth = tesla.shared_ledger.testify
    kid = mesh.mesh.admin_key.kid

    def lying(nonce: str = "", seen: str = "") -> witness_module.Testimony:
        said = truth(nonce, seen)
        if lie == "another root":
            return msgspec.structs.replace(said, root=(said.root[0], "0" * 64))
        return msgspec.structs.replace(said, heads={kid: (2, "0" * 64)})

    asker = build_host(mesh, "newton")
    honest = type(tesla.shared_ledger).testify
    monkeypatch.setattr(
        type(tesla.shared_ledger),
        "testify",
        lambda self, *call: lying(*call) if self is tesla.shared_ledger else honest(self, *call),
    )
    tally = StatsRecorder()
    with tesla.listening(LIMITS) as port:
        report = ask_witness(
            asker.shared_ledger, client_for(mesh, port, newton), partner_for(tesla, newton), now=NOW
        )
    tally.note(report, NOW)
    (said,) = tally.conditions({})
    assert (said.code, said.subject, said.severity) == ("witness_refuted", "tesla", Severity.WARNING)


def test_a_witness_with_a_thousand_claims_fills_no_log(
    mesh: SignedMesh, tesla: ExchangeHost, newton: SignedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says goes into a condition, and that into the log, the status and a terminal."""
    truth = tesla.shared_ledger.testify
    heads = {f"{number:032x}": (9, "ee" * 32) for number in range(1000)}
    monkeypatch.setattr(
        tesla.shared_ledger,
        "testify",
        lambda nonce="", seen="": msgspec.structs.replace(truth(nonce, seen), heads=heads),
    )
    asker = build_host(mesh, "newton")
    with tesla.listening(LIMITS) as port:
        client = client_for(mesh, port, newton)
        report = ask_witness(asker.shared_ledger, client, partner_for(tesla, newton), now=NOW)
    assert report.outcome == "unproven"
    assert len(report.why) < 500 and "and 997 more" in report.why


def test_two_roots_of_one_version_are_proven_by_the_one_that_is_handed_over(
    mesh: SignedMesh, newton: SignedHost
) -> None:
    """Root keys in force signed twice: each host follows its own root, and somebody has to know."""
    keys = (mesh.mesh.admin_key, mesh.mesh.recovery_key)
    chain = mesh.mesh.chain
    sides = []
    for name, hosts in (("tesla", 900), ("newton", 901)):
        following = msgspec.structs.replace(chain.root, version=2, prev=chain.fingerprint, max_hosts=hosts)
        envelope = keys[0].sign(encode(following), ROOT_TYPE)
        for key in keys[1:]:
            envelope = key.cosign(envelope)
        ledger = Ledger(chain)
        for item in (*mesh.objects.items(), *root_objects(envelope)):
            ledger.offer(*item)
        assert ledger.chain.version == 2
        sides.append(build_host(mesh, name, ledger=ledger))
    tesla, asker = sides
    tally = StatsRecorder()
    with tesla.listening(LIMITS) as port:
        report = ask_witness(
            asker.shared_ledger, client_for(mesh, port, newton), partner_for(tesla, newton), now=NOW
        )
    tally.note(report, NOW)
    codes = {said.code: said for said in tally.conditions({})}
    assert codes["registry_split_view"].severity is Severity.CRITICAL
    assert "tesla trusts root 2" in codes["registry_split_view"].text


class _Withholding(ExchangeClient):
    def objects(self, partner: Partner, request: ObjectsRequest) -> ObjectsPage:
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

    fetch(tesla.shared_ledger, junk, SyncResult(), giver="bohr")
    assert len(asked) == 1, "nothing genuine in the first page"
    fetch(tesla.shared_ledger, same, SyncResult(), giver="bohr")
    assert len(asked) == 3, "a page must continue after the one before"


def test_a_host_whose_pages_waste_the_processor_is_heard_no_further(
    mesh: SignedMesh, tesla: ExchangeHost
) -> None:
    """Each of them has something genuine as well, which this host holds already."""
    known = [item for item in tesla.ledger.objects() if item[0].startswith("log/")]
    ticks = itertools.count()
    asked: list[str] = []
    desk = SharedLedger(
        ledger=tesla.ledger,
        lock=contextlib.nullcontext(),
        hid="",
        identity=None,
        clock=lambda: NOW,
        processor=lambda: next(ticks) * WASTE_SECONDS_AT_ONCE / 8,
    )

    def wasteful(request: ObjectsRequest) -> ObjectsPage:
        key, body = known[len(asked)]
        asked.append(key)
        place, _, named = key.rpartition("-")
        digest = int(named.removesuffix(".json"), 16)
        later = [(f"{place}-{digest + number:064x}.json", b"{}") for number in range(1, 21)]
        return ObjectsPage(objects=((key, body), *later), more=len(asked) < len(known))

    fetch(desk, wasteful, SyncResult(), giver=mesh.hosts["bohr"].hid)
    assert len(known) > 2 and len(asked) == 2
    fetch(desk, lambda request: ObjectsPage(objects=(known[0],)), honest := SyncResult(), giver="newton")
    assert honest.forged == ""


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
def test_an_answer_that_makes_no_sense_is_an_error(
    mesh: SignedMesh, tesla: ExchangeHost, answer: bytes, why: str
) -> None:
    with (
        raw_server(lambda connection: connection.sendall(answer)) as port,
        pytest.raises((StoreError, RegistryError), match=why),
    ):
        client_for(mesh, port).witness(here(tesla), WitnessRequest(nonce=NONCE))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["head", "body"])
def test_an_answer_in_slow_bytes_is_given_up(
    mesh: SignedMesh, tesla: ExchangeHost, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(client_module, "CALL_SECONDS", 0.3)

    def drip(connection: socket.socket) -> None:
        more = b"Content-Length: 5000\r\n\r\n" if where == "body" else b"X: "
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + more)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    with raw_server(drip) as port, pytest.raises(StoreError, match="in time"):
        client_for(mesh, port).witness(here(tesla), WitnessRequest(nonce=NONCE))
