"""The admin API of a real Garage, and what our client does with one that is not as it should be."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from garage_node import GarageNode

from meshd.errors import ConfigError, StoreDeniedError, StoreError
from meshd.store import garage_admin
from meshd.store.credentials import generate_credentials
from meshd.store.deadlines import Timeouts
from meshd.store.garage_admin import (
    GarageAdmin,
    KeyGoneError,
    Permissions,
    parse_token,
    read_token,
)
from meshd.store.garage_http import AdminToken
from meshd.store.s3 import S3Store

TOKEN = "0f1e2d3c" * 8
READ, READ_WRITE = Permissions(read=True), Permissions(read=True, write=True)
DEAD_URL = "http://127.0.0.1:1"
DEADLINE_SECONDS = 20.0


@pytest.fixture
def admin(garage_node: GarageNode) -> Iterator[GarageAdmin]:
    with contextlib.closing(GarageAdmin([garage_node.admin_url], AdminToken(garage_node.admin_token))) as api:
        yield api


@pytest.mark.garage
def test_health_is_told(admin: GarageAdmin) -> None:
    health = admin.health()
    assert (health.status, health.storage_nodes, health.storage_nodes_up) == ("healthy", 1, 1)


@pytest.mark.garage
def test_a_bucket_is_made_once(admin: GarageAdmin) -> None:
    assert "made-once" not in admin.list_buckets()
    made = admin.create_bucket("made-once")
    assert admin.create_bucket("made-once") == admin.list_buckets()["made-once"] == made


@pytest.mark.garage
def test_a_key_is_made_once_and_never_returns(admin: GarageAdmin) -> None:
    credentials = generate_credentials()
    for _ in range(2):
        admin.create_key("wanderer", credentials)
    assert [key.name for key in admin.list_keys() if key.id == credentials.access_key] == ["wanderer"]
    held = admin.read_key(credentials.access_key)
    assert held is not None and (held.credentials, held.permissions) == (credentials, {})
    assert admin.delete_key(credentials.access_key)
    assert not admin.delete_key(credentials.access_key)
    assert admin.read_key(credentials.access_key) is None
    with pytest.raises(KeyGoneError, match=credentials.access_key):
        admin.create_key("wanderer", credentials)


@pytest.mark.garage
def test_a_key_may_do_what_it_was_allowed_and_no_more(admin: GarageAdmin, garage_node: GarageNode) -> None:
    credentials, bucket = generate_credentials(), admin.create_bucket("rights")
    admin.create_key("reader", credentials)
    with contextlib.closing(S3Store(garage_node.location(bucket="rights"), credentials)) as store:
        with pytest.raises(StoreDeniedError, match="AccessDenied"):
            store.get("a/b")
        admin.allow(bucket, credentials.access_key, READ_WRITE)
        store.put("a/b", b"1")
        admin.deny(bucket, credentials.access_key, Permissions(write=True))
        held = admin.read_key(credentials.access_key)
        assert held is not None and held.permissions == {bucket: READ}
        assert store.get("a/b") is not None
        with pytest.raises(StoreDeniedError):
            store.put("a/b", b"2")
        with pytest.raises(StoreDeniedError):
            store.delete("a/b")


@pytest.mark.garage
def test_a_wrong_token_is_refused_and_not_repeated(garage_node: GarageNode) -> None:
    with (
        contextlib.closing(GarageAdmin([garage_node.admin_url], AdminToken(TOKEN))) as api,
        pytest.raises(StoreDeniedError, match="check the admin token") as caught,
    ):
        api.list_keys()
    assert TOKEN not in str(caught.value)


@pytest.mark.garage
def test_the_next_url_answers_when_the_first_does_not(garage_node: GarageNode) -> None:
    urls = [DEAD_URL, garage_node.admin_url]
    with contextlib.closing(GarageAdmin(urls, AdminToken(garage_node.admin_token))) as api:
        assert api.health().status == "healthy"


@pytest.mark.garage
def test_the_s3_port_is_not_mistaken_for_the_admin_api(garage_node: GarageNode) -> None:
    url = f"http://127.0.0.1:{garage_node.port}"
    with (
        contextlib.closing(GarageAdmin([url], AdminToken(TOKEN))) as api,
        pytest.raises(StoreError, match=r"is this Garage's admin API, version 2\?"),
    ):
        api.list_keys()


@pytest.mark.slow
@pytest.mark.parametrize(("call", "then"), [("allow", READ), ("deny", Permissions())])
def test_a_permission_whose_answer_takes_too_long_is_looked_for(
    call: Literal["allow", "deny"], then: Permissions
) -> None:
    """The change is made before the answer is: another question finds it done."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked: list[bytes] = []
        info = msgspec.json.encode(
            {
                "accessKeyId": "GK1",
                "secretAccessKey": "s",
                "buckets": [{"id": "b", "permissions": then}],
            }
        )

        def serve() -> None:
            held = []
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    held.append(connection)
                    asked.append(connection.recv(4096).split()[1])
                    if b"GetKeyInfo" in asked[-1]:
                        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
                        connection.sendall(head % len(info) + info)

        threading.Thread(target=serve, daemon=True).start()
        times = Timeouts(connect_seconds=1, read_seconds=0.3, request_seconds=0.3)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with contextlib.closing(GarageAdmin([url], AdminToken(TOKEN), timeouts=times)) as api:
            getattr(api, call)("b", "GK1", READ)
            assert len(asked) == 2
            other = READ_WRITE if call == "allow" else READ
            info = info if call == "allow" else info.replace(b'"read":false', b'"read":true')
            with pytest.raises(StoreError, match=r"no answer within 0\.3 s"):
                getattr(api, call)("b", "GK1", other)


