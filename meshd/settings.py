"""meshd.toml -> one frozen Settings. Unknown keys, wrong types and bad values are errors.

Every error names the file, the key, the value seen and the value expected. Nothing here
is secret: keys and store credentials live in their own 0600 files.

Over 400 lines: every setting stands here with its bounds, so that one file is read for them all.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_type_hints

import msgspec

from meshd.errors import ConfigError
from meshd.model.network import (
    AnyEndpoint,
    Endpoint,
    IPNetwork,
    name_fault,
    parse_endpoint,
    parse_network,
    underlay_fault,
)
from meshd.text_files import decode_text

FREEBSD: Final = sys.platform.startswith("freebsd")
DEFAULT_CONFIG_PATH: Final = Path("/usr/local/etc/meshd/meshd.toml" if FREEBSD else "/etc/meshd/meshd.toml")
DEFAULT_STATE_DIR: Final = "/var/db/meshd" if FREEBSD else "/var/lib/meshd"
DEFAULT_RUN_DIR: Final = "/var/run/meshd" if FREEBSD else "/run/meshd"
DEFAULT_METRICS_PORT: Final = 9891
DEFAULT_EXCHANGE_PORT: Final = 9892
MAX_INTERFACE_NAME: Final = 15
MAX_FIBS: Final = 16

_INTERFACE_NAME: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{MAX_INTERFACE_NAME - 1}}}")
_WORDS_OF_TOOLS: Final = frozenset({"all", "default", "interfaces"})
"""wg(8) takes ``all`` and ``interfaces`` for something else, Linux's sysctls ``all`` and ``default``."""
_INTERFACE_EXPECTED: Final = (
    f"1 to {MAX_INTERFACE_NAME} ASCII letters, digits, - and _, the first no -, none of "
    + ", ".join(sorted(_WORDS_OF_TOOLS))
)

T = TypeVar("T")

BackendName = Literal["auto", "linux", "userspace", "freebsd"]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class HostSettings(_Table, frozen=True, kw_only=True):
    """What this host says of itself in its record. ``endpoints``: ADDRESS:PORT or NAME:PORT, the underlay.

    ``reflection``: also say where the other hosts see it.
    """

    endpoints: tuple[str, ...] = ()
    behind_nat: bool = False
    reflection: bool = True


class WireguardSettings(_Table, frozen=True, kw_only=True):
    """``boot_file``: wg-quick's form of the running mesh, kept 0600; empty: not written.

    Key rotations use ``rotation_interface`` (empty: the interface's number plus 100) and UDP port
    ``listen_port`` + 1. ``key_lifetime_days`` 0: the key stays until an administrator asks.
    ``fibs``: FreeBSD's routing tables that get the routes, the first one counts; none: that of meshd.
    """

    interface: str = "wg0"
    listen_port: int = 51820
    mtu_bytes: int = 1420
    backend: BackendName = "auto"
    userspace_program: str = ""
    boot_file: str = ""
    persistent_keepalive_seconds: int = 25
    rotation_interface: str = ""
    key_lifetime_days: float = 0.0
    fibs: tuple[int, ...] = ()


class RegistrySettings(_Table, frozen=True, kw_only=True):
    """``stores`` empty: those of the signed root. ``poll_seconds`` 0: by the number of hosts."""

    stores: tuple[str, ...] = ()
    poll_seconds: float = 0.0
    stale_after_seconds: float = 900.0


class JailSettings(_Table, frozen=True, kw_only=True):
    """The jail networks that this host announces, each within its grant; ``auto``: those in which its
    jails are. ``routes``: VNET jails get a route to the mesh where they need one."""

    networks: tuple[str, ...] | Literal["auto"] = ()
    routes: bool = True

    @property
    def is_auto(self) -> bool:
        return self.networks == "auto"


class ProbeSettings(_Table, frozen=True, kw_only=True):
    """``interval_seconds`` 0: a second per hundred peers, 1 to 10. ``window``: probes kept for loss.
    ``path_mtu``: search each path's MTU and give it to the routes."""

    interval_seconds: float = 0.0
    window: int = 60
    path_mtu: bool = True


