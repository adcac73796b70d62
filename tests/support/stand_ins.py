"""Small servers in place of services that cannot be had here: only what their own documentation promises.

``tests/services/test_stand_ins.py`` holds them to that documentation's examples.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, dict[str, str], Any]


@dataclass
class KumaStandIn:
    """Uptime Kuma's push monitors. ``monitors``: token to name; ``beats``: name to what was pushed last."""

    monitors: dict[str, str]
    beats: dict[str, dict[str, str]] = field(default_factory=dict)
    count: int = 0

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Any method. ``status`` other than "up" is down; ``ping``: milliseconds."""
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.count += 1
        name = self.monitors.get(parts.path.removeprefix("/api/push/"))
        if name is None or not parts.path.startswith("/api/push/"):
            return 404, {}, {"ok": False, "msg": "Monitor not found or not active."}
        ping = float(query.get("ping") or 0)
        if not 0 <= ping <= 100_000_000_000:
            return 404, {}, {"ok": False, "msg": "Invalid ping value."}
        status = "up" if query.get("status", "up") == "up" else "down"
        self.beats[name] = {"msg": "OK", **query, "status": status}
        return 200, {}, {"ok": True}


@dataclass
class DiscordStandIn:
    """Discord's "Execute Webhook". ``limits``: the next answers are 429, each with its seconds."""

    path: str = "/api/webhooks/1234567890123456789/a-token-of-a-webhook"
    messages: list[dict[str, Any]] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    status: int = 204

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        if path != self.path:
            return 404, {}, {"message": "Unknown Webhook", "code": 10015}
        if self.limits:
            wait = self.limits.pop(0)
            limited = {"message": "You are being rate limited.", "retry_after": wait, "global": False}
            return 429, {"Retry-After": str(int(wait) + 1), "X-RateLimit-Scope": "user"}, limited
        if self.status != 204:
            return self.status, {}, {"message": f"at {path} something went wrong"}
        message = json.loads(body) if method == "POST" else {}
        content = message.get("content", "")
        if not content:
            return 400, {}, {"message": "Cannot send an empty message", "code": 50006}
        if len(content) > 2000:
            return 400, {}, {"code": 50035, "message": "Invalid Form Body"}
        self.messages.append(message)
        return 204, {}, None

    @property
    def texts(self) -> list[str]:
        return [str(each["content"]) for each in self.messages]


@dataclass
class LokiStandIn:
    """Loki where others call it: lines are pushed, and it says whether it is ready.

    ``labels``: of each stream that was pushed, in their order."""

    labels: list[dict[str, str]] = field(default_factory=list)

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        if (method, path) == ("GET", "/ready"):
            return 200, {}, "ready"
        if path != "/loki/api/v1/push":
            return 404, {}, "404 page not found"
        if method != "POST":
            return 405, {}, None
        try:
            streams = json.loads(body)["streams"]
            found = [
                dict(each["stream"]) for each in streams if [(str(a), str(b)) for a, b in each["values"]]
            ]
        except (KeyError, TypeError, ValueError) as error:
            return 400, {}, f"couldn't parse push request: {error}"
        if not all(found):
            return 400, {}, "error at least one label pair is required per stream"
        self.labels += found
        return 204, {}, None


@dataclass
class PageStandIn:
    """Any web application: it has one page, at any path."""

    page: str

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        return 200, {}, {"page": self.page}


class StandIn(Protocol):
    def answer(self, method: str, path: str, body: bytes) -> Answer: ...


def open_server(stand_in: StandIn, address: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, document = stand_in.answer(self.command, self.path, body)
            text = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, format: str, *values: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    return server


@contextlib.contextmanager
def served(stand_in: StandIn) -> Iterator[str]:
    """Its URL on loopback, without a last slash."""
    server = open_server(stand_in)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
