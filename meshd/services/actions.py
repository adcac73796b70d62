"""Carries out what a plan says: programs that check, questions to the running service, calls.

Everything is bounded in time and in what is read. An answer is a text that says what is wrong, or None.
"""

from __future__ import annotations

import base64
import http.client
import re
import socket
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import BinaryIO, Final
from urllib.parse import urlsplit

import msgspec

from meshd.errors import BackendError
from meshd.services import dns_query, live_servers
from meshd.services.compose import fill_secrets, hide_secrets
from meshd.services.deadline import ends_within
from meshd.services.directory import Ownership, open_directory
from meshd.services.isolation import run_isolated
from meshd.services.plan import (
    Call,
    Command,
    DnsAsk,
    HttpCall,
    HttpGet,
    LiveServers,
    Probe,
    RedisCall,
    SocketAsk,
    SocketKeep,
)
from meshd.services.web import web_connection

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
SHOWN: Final = 300
SHOWN_WORD: Final = 100


def run(
    action: Probe | Call, secrets: Mapping[str, str], *, prefix: tuple[str, ...] = (), fill: str = ""
) -> str | None:
    """What is wrong; None: it is as the plan says. ``prefix``: of commands, as ``jexec``. ``fill``: what
    ``{generation}`` in an expectation stands for."""
    try:
        return _carry_out(action, secrets, prefix, fill)
    except (OSError, ValueError, http.client.HTTPException, BackendError) as error:
        return hide_secrets(f"{_name(action)}: {error}", _hidden(action, secrets))


def hear_nobody(action: Probe, secrets: Mapping[str, str], *, prefix: tuple[str, ...] = ()) -> str | None:
    """That nobody answers; None: somebody does, whatever that is."""
    try:
        _carry_out(action, secrets, prefix, "")
    except OSError as error:
        return f"{_name(action)}: {error}"
    except (ValueError, http.client.HTTPException, BackendError):
        return None
    return None


def bring_live(live: LiveServers) -> str | None:
    """Change the running servers -> why it cannot be done so."""

    def ask(line: str) -> str:
        action = SocketAsk(target=live.target, send=f"{line}\n", timeout_seconds=live.timeout_seconds)
        return _ask_socket(action)

    try:
        return live_servers.bring(live.backends, ask)
    except (OSError, ValueError) as error:
        return f"{live.target}: {error}"


def _carry_out(
    action: Probe | Call, secrets: Mapping[str, str], prefix: tuple[str, ...], fill: str
) -> str | None:
    match action:
        case Command():
            return run_command(action, secrets, prefix)
        case HttpGet() | HttpCall():
            return _http(action, secrets, fill)
        case SocketAsk():
            return _judge(action, _ask_socket(action), secrets, fill)
        case SocketKeep():
            _keep_answer(action)
            return None
        case DnsAsk():
            return _ask_dns(action, fill)
        case RedisCall():
            return _redis(action, secrets, fill)


def _ask_dns(action: DnsAsk, fill: str) -> str | None:
    [name] = _filled((action.name,), fill)
    found = dns_query.ask(_place(action.server), name, action.record, action.timeout_seconds)
    what = f"{name} {action.record} at {action.server}"
    missing = [text for text in _filled(action.expect, fill) if text not in found]
    seen = ", ".join(found)[:SHOWN] or "nothing"
    return f"{what}: {seen} seen, {', '.join(missing)} expected" if missing else None


def run_command(
    command: Command,
    secrets: Mapping[str, str],
    prefix: tuple[str, ...] = (),
    *,
    shown: tuple[str, ...] = (),
) -> str | None:
    """Run it and judge its answer by exit status and by what it prints: several checkers only warn.

    ``secrets``: what it may quote and nobody is told. ``shown``: what people are told was run, where that is
    shorter.
    """
    problem = _run_command(command, secrets, prefix, shown or command.argv)
    return f"{problem}: {command.why}" if problem and command.why else problem