class MetricsSettings(_Table, frozen=True, kw_only=True):
    """``listen``: ADDRESS:PORT each; the address ``mesh`` stands for the host's first mesh address."""

    listen: tuple[str, ...] = (f"mesh:{DEFAULT_METRICS_PORT}",)


class ExchangeSettings(_Table, frozen=True, kw_only=True):
    """``port``: the same on every host of a mesh. ``witness_seconds``: between two rounds of witnesses."""

    enabled: bool = True
    port: int = DEFAULT_EXCHANGE_PORT
    witness_seconds: float = 60.0


class RelaySettings(_Table, frozen=True, kw_only=True):
    """``enabled``: this host forwards for pairs of others, on UDP port ``wireguard.listen_port`` + 2, at most
    ``pairs`` and ``bytes_per_second``. ``use``: pairs of this host may go through others. ``loss_ratio``:
    of probes, from which they do although the direct path lives; 0: never for that. ``latency``: they do also
    where that is shorter by ``latency_margin_ms`` and ``latency_share`` for ``latency_minutes``."""

    enabled: bool = True
    use: bool = True
    pairs: int = 32
    bytes_per_second: int = 12_500_000
    loss_ratio: float = 0.2
    latency: bool = False
    latency_margin_ms: float = 20.0
    latency_share: float = 0.25
    latency_minutes: float = 5.0


class SafetySettings(_Table, frozen=True, kw_only=True):
    """``max_removed_share``: a plan that removes more than max(1, this share) of the peers unexplained is
    held. ``confirm_seconds``: a change of more than one peer is rolled back when half of those that it
    touched are silent for so long; 0: never."""

    max_removed_share: float = 0.2
    confirm_seconds: float = 120.0


class ControlSettings(_Table, frozen=True, kw_only=True):
    """``group``: its members may ask meshd how it is (``wgctl status``, ``plan``); empty: root alone."""

    group: str = ""


