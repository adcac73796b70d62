"""Every decoder that takes bytes from outside, what it may raise, and real bytes to start from.

The one list that the property tests (in make check) and the fuzzers (fuzz/run.py) work through.

Over 400 lines: a list that leaves a decoder out is no list.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import fakemesh as fm
import msgspec
import relay_messages
import vectors

from meshd.backend.netlink_attributes import NESTED, pack
from meshd.backend.netlink_routes import _parse_route
from meshd.backend.parse import parse_ifconfig, parse_routes, parse_wg_dump
from meshd.backend.peer_steps import PeerStep
from meshd.backend.uapi import check_answer, parse_get
from meshd.backend.wireguard_attributes import pack_peers, parse_device
from meshd.daemon.caller import Caller
from meshd.daemon.control_socket import ControlServer
from meshd.errors import BackendError, ConfigError, RegistryError, StoreError
from meshd.exchange.authentication import Authenticator
from meshd.exchange.health import HealthReport, PlacementReport, parse_report
from meshd.exchange.messages import (
    Inventory,
    ObjectsPage,
    ObjectsRequest,
    Offer,
    OfferAnswer,
    WitnessRequest,
    parse_message,
    render_message,
)
from meshd.exchange.rows import (
    MAX_RTT_SECONDS,
    ROW_SECONDS,
    KeptRows,
    PathReport,
    RowReport,
    RowsAnswer,
    RowsRequest,
)
from meshd.exchange.rows import check_answer as check_answer_rows
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, parse_address, parse_network
from meshd.observe.protocol import ControlAnswer, ControlRequest
from meshd.probe.icmp import parse_echo_reply_v4, parse_echo_reply_v6
from meshd.registry.bundle import open_bundle, parse_bundle, parse_request
from meshd.registry.canonical import decode, encode
from meshd.registry.envelope import (
    HOST_RECORD_TYPE,
    STATEMENT_TYPE,
    Envelope,
    Signature,
    parse_envelope,
    render_envelope,
)
from meshd.registry.export import build_export, open_export, render_export
from meshd.registry.key_request import build_key_request, parse_key_request
from meshd.registry.layout import parse_object_key
from meshd.registry.ledger import Ledger
from meshd.registry.record import parse_record
from meshd.registry.root import parse_root_payload, parse_root_signature, root_envelopes, root_objects
from meshd.registry.segment import parse_segment, render_segment
from meshd.registry.signing import parse_recovery_words, render_recovery_words
from meshd.registry.statement import Endorse, Place, RawBody, Revoke, Rotate, Service, parse_statement
from meshd.relay.echo import parse_reply
from meshd.relay.wire import decode_counts, decode_table, encode_counts, encode_table
from meshd.settings import read_settings
from meshd.store.credentials import S3Credentials
from meshd.store.s3_answers import parse_error, parse_listing
from meshd.store.select import open_store
from wgctl.admin.signing_request import (
    DRAFT_FORMAT,
    AddHost,
    Operation,
    RemoveHost,
    RotateKeys,
    SigningRequest,
    parse_draft,
)

ROOT = Path(__file__).resolve().parents[2]
CHAIN = fm.make_chain(2)
CREDENTIALS = S3Credentials(access_key="GK", secret_key="s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """``decode`` may raise ``raises`` and nothing else, and must come to an end."""

    name: str
    decode: Callable[[bytes], object]
    raises: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def _typed(payload: bytes, kind: str) -> Envelope:
    return Envelope(payload=payload, payload_type=kind, signatures=(Signature("0" * 32, bytes(64)),))


def _canonical(body: bytes) -> None:
    assert encode(decode(body)) == body


def _envelope(body: bytes) -> None:
    assert render_envelope(parse_envelope(body)) == body


def _record_payload(body: bytes) -> object:
    return parse_record(render_envelope(_typed(body, HOST_RECORD_TYPE)), fm.MESH)


def _segment(body: bytes) -> None:
    segment = parse_segment(body)
    assert 0 <= segment.damaged_bytes <= len(body)
    whole = render_segment(segment.entries)
    assert len(whole) + segment.damaged_bytes == len(body)
    assert parse_segment(whole).entries == segment.entries


def _listing(body: bytes) -> object:
    parse_error(body)
    return parse_listing(body)


def _control(line: bytes) -> None:
    """The daemon's answer to one line; the handler stands for every verb."""

    async def handle(request: ControlRequest) -> tuple[Any, int]:
        return {"verb": request.verb}, 0

    server = ControlServer(Path("/nonexistent"), handle)
    answer = _drive(server._answer(line, Caller(uid=0, groups=frozenset())))
    assert answer.error is None or answer.exit_code == 2


