"""The text protocol of userspace WireGuard (https://www.wireguard.com/xplatform/). Pure.

Keys travel as hex, one ``key=value`` a line, an empty line ends a message. Secrets pass
through ``render_set`` and ``parse_get``, so no error text here repeats the value of a key.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from meshd.backend.peer_steps import PeerStep
from meshd.errors import BackendError
from meshd.model.device import Device, Peer, PeerConfig, PeerStats
from meshd.model.keys import KEY_BYTES, PresharedKey, PrivateKey, PublicKey
from meshd.model.network import Endpoint, IPNetwork, parse_network

GET: Final = b"get=1\n\n"
END: Final = b"\n\n"
NO_KEY: Final = bytes(KEY_BYTES)
_SCOPE: Final = re.compile(r"%[^\]]*")
_MAX_NUMBER_DIGITS: Final = 20
KNOWN_ENDPOINTS: Final = 2048
"""Those of 1,000 peers on both interfaces. Each look at the kernel reads the same ones."""


def render_set(
    *,
    private_key: PrivateKey | None = None,
    listen_port: int | None = None,
    steps: Iterable[PeerStep] = (),
) -> bytes:
    """One set command. What is None or absent stays as it is; allowed IPs are only added."""
    lines = ["set=1"]
    if private_key is not None:
        lines.append(f"private_key={private_key.reveal().hex()}")
    if listen_port is not None:
        lines.append(f"listen_port={listen_port}")
    for step in steps:
        lines.extend(_render_step(step))
    return "\n".join(lines).encode("ascii") + END


def _render_step(step: PeerStep) -> Iterator[str]:
    yield f"public_key={bytes(step.public_key).hex()}"
    if step.remove:
        yield "remove=true"
        return
    if step.preshared_key is not None:
        yield f"preshared_key={step.preshared_key.reveal().hex()}"
    if step.endpoint is not None:
        yield f"endpoint={step.endpoint}"
    if step.persistent_keepalive_seconds is not None:
        yield f"persistent_keepalive_interval={step.persistent_keepalive_seconds}"
    for network in step.allowed_ips:
        yield f"allowed_ip={network}"


def check_answer(answer: bytes, what: str) -> None:
    """Raise BackendError unless the answer says ``errno=0``; ``what`` names the request."""
    _check_errno(_split(answer, what), what)


def parse_get(answer: bytes, name: str, implementation: str) -> Device:
    """The answer to ``get=1`` as a Device. BackendError names the key of a line that is wrong.

    The private key is turned into the public key on its line and kept nowhere.
    Keys that this version of the protocol does not know are skipped, as the protocol asks.
    """
    what = f"interface {name}: answer to get"
    lines = _split(answer, what)
    _check_errno(lines, what)
    public_key: PublicKey | None = None
    listen_port = 0
    sections: list[_Section] = []
    for key, value in lines:
        if key == "private_key":
            public_key = _parse_own_key(value, what)
        elif key == "listen_port":
            listen_port = _parse_number(key, value, what, 65535)
        elif key == "public_key":
            sections.append(_Section(PublicKey(_parse_key(key, value, what))))
        elif sections:
            sections[-1].add(key, value, what)
    return Device(
        name=name,
        implementation=implementation,
        public_key=public_key,
        listen_port=listen_port,
        peers=_collect(sections),
    )


def parse_private_key(answer: bytes, name: str) -> PrivateKey | None:
    """The private key in the answer to ``get=1``; None: the device has none."""
    what = f"interface {name}: answer to get"
    lines = _split(answer, what)
    _check_errno(lines, what)
    for key, value in lines:
        if key == "private_key":
            raw = _parse_key(key, value, what)
            return PrivateKey(raw) if any(raw) else None
    return None


class _Section:
    """The lines of one peer, gathered."""

    __slots__ = ("allowed_ips", "endpoint", "numbers", "preshared_key", "public_key")

    def __init__(self, public_key: PublicKey) -> None:
        self.public_key = public_key
        self.allowed_ips: set[IPNetwork] = set()
        self.endpoint: Endpoint | None = None
        self.preshared_key: PresharedKey | None = None
        self.numbers: dict[str, int] = {}

    def add(self, key: str, value: str, what: str) -> None:
        if key == "allowed_ip":
            self.allowed_ips.add(_parse_allowed_ip(value, what))
        elif key == "endpoint":
            self.endpoint = _parse_endpoint(value, what)
        elif key == "preshared_key":
            raw = _parse_key(key, value, what)
            self.preshared_key = None if raw == NO_KEY else PresharedKey(raw)
        elif key in _NUMBERS:
            self.numbers[key] = _parse_number(key, value, what, _NUMBERS[key])

    def value(self) -> Peer:
        number = self.numbers.get
        config = PeerConfig(
            public_key=self.public_key,
            allowed_ips=frozenset(self.allowed_ips),
            endpoint=self.endpoint,
            persistent_keepalive_seconds=number("persistent_keepalive_interval", 0),
            preshared_key=self.preshared_key,
        )
        stats = PeerStats(
            latest_handshake_at=number("last_handshake_time_sec", 0)
            + number("last_handshake_time_nsec", 0) / 1e9,
            receive_bytes=number("rx_bytes", 0),
            transmit_bytes=number("tx_bytes", 0),
        )
        return Peer(config=config, stats=stats)


_NUMBERS: Final[Mapping[str, int]] = {
    "persistent_keepalive_interval": 65535,
    "last_handshake_time_sec": 2**63,
    "last_handshake_time_nsec": 10**9,
    "rx_bytes": 2**64,
    "tx_bytes": 2**64,
}


def _collect(sections: Iterable[_Section]) -> dict[PublicKey, Peer]:
    return {section.public_key: section.value() for section in sections}


def _split(answer: bytes, what: str) -> list[tuple[str, str]]:
    try:
        text = answer.decode("ascii")
    except UnicodeDecodeError:
        raise BackendError(f"{what}: bytes outside ASCII seen, key=value lines expected") from None
    pairs = []
    for line in text.split("\n"):
        if line:
            key, separator, value = line.partition("=")
            if not separator:
                raise BackendError(f"{what}: a line without '=' seen, key=value expected")
            pairs.append((key, value))
    return pairs


def _check_errno(lines: list[tuple[str, str]], what: str) -> None:
    if not lines or lines[-1][0] != "errno":
        raise BackendError(f"{what}: no errno at its end, errno=0 expected")
    value = lines[-1][1]
    number = _parse_number("errno", value.removeprefix("-"), what, 4095)
    if number != 0:
        seen = errno.errorcode.get(number, str(number))
        raise BackendError(f"{what}: errno {seen} seen, errno 0 expected")


def _parse_own_key(value: str, what: str) -> PublicKey | None:
    raw = _parse_key("private_key", value, what)
    return None if raw == NO_KEY else PrivateKey(raw).public()


def _parse_key(key: str, value: str, what: str) -> bytes:
    try:
        raw = bytes.fromhex(value)
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES or len(value) != 2 * KEY_BYTES:
        raise BackendError(f"{what}: {key}: expected {2 * KEY_BYTES} hex digits")
    return raw


def _parse_number(key: str, value: str, what: str, maximum: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= _MAX_NUMBER_DIGITS):
        raise BackendError(f"{what}: {key}: a decimal number expected")
    number = int(value)
    if number > maximum:
        raise BackendError(f"{what}: {key}: {number} seen, at most {maximum} expected")
    return number


def _parse_allowed_ip(value: str, what: str) -> IPNetwork:
    try:
        return parse_network(value)
    except ValueError as error:
        raise BackendError(f"{what}: allowed_ip: {error}") from None


def _parse_endpoint(value: str, what: str) -> Endpoint:
    try:
        return _endpoint(value)
    except ValueError as error:
        raise BackendError(f"{what}: {error}") from None


@lru_cache(maxsize=KNOWN_ENDPOINTS)
def _endpoint(value: str) -> Endpoint:
    return Endpoint.parse(_SCOPE.sub("", value))
