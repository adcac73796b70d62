"""An S3 server that answers by a script, byte by byte."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable

from meshd.store.credentials import S3Credentials
from meshd.store.deadlines import Timeouts
from meshd.store.s3 import S3Location, S3Store

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


def open_scripted(server: ScriptedServer, *, secure: bool = False) -> S3Store:
    location = S3Location(secure=secure, host="127.0.0.1", port=server.server_address[1], bucket="mesh")
    return S3Store(location, CREDENTIALS, timeouts=TIMEOUTS)