def _drafts(request: str) -> tuple[bytes, ...]:
    operations: tuple[Operation, ...] = (
        AddHost(
            name="newton",
            request=request,
            address="10.77.0.9",
            networks=("10.128.2.0/24",),
            region="eu",
            roles=("db",),
            tags=None,
            expires=1,
        ),
        RemoveHost(hid=fm.key("tesla").kid, why="sold"),
        RotateKeys(hids=(), not_before=1),
    )
    return tuple(
        msgspec.json.encode(SigningRequest(format=DRAFT_FORMAT, operations=(operation,), registry="{}"))
        for operation in operations
    )


def _drive(coroutine: Coroutine[Any, Any, ControlAnswer]) -> ControlAnswer:
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(ControlAnswer, done.value)
    raise AssertionError("waits")


@dataclass(frozen=True, slots=True)
class _File:
    """Enough of a Path for read_settings."""

    body: bytes

    def read_bytes(self) -> bytes:
        return self.body


def _settings(body: bytes) -> object:
    return read_settings(cast(Path, _File(body)))


def _store_url(body: bytes) -> None:
    store = open_store(body.decode("utf-8", "replace"), CREDENTIALS)
    assert store.url
    store.close()


def _uapi(body: bytes) -> object:
    check_answer(body, "answer")
    return parse_get(body, "wg0", "wireguard-go")


def _wireguard(body: bytes) -> object:
    return parse_device([body, body], "wg0")


_MESSAGES = (ObjectsRequest, ObjectsPage, Offer, OfferAnswer, WitnessRequest, RowsRequest)
_HID = "0" * 32


def _exchange(body: bytes) -> None:
    """As each kind: which one is meant, the address of the request says."""
    for kind in _MESSAGES:
        try:
            parse_message(body, kind)
        except RegistryError as error:
            assert str(error)
    for read in (parse_report, _rows):
        try:
            read(body)
        except RegistryError as error:
            assert str(error)


def _rows(body: bytes) -> None:
    """What passes holds figures and hids alone, so that it can be shown."""
    answer = parse_message(body, RowsAnswer)
    check_answer_rows(answer, RowsRequest(want=(_HID,)))
    kept = KeptRows()
    kept.hear("f" * 32, answer, 0.0)
    for row in kept.rows(0.0).values():
        assert 0.0 <= row.age_seconds <= ROW_SECONDS
        for path in row.paths.values():
            assert 0.0 <= path.loss_ratio <= 1.0
            assert path.srtt_seconds is None or 0.0 <= path.srtt_seconds <= MAX_RTT_SECONDS


def _exchange_heads() -> dict[bytes, bytes]:
    """By header of a request to tesla the header of the answer: by newton, and by nobody."""
    made = {}
    for identity in (fm.key("newton"), None):
        head, call = Authenticator(fm.MESH, identity).request(fm.key("tesla").public, "offer", b"{}")
        made[head.encode()] = call.seal(b"{}").encode()
    return made


_HEADS = _exchange_heads()


def _exchange_head(body: bytes) -> None:
    """As the header of a request, which opens as it was made alone, and as that of an answer to another."""
    text = body.decode("latin-1")
    tesla, newton = Authenticator(fm.MESH, fm.key("tesla")), fm.key("newton").public
    for head, answer in _HEADS.items():
        call, _ = tesla.open(head.decode(), "offer", newton)
        try:
            call.check(text, b"{}")
            assert b64decode(body) == b64decode(answer)
        except RegistryError as error:
            assert str(error)
    tesla.open(text, "offer", newton)
    raw = b64decode(body)
    for index in range(0, len(raw), 16):
        other = raw[:index] + bytes([raw[index] ^ 1]) + raw[index + 1 :]
        try:
            tesla.open(b64encode(other).decode(), "offer", newton)
        except RegistryError as error:
            assert str(error)
        else:
            raise AssertionError(f"byte {index} may be any")


