"""S3 as people have it: a prefix in a bucket, session tokens, a private authority, a proxy, a wrong port."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import ClassVar

import pytest
from garage_node import S3_DOMAIN, GarageNode
from tls_front import Authority, ConnectProxy, TlsFront, make_authority, serving

from meshd.errors import ConfigError, StoreError
from meshd.store.base import ObjectStore
from meshd.store.credentials import CredentialsFile, S3Credentials, credentials_of, read_credentials
from meshd.store.deadlines import Timeouts
from meshd.store.proxy import find_proxy, is_excepted
from meshd.store.s3 import S3Location, S3Store
from meshd.store.select import open_store

CREDENTIALS = S3Credentials(access_key="GK0123", secret_key="5ec4e7" * 10)
EMPTY_LISTING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers every request with ``reply`` and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    reply: ClassVar[tuple[int, bytes]] = (200, EMPTY_LISTING)
    asked: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        status, body = self.reply
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def port() -> Iterator[int]:
    Recorder.reply, Recorder.asked = (200, EMPTY_LISTING), []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    with serving(server):
        yield server.server_port


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a proxy nor keys of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower() in ("https_proxy", "no_proxy", "ssl_cert_file"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    names = (f"DNS:*.{S3_DOMAIN}", f"DNS:{S3_DOMAIN}", "IP:127.0.0.1")
    return make_authority(tmp_path_factory.mktemp("authority"), *names)


def plain(port: int, prefix: str = "") -> S3Location:
    return S3Location(secure=False, host="127.0.0.1", port=port, bucket="mesh", prefix=prefix)


# -- a prefix ------------------------------------------------------------------------------------


def test_a_url_with_a_prefix_keeps_to_it(port: int) -> None:
    store = open_store(f"s3+http://127.0.0.1:{port}/mesh/backups/fleet/?logs=mesh-logs", CREDENTIALS)
    assert list(store.list("v1/abc/host/")) == []
    assert list(store.list("v1/abc/log/")) == []
    [records, logs] = [path for path, _ in Recorder.asked]
    assert records.startswith("/mesh?") and "prefix=backups%2Ffleet%2Fv1%2Fabc%2Fhost%2F" in records
    assert logs.startswith("/mesh-logs?") and "prefix=backups%2Ffleet%2Fv1%2Fabc%2Flog%2F" in logs
    store.close()


def test_a_listing_of_what_is_not_below_the_prefix_is_refused(port: int) -> None:
    entry = b"<Contents><Key>other/v1/a</Key><ETag>e</ETag><Size>1</Size></Contents>"
    Recorder.reply = (200, b"<L><IsTruncated>false</IsTruncated>%s</L>" % entry)
    store = S3Store(plain(port, prefix="fleet"), CREDENTIALS)
    with pytest.raises(StoreError, match="'other/v1/a' seen, names that begin with"):
        list(store.list("v1/"))
    store.close()


@pytest.mark.garage
def test_two_registries_share_a_bucket_and_see_nothing_of_each_other(garage_node: GarageNode) -> None:
    one, other = (
        S3Store(garage_node.location(prefix=prefix), garage_node.credentials)
        for prefix in ("one", "other/deep")
    )
    whole = garage_node.open()
    one.put("v1/m/host/a.json", b"one")
    other.put("v1/m/host/b.json", b"other")
    assert [info.key for info in one.list("v1/m/")] == ["v1/m/host/a.json"]
    assert one.get("v1/m/host/b.json") is None
    assert [info.key for info in whole.list("other/")] == ["other/deep/v1/m/host/b.json"]
    one.delete("v1/m/host/a.json")
    assert list(whole.list("one/")) == []
    for store in (one, other, whole):
        store.close()


# -- credentials that end ------------------------------------------------------------------------


def write(path: Path, **document: str) -> None:
    path.write_text(json.dumps(document))
    path.chmod(0o600)


def test_a_session_token_is_sent_and_signed_and_shown_nowhere(port: int, tmp_path: Path) -> None:
    write(tmp_path / "s3.json", access_key="ASIA1", secret_key="s", session_token="t0ken")
    credentials = read_credentials(tmp_path / "s3.json")
    assert "t0ken" not in repr(credentials)
    store = S3Store(plain(port), credentials)
    list(store.list("v1/"))
    [(_, headers)] = Recorder.asked
    assert headers["x-amz-security-token"] == "t0ken"
    assert "x-amz-security-token" in headers["authorization"].partition("SignedHeaders=")[2]
    store.close()


def test_renewed_credentials_sign_the_next_request_without_a_restart(port: int, tmp_path: Path) -> None:
    path = tmp_path / "s3.json"
    write(path, access_key="ASIA1", secret_key="s", session_token="first")
    store = S3Store(plain(port), CredentialsFile(path))
    tokens = []
    for action in (
        lambda: None,
        lambda: write(path, access_key="ASIA2", secret_key="s", session_token="the second"),
        lambda: path.write_text(
            '{"access_key": "ASIA3", "secr'
        ),  # half of it, as somebody writes it in place
        lambda: write(path, access_key="GK4", secret_key="lasting"),
        path.unlink,
    ):
        action()
        list(store.list("v1/"))
        tokens.append(Recorder.asked[-1][1].get("x-amz-security-token"))
    assert tokens == ["first", "the second", "the second", None, None]
    store.close()


def test_an_ended_token_is_named_with_what_to_do(port: int) -> None:
    Recorder.reply = (
        400,
        b"<Error><Code>ExpiredToken</Code><Message>The token has expired</Message></Error>",
    )
    store = S3Store(plain(port), CREDENTIALS)
    for ask in (lambda: store.get("v1/a"), lambda: list(store.list("v1/"))):
        with pytest.raises(StoreError, match=r"ExpiredToken.*write new credentials") as caught:
            ask()
        assert type(caught.value) is StoreError, "an ended token is no word about one object"
    store.close()


def test_the_usual_variables_are_taken_where_no_file_is_named(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3+http://127.0.0.1:{port}/mesh"
    assert credentials_of({"AWS_ACCESS_KEY_ID": "AKIA1"}) is None
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        open_store(url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIA9")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t0ken")
    for given, expected in ((None, "ASIA9"), (CREDENTIALS, "GK0123")):
        store = open_store(url, given)
        list(store.list("v1/"))
        assert f"Credential={expected}/" in Recorder.asked[-1][1]["authorization"]
        store.close()


# -- TLS, names and proxies ----------------------------------------------------------------------


def take(store: ObjectStore) -> bytes:
    store.put("v1/m/host/a.json", b"over there")
    got = store.get("v1/m/host/a.json")
    assert got is not None
    assert [info.key for info in store.list("v1/m/")] == ["v1/m/host/a.json"]
    store.delete("v1/m/host/a.json")
    store.close()
    return got.body


@pytest.mark.garage
@pytest.mark.parametrize(
    "place",
    [
        "127.0.0.1:{port}/mesh-registry",
        "s3.test/mesh-registry/with/a/prefix",
        "s3.test./mesh-registry",
        "s3.test/mesh-registry?style=virtual",
        "s3.test:8443/mesh-registry/fleet?style=virtual&region=garage",
    ],
)
def test_a_garage_behind_tls_of_a_private_authority_and_a_proxy(
    garage_node: GarageNode, authority: Authority, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that resolve nowhere: whatever arrives came through the proxy."""
    front = TlsFront(authority, garage_node.port)
    names = ("s3.test", "s3.test.", f"mesh-registry.{S3_DOMAIN}")
    ways = {f"{name}:{port}": front.port for name in names for port in (443, 8443)}
    proxy = ConnectProxy(ways, "Basic YWRhOnAlIHc=")
    url = f"s3+https://{place.format(port=front.port)}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://ada:p%25%20w@127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", "localhost, 127.0.0.0/8")
    with ExitStack() as stack:
        stack.enter_context(serving(front))
        stack.enter_context(serving(proxy))
        with pytest.raises(StoreError, match=r"CERTIFICATE_VERIFY_FAILED.*SSL_CERT_FILE"):
            take(open_store(url, garage_node.credentials))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        assert take(open_store(url, garage_node.credentials)) == b"over there"
    assert bool(proxy.asked) == ("s3.test" in place)


