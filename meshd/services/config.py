"""A table ``[services.NAME]`` of meshd.toml: what every module has in common, and what is its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from meshd.errors import ConfigError
from meshd.registry.statement import HOST_NAME
from meshd.services.guards import Allowed
from meshd.services.module import is_built_in, load_module, read_config, secret_names
from meshd.settings import FREEBSD

EXECUTABLE_PREFIX: Final = "meshd-service-"
EXECUTABLE_FOLDERS: Final = ("/usr/local/libexec/meshd", "/usr/libexec/meshd", "/usr/local/bin")
MAX_SECRET_BYTES: Final = 64 * 1024


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """Keys that every module's table may have. Other keys are the module's own."""

    adopt: bool = False
    """Take over a file that is there and is not ours. It is kept: ``wgctl service rollback --original``."""
    drift: Literal["hold", "overwrite"] = "hold"
    """A file that somebody else changed."""
    allow_restart: bool = False
    """A restart, which interrupts, needs this or an operator's word."""
    service: str = ""
    """What the service manager calls it. Empty: as the module."""
    jail: str = ""
    """FreeBSD: the jail in which it is reloaded and checked."""
    jail_root: str = ""
    """Where that jail's root is on this host. Files of the module are named by their paths on this host."""
    reload_command: tuple[str, ...] = ()
    """Instead of the service manager's; no shell is involved."""
    restart_command: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    """Programs that a module of somebody else's may name in its checks."""
    urls: tuple[str, ...] = ()
    """Beginnings of URLs that it may call."""
    secrets: dict[str, str] = {}
    """Name to ``file:/PATH``: what ``{secret:NAME}`` in its texts becomes. The module never sees it."""
    command: str = ""
    """The executable that is the module."""
    max_age_seconds: float = 86400.0
    """On a registry that nobody has confirmed for so long nothing is added either."""


class ModuleConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A module as this host's settings want it. ``own``: its own part of the table."""

    name: str
    common: Common
    own: Mapping[str, Any]
    allowed: Allowed
    kind: Literal["built-in", "plug-in", "executable"]
    executable: str = ""

    @property
    def service(self) -> str:
        return self.common.service or self.name

    def fingerprint(self) -> bytes:
        """What of the settings decides about a plan."""
        return msgspec.json.encode([self.name, self.executable, self.common, dict(self.own)], order="sorted")


def read_modules(tables: Mapping[str, Mapping[str, Any]], source: str) -> dict[str, ModuleConfig]:
    """Every module that the settings name. ConfigError names ``source``, the key and what is expected."""
    try:
        return {name: _read(name, table) for name, table in tables.items()}
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def read_secrets(config: ModuleConfig) -> dict[str, str]:
    """The texts of its secrets. ConfigError for a file that cannot be read or that others may read."""
    return {name: _read_secret(config.name, name, text) for name, text in config.common.secrets.items()}


def service_command(
    config: ModuleConfig, verb: Literal["reload", "restart"], better: tuple[str, ...] = ()
) -> list[str]:
    """How the service is told: as the settings say, else as its module knows, else by the service manager."""
    own = config.common.reload_command if verb == "reload" else config.common.restart_command
    own = own or (better if verb == "reload" else ())
    if own:
        return [*jail_prefix(config), *own]
    if FREEBSD:
        return [*jail_prefix(config), "service", config.service, verb]
    return ["systemctl", verb, config.service]


def jail_prefix(config: ModuleConfig) -> list[str]:
    return ["jexec", "-l", config.common.jail] if config.common.jail else []


def inside_jail(config: ModuleConfig, path: str) -> str:
    """How a program in the module's jail names this file of the host."""
    root = config.common.jail_root.rstrip("/")
    return path.removeprefix(root) if config.common.jail and path.startswith(f"{root}/") else path