def _freebsd(body: bytes) -> None:
    """The output of wg, ifconfig and netstat."""
    for parse in (
        lambda: parse_wg_dump(body, "wg0"),
        lambda: parse_ifconfig(body, "wg0"),
        lambda: parse_routes(body, 4),
        lambda: parse_routes(body, 6),
    ):
        try:
            parse()
        except BackendError as error:
            assert str(error)


def _texts(body: bytes) -> None:
    text = body.decode("utf-8", "replace")
    for parse in (parse_address, parse_network, Endpoint.parse, PublicKey.parse):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)


def _icmp(body: bytes) -> None:
    parse_echo_reply_v4(body)
    parse_echo_reply_v6(body)


def _relayed(body: bytes) -> None:
    """Whatever a stranger, or an end of a pair, sends to a relay."""
    relay = relay_messages.forwarder((relay_messages.A, relay_messages.B))
    for source in (relay_messages.A.source, (relay_messages.A.address, 7000), ("203.0.113.9", 1)):
        assert len(relay.forward(body, source, 0.0)) <= 1
    parse_reply(body)


def _relay_lines(body: bytes) -> None:
    """A table as the child reads it, and counts as meshd reads them from a child that was taken over."""
    try:
        decode_counts(body)
    except ValueError:
        decode_table(body)


def _offer(body: bytes) -> None:
    """A key and a body from a hostile store: the ledger never raises, and holds only what it accepted."""
    name, _, rest = body.partition(b"\n")
    ledger = Ledger(CHAIN)
    held = len(list(ledger.objects()))
    admission = ledger.offer(name.decode("latin-1"), rest)
    assert len(list(ledger.objects())) == held + (admission.outcome == "new")
    ledger.membership(fm.NOW)


def build_decoders() -> tuple[Decoder, ...]:
    objects = _objects()
    enrollment = vectors.build_enrollment()
    logs = [body for key, body in objects if key.startswith("log/")]
    records = [body for key, body in objects if key.startswith("host/")]
    statements = [parse_envelope(body).payload for body in logs]
    record_payloads = [parse_envelope(body).payload for body in records]
    roots = root_objects(CHAIN.current.envelope)
    bundle = enrollment["bundle"].encode()
    registry = (RegistryError,)

    def decoder(
        name: str,
        decode: Callable[[bytes], object],
        raises: tuple[type[Exception], ...],
        *seeds: bytes,
    ) -> Decoder:
        return Decoder(name=name, decode=decode, raises=raises, seeds=seeds)

    return (
        decoder("canonical", _canonical, registry, *statements, CHAIN.current.envelope.payload),
        decoder("envelope", _envelope, registry, *logs, *records),
        decoder(
            "object_key",
            lambda body: parse_object_key(body.decode("latin-1")),
            registry,
            *(key.encode() for key, _ in objects),
        ),
        decoder("root", parse_root_payload, registry, CHAIN.current.envelope.payload),
        decoder("root_signature", lambda body: parse_root_signature("0" * 32, body), registry, roots[1][1]),
        decoder("root_objects", lambda body: root_envelopes([(roots[1][0], body)]), registry, roots[1][1]),
        decoder(
            "statement",
            lambda body: parse_statement(_typed(body, STATEMENT_TYPE), fm.MESH),
            registry,
            *statements,
        ),
        decoder("record_payload", _record_payload, registry, *record_payloads),
        decoder("record", lambda body: parse_record(body, fm.MESH), registry, *records),
        decoder(
            "request",
            lambda body: parse_request(body.decode("latin-1")),
            registry,
            enrollment["request"].encode(),
        ),
        decoder(
            "bundle", lambda body: parse_bundle(body.decode("utf-8", "surrogateescape")), registry, bundle
        ),
        decoder("open_bundle", lambda body: open_bundle(body.decode("utf-8", "replace")), registry, bundle),
        decoder(
            "key_request",
            lambda body: parse_key_request(body.decode("latin-1")),
            registry,
            build_key_request("ada", "admin", fm.key("tesla")).encode(),
        ),
        decoder(
            "export",
            lambda body: open_export(body.decode("utf-8", "replace")),
            registry,
            render_export(build_export(_ledger_of(objects), now=fm.NOW)).encode(),
        ),
        decoder(
            "draft",
            lambda body: parse_draft(body.decode("utf-8", "surrogateescape"), "draft"),
            registry,
            *_drafts(enrollment["request"]),
        ),
        decoder("exchange", _exchange, (), *_messages(objects)),
        decoder("exchange_head", _exchange_head, registry, *_HEADS, *_HEADS.values()),
        decoder("freebsd_tools", _freebsd, (), *_TOOL_OUTPUT),
        decoder(
            "recovery_words",
            lambda body: parse_recovery_words(body.decode("latin-1")),
            registry,
            render_recovery_words(fm.key("tesla")).encode(),
        ),
        decoder("ledger", _offer, (), *(key.encode() + b"\n" + body for key, body in objects)),
        decoder("segment", _segment, (), render_segment(objects), render_segment([("", b"")])),
        decoder("s3_listing", _listing, (StoreError,), _LISTING, _REFUSAL),
        decoder("control_request", _control, (), b'{"verb":"status"}\n', b'{"verb":"apply","force":true}\n'),
        decoder("uapi", _uapi, (BackendError,), _uapi_answer()),
        decoder("wireguard_attributes", _wireguard, (BackendError,), *_wireguard_messages()),
        decoder("netlink_route", _parse_route, (BackendError,), *_route_messages()),
        decoder("icmp", _icmp, (), *_icmp_packets()),
        decoder("relayed", _relayed, (), *_relayed_datagrams()),
        decoder("relay_lines", _relay_lines, (ValueError,), *_relay_tables()),
        decoder("settings", _settings, (ConfigError,), (ROOT / "contrib" / "meshd.toml.sample").read_bytes()),
        decoder(
            "store_url",
            _store_url,
            (ConfigError,),
            b"file:///srv/mesh",
            b"s3+https://garage.example.net:3900/mesh?region=garage",
            b"s3+http://[::1]:3900/mesh",
        ),
        decoder(
            "texts",
            _texts,
            (),
            b"192.0.2.1",
            b"2001:db8::1",
            b"10.0.0.0/8",
            b"[2001:db8::1]:51820",
            b"192.0.2.1:51820",
            str(PublicKey(bytes(32))).encode(),
        ),
    )