def test_a_certificate_of_another_name_is_refused(
    authority: Authority, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = TlsFront(authority, port)
    proxy = ConnectProxy({"other.test:443": front.port})
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.port}")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with serving(front), serving(proxy), pytest.raises(StoreError, match=r"proxy .*Hostname mismatch"):
        list(open_store("s3+https://other.test/mesh", CREDENTIALS).list("v1/"))
    assert Recorder.asked == []


def test_a_proxy_that_says_no_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = ConnectProxy({}, "Basic bm90OnRoYXQ=")
    monkeypatch.setenv("HTTPS_PROXY", f"http://ada:hidden@127.0.0.1:{proxy.port}")
    with serving(proxy), pytest.raises(StoreError, match=r"proxy .* of HTTPS_PROXY: .*407") as caught:
        list(open_store("s3+https://s3.test/mesh", CREDENTIALS).list("v1/"))
    assert "hidden" not in str(caught.value)


@pytest.mark.slow
def test_a_proxy_that_answers_in_slow_bytes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time for the socket's own time-out."""
    stopping = threading.Event()

    def drip() -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not stopping.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.getsockname()[1]}")
        timeouts = Timeouts(connect_seconds=1, read_seconds=0.3, request_seconds=0.6)
        location = S3Location(secure=True, host="s3.test", port=443, bucket="mesh")
        store = S3Store(location, CREDENTIALS, timeouts=timeouts)
        with pytest.raises(StoreError, match="no complete answer"):
            store.get("v1/a")
        stopping.set()
        thread.join()
        store.close()


