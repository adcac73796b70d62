"""The S3 store against a server that does not mean well, and one line of advice an error."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from garage_node import GarageNode
from scripted_s3 import SECRET, ScriptedServer, answer, open_scripted

from meshd.errors import StoreError, UnusableObjectError
from meshd.store.credentials import S3Credentials
from meshd.store.deadlines import Timeouts
from meshd.store.s3 import S3Store


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.stopping.set()
        running.shutdown()
        thread.join()


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
