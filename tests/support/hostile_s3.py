"""An S3 server that never comes to an end, in each of the ways that cost a reader most."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from meshd.store.credentials import S3Credentials
from meshd.store.deadlines import Timeouts
from meshd.store.s3 import S3Location, S3Store

Hostility = Literal["slow bytes", "endless body", "endless pages", "silence"]

TIMEOUTS = Timeouts(connect_seconds=1, read_seconds=0.2, request_seconds=0.3)


class HostileServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, hostility: Hostility) -> None:
        self.hostility: Hostility = hostility
        self.stopping = threading.Event()
        self.pages = 0
        super().__init__(("127.0.0.1", 0), _Handler)

    def open(self) -> S3Store:
        """A client of this server with short time-outs."""
        location = S3Location(secure=False, host="127.0.0.1", port=self.server_address[1], bucket="mesh")
        return S3Store(location, S3Credentials(access_key="GK", secret_key="s"), timeouts=TIMEOUTS)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, HostileServer)
        buffer = b""
        try:
            while chunk := self.request.recv(65536):
                buffer += chunk
                if b"\r\n\r\n" in buffer:
                    prefix = buffer.partition(b"prefix=")[2].partition(b"&")[0].partition(b" ")[0]
                    self._answer(server, prefix.replace(b"%2F", b"/").decode())
                    buffer = b""
        except OSError:
            pass

    def _answer(self, server: HostileServer, prefix: str) -> None:
        head = b"HTTP/1.1 200 OK\r\n"
        match server.hostility:
            case "silence":
                server.stopping.wait(5)
            case "slow bytes":
                self.request.sendall(head + b"Content-Length: 100000\r\n\r\n")
                while not server.stopping.wait(0.05):
                    self.request.sendall(b"<")
            case "endless body":
                self.request.sendall(head + b"\r\n")
                while not server.stopping.is_set():
                    self.request.sendall(b" " * 65536)
            case "endless pages":
                server.pages += 1
                key = f"{prefix}{server.pages:020d}"
                entry = f"<Contents><Key>{key}</Key><ETag>e</ETag><Size>1</Size></Contents>"
                more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
                page = f"<ListBucketResult>{more}{entry}</ListBucketResult>".encode()
                self.request.sendall(head + b"Content-Length: %d\r\n\r\n%s" % (len(page), page))


@contextmanager
def hostile_server(hostility: Hostility) -> Iterator[HostileServer]:
    with HostileServer(hostility) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()
