#!/usr/bin/env python3
"""What Grafana Alloy documents of itself, as far as its module needs: ``validate``, and two of its pages.

``test_alloy.py`` holds it to the documentation's own examples. The real one is in no distribution's archive.
As a program: ``fake_alloy.py validate PATH``, and ``run PATH``: after a reload each Loki is sent one line.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

FAKE_ALLOY: Final = Path(__file__).resolve()
PORT: Final = 12345
RETRY_SECONDS: Final = 0.5
KNOWN: Final = {
    "loki.write",
    "loki.source.journal",
    "loki.source.file",
    "loki.source.api",
    "prometheus.scrape",
}
_TOKEN: Final = re.compile(
    r"""(?P<skip>[ \t]+|//[^\n]*)|(?P<line>\n)|(?P<text>"(?:\\.|[^"\\\n])*")|(?P<number>-?[0-9]+)"""
    r"""|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)|(?P<sign>[{}\[\]=,])"""
)


class AlloyError(Exception):
    """What it prints."""


@dataclass
class Block:
    """``name`` and label of a component or of a block in one; attributes, and blocks in their order."""

    name: str
    label: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    inner: list[Block] = field(default_factory=list)

    def blocks(self, name: str) -> list[dict[str, Any]]:
        return [each.attributes for each in self.inner if each.name == name]


def parse(text: str) -> list[Block]:
    """The components of a file. AlloyError: a syntax error."""
    tokens = list(_tokens(text))
    body, rest = _body(tokens, 0, top=True)
    assert rest == len(tokens)
    if body.attributes:
        raise AlloyError(f"attribute {next(iter(body.attributes))!r}: a block expected")
    return body.inner


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise AlloyError(f"{text.count(chr(10), 0, place) + 1}: illegal character {text[place]!r}")
        if match.lastgroup != "skip":
            yield str(match.lastgroup), match[0]
        place = match.end()


def _body(tokens: list[tuple[str, str]], at: int, *, top: bool = False) -> tuple[Block, int]:
    """Statements up to ``}``; each ends with its line."""
    body = Block("")
    while at < len(tokens):
        kind, word = tokens[at]
        if kind == "line":
            at += 1
            continue
        if word == "}" and not top:
            return body, at + 1
        if kind != "name":
            raise AlloyError(f"expected identifier, got {word}")
        at = _statement(tokens, at, body)
        if at < len(tokens) and tokens[at][0] != "line" and tokens[at][1] != "}":
            raise AlloyError(f"expected TERMINATOR, got {tokens[at][1]}")
    if not top:
        raise AlloyError("expected }, got EOF")
    return body, at


def _statement(tokens: list[tuple[str, str]], at: int, body: Block) -> int:
    name = tokens[at][1]
    at += 1
    label = ""
    if at < len(tokens) and tokens[at][0] == "text":
        label, at = _plain(tokens[at][1]), at + 1
    if at < len(tokens) and tokens[at][1] == "{":
        inner, at = _body(tokens, at + 1)
        body.inner.append(Block(name, label, inner.attributes, inner.inner))
        return at
    if label or at >= len(tokens) or tokens[at][1] != "=":
        raise AlloyError(f"{name}: expected block or attribute")
    body.attributes[name], at = _value(tokens, at + 1)
    return at


def _value(tokens: list[tuple[str, str]], at: int) -> tuple[Any, int]:
    kind, word = tokens[at]
    if kind in ("text", "number", "name"):
        return (_plain(word) if kind == "text" else word), at + 1
    if word not in "[{":
        raise AlloyError(f"expected expression, got {word!r}")
    found: dict[str, Any] | list[Any] = {} if word == "{" else []
    close, at = ("}" if word == "{" else "]"), at + 1
    while True:
        while tokens[at][0] == "line":
            at += 1
        if tokens[at][1] == close:
            return found, at + 1
        key = _plain(tokens[at][1])
        if isinstance(found, dict):
            if tokens[at + 1][1] != "=":
                raise AlloyError(f"expected =, got {tokens[at + 1][1]}")
            found[key], at = _value(tokens, at + 2)
        else:
            item, at = _value(tokens, at)
            found.append(item)
        if tokens[at][1] == ",":
            at += 1
        elif tokens[at][1] != close:
            raise AlloyError("missing ',' in list")


def _plain(word: str) -> str:
    return str(json.loads(word)) if word.startswith('"') else word


def validate(path: Path) -> None:
    """A file, or the ``*.alloy`` files of a directory as one.

    AlloyError for what ``alloy validate`` looks for: syntax, unknown components, two of one name.
    """
    files = sorted(path.glob("*.alloy")) if path.is_dir() else [path]
    seen: set[tuple[str, str]] = set()
    for file in files:
        for block in parse(file.read_text()):
            if block.name not in KNOWN:
                raise AlloyError(f"{file}: cannot find the definition of component name {block.name!r}")
            if (block.name, block.label) in seen or not block.label:
                raise AlloyError(f"{file}: component {block.name}.{block.label} already declared or unnamed")
            seen.add((block.name, block.label))


class FakeAlloy:
    """``/-/ready`` and ``/-/reload`` on loopback; ``running``: the components of the last good reload."""

    def __init__(self, directory: Path, port: int = 0) -> None:
        self.directory = directory
        self.running: list[Block] = []
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = outer.answer(self.path)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> tuple[int, str]:
        if path == "/-/ready":
            return (200, "Alloy is ready.\n") if self.running else (503, "Alloy is not ready.\n")
        if path != "/-/reload":
            return 404, "404 page not found\n"
        try:
            validate(self.directory)
        except AlloyError as error:
            return 400, f"error during the initial load: {error}\n"
        self.running = [
            each for file in sorted(self.directory.glob("*.alloy")) for each in parse(file.read_text())
        ]
        return 200, "config reloaded\n"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def run(directory: Path) -> None:
    """Until it is killed. A Loki that does not answer is tried again, as the real one does it."""
    alloy, sent = FakeAlloy(directory, PORT), None
    while True:
        if alloy.running is not sent and all(
            push(each) for each in alloy.running if each.name == "loki.write"
        ):
            sent = alloy.running
        time.sleep(RETRY_SECONDS)


def push(component: Block) -> bool:
    """One line with the component's labels to each of its endpoints; whether all of them took it."""
    labels = component.attributes.get("external_labels", {})
    line = {"stream": labels, "values": [[str(time.time_ns()), "config reloaded"]]}
    body = json.dumps({"streams": [line]}).encode()
    for end in component.blocks("endpoint"):
        request = urllib.request.Request(
            end["url"], data=body, method="POST", headers={"Content-Type": "application/json"}
        )
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except OSError as error:
            print(f"{end['url']}: {error}", file=sys.stderr, flush=True)
            return False
    return True


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in ("validate", "run"):
        print("alloy validate|run [<FLAG> ...] <PATH_NAME>", file=sys.stderr)
        return 1
    if arguments[0] == "run":
        run(Path(arguments[1]))
    try:
        validate(Path(arguments[1]))
    except AlloyError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
