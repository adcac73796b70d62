"""The admin home: keys, the mesh's name and stores, and the verified registry of one administrator.

    mesh.toml    mesh id, store URLs, which keys are ours
    admin.key    Ed25519 seed that signs our log, 0600
    root.key     Ed25519 seed that signs root documents, 0600
    registry/    the verified cache (meshd.registry.cache); our own statements go here first
    s3.json      this administrator's S3 key, 0600, when wgctl made it
    s3/          the S3 keys that wgctl made for hosts, by hid, 0600
    lock         held while a wgctl works on the home

A key file is JSON and says how it is protected, so that a protected form can be told apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import tomli_w

from meshd.errors import ConfigError, MeshError, TrustStateError
from meshd.registry.cache import RegistryCache
from meshd.registry.signing import SigningKey
from meshd.store.atomic import sync_directory, write_file

MESH_FILE: Final = "mesh.toml"
ADMIN_KEY_FILE: Final = "admin.key"
ROOT_KEY_FILE: Final = "root.key"
LOCK_FILE: Final = "lock"
REGISTRY_DIRECTORY: Final = "registry"
PRIVATE_BITS: Final = 0o077
MAX_FILE_BYTES: Final = 65536

Purpose = Literal["admin", "root"]


class MeshFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """mesh.toml. ``credentials``: path of the S3 credentials of this administrator, if any, seen from
    the home. ``garage_admin``: URLs of Garage's admin API; ``garage_token_file``: path of its token."""

    format: Literal["wgctl-home/1"]
    mesh_id: str
    mesh_name: str
    admin_kid: str
    root_kid: str
    stores: tuple[str, ...]
    credentials: str = ""
    garage_admin: tuple[str, ...] = ()
    garage_token_file: str = ""


class _KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal["wgctl-key/1"]
    purpose: Purpose
    protection: Literal["none"]
    kid: str
    seed: str


@dataclass(frozen=True, slots=True)
class AdminHome:
    """An admin home that exists and that nobody else can read."""

    directory: Path
    mesh: MeshFile

    @property
    def cache(self) -> RegistryCache:
        return RegistryCache(self.directory / REGISTRY_DIRECTORY)

    @property
    def credentials_path(self) -> Path | None:
        return self.directory / self.mesh.credentials if self.mesh.credentials else None

    def with_mesh(self, **changes: Any) -> AdminHome:
        """The home after mesh.toml was rewritten with ``changes``. StoreError when the disk refuses."""
        mesh = msgspec.structs.replace(self.mesh, **changes)
        _write_mesh_file(self.directory, mesh)
        return AdminHome(self.directory, mesh)

    def read_admin_key(self) -> SigningKey:
        """The key that signs our log; ConfigError when others may read it."""
        return _read_key(self.directory / ADMIN_KEY_FILE, "admin", self.mesh.admin_kid)

    def read_root_key(self) -> SigningKey:
        return _read_key(self.directory / ROOT_KEY_FILE, "root", self.mesh.root_kid)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One wgctl at a time; ConfigError at once when another works here."""
        with _lock(self.directory / LOCK_FILE, self.directory):
            yield


def open_home(directory: Path) -> AdminHome:
    """Open and check. ConfigError says what is missing or readable by others."""
    try:
        mode = stat.S_IMODE(directory.stat().st_mode)
    except FileNotFoundError:
        raise ConfigError(
            f"{directory}: no admin home; found a mesh with: wgctl init, or name the home with --home"
        ) from None
    except OSError as error:
        raise ConfigError(f"{directory}: admin home cannot be opened: {error.strerror}") from None
    if mode & PRIVATE_BITS:
        raise ConfigError(f"{directory}: mode {mode:04o} seen, 0700 expected: chmod 0700 {directory}")
    return AdminHome(directory, _read_mesh_file(directory / MESH_FILE))


@contextlib.contextmanager
def new_home(directory: Path) -> Iterator[Path]:
    """A directory to fill, which becomes the home when the block ends well and vanishes when it does not.

    What an interrupted run left behind was never used by anybody and is removed.
    """
    refuse_existing(directory)
    building = directory.with_name(directory.name + ".new")
    try:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if building.exists():
            shutil.rmtree(building)
        building.mkdir(mode=0o700)
    except OSError as error:
        raise ConfigError(f"{building}: cannot be made: {error.strerror}") from None
    try:
        yield building
        try:
            building.rename(directory)
            sync_directory(directory.parent)
        except OSError as error:
            raise ConfigError(f"{directory}: cannot be made: {error.strerror}") from None
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def refuse_existing(directory: Path) -> None:
    """ConfigError when there is a home already, or anything else in its place."""
    try:
        if not directory.exists() or not any(directory.iterdir()):
            return
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be looked at: {error.strerror}") from None
    raise ConfigError(
        f"{directory}: there is an admin home already; one home is one administrator of one mesh: "
        f"name another with --home"
    )


def write_home(directory: Path, mesh: MeshFile, admin: SigningKey, root: SigningKey) -> None:
    """Write keys and mesh.toml into a directory of ours. StoreError when the disk refuses."""
    _write_key(directory / ADMIN_KEY_FILE, "admin", admin)
    _write_key(directory / ROOT_KEY_FILE, "root", root)
    _write_mesh_file(directory, mesh)


def _write_mesh_file(directory: Path, mesh: MeshFile) -> None:
    document: dict[str, Any] = msgspec.to_builtins(mesh)
    for key, value in document.items():
        document[key] = list(value) if isinstance(value, tuple) else value
    write_file(directory / MESH_FILE, tomli_w.dumps(document).encode())


def _read_mesh_file(path: Path) -> MeshFile:
    try:
        document = tomllib.loads(_read(path).decode())
        return msgspec.convert(document, MeshFile)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise TrustStateError(f"{path}: not wgctl's: {error}") from None


def _read_key(path: Path, purpose: Purpose, kid: str) -> SigningKey:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError(f"{path}: the {purpose} key cannot be read: {error.strerror}") from None
    if mode & PRIVATE_BITS:
        raise ConfigError(f"{path}: mode {mode:04o} seen, 0600 expected: others may read the key")
    body = _read(path)
    try:
        file = msgspec.json.decode(body, type=_KeyFile)
        key = SigningKey.from_seed(bytes.fromhex(file.seed))
    except (msgspec.DecodeError, ValueError, MeshError):
        raise TrustStateError(f"{path}: not a key file of wgctl") from None
    if (file.purpose, key.kid) != (purpose, kid):
        seen = f"{file.purpose} key {key.kid[:8]}"
        raise TrustStateError(f"{path}: {seen} seen, {purpose} key {kid[:8]} expected")
    return key


def _write_key(path: Path, purpose: Purpose, key: SigningKey) -> None:
    file = _KeyFile(
        format="wgctl-key/1", purpose=purpose, protection="none", kid=key.kid, seed=key.seed().hex()
    )
    write_file(path, msgspec.json.encode(file) + b"\n")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _lock(path: Path, directory: Path) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"{directory}: another wgctl works on this home; wait for it to end") from None
        yield
    finally:
        os.close(descriptor)