def _objects() -> list[tuple[str, bytes]]:
    """Real objects of every kind."""
    ledger = Ledger(CHAIN)
    admin = fm.key("admin0")
    objects = [
        *root_objects(CHAIN.current.envelope),
        fm.grant(ledger, admin, "tesla", networks=["10.128.1.0/24"], region="eu", roles=["web"]),
        fm.record("tesla", version=5, networks=["10.128.1.0/24"], seen=dict(ledger.heads())),
    ]
    hid = fm.key("tesla").kid
    bodies = (
        Revoke(hid=hid, why="sold"),
        Endorse(hash="0" * 64),
        Rotate(hids=(hid,), not_before=1),
        Service(name="web", kind="http", port=80, scope="mesh", min_endpoints=1, check="", state="active"),
        Place(hid=hid, service="web", jail="www", address="10.128.1.2", tags={"a": "b"}, state="active"),
        RawBody(kind="poem", fields={"text": "Grüße"}),
    )
    objects += [fm.forge_statement(admin, body, seq=2, prev="0" * 64) for body in bodies]
    return objects


def _ledger_of(objects: list[tuple[str, bytes]]) -> Ledger:
    ledger = Ledger(CHAIN)
    fm.fill(ledger, objects)
    return ledger


def _messages(objects: list[tuple[str, bytes]]) -> list[bytes]:
    row = RowReport(
        age_seconds=2.5,
        paths={_HID: PathReport(True, 0.025, None, 0.0), "1" * 32: PathReport(False, None, None, 1.0)},
        mtus={_HID: 1380},
    )
    have = Inventory(root=(1, "0" * 64), logs={"0" * 32: (1, "0" * 64)}, records={"0" * 32: (1, 5, "0" * 64)})
    return [
        render_message(message)
        for message in (
            ObjectsRequest(have=have),
            ObjectsPage(objects=tuple(objects), more=True, have=have),
            Offer(objects=tuple(objects[:3]), notified=("0" * 32,)),
            OfferAnswer(outcomes=("new", "known")),
            WitnessRequest(nonce="0" * 32),
            HealthReport(
                placements=(PlacementReport(service="db", jail="pg", works=True, age_seconds=1.5),),
            ),
            RowsRequest(want=(_HID,)),
            RowsAnswer(own=row, told={_HID: row}),
        )
    ]


