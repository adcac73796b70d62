"""Messages as WireGuard sends them, as far as a relay can tell, and hosts to send them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2s
from ipaddress import ip_address

from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint
from meshd.relay.forwarding import Forwarder
from meshd.relay.table import RelayEnd, RelayPair, RelayTable

PLENTY = 1 << 30
Source = tuple[str, int]


def key(number: int) -> PublicKey:
    return PublicKey(number.to_bytes(32, "big"))


def with_mac1(message: bytes, receiver: PublicKey) -> bytes:
    keyed = blake2s(message, key=blake2s(b"mac1----" + receiver).digest(), digest_size=16)
    return message + keyed.digest() + bytes(16)


def initiation(sender: bytes, receiver: PublicKey) -> bytes:
    return with_mac1(b"\1\0\0\0" + sender + os.urandom(108), receiver)


def response(sender: bytes, answered: bytes, receiver: PublicKey) -> bytes:
    return with_mac1(b"\2\0\0\0" + sender + answered + os.urandom(48), receiver)


def cookie(answered: bytes) -> bytes:
    return b"\3\0\0\0" + answered + os.urandom(56)


def data(index: bytes, size: int = 128) -> bytes:
    return b"\4\0\0\0" + index + os.urandom(size - 8)


@dataclass(frozen=True)
class Host:
    """``number``: of its key, its address and the indices that it chooses."""

    number: int
    port: int = 51820

    @property
    def key(self) -> PublicKey:
        return key(self.number)

    @property
    def address(self) -> str:
        return f"192.0.2.{self.number}"

    @property
    def source(self) -> Source:
        return self.address, self.port

    @property
    def end(self) -> RelayEnd:
        return RelayEnd((self.key,), Endpoint(ip_address(self.address), self.port))

    def index(self, session: int = 0) -> bytes:
        return bytes((self.number, 0, 0, session))


A, B, C, D = (Host(number) for number in (1, 2, 3, 4))


def table(*pairs: tuple[Host, Host], rate: int = PLENTY) -> RelayTable:
    return RelayTable(pairs=tuple(RelayPair(a.end, b.end) for a, b in pairs), bytes_per_second=rate)


def forwarder(*pairs: tuple[Host, Host], rate: int = PLENTY) -> Forwarder:
    made = Forwarder()
    made.use(table(*pairs, rate=rate))
    return made


def shake_hands(
    relay: Forwarder, a: Host, b: Host, *, source: Source | None = None, now: float = 0.0, session: int = 0
) -> None:
    """``a`` begins, from ``source``."""
    sent = relay.forward(initiation(a.index(session), b.key), source or a.source, now)
    assert b.source in sent
    answer = response(b.index(session), a.index(session), a.key)
    assert relay.forward(answer, b.source, now) == [source or a.source]
