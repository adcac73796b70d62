"""One question to one name server, and its answer as text (RFC 1035). Enough to see what it serves."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import struct
from typing import Final

TYPES: Final = {"A": 1, "SOA": 6, "PTR": 12, "AAAA": 28, "SRV": 33}
_NAMES: Final = {number: name for name, number in TYPES.items()}
MAX_JUMPS: Final = 32
MAX_MESSAGE_BYTES: Final = 65535


def ask(server: tuple[str, int], name: str, type_name: str, seconds: float) -> list[str]:
    """The texts of the answer's records; an error status is one text, its name.

    Raises:
        ConnectionError: nobody answers.
        ValueError: what comes is no answer.
    """
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as channel:
        return ask_over(channel, server, name, type_name, seconds)


def ask_over(
    channel: socket.socket, server: tuple[str, int], name: str, type_name: str, seconds: float
) -> list[str]:
    """The same over a datagram socket that is there already, as one of another network stack."""
    identity = secrets.randbelow(1 << 16)
    query = struct.pack(">HHHHHH", identity, 0x0100, 1, 0, 0, 0) + _encode(name)
    query += struct.pack(">HH", TYPES[type_name], 1)
    try:
        channel.settimeout(seconds)
        channel.connect(server)
        channel.send(query)
        message = channel.recv(MAX_MESSAGE_BYTES)
    except OSError as error:
        raise ConnectionError(f"no answer from {server[0]} port {server[1]}: {error}") from None
    return parse_answer(message, identity)


def parse_answer(message: bytes, identity: int) -> list[str]:
    """ValueError for what is no answer to this question."""
    try:
        seen, flags, questions, answers = struct.unpack_from(">HHHH", message)
        if seen != identity or not flags & 0x8000:
            raise ValueError("not the answer to this question")
        if flags & 0x000F:
            return [_STATUS.get(flags & 0x000F, f"status {flags & 0x000F}")]
        offset = 12
        for _ in range(questions):
            offset = _decode(message, offset)[1] + 4
        texts = []
        for _ in range(answers):
            _, offset = _decode(message, offset)
            kind, _, _, length = struct.unpack_from(">HHIH", message, offset)
            offset += 10
            if offset + length > len(message):
                raise ValueError("a broken answer")
            texts.append(_text(message, kind, offset, length))
            offset += length
        return texts
    except (struct.error, IndexError):
        raise ValueError("a broken answer") from None


_STATUS: Final = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def _text(message: bytes, kind: int, offset: int, length: int) -> str:
    match _NAMES.get(kind):
        case "A" | "AAAA":
            return str(ipaddress.ip_address(message[offset : offset + length]))
        case "PTR":
            return _decode(message, offset)[0]
        case "SRV":
            priority, weight, port = struct.unpack_from(">HHH", message, offset)
            return f"{priority} {weight} {port} {_decode(message, offset + 6)[0]}"
        case "SOA":
            _, offset = _decode(message, offset)
            _, offset = _decode(message, offset)
            return f"serial {struct.unpack_from('>I', message, offset)[0]}"
        case _:
            return f"type {kind}"


def _encode(name: str) -> bytes:
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def _decode(message: bytes, offset: int) -> tuple[str, int]:
    labels: list[str] = []
    after: int | None = None
    for _ in range(MAX_JUMPS):
        length = message[offset]
        if length >= 0xC0:
            after = after if after is not None else offset + 2
            offset = struct.unpack_from(">H", message, offset)[0] & 0x3FFF
        elif length == 0:
            return ".".join(labels) + ".", after if after is not None else offset + 1
        else:
            labels.append(message[offset + 1 : offset + 1 + length].decode("ascii", "replace"))
            offset += length + 1
    raise ValueError("a name without end")
