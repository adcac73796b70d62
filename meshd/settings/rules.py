"""What the value of each key has to be, beyond its type."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from meshd.errors import ConfigError
from meshd.model.network import Endpoint
from meshd.settings.tables import SettingsFile, WireguardSettings

MAX_INTERFACE_NAME: Final = 15
MAX_FIBS: Final = 16

_INTERFACE_NAME: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{MAX_INTERFACE_NAME - 1}}}")
_WORDS_OF_TOOLS: Final = frozenset({"all", "default", "interfaces"})
"""wg(8) takes ``all`` and ``interfaces`` for something else, Linux's sysctls ``all`` and ``default``."""
_INTERFACE_EXPECTED: Final = (
    f"1 to {MAX_INTERFACE_NAME} ASCII letters, digits, - and _, the first no -, none of "
    + ", ".join(sorted(_WORDS_OF_TOOLS))
)


def second_interface(wireguard: WireguardSettings, source: str) -> str:
    """wg0 -> wg100: a name that ifconfig(8) can create by itself, as the number is a unit to it."""
    first, second = wireguard.interface, wireguard.rotation_interface
    if not second:
        stem = first.rstrip("0123456789")
        second = f"{stem}{int(first[len(stem) :] or 0) + 100}"
        if len(second) > MAX_INTERFACE_NAME:
            second = f"{stem[: MAX_INTERFACE_NAME - 3]}100"
    if second == first or not _is_interface_name(second):
        raise ConfigError(
            f"{source}: wireguard.rotation_interface: {second!r} seen, {_INTERFACE_EXPECTED}, and "
            f"another name than {first!r} expected"
        )
    return second


def _is_interface_name(name: str) -> bool:
    """IFNAMSIZ with its final zero is 16 on both systems. Never one that a tool takes for an option."""
    return _INTERFACE_NAME.fullmatch(name) is not None and name not in _WORDS_OF_TOOLS


class _Rule(NamedTuple):
    """What the value of one key has to be, beyond its type. ``expected``: the same for people."""

    key: str
    holds: Callable[[Any], bool]
    expected: str


_RULES: Final = (
    _Rule("wireguard.interface", _is_interface_name, _INTERFACE_EXPECTED),
    _Rule(
        "wireguard.listen_port",
        lambda port: 0 < port < 65534,
        "1 to 65533, as key rotations and relaying use the next two",
    ),
    _Rule(
        "wireguard.fibs",
        lambda fibs: len(set(fibs)) == len(fibs) <= MAX_FIBS and all(0 <= fib < 65536 for fib in fibs),
        f"at most {MAX_FIBS} different numbers of 0 to 65535",
    ),
    _Rule("wireguard.key_lifetime_days", lambda days: 0 <= days <= 3650, "0 (never by itself) to 3650"),
    _Rule(
        "wireguard.key_lifetime_days", lambda days: days == 0 or days >= 1 / 24, "an hour (0.042) at least"
    ),
    _Rule("wireguard.mtu_bytes", lambda size: 1280 <= size <= 65455, "1280 to 65455"),
    _Rule("wireguard.persistent_keepalive_seconds", lambda seconds: 0 < seconds < 65536, "1 to 65535"),
    _Rule(
        "wireguard.boot_file",
        lambda path: path == "" or Path(path).is_absolute(),
        "an absolute path or nothing",
    ),
    _Rule(
        "registry.poll_seconds",
        lambda seconds: seconds == 0 or 0.05 <= seconds <= 3600,
        "0 (automatic) or 0.05 to 3600",
    ),
    _Rule("registry.stale_after_seconds", lambda seconds: seconds > 0, "more than 0"),
    _Rule(
        "probe.interval_seconds",
        lambda seconds: seconds == 0 or 0.1 <= seconds <= 300,
        "0 (automatic) or 0.1 to 300",
    ),
    _Rule("probe.window", lambda probes: 2 <= probes <= 10000, "2 to 10000"),
    _Rule("exchange.port", lambda port: 0 < port < 65536, "1 to 65535"),
    _Rule("exchange.witness_seconds", lambda seconds: 0.1 <= seconds <= 3600, "0.1 to 3600"),
    _Rule("relay.pairs", lambda pairs: 0 < pairs <= 256, "1 to 256"),
    _Rule(
        "relay.bytes_per_second",
        lambda count: 10_000 <= count <= 10_000_000_000,
        "10000 to 10000000000",
    ),
    _Rule(
        "relay.loss_ratio",
        lambda share: share == 0 or 0.05 <= share <= 1,
        "0 (never for that) or 0.05 to 1",
    ),
    _Rule("relay.latency_margin_ms", lambda ms: 1 <= ms <= 10_000, "1 to 10000"),
    _Rule("relay.latency_share", lambda share: 0.05 <= share <= 0.9, "0.05 to 0.9"),
    _Rule("relay.latency_minutes", lambda minutes: 1 <= minutes <= 60, "1 to 60"),
    _Rule("safety.max_removed_share", lambda share: 0 <= share <= 1, "0 to 1"),
    _Rule(
        "safety.confirm_seconds",
        lambda seconds: seconds == 0 or 1 <= seconds <= 3600,
        "0 (never) or 1 to 3600",
    ),
)


def check_ranges(file: SettingsFile, source: str) -> None:
    for rule in _RULES:
        table, _, name = rule.key.partition(".")
        seen = getattr(getattr(file, table), name)
        if not rule.holds(seen):
            shown = list(seen) if isinstance(seen, tuple) else seen
            raise ConfigError(f"{source}: {rule.key}: {shown!r} seen, {rule.expected} expected")
    for text in file.metrics.listen:
        parse_listen(text, f"{source}: metrics.listen")


def parse_listen(text: str, where: str) -> tuple[str, int]:
    """``ADDRESS:PORT`` with the word ``mesh`` allowed as address -> (address text, port)."""
    host, _, port = text.rpartition(":")
    if host == "mesh" and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
        return host, int(port)
    try:
        endpoint = Endpoint.parse(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {error} (or mesh:PORT)") from None
    return str(endpoint.address), endpoint.port
