"""What stands between a client and an S3 server in companies: a TLS front with a certificate of a private
authority, and a proxy that only lets CONNECT through. Both are real, on loopback."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of its own, and what it signed for one server."""

    certificate: Path
    server_key: Path
    server_certificate: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server_certificate, self.server_key)
        return context


def make_authority(directory: Path, *names: str) -> Authority:
    """``names`` as OpenSSL writes them: ``DNS:*.s3.test``, ``IP:127.0.0.1``."""

    def openssl(*argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=directory, check=True, capture_output=True, timeout=30)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *curve, "-days", "2", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=Our CA",
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    openssl("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=store")
    (directory / "names").write_text(f"subjectAltName={','.join(names)}\n")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", "names", "-out", "server.crt",
    )  # fmt: skip
    return Authority(directory / "ca.crt", directory / "server.key", directory / "server.crt")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class TlsFront(_Server):
    """Ends TLS and hands the bytes on to a plain server on loopback, as nginx in front of a Garage does."""

    def __init__(self, authority: Authority, target_port: int) -> None:
        super().__init__(_FrontHandler)
        self.target_port = target_port
        self.context = authority.context()


class _FrontHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        front = self.server
        assert isinstance(front, TlsFront)
        with contextlib.suppress(OSError):  # ssl.SSLError among them: a client that does not trust us
            outside = front.context.wrap_socket(self.request, server_side=True)
            with outside, socket.create_connection(("127.0.0.1", front.target_port), timeout=10) as inside:
                _carry(outside, inside)


class ConnectProxy(_Server):
    """``ways``: which port of loopback stands for which ``host:port``; everything else is 403.

    ``authorization``: what the header Proxy-Authorization has to be, if anything.
    """

    def __init__(self, ways: Mapping[str, int], authorization: str = "") -> None:
        super().__init__(_ProxyHandler)
        self.ways = ways
        self.authorization = authorization
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _ProxyHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        proxy = self.server
        assert isinstance(proxy, ConnectProxy)
        head = b""
        while b"\r\n\r\n" not in head and (block := self.request.recv(BLOCK_BYTES)):
            head += block
        method, _, rest = head.decode().partition(" ")
        target = rest.partition(" ")[0]
        proxy.asked.append(f"{method} {target}")
        with contextlib.suppress(OSError):
            if proxy.authorization and f"Proxy-Authorization: {proxy.authorization}\r\n" not in head.decode():
                self.request.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            elif method != "CONNECT" or target not in proxy.ways:
                self.request.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            else:
                with socket.create_connection(("127.0.0.1", proxy.ways[target]), timeout=10) as inside:
                    self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    _carry(self.request, inside)


def _carry(one: socket.socket, other: socket.socket) -> None:
    """Both ways, until either side has ended."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(BLOCK_BYTES):
                target.sendall(block)
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=pump, args=(other, one), daemon=True)
    back.start()
    pump(one, other)
    back.join()


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
