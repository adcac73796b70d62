"""meshd.toml -> one frozen Settings. Unknown keys, wrong types and bad values are errors.

Every error names the file, the key, the value seen and the value expected. Nothing here
is secret: keys and store credentials live in their own 0600 files.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

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
from meshd.settings.rules import check_ranges, second_interface
from meshd.settings.rules import parse_listen as parse_listen
from meshd.settings.tables import DEFAULT_CONFIG_PATH as DEFAULT_CONFIG_PATH
from meshd.settings.tables import DEFAULT_EXCHANGE_PORT as DEFAULT_EXCHANGE_PORT
from meshd.settings.tables import DEFAULT_METRICS_PORT as DEFAULT_METRICS_PORT
from meshd.settings.tables import DEFAULT_RUN_DIR as DEFAULT_RUN_DIR
from meshd.settings.tables import FREEBSD as FREEBSD
from meshd.settings.tables import (
    ControlSettings,
    ExchangeSettings,
    HostSettings,
    LogSettings,
    ProbeSettings,
    RelaySettings,
    SafetySettings,
    SettingsFile,
    Table,
    WireguardSettings,
)
from meshd.settings.tables import JailSettings as JailSettings
from meshd.settings.tables import MetricsSettings as MetricsSettings
from meshd.settings.tables import RegistrySettings as RegistrySettings
from meshd.text_files import decode_text

T = TypeVar("T")

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
        file = msgspec.convert(document, SettingsFile, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(str(error))}") from None
    check_ranges(file, source)
    return Settings(
        state_dir=_absolute(file.state_dir, f"{source}: state_dir"),
        run_dir=_absolute(file.run_dir, f"{source}: run_dir"),
        host=file.host,
        wireguard=msgspec.structs.replace(
            file.wireguard, rotation_interface=second_interface(file.wireguard, source)
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
    tables = {name: kind for name, kind in get_type_hints(SettingsFile).items() if _is_table(kind)}
    here = SettingsFile if unknown["table"] is None else tables.get(unknown["table"])
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
    return isinstance(kind, type) and issubclass(kind, Table)


def setting_values(settings: Settings) -> dict[str, object]:
    """Every key of the file with its value in force, as ``wireguard.listen_port``."""
    values: dict[str, object] = {"state_dir": settings.state_dir, "run_dir": settings.run_dir}
    for name in settings.__struct_fields__:
        held = getattr(settings, name)
        if isinstance(held, Table):
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