@pytest.mark.parametrize("value", ["socks5://proxy:1080", "https://proxy", "http://", "http://[::1"])
def test_a_proxy_of_another_kind_is_refused_by_name(value: str) -> None:
    with pytest.raises(ConfigError, match=r"HTTPS_PROXY: .*http://host:port expected"):
        find_proxy("s3.test", 443, {"HTTPS_PROXY": value})


def test_nothing_goes_through_a_proxy_that_is_not_tls(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Garage at an address of the mesh is behind no proxy, whatever the shell was told."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    store = open_store(f"s3+http://127.0.0.1:{port}/mesh", CREDENTIALS)
    assert list(store.list("v1/")) == []
    store.close()


@pytest.mark.parametrize(
    ("exceptions", "host", "is_direct"),
    [
        ("", "s3.test", False),
        ("*", "s3.test", True),
        ("s3.test", "s3.test", True),
        ("s3.test", "S3.test.", True),
        ("S3.TEST:443", "s3.test", True),
        ("s3.test:8443", "s3.test", False),
        (".test", "s3.test", True),
        ("test", "contest", False),
        ("other.example other,test", "s3.test", True),
        ("10.99.0.0/16", "10.99.0.1", True),
        ("10.99.0.0/16", "10.98.0.1", False),
        ("[fd10::1]", "fd10::1", True),
        ("fd10::/48", "fd10::1", True),
        ("fd10::/48", "10.99.0.1", False),
    ],
)
def test_no_proxy_names_hosts_domains_and_networks(exceptions: str, host: str, is_direct: bool) -> None:
    assert is_excepted(host, 443, exceptions) is is_direct


# -- the port next door --------------------------------------------------------------------------


@pytest.mark.garage
def test_tls_to_a_plain_port_and_the_admin_port_are_named(garage_node: GarageNode) -> None:
    admin = garage_node.admin_url.rpartition(":")[2]
    cases = [
        (f"s3+https://127.0.0.1:{garage_node.port}/mesh", r"plain HTTP: s3\+http:// expected"),
        (f"s3+http://127.0.0.1:{admin}/mesh", r"Garage's admin API .*S3 API expected \(3900\)"),
    ]
    for url, advice in cases:
        store = open_store(url, garage_node.credentials)
        for ask in (
            lambda store=store: store.get("v1/a"),
            lambda store=store: store.put("v1/a", b""),
            lambda store=store: list(store.list("v1/")),
        ):
            with pytest.raises(StoreError, match=advice):
                ask()
        store.close()


def test_plain_http_to_a_tls_port_is_named(authority: Authority, port: int) -> None:
    front = TlsFront(authority, port)
    with serving(front), pytest.raises(StoreError, match=r"s3\+https:// expected"):
        list(S3Store(plain(front.port), CREDENTIALS).list("v1/"))


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>The plain HTTP request was sent to HTTPS port</body></html>",  # nginx, HAProxy
        b"Client sent an HTTP request to an HTTPS server.\n",  # Go: Caddy, MinIO, Traefik
    ],
)
def test_a_front_that_says_that_it_speaks_tls_is_passed_on(port: int, body: bytes) -> None:
    Recorder.reply = (400, body)
    store = S3Store(plain(port), CREDENTIALS)
    with pytest.raises(StoreError, match=r"speaks TLS: s3\+https:// expected"):
        store.get("v1/a")
    store.close()


def test_a_tls_alert_in_place_of_an_answer_is_named() -> None:
    """As OpenSSL's own servers answer what is no handshake."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        store = S3Store(plain(server.getsockname()[1]), CREDENTIALS)

        def alert() -> None:
            for _ in range(2):
                connection = server.accept()[0]
                with connection:
                    connection.recv(65_536)
                    connection.sendall(b"\x15\x03\x01\x00\x02\x02\x16")

        thread = threading.Thread(target=alert)
        thread.start()
        with pytest.raises(StoreError, match=r"speaks TLS: s3\+https:// expected"):
            store.get("v1/a")
        thread.join()
        store.close()