class LogSettings(_Table, frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class _File(_Table, frozen=True, kw_only=True):
    state_dir: str = DEFAULT_STATE_DIR
    run_dir: str = DEFAULT_RUN_DIR
    host: HostSettings = HostSettings()
    wireguard: WireguardSettings = WireguardSettings()
    registry: RegistrySettings = RegistrySettings()
    jails: JailSettings = JailSettings()
    probe: ProbeSettings = ProbeSettings()
    metrics: MetricsSettings = MetricsSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    relay: RelaySettings = RelaySettings()
    safety: SafetySettings = SafetySettings()
    log: LogSettings = LogSettings()
    control: ControlSettings = ControlSettings()
    services: dict[str, dict[str, Any]] = {}


_UNKNOWN: Final = re.compile(
    r"Object contains unknown field `(?P<key>[^`]*)`(?: - at `\$\.(?P<table>[^`]*)`)?"
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The checked settings of one daemon, with addresses and paths as values."""

    state_dir: Path
    run_dir: Path
    host: HostSettings
    wireguard: WireguardSettings
    registry: RegistrySettings
    jails: JailSettings
    probe: ProbeSettings
    metrics: MetricsSettings
    exchange: ExchangeSettings
    relay: RelaySettings
    safety: SafetySettings
    log: LogSettings
    control: ControlSettings
    endpoints: tuple[AnyEndpoint, ...]
    jail_networks: frozenset[IPNetwork]
    services: Mapping[str, Mapping[str, Any]]
    """A table for each module of this host; what may be in it is the module's matter."""


def parse_settings(document: Mapping[str, Any], *, source: str) -> Settings:
    """Check a decoded TOML document. ConfigError names ``source``, the key, seen and expected."""
    try:
        file = msgspec.convert(document, _File, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(str(error))}") from None
    _check_ranges(file, source)
    return Settings(
        state_dir=_absolute(file.state_dir, f"{source}: state_dir"),
        run_dir=_absolute(file.run_dir, f"{source}: run_dir"),
        host=file.host,
        wireguard=msgspec.structs.replace(
            file.wireguard, rotation_interface=_second_interface(file.wireguard, source)
        ),
        registry=file.registry,
        jails=file.jails,
        probe=file.probe,
        metrics=file.metrics,
        exchange=file.exchange,
        relay=file.relay,
        safety=file.safety,
        log=file.log,
        control=file.control,
        services=file.services,
        endpoints=tuple(
            _each(_parse_own_endpoint, text, f"{source}: host.endpoints") for text in file.host.endpoints
        ),
        jail_networks=frozenset(
            _each(parse_network, text, f"{source}: jails.networks")
            for text in (() if file.jails.networks == "auto" else file.jails.networks)
        ),
    )


def _explain(error: str) -> str:
    """msgspec's complaint; where it is of a key that there is not, with those that look like it."""
    import difflib  # loaded by who has mistyped something

    unknown = _UNKNOWN.match(error)
    if unknown is None:
        return error
    tables = {name: kind for name, kind in get_type_hints(_File).items() if _is_table(kind)}
    here = _File if unknown["table"] is None else tables.get(unknown["table"])
    prefix = f"{unknown['table']}." if unknown["table"] else ""
    near = difflib.get_close_matches(unknown["key"], here.__struct_fields__ if here else (), n=2)
    found = [prefix + key for key in near]
    found += [
        f"{name}.{unknown['key']}"
        for name, kind in tables.items()
        if unknown["key"] in kind.__struct_fields__
    ]
    hint = f"is it {' or '.join(found)}?" if found else "contrib/meshd.toml.sample has all that there are"
    return f"there is no key {prefix}{unknown['key']}; {hint}"


def _is_table(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, _Table)


def setting_values(settings: Settings) -> dict[str, object]:
    """Every key of the file with its value in force, as ``wireguard.listen_port``."""
    values: dict[str, object] = {"state_dir": settings.state_dir, "run_dir": settings.run_dir}
    for name in settings.__struct_fields__:
        held = getattr(settings, name)
        if isinstance(held, _Table):
            values |= {f"{name}.{key}": getattr(held, key) for key in held.__struct_fields__}
    return values


_FIRST_SETTINGS: Final = (
    'make it; most hosts need one setting: endpoints = ["ADDRESS:51820"] below [host] (man meshd.toml)'
)


def read_settings(path: Path) -> Settings:
    """Read and check the settings file. A missing file is a ConfigError, never defaults."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: not there: {_FIRST_SETTINGS}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        document = tomllib.loads(decode_text(text, str(path), "TOML"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    settings = parse_settings(document, source=str(path))
    if settings.wireguard.fibs and not FREEBSD:
        raise ConfigError(
            f"{path}: wireguard.fibs: {list(settings.wireguard.fibs)} seen on {sys.platform}, none expected: "
            "only FreeBSD has several routing tables (fibs)"
        )
    return settings


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


def _parse_own_endpoint(text: str) -> AnyEndpoint:
    host, colon, port = text.rpartition(":")
    # A resolver's way to write a whole name; records have one spelling of it, without the dot.
    endpoint = parse_endpoint(host.removesuffix(".") + colon + port)
    fault = underlay_fault(endpoint.address) if isinstance(endpoint, Endpoint) else name_fault(endpoint.name)
    if fault:
        raise ValueError(f"{text!r} is {fault}, a place where other hosts reach this one expected")
    return endpoint


def _each(parse: Callable[[str], T], text: str, where: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _absolute(text: str, where: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ConfigError(f"{where}: {text!r} seen, an absolute path expected")
    return path


def _second_interface(wireguard: WireguardSettings, source: str) -> str:
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


def _check_ranges(file: _File, source: str) -> None:
    for rule in _RULES:
        table, _, name = rule.key.partition(".")
        seen = getattr(getattr(file, table), name)
        if not rule.holds(seen):
            shown = list(seen) if isinstance(seen, tuple) else seen
            raise ConfigError(f"{source}: {rule.key}: {shown!r} seen, {rule.expected} expected")
    for text in file.metrics.listen:
        parse_listen(text, f"{source}: metrics.listen")
