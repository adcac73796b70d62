"""How a host leaves its mesh: what is proven to be its own goes, its keys are put aside last.

Each step is whole by itself, and the state directory, which proves what is whose, goes last. So whatever cuts
a departure off, the next one finds what is left and goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from meshd.backend.base import Backend
from meshd.errors import BackendError, ConfigError, RegistryError, StoreError
from meshd.files import sync_directory
from meshd.host.keyring import KeyRing, own_keys
from meshd.host.local import boot_file
from meshd.host.state import IDENTITY_FILE, WIREGUARD_FILE, HostState
from meshd.mesh.ownership import interface_exists, is_proven
from meshd.model.device import ObservedState
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.rescue_key import rescue_private_key
from meshd.observe.wording import render_count
from meshd.services.config import Common, ModuleConfig, read_modules
from meshd.services.guards import Allowed
from meshd.services.journal import Accepted, Journal
from meshd.services.schedule import Outcome
from meshd.services.transaction import Transaction
from meshd.settings import Settings

SERVICES_DIRECTORY: Final = "services"
NAME_DIGITS: Final = 8
"""So many digits of the host's id are in the name of the directory that is put aside."""
_PRIVATE_KEY: Final = re.compile(r"^\s*PrivateKey\s*=\s*(\S+)", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """What is this host's own, and goes. ``spared``: what looks like it and is not proven, for people.

    ``name``: what the mesh calls this host; empty where the verified registry does not say.
    """

    name: str
    state: HostState
    modules: tuple[ModuleConfig, ...]
    untold: frozenset[str]
    """Of the modules: those that are in the settings no more. Nobody knows how their services are told."""
    boot_file: Path | None
    interfaces: tuple[ObservedState, ...]
    aside: Path
    spared: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """What would be done, in that order."""
        for module in self.modules:
            yield f"give back the files of services.{module.name}, as they were before meshd"
        if self.boot_file is not None:
            yield f"remove {self.boot_file}, which has this host's key"
        for seen in self.interfaces:
            yield f"remove {_describe(seen)}"
        yield f"put {self.state.directory} aside, as {self.aside}"


def find_departure(settings: Settings, backend: Backend, source: str) -> Departure:
    """Look at what is there; changes nothing.

    Raises:
        ConfigError: no host lives here, or the settings (``source``) are wrong.
        BackendError: the kernel does not tell.
        TrustStateError: a key cannot be read, so nobody can prove what is whose.
    """
    state = HostState(settings.state_dir)
    keys = _own_keys(state)
    configured = read_modules(settings.services, source)
    kept = _modules_with_files(state)
    boot, spared = _own_boot_file(settings, keys)
    names = {settings.wireguard.interface, settings.wireguard.rotation_interface} | backend.find_marked()
    seen = [backend.observe(name) for name in sorted(names)]
    return Departure(
        name=_granted_name(state),
        state=state,
        modules=tuple(configured.get(name) or _unconfigured(name) for name in kept),
        untold=frozenset(kept) - configured.keys(),
        boot_file=boot,
        interfaces=tuple(one for one in seen if is_proven(one, keys)),
        aside=_aside(state),
        spared=(
            *spared,
            *(_why_spared(one) for one in seen if interface_exists(one) and not is_proven(one, keys)),
        ),
    )


def depart(departure: Departure, backend: Backend) -> Iterator[str]:
    """Do it, a step at a time -> a line for people after each.

    Whoever calls has claimed the state. Services come first, while they can still reach what their files
    name; what would bring the interface back goes before it.

    Raises:
        BackendError, StoreError: the kernel, a service or the disk refuses; what was done stays done, and
            the next departure goes on.
    """
    for module in departure.modules:
        yield _give_back(departure, module)
    if departure.boot_file is not None:
        _unlink(departure.boot_file)
        yield f"removed {departure.boot_file}"
    for seen in departure.interfaces:
        backend.destroy_interface(seen.interface)
        yield f"removed {_describe(seen)}"
    _put_aside(departure.state.directory, departure.aside)
    yield f"put {departure.state.directory} aside: {departure.aside}"


def _own_keys(state: HostState) -> frozenset[PublicKey]:
    rescue = rescue_private_key(state.read_identity().seed())
    if not (state.directory / WIREGUARD_FILE).exists():  # cut off between the two keys of an enrollment
        return frozenset({rescue.public()})
    return own_keys(KeyRing(state).key, rescue)


def _granted_name(state: HostState) -> str:
    """For people alone, so a registry that cannot be read keeps nobody from leaving."""
    try:
        granted = state.open_cache().load().reduction().effective.get(state.read_hid())
    except (RegistryError, StoreError):
        return ""
    return granted.grant.name if granted is not None else ""


# --- services


def _journal(state: HostState, name: str) -> Journal:
    return Journal(state.directory / SERVICES_DIRECTORY / name)


def _modules_with_files(state: HostState) -> tuple[str, ...]:
    """The modules whose journal names files that are not given back."""
    directory = state.directory / SERVICES_DIRECTORY
    names = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    journals: Mapping[str, Journal] = {name: _journal(state, name) for name in names}
    return tuple(name for name, journal in journals.items() if _holds_files(journal))


def _holds_files(journal: Journal) -> bool:
    held = journal.read()
    return bool(held.files or held.original or held.pending is not None)


def _unconfigured(name: str) -> ModuleConfig:
    return ModuleConfig(name=name, common=Common(), own={}, allowed=Allowed(), kind="plug-in")


def _give_back(departure: Departure, module: ModuleConfig) -> str:
    journal = _journal(departure.state, module.name)
    untold = module.name in departure.untold
    if untold:  # no command of an old state is run
        journal.write(msgspec.structs.replace(journal.read(), accepted=Accepted()))
    report = Transaction(config=module, journal=journal).give_back()
    if report.outcome is Outcome.BROKEN:  # failed: there is nothing left of them
        raise BackendError(
            f"services.{module.name}: its files could not be given back: {report.reason}; take "
            f"[services.{module.name}] out of the settings to have them back without a reload"
        )
    told = "; reload that service yourself" if untold else ""
    return f"gave back the files of services.{module.name}{told}"


# --- the boot file


def _own_boot_file(settings: Settings, keys: frozenset[PublicKey]) -> tuple[Path | None, tuple[str, ...]]:
    """The file if it is ours -> it, and what is said of one that is not."""
    path = boot_file(settings)
    if path is None or not path.exists():
        return None, ()
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise ConfigError(f"wireguard.boot_file {path}: cannot be read: {error.strerror}") from None
    found = _PRIVATE_KEY.search(text)
    if found is not None and _is_own(found[1], keys):
        return path, ()
    return None, (f"{path} (wireguard.boot_file) has no key of this host",)


def _is_own(text: str, keys: frozenset[PublicKey]) -> bool:
    try:
        return PrivateKey.parse(text).public() in keys
    except ValueError:
        return False


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: cannot be removed: {error.strerror}") from None


# --- the state directory


def _aside(state: HostState) -> Path:
    """Beside it; inside of it where it is a file system of its own, which cannot be renamed, or a link, which
    would be renamed alone."""
    directory, digits = state.directory, state.read_hid()[:NAME_DIGITS]
    if directory.is_mount() or directory.is_symlink():
        return directory / f"left-{digits}"
    wanted = directory.with_name(f"{directory.name}.left-{digits}")
    number = 2
    while wanted.exists():  # the same identity was put back and left again
        wanted = directory.with_name(f"{directory.name}.left-{digits}-{number}")
        number += 1
    return wanted


def _put_aside(directory: Path, aside: Path) -> None:
    try:
        if aside.parent == directory:
            aside.mkdir(mode=0o700, exist_ok=True)
            # The identity last: as long as it is here, a host lives here, and the next departure goes on.
            for path in sorted(directory.iterdir(), key=lambda path: path.name == IDENTITY_FILE):
                if path != aside:
                    path.rename(aside / path.name)
        else:
            directory.rename(aside)
        sync_directory(aside.parent)
    except OSError as error:
        raise StoreError(f"{directory}: cannot be put aside as {aside}: {error.strerror}") from None


# --- words


def _describe(seen: ObservedState) -> str:
    peers = render_count(len(seen.device.peers) if seen.device is not None else 0, "peer")
    return f"interface {seen.interface} with {peers} and {render_count(len(seen.routes), 'route')}"


def _why_spared(seen: ObservedState) -> str:
    return f"{seen.interface} has neither this host's mark nor a key of this host"