def _run_command(
    command: Command, secrets: Mapping[str, str], prefix: tuple[str, ...], shown: tuple[str, ...]
) -> str | None:
    if prefix and command.user:  # whom the jail knows by that name: jexec(8)
        prefix = (*prefix[:-1], "-U", command.user, prefix[-1])
    done = run_isolated(
        [*prefix, *command.argv],
        b"",
        seconds=command.timeout_seconds,
        max_output_bytes=MAX_ANSWER_BYTES,
        user="" if prefix else command.user,
    )
    output = done.output.decode("utf-8", "replace") + done.errors
    lines = [line for line in output.splitlines() if line.strip()]
    kept = [line for line in lines if not (command.ignore and re.search(command.ignore, line))]
    text = "\n".join(kept)
    words = (word if len(word) <= SHOWN_WORD else f"{word[:SHOWN_WORD]}..." for word in shown)
    name = " ".join((*prefix, *words))[:SHOWN]
    excused = bool(lines) and not kept
    end = hide_secrets(text, secrets)[-SHOWN:].strip()
    if done.status not in command.ok and not excused:
        return f"{name}: exit status {done.status}: {end or 'no word'}"
    if command.refuse and (match := re.search(command.refuse, text)):
        line = next((each for each in kept if match[0].splitlines()[0] in each), match[0])
        return f"{name}: {hide_secrets(line, secrets)[:SHOWN].strip()}"
    missing = [each for each in command.expect if each not in text]
    return f"{name}: {missing[0]!r} expected in its output, {end!r} seen" if missing else None


def ask_redis(
    target: str, commands: tuple[tuple[str, ...], ...], seconds: float, password: str = ""
) -> list[str]:
    """The answers of a Redis, Valkey or Sentinel, each as text (RESP 2). ValueError: one was an error."""
    host, port = _place(target)
    answers = []
    with socket.create_connection((host, port), seconds) as channel, ends_within(channel, seconds):
        stream = _RespReader(channel.makefile("rb"))
        sent = [("AUTH", password), *commands] if password else list(commands)
        for command in sent:
            parts = [word.encode() for word in command]
            frame = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
            channel.sendall(b"*%d\r\n%s" % (len(parts), frame))
            answers.append(stream.answer())
    return answers[len(sent) - len(commands) :]


