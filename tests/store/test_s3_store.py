"""The S3 store against a server that does not mean well, and one line of advice an error."""

from __future__ import annotations

import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from garage_node import GarageNode
from hypothesis import given
from hypothesis import strategies as st

from meshd.errors import StoreError, UnfinishedListingError, UnusableObjectError
from meshd.store.credentials import S3Credentials
from meshd.store.deadlines import Timeouts
from meshd.store.s3 import S3Location, S3Store
from meshd.store.s3_answers import parse_error, parse_listing

SECRET = "5ec4e7" * 10
CREDENTIALS = S3Credentials(access_key="GK0123", secret_key=SECRET)
TIMEOUTS = Timeouts(connect_seconds=1, read_seconds=0.3, request_seconds=0.6)

Script = Callable[[socket.socket, bytes], None]


def answer(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def listing(*keys: str, token: str = "") -> bytes:
    entries = "".join(
        f"<Contents><Key>{key}</Key><ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>" for key in keys
    )
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    truncated = "true" if token else "false"
    return answer(
        "200 OK",
        f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{more}{entries}</ListBucketResult>".encode(),
    )


class ScriptedServer(socketserver.ThreadingTCPServer):
    """Hands every request head to ``script``, which writes whatever it likes to the socket."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.script: Script = lambda connection, head: None
        self.requests: list[bytes] = []
        self.connections = 0
        self.stopping = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, ScriptedServer)
        server.connections += 1
        buffer = b""
        try:
            while chunk := self.request.recv(65536):
                buffer += chunk
                if b"\r\n\r\n" in buffer:
                    server.requests.append(buffer)
                    server.script(self.request, buffer)
                    buffer = b""
        except OSError:
            pass


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.stopping.set()
        running.shutdown()
        thread.join()


def open_scripted(server: ScriptedServer, *, secure: bool = False) -> S3Store:
    location = S3Location(secure=secure, host="127.0.0.1", port=server.server_address[1], bucket="mesh")
    return S3Store(location, CREDENTIALS, timeouts=TIMEOUTS)


@pytest.fixture
def store(server: ScriptedServer) -> Iterator[S3Store]:
    opened = open_scripted(server)
    yield opened
    opened.close()


@pytest.mark.slow
def test_slow_bytes_of_a_body_end_at_the_deadline(server: ScriptedServer, store: S3Store) -> None:
    """Each byte comes in time for the socket's own time-out; all of them would take an hour."""

    def drip(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        while not server.stopping.wait(0.05):
            connection.sendall(b"x")

    server.script = drip
    with pytest.raises(StoreError, match=r"GET .*/mesh/a: no complete answer"):
        store.get("a")


@pytest.mark.slow
def test_slow_bytes_of_a_header_end_at_the_deadline(server: ScriptedServer, store: S3Store) -> None:
    def drip(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not server.stopping.wait(0.05):
            connection.sendall(b"x")

    server.script = drip
    with pytest.raises(StoreError, match="no complete answer"):
        store.get("a")


@pytest.mark.slow
def test_silence_is_a_time_out_and_no_server_a_refusal(server: ScriptedServer, store: S3Store) -> None:
    server.script = lambda connection, head: None
    with pytest.raises(StoreError, match="no complete answer"):
        store.put("a", b"x")
    server.socket.close()
    with pytest.raises(StoreError, match="refused"):
        open_scripted(server).get("a")


@pytest.mark.parametrize("head", [b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_an_endless_body_is_cut_off(server: ScriptedServer, store: S3Store, head: bytes) -> None:
    sent = count()

    def flood(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        block = b"1000\r\n" + b"x" * 4096 + b"\r\n" if b"chunked" in head else b"x" * 4096
        while not server.stopping.is_set():
            connection.sendall(block)
            next(sent)

    server.script = flood
    with pytest.raises(StoreError, match="over 65536 bytes"):
        store.get("a")
    server.script = lambda connection, head: connection.sendall(answer("200 OK", b"good", 'ETag: "e"'))
    got = store.get("a")
    assert got is not None and got.body == b"good"


def test_a_short_body_is_an_error(server: ScriptedServer, store: S3Store) -> None:
    def cut(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        connection.shutdown(socket.SHUT_RDWR)

    server.script = cut
    with pytest.raises(StoreError, match="GET"):
        store.get("a")


def test_a_connection_closed_while_idle_is_replaced(server: ScriptedServer, store: S3Store) -> None:
    """The server says keep-alive, then closes instead of answering the second request."""

    def once(connection: socket.socket, _: bytes) -> None:
        if len(server.requests) == 2:
            connection.shutdown(socket.SHUT_RDWR)
        else:
            connection.sendall(answer("200 OK", b"body", 'ETag: "e"'))

    server.script = once
    for _ in range(2):
        got = store.get("a")
        assert got is not None and got.body == b"body"
    assert (len(server.requests), server.connections) == (3, 2)


def test_redirects_are_not_followed(server: ScriptedServer, store: S3Store) -> None:
    server.script = lambda connection, head: connection.sendall(
        answer("301 Moved", b"", "Location: http://127.0.0.1:1/mesh/a")
    )
    with pytest.raises(StoreError, match="301"):
        store.get("a")
    assert len(server.requests) == 1


def test_pages_without_end_are_cut_off(server: ScriptedServer, store: S3Store) -> None:
    numbers = count()
    server.script = lambda connection, head: connection.sendall(listing(f"h/{next(numbers):06}", token="t"))
    with pytest.raises(UnfinishedListingError, match="more than 100 pages") as cut:
        list(store.list("h/"))
    assert cut.value.after == "h/000099"


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ([listing("h/a", token="t"), listing("h/a", token="t")], "'h/a' seen after 'h/a'"),
        ([listing("h/b", "h/a")], "'h/a' seen after 'h/b'"),
        ([listing(token="t")], "without objects promises more"),
        ([listing("other")], "'other' seen"),
        ([answer("200 OK", b"<html>")], "not the XML expected"),
        ([answer("200 OK", b"<ListBucketResult/>")], "IsTruncated None"),
        ([answer("200 OK", b"<L><IsTruncated>true</IsTruncated></L>")], "no continuation token"),
        (
            [answer("200 OK", b"<L><IsTruncated>false</IsTruncated><Contents><Key>h/a</Key></Contents></L>")],
            r"\['Key'\]",
        ),
    ],
)
def test_a_lying_listing_is_refused(
    server: ScriptedServer, store: S3Store, pages: list[bytes], said: str
) -> None:
    server.script = lambda connection, head: connection.sendall(pages[len(server.requests) - 1])
    with pytest.raises(StoreError, match=said):
        list(store.list("h/"))


def test_keys_that_no_writer_of_ours_makes_are_passed_over(server: ScriptedServer, store: S3Store) -> None:
    server.script = lambda connection, head: connection.sendall(listing("h/ a", "h/../../etc", "h/a"))
    assert [info.key for info in store.list("h/")] == ["h/a"]


def test_pages_of_names_that_are_no_keys_are_gone_through(server: ScriptedServer, store: S3Store) -> None:
    """1,000 of them stand before the first real one: nothing is wrong with the store."""
    junk = [listing(*(f"h/ {page}{number:03}" for number in range(500)), token=f"t{page}") for page in "01"]
    pages = [*junk, listing("h/a")]
    server.script = lambda connection, head: connection.sendall(pages[len(server.requests) - 1])
    assert [info.key for info in store.list("h/")] == ["h/a"]


@pytest.mark.parametrize("name", ["h/\x01\x1b[2J", "h/&#1;", "h/&#x1F;", "h/\ufffe", "h/\x0b\x00"])
def test_a_name_that_no_xml_can_hold_hides_no_other(
    server: ScriptedServer, store: S3Store, name: str
) -> None:
    """As Garage writes it where encoding-type is not asked for."""
    server.script = lambda connection, head: connection.sendall(listing(name, "h/a"))
    assert [info.key for info in store.list("h/")] == ["h/a"]


def test_names_are_asked_for_in_an_encoding_that_holds_all_of_them(
    server: ScriptedServer, store: S3Store
) -> None:
    body = listing("h/%01x", "h/%2E%2E/a", "h/a%2Bb")
    body = body.replace(b"<IsTruncated>", b"<EncodingType>url</EncodingType><IsTruncated>")
    body = body.replace(
        b"Content-Length: %d"
        % len(body.partition(b"\r\n\r\n")[2].replace(b"<EncodingType>url</EncodingType>", b"")),
        b"Content-Length: %d" % len(body.partition(b"\r\n\r\n")[2]),
    )
    server.script = lambda connection, head: connection.sendall(body)
    assert [info.key for info in store.list("h/")] == ["h/a+b"]
    assert b"encoding-type=url" in server.requests[0]


@pytest.mark.parametrize(
    "reply",
    [
        answer("200 OK", b"x", "X-Amz-Meta-A: " + "a" * 70_000),
        answer("200 OK", b"x", *(f"X-Amz-Meta-{number}: a" for number in range(120))),
        answer("200 OK", b"x" * 70_000),
        answer("400 Bad Request", b"<Error><Code>InvalidRequest</Code></Error>"),
    ],
    ids=["a header of 70 KB", "120 headers", "a body of 70 KB", "encrypted by somebody's key"],
)
def test_what_one_object_is_says_nothing_about_the_store(
    server: ScriptedServer, store: S3Store, reply: bytes
) -> None:
    server.script = lambda connection, head: connection.sendall(reply)
    with pytest.raises(UnusableObjectError, match="mesh/a"):
        store.get("a")
    server.script = lambda connection, head: connection.sendall(answer("200 OK", b"good", 'ETag: "e"'))
    got = store.get("a")
    assert got is not None and got.body == b"good"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a self-signed certificate of 127.0.0.1 in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        f"-keyout {path}.key -out {path}.crt -subj /CN=store -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(command.split(), check=True, capture_output=True, timeout=30)
    path.write_bytes(Path(f"{path}.key").read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.mark.slow
def test_tls_is_verified_and_has_the_same_deadlines(
    server: ScriptedServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)

    def drip(connection: socket.socket, head: bytes) -> None:
        if b"/mesh/slow" not in head:
            connection.sendall(answer("200 OK", b"body", 'ETag: "e"'))
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        while not server.stopping.wait(0.05):
            connection.sendall(b"x")

    server.script = drip
    with pytest.raises(StoreError, match="certificate verify failed"):
        open_scripted(server, secure=True).get("a")
    assert server.requests == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    store = open_scripted(server, secure=True)
    for _ in range(2):
        got = store.get("a")
        assert got is not None and got.body == b"body"
    with pytest.raises(StoreError, match="no complete answer"):
        store.get("slow")
    store.close()


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><l><IsTruncated>false</IsTruncated><Name>&i;</Name></l>"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_never_expanded(encoding: str) -> None:
    with pytest.raises(StoreError, match="document type"):
        parse_listing(BOMB.encode(encoding))
    assert parse_error(BOMB.encode(encoding)) == ("", "")


@given(st.one_of(st.binary(max_size=300), st.text("<>/&;abKeyContentsIsTruncated\"'! ", max_size=200)))
def test_any_bytes_are_a_listing_or_a_store_error(body: bytes | str) -> None:
    raw = body if isinstance(body, bytes) else body.encode()
    parse_error(raw)
    try:
        parse_listing(raw)
    except StoreError:
        return


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        ("403 Forbidden", "AccessDenied", "what it may do on this bucket"),
        ("403 Forbidden", "SignatureDoesNotMatch", "check the secret key"),
        ("403 Forbidden", "", "check the access key"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", "region"),
        ("404 Not Found", "NoSuchBucket", "bucket's name"),
        ("503 Service Unavailable", "ServiceUnavailable", "quorum"),
        ("418 Teapot", "Odd", "the store's log"),
    ],
)
def test_a_refusal_is_one_line_with_advice(
    server: ScriptedServer, store: S3Store, status: str, code: str, advice: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>some\nlines</Message></Error>".encode() if code else b"oops"
    server.script = lambda connection, head: connection.sendall(answer(status, body))
    calls: list[Callable[[], object]] = [
        lambda: store.get("a"),
        lambda: store.put("a", b""),
        lambda: store.delete("a"),
        lambda: list(store.list("a")),
    ]
    for call in calls:
        with pytest.raises(StoreError, match=advice) as caught:
            call()
        assert status[:3] in str(caught.value) and code in str(caught.value)
        assert "\n" not in str(caught.value) and SECRET not in str(caught.value)


def test_payloads_are_signed_by_their_own_hash_and_no_trailer_is_sent(
    server: ScriptedServer, store: S3Store
) -> None:
    server.script = lambda connection, head: connection.sendall(answer("200 OK", b""))
    store.put("a", b"")
    head = server.requests[0].lower()
    empty = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert b"x-amz-content-sha256: " + empty in head
    assert b"/garage/s3/aws4_request" in head
    assert b"trailer" not in head and b"checksum" not in head and SECRET.encode() not in server.requests[0]


@pytest.mark.garage
def test_garage_names_the_wrong_region_key_secret_and_bucket(garage_node: GarageNode) -> None:
    good = garage_node.credentials
    unknown = S3Credentials(access_key="GK" + "0" * 24, secret_key=good.secret_key)
    cases = [
        (garage_node.location(region="us-east-1"), good, "AuthorizationHeaderMalformed.*region=garage"),
        (garage_node.location(), unknown, "403"),
        (garage_node.location(), S3Credentials(access_key=good.access_key, secret_key="0" * 64), "403"),
        (garage_node.location(bucket="nobody"), good, "NoSuchBucket.*bucket's name"),
    ]
    for location, credentials, said in cases:
        store = S3Store(location, credentials, timeouts=Timeouts())
        with pytest.raises(StoreError, match=said) as caught:
            store.get("a")
        assert credentials.secret_key not in str(caught.value)
        with pytest.raises(StoreError, match=said):
            list(store.list("a"))
        store.close()