def test_a_permission_that_is_there_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Garage goes on with its answer for as long as somebody listens, and makes no other change meanwhile."""
    monkeypatch.setattr(garage_admin, "LOOK_SECONDS", 0.001)
    before = b'{"accessKeyId":"GK1","secretAccessKey":"s","buckets":[]}'
    after = before.replace(b"[]", b'[{"id":"b","permissions":{"read":true}}]')
    hung_up, calls = threading.Event(), list[bytes]()

    def serve(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            call = b""
            while words := connection.recv(4096):
                if not words.startswith((b"GET ", b"POST ")):
                    continue  # the body of the call before
                call = words.split()[1]
                calls.append(call)
                if b"GetKeyInfo" in call:
                    info = after if any(b"AllowBucketKey" in each for each in calls) else before
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(info) + info)
            if b"AllowBucketKey" in call:
                hung_up.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with contextlib.closing(GarageAdmin([url], AdminToken(TOKEN))) as api:
            api.allow("b", "GK1", READ)
            assert hung_up.wait(DEADLINE_SECONDS)
    assert sum(b"AllowBucketKey" in each for each in calls) == 1


def test_nobody_there_is_one_line_with_every_url() -> None:
    with (
        contextlib.closing(GarageAdmin([DEAD_URL, "http://127.0.0.1:2"], AdminToken(TOKEN))) as api,
        pytest.raises(StoreError, match=r"127\.0\.0\.1:1.*127\.0\.0\.1:2") as caught,
    ):
        api.health()
    assert TOKEN not in str(caught.value)


@pytest.mark.slow
def test_a_server_that_never_answers_ends_in_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        times = Timeouts(connect_seconds=1, read_seconds=0.2, request_seconds=0.4)
        with (
            contextlib.closing(GarageAdmin([url], AdminToken(TOKEN), timeouts=times)) as api,
            pytest.raises(StoreError, match=r"no answer within 0\.4 s"),
        ):
            api.health()


@pytest.mark.parametrize("body", [b"", b"{}", b"[1", b"<xml/>"])
def test_an_answer_of_something_else_is_refused(body: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with contextlib.closing(GarageAdmin([url], AdminToken(TOKEN))) as api:
            with pytest.raises(StoreError, match="not an answer of Garage's admin API"):
                api.health()
            thread.join(5)


@pytest.mark.parametrize(
    "url",
    ["", "garage:3903", "ftp://h/", "http://", "http://h:x", "http://u:pw@h", "http://h/v2", "http://h?a"],
)
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GarageAdmin([url], AdminToken(TOKEN))
    assert "pw" not in str(caught.value)


def test_a_token_file_is_private_and_holds_one_word(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="0600 expected"):
        read_token(path)
    path.chmod(0o600)
    assert read_token(path).secret == TOKEN
    assert TOKEN not in repr(read_token(path))
    for text in ("", "two words", "non-ascii-\u00e9"):
        with pytest.raises(ConfigError, match="one word"):
            parse_token(text, "here")
    with pytest.raises(ConfigError, match="No such file"):
        read_token(tmp_path / "nothing")