class _RespReader:
    """Reads answers (RESP 2), all of them together of a bounded length."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = MAX_ANSWER_BYTES

    def answer(self, depth: int = 0) -> str:
        """The next one, as text. ValueError: it is an error, broken, or too long."""
        line = self._stream.readline(1 << 16)
        if not line.endswith(b"\r\n") or depth > 8:
            raise ValueError("the connection broke")
        self._take(len(line))
        kind, rest = chr(line[0]), line[1:-2].decode("utf-8", "replace")
        if kind == "-":
            raise ValueError(rest)
        if kind == "$" and int(rest) >= 0:
            self._take(int(rest))
            return self._stream.read(int(rest) + 2)[:-2].decode("utf-8", "replace")
        if kind == "*":
            return "\n".join(self.answer(depth + 1) for _ in range(max(int(rest), 0)))
        return "" if kind == "$" else rest

    def _take(self, length: int) -> None:
        self._left -= length
        if self._left < 0:
            raise ValueError("too long an answer")


def _redis(action: RedisCall, secrets: Mapping[str, str], fill: str) -> str | None:
    password = secrets.get(action.secret, "") if action.secret else ""
    if action.unless is not None:
        [known] = ask_redis(action.target, (action.unless[0],), action.timeout_seconds, password)
        if action.unless[1] in known:
            return None
    commands = tuple(tuple(fill_secrets(word, secrets) for word in command) for command in action.commands)
    said = "\n".join(ask_redis(action.target, commands, action.timeout_seconds, password))
    return _judge(action, said, secrets, fill)


def _http(action: HttpGet | HttpCall, secrets: Mapping[str, str], fill: str) -> str | None:
    parts = urlsplit(action.url)
    connection = web_connection(parts.scheme, parts.hostname or "", parts.port, action.timeout_seconds)
    headers = {"Accept": "application/json, text/plain, */*"}
    hidden = _hidden(action, secrets)
    if action.secret:
        headers["Authorization"] = _authorization(action.user, secrets[action.secret])
    method, body = "GET", None
    if isinstance(action, HttpCall):
        method = action.method
        if action.body is not None:
            body, headers["Content-Type"] = msgspec.json.encode(action.body), "application/json"
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.connect()
        with ends_within(connection.sock, action.timeout_seconds):
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            text = response.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
    finally:
        connection.close()
    if response.status not in action.status:
        expected = " or ".join(map(str, action.status))
        said = hide_secrets(text, hidden)[:SHOWN].strip()
        return f"{_name(action)}: status {response.status} seen, {expected} expected: {said}"
    return _judge(action, text, hidden, fill)


def _hidden(action: Probe | Call, secrets: Mapping[str, str]) -> Mapping[str, str]:
    """The secrets, and the form in which one of them is sent: who is asked may repeat that."""
    if isinstance(action, HttpGet | HttpCall) and action.secret in secrets:
        sent = _authorization(action.user, secrets[action.secret]).partition(" ")[2]
        return {**secrets, "": sent}
    return secrets


def _authorization(user: str, secret: str) -> str:
    """RFC 7617 with a user, else RFC 6750."""
    if not user:
        return f"Bearer {secret}"
    return f"Basic {base64.b64encode(f'{user}:{secret}'.encode()).decode()}"


def _keep_answer(action: SocketKeep) -> None:
    try:
        said = _ask_socket(action)
    except OSError:
        return
    pure = PurePosixPath(action.path)
    with open_directory(pure.parent) as directory:
        directory.stage(pure.name, said)
        directory.own(pure.name, Ownership(mode=0o644))
        directory.put(pure.name)


def _ask_socket(action: SocketAsk | SocketKeep) -> str:
    """What it answers until it closes or says nothing for half a second."""
    said = bytearray()
    seconds = action.timeout_seconds
    with _connect(action.target, seconds) as channel, ends_within(channel, seconds):
        channel.sendall(action.send.encode())
        try:
            while len(said) < MAX_ANSWER_BYTES and (piece := channel.recv(1 << 16)):
                said += piece
                channel.settimeout(0.5)
        except TimeoutError:
            if not said:
                raise
    return said.decode("utf-8", "replace")


def _connect(target: str, seconds: float) -> socket.socket:
    if not target.startswith("/"):
        return socket.create_connection(_place(target), seconds)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        channel.settimeout(seconds)
        channel.connect(target)
    except OSError:
        channel.close()
        raise
    return channel


def _judge(
    action: HttpGet | HttpCall | SocketAsk | RedisCall, text: str, secrets: Mapping[str, str], fill: str
) -> str | None:
    """Secrets are hidden before anything is cut off: half of one is one too."""
    missing = [each for each in _filled(action.expect, fill) if each not in text]
    if missing:
        said = hide_secrets(text, secrets)[:SHOWN].strip()
        return f"{_name(action)}: {missing[0]!r} expected, {said!r} seen"
    refuse = getattr(action, "refuse", "")
    if refuse and (match := re.search(refuse, text)):
        return f"{_name(action)}: {hide_secrets(match[0], secrets)[:SHOWN]!r} seen"
    return None


def _filled(expect: tuple[str, ...], fill: str) -> list[str]:
    return [text.replace("{generation}", fill) for text in expect]


def _name(action: Probe | Call) -> str:
    match action:
        case Command():
            return action.argv[0]
        case HttpGet():
            return f"GET {action.url}"
        case HttpCall():
            return f"{action.method} {action.url}"
        case DnsAsk():
            return f"{action.name} {action.record} at {action.server}"
        case SocketAsk() | SocketKeep():
            return f"{action.send.strip()[:80]!r} at {action.target}"
        case RedisCall():
            return f"redis at {action.target}"


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
