"""A new admin home: it makes its own key, asks to be named in the root, and opens the bundle it gets."""

from __future__ import annotations

from pathlib import Path

import msgspec

from meshd.errors import ConfigError, RegistryError
from meshd.host.comparison import find_replaced_root, require_compared
from meshd.registry.cache import RegistryCache
from meshd.registry.export import RegistryExport, open_export
from meshd.registry.key_request import build_key_request
from meshd.registry.ledger import Ledger
from meshd.registry.signing import SigningKey
from wgctl.admin.home import (
    KEY_FILES,
    REGISTRY_DIRECTORY,
    AdminHome,
    MeshFile,
    new_home,
    open_any_home,
    write_home,
    write_mesh_file,
)
from wgctl.admin.keyfile import Purpose, write_key_file
from wgctl.options import Options


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """``roles``: what the newest root lets the keys of this home do. ``warning``: what to look at."""

    ledger: Ledger
    export: RegistryExport
    roles: tuple[str, ...]
    warning: str


def request_key(options: Options, purpose: Purpose, name: str, *, protect: bool) -> tuple[str, str]:
    """Make the key if there is none yet -> (the request's text, the kid).

    Asking again gives the same key. RegistryError for a name that no root could hold.
    """
    build_key_request(name, purpose, SigningKey.generate())  # a bad name is found before a key is made
    if not options.has_home:
        key = SigningKey.generate()
        passphrase = options.passphrase.choose(protect=protect)
        with new_home(options.home) as building:
            mesh = _with_kid(MeshFile(format="wgctl-home/1", name=name), purpose, key.kid)
            write_home(building, mesh, {purpose: key}, passphrase)
        return build_key_request(name, purpose, key), key.kid
    home = open_any_home(options.home, options.passphrase)
    with home.locked():
        if home.kid(purpose):
            key = home.key_file(purpose).open(home.passphrase.get)
        else:
            key = _add_key(home, purpose, protect=protect)
    return build_key_request(name, purpose, key), key.kid


def join_home(
    options: Options,
    text: str,
    fingerprint: str | None,
    *,
    source: str,
    credentials: Path | None,
    air_gapped: bool,
    stores: tuple[str, ...],
) -> Joined:
    """Open a registry export in this home, or make one without keys, which reads and carries.

    ``fingerprint``: of a root in it, as typed; None: ask, before anything is trusted. ``source``: where
    the text is from, ``-`` for standard input. RegistryError when it does not verify or does not name the
    keys of this home.
    """
    ledger, export = open_export(text, fingerprint)
    warning = find_replaced_root(ledger, fingerprint)
    path = str(credentials.absolute()) if credentials else ""
    if not options.has_home:
        mesh = MeshFile(format="wgctl-home/1", name="")
        _compare(ledger, fingerprint, source)
        with new_home(options.home) as building:
            RegistryCache(building / REGISTRY_DIRECTORY).create(ledger)
            write_home(building, _in_mesh(mesh, ledger, stores, path, air_gapped), {}, None)
        return Joined(ledger=ledger, export=export, roles=(), warning=warning)
    home = open_any_home(options.home, options.passphrase)
    with home.locked():
        if home.mesh.mesh_id:
            raise ConfigError(
                f"{home.directory}: in mesh {home.mesh.mesh_name} already; what is new in the file comes in "
                "by: wgctl import FILE"
            )
        roles = _roles(home, ledger)
        _compare(ledger, fingerprint, source)
        # An interrupted run leaves a cache that nothing leads to yet: it is written again.
        _discard(home.directory / REGISTRY_DIRECTORY)
        RegistryCache(home.directory / REGISTRY_DIRECTORY).create(ledger)
        write_mesh_file(home.directory, _in_mesh(home.mesh, ledger, stores, path, air_gapped))
    return Joined(ledger=ledger, export=export, roles=roles, warning=warning)


def _compare(ledger: Ledger, fingerprint: str | None, source: str) -> None:
    """A typed fingerprint was compared when the file was opened."""
    if fingerprint is None:
        name, root = ledger.chain.root.mesh_name, ledger.chain.fingerprint
        require_compared(f"mesh {name}", root, (), shown_by="wgctl root list", source=source)


def _add_key(home: AdminHome, purpose: Purpose, *, protect: bool) -> SigningKey:
    """A second key for a home that has the other one, under the same passphrase."""
    sealed = [file for file in map(home.key_file, home.purposes) if file.is_sealed]
    passphrase: bytes | None = None
    if sealed:
        sealed[0].open(home.passphrase.get)  # a mistyped passphrase must not seal the new key
        passphrase = home.passphrase.get()
    elif not home.purposes:
        passphrase = home.passphrase.choose(protect=protect)
    key = SigningKey.generate()
    write_key_file(home.directory / KEY_FILES[purpose], purpose, key, passphrase)
    write_mesh_file(home.directory, _with_kid(home.mesh, purpose, key.kid))
    return key


def _roles(home: AdminHome, ledger: Ledger) -> tuple[str, ...]:
    root = ledger.chain.current
    wanted: dict[Purpose, str] = {"admin": home.mesh.admin_kid, "root": home.mesh.root_kid}
    roles = tuple(purpose for purpose, kid in wanted.items() if kid and purpose in root.roles(kid))
    if not roles:
        kids = ", ".join(kid[:8] for kid in wanted.values() if kid)
        raise RegistryError(
            f"root {root.root.version} of {root.root.mesh_name} names no key of this home ({kids}): whoever "
            "holds a root key must add it first: wgctl admin add, or wgctl root add-key"
        )
    return roles


def _in_mesh(
    mesh: MeshFile, ledger: Ledger, stores: tuple[str, ...], credentials: str, air_gapped: bool
) -> MeshFile:
    root = ledger.chain.root
    return msgspec.structs.replace(
        mesh,
        mesh_id=root.mesh,
        mesh_name=root.mesh_name,
        stores=stores or root.stores,
        credentials=credentials,
        air_gapped=air_gapped,
    )


def _with_kid(mesh: MeshFile, purpose: Purpose, kid: str) -> MeshFile:
    return msgspec.structs.replace(mesh, **{f"{purpose}_kid": kid})


def _discard(directory: Path) -> None:
    import shutil

    shutil.rmtree(directory, ignore_errors=True)
