"""Three nodes of a Garage that is far away, imitated: each connection and each request takes its time.

Objects are in memory and the same at every node. What is imitated beside distance is what an administrator
waits for: a change of permissions is answered with all keys of the bucket, one after the other, and nobody
else's change is begun meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

NODES: Final = 3
REGION: Final = "garage"


class DistantGarage:
    """``delay_seconds``: of a connection, and of a request. ``log``: begin, end and words of each."""

    def __init__(self, delay_seconds: float) -> None:
        self.delay_seconds = delay_seconds
        self.objects: dict[str, bytes] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self.buckets: dict[str, str] = {}
        self.permitted: dict[str, dict[str, dict[str, bool]]] = {}
        self.permitting = threading.Lock()
        self.log: list[tuple[float, float, str]] = []
        self._servers = [
            _Server(self, f"{kind}{number}") for kind in ("s3-", "admin-") for number in range(NODES)
        ]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def store_urls(self) -> list[str]:
        ports = [server.server_address[1] for server in self._servers[:NODES]]
        return [f"s3+http://127.0.0.1:{port}/records?logs=logs-bucket&region={REGION}" for port in ports]

    @property
    def admin_urls(self) -> list[str]:
        return [f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers[NODES:]]

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, garage: DistantGarage, name: str) -> None:
        self.garage = garage
        self.name = name
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        time.sleep(self.server.garage.delay_seconds)
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""

    def do_GET(self) -> None:
        self._answer()

    do_PUT = do_POST = do_DELETE = do_GET

    def _answer(self) -> None:
        garage, parts = self.server.garage, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        began = time.monotonic()
        time.sleep(garage.delay_seconds)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        status, answer, headers = self._work_out(unquote(parts.path), query, body)
        words = f"{self.server.name} {self.command} {unquote(self.path)}"
        garage.log.append((began, time.monotonic(), words))
        self._send(status, answer, headers)

    def _work_out(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        garage, key = self.server.garage, path.lstrip("/")
        if path.startswith("/v2/"):
            return 200, json.dumps(self._admin(path[4:], query, body)).encode(), {}
        if "list-type" in query:
            return 200, _listing(garage, key, query), {}
        if self.command == "PUT":
            garage.objects[key] = body
            return 200, b"", {}
        if (held := garage.objects.get(key)) is not None:
            return 200, held, {"ETag": f'"{_etag(held)}"'}
        return 404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>", {}

    def _admin(self, call: str, query: dict[str, str], body: bytes) -> Any:
        garage, asked = self.server.garage, json.loads(body or b"{}")
        calls: dict[str, Callable[[], Any]] = {
            "ListKeys": lambda: list(garage.keys.values()),
            "ListBuckets": lambda: [
                {"id": each, "globalAliases": [name]} for name, each in list(garage.buckets.items())
            ],
            "CreateBucket": lambda: {
                "id": garage.buckets.setdefault(asked["globalAlias"], asked["globalAlias"])
            },
            "ImportKey": lambda: self._import(asked),
            "GetKeyInfo": lambda: {
                "accessKeyId": query["id"],
                "secretAccessKey": garage.keys[query["id"]]["secret"],
                "buckets": [
                    {"id": bucket, "permissions": given}
                    for bucket, given in list(garage.permitted.get(query["id"], {}).items())
                ],
            },
            "AllowBucketKey": lambda: self._allow(asked),
        }
        return calls[call]()

    def _import(self, asked: dict[str, Any]) -> Any:
        key = asked["accessKeyId"]
        self.server.garage.keys[key] = {"id": key, "name": asked["name"], "secret": asked["secretAccessKey"]}
        return {"accessKeyId": key, "secretAccessKey": asked["secretAccessKey"]}

    def _allow(self, asked: dict[str, Any]) -> Any:
        garage = self.server.garage
        with garage.permitting:
            rights = garage.permitted.setdefault(asked["accessKeyId"], {}).setdefault(asked["bucketId"], {})
            rights.update({name: True for name, given in asked["permissions"].items() if given})
            holders = sum(asked["bucketId"] in each for each in list(garage.permitted.values()))
            for _ in range(holders):
                # Whoever hangs up ends the call, as Garage's HTTP server has it.
                if select.select([self.connection], [], [], garage.delay_seconds)[0]:
                    break
        return {"id": asked["bucketId"]}

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _listing(garage: DistantGarage, bucket: str, query: dict[str, str]) -> bytes:
    begin, after = f"{bucket}/{query['prefix']}", f"{bucket}/{query.get('start-after', '')}"
    lines = [
        f"<Contents><Key>{escape(key.removeprefix(bucket + '/'))}</Key><ETag>&quot;{_etag(body)}&quot;</ETag>"
        f"<Size>{len(body)}</Size></Contents>"
        for key, body in sorted(garage.objects.items())
        if key.startswith(begin) and key > after
    ]
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(lines)}</ListBucketResult>".encode()


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