def _read(name: str, table: Mapping[str, Any]) -> ModuleConfig:
    if HOST_NAME.fullmatch(name) is None:
        raise ConfigError(f"services.{name[:40]!r}: a lower-case name of letters, digits and - expected")
    common_keys = {field.name for field in msgspec.structs.fields(Common)}
    try:
        common = msgspec.convert({k: v for k, v in table.items() if k in common_keys}, Common, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"services.{name}: {error}") from None
    own = {key: value for key, value in table.items() if key not in common_keys}
    if common.jail and not FREEBSD:
        raise ConfigError(f"services.{name}.jail: {common.jail!r} seen; jails are FreeBSD's")
    executable = _executable(name, common)
    named = own
    if is_built_in(name):
        module = load_module(name)
        read = read_config(module, own)
        named = msgspec.to_builtins(read)
        _check_secrets(name, common, secret_names(module, read))
    return ModuleConfig(
        name=name,
        common=common,
        own=own,
        allowed=_allowed(name, common, named),
        kind="built-in" if is_built_in(name) else "executable" if executable else "plug-in",
        executable=executable,
    )


def _check_secrets(name: str, common: Common, needed: tuple[str, ...]) -> None:
    for each in needed:
        if each not in common.secrets:
            raise ConfigError(
                f'services.{name}.secrets: {each[:63]!r} is not there; NAME = "file:/PATH" expected'
            )


def _executable(name: str, common: Common) -> str:
    """Somebody else's plug-in is looked for by the child alone: its code is never loaded here."""
    if is_built_in(name):
        if common.command:
            raise ConfigError(f"services.{name}.command: a built-in module has none")
        return ""
    if common.command:
        if not Path(common.command).is_absolute():
            raise ConfigError(f"services.{name}.command: {common.command!r} seen, an absolute path expected")
        return common.command
    for folder in EXECUTABLE_FOLDERS:
        path = Path(folder) / f"{EXECUTABLE_PREFIX}{name}"
        if path.is_file():
            return str(path)
    return ""


def _allowed(name: str, common: Common, own: Mapping[str, Any]) -> Allowed:
    """A module writes what its table names under ``file``, ``files``, ``..._file`` or ``directory``, and
    nothing else."""
    named = [value for key, value in own.items() if key == "file" or key.endswith("_file")]
    files = [each for each in named if isinstance(each, str)]
    listed = own.get("files", ())
    files += [each for each in listed if isinstance(each, str)] if isinstance(listed, list | tuple) else []
    directory = own.get("directory")
    for text in (*files, *([directory] if isinstance(directory, str) else ())):
        if text and (not text.startswith("/") or str(Path(text)) != text):
            raise ConfigError(
                f"services.{name}: {text!r} seen, an absolute path without // or a last / expected"
            )
    built_in = is_built_in(name)
    _look_into_jail(name, common, [text for text in (*files, directory) if isinstance(text, str) and text])
    return Allowed(
        files=frozenset(filter(None, files)),
        directories=(directory,) if isinstance(directory, str) and directory else (),
        programs=None if built_in else frozenset(common.programs),
        urls=None if built_in else common.urls,
        secrets=frozenset(common.secrets),
    )


def _look_into_jail(name: str, common: Common, paths: list[str]) -> None:
    """A checker in a jail can see nothing of a file outside of it."""
    if not common.jail:
        return
    root = common.jail_root.rstrip("/")
    outside = [path for path in paths if not root or not path.startswith(f"{root}/")]
    if outside:
        raise ConfigError(
            f"services.{name}.jail_root: {common.jail_root!r} seen, where jail {common.jail} is on this host "
            f"expected (jls -j {common.jail} path), with {outside[0]} below it"
        )


def _read_secret(module: str, name: str, text: str) -> str:
    where = f"services.{module}.secrets.{name}"
    kind, _, place = text.partition(":")
    path = Path(place)
    if kind != "file" or not path.is_absolute():
        raise ConfigError(f"{where}: file:/PATH expected, never the secret itself")
    try:
        if path.stat().st_mode & 0o007:
            raise ConfigError(f"{where}: {path} is open to everybody; mode 0600 or 0640 expected")
        value = path.read_bytes()[:MAX_SECRET_BYTES].decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {path}: {error}") from None
    if not value or "\n" in value:
        raise ConfigError(f"{where}: {path}: one line expected")
    return value