_KEY_TEXT = str(PublicKey(bytes(range(32)))).encode()
_TOOL_OUTPUT = (
    b"(none)\t"
    + _KEY_TEXT
    + b"\t51820\toff\n"
    + _KEY_TEXT
    + b"\t(none)\t192.0.2.1:51820\t10.0.0.0/8,fd07::/64\t1700000000\t12\t34\t25\n",
    (
        b"wg0: flags=10080c1<UP,RUNNING,NOARP,MULTICAST,LOWER_UP> metric 0 mtu 1420\n"
        b"\toptions=80000<LINKSTATE>\n"
        b"\tinet 10.99.0.1 netmask 0xffff0000\n\tinet6 fd07::1 prefixlen 64\n\tgroups: wg\n"
    ),
    (
        b'{"statistics":{"route-information":{"route-table":{"rt-family":[{"address-family":"Internet",'
        b'"rt-entry":[{"destination":"10.0.0.0/8","gateway":"link#3","flags":"US","nhop":3,"mtu":1420,'
        b'"interface-name":"wg0"}]}]}}}}'
    ),
)

_LISTING = (
    b'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><IsTruncated>true</IsTruncated>'
    b"<NextContinuationToken>t</NextContinuationToken><Contents><Key>v1/a</Key><ETag>&quot;e&quot;</ETag>"
    b"<Size>12</Size></Contents></ListBucketResult>"
)
_REFUSAL = b"<Error><Code>AccessDenied</Code><Message>no &amp; never</Message></Error>"


def _uapi_answer() -> bytes:
    key = bytes(range(32)).hex()
    return (
        f"private_key={key}\nlisten_port=51820\nfwmark=7\npublic_key={key}\npreshared_key={key}\n"
        "protocol_version=1\nendpoint=[fe80::7%eth0]:51821\nlast_handshake_time_sec=1700000000\n"
        "last_handshake_time_nsec=500000000\ntx_bytes=12\nrx_bytes=34\npersistent_keepalive_interval=25\n"
        "allowed_ip=10.7.0.0/24\nallowed_ip=fd07::/64\nerrno=0\n\n"
    ).encode()


def _wireguard_messages() -> list[bytes]:
    steps = [
        PeerStep(
            public_key=PublicKey(bytes([number]) * 32),
            endpoint=Endpoint.parse(endpoint),
            persistent_keepalive_seconds=25,
            allowed_ips=(fm.network("10.0.0.0/8"), fm.network("fd07::/64")),
        )
        for number, endpoint in enumerate(("192.0.2.1:1", "[2001:db8::1]:2"), 1)
    ]
    return [bytes(20) + pack(8 | NESTED, peers) for peers in pack_peers(steps)]


def _route_messages() -> list[bytes]:
    header = struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 4, 0, 1, 0)
    number = struct.Struct("=I")
    attributes = pack(1, bytes([10, 0, 0, 0])) + pack(4, number.pack(3)) + pack(15, number.pack(254))
    return [header + attributes + pack(8, pack(2, number.pack(1420)))]


def _icmp_packets() -> list[bytes]:
    reply = bytes([0, 0, 0xFF, 0xFF, 0, 0, 0, 0])
    return [bytes([0x45, *([0] * 19)]) + reply, bytes([129, 0, 0, 0, 1, 2, 3, 4]) + b"payload"]


def _relayed_datagrams() -> list[bytes]:
    a, b = relay_messages.A, relay_messages.B
    return [
        relay_messages.initiation(a.index(), b.key),
        relay_messages.response(a.index(), b.index(), b.key),
        relay_messages.cookie(b.index()),
        relay_messages.data(b.index()),
    ]


def _relay_tables() -> list[bytes]:
    relay = relay_messages.forwarder((relay_messages.A, relay_messages.B))
    table = relay_messages.table((relay_messages.A, relay_messages.B))
    return [encode_table(table), encode_counts(relay.counts())]


DECODERS = build_decoders()
