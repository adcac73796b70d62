"""The admin home: keys, the mesh's name and stores, and the verified registry of one administrator.

    mesh.toml    mesh id, store URLs, which keys are ours
    admin.key    Ed25519 seed that signs our log, 0600 (wgctl.admin.keyfile says how it is protected)
    root.key     Ed25519 seed that signs root documents, 0600
    registry/    the verified cache (meshd.registry.cache); our own statements go here first
    signed.json  our last statement (wgctl.admin.journal)
    roots.json   root documents that we signed and that are not complete yet (wgctl.admin.proposals)
    s3.json      this administrator's S3 key, 0600, when wgctl made it
    s3/          the S3 keys that wgctl made for hosts, by hid, 0600
    lock         held while a wgctl works on the home

A home may hold either key, both, or none: then it reads, and carries what others signed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import stat
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import tomli_w
from msgspec.structs import replace

from meshd.errors import ConfigError, TrustStateError
from meshd.files import sync_directory, write_file
from meshd.registry.cache import RegistryCache
from meshd.registry.signing import SigningKey
from wgctl.admin.keyfile import KeyFile, Purpose, read_key_file, write_key_file
from wgctl.admin.passphrase import PassphraseSource
from wgctl.output import note

MESH_FILE: Final = "mesh.toml"
ADMIN_KEY_FILE: Final = "admin.key"
ROOT_KEY_FILE: Final = "root.key"
LOCK_FILE: Final = "lock"
LOCK_SECONDS = 10.0
"""How long a command waits for another one that works on the same home."""
LOOK_SECONDS: Final = 0.1
pause = time.sleep
REGISTRY_DIRECTORY: Final = "registry"
PRIVATE_BITS: Final = 0o077
MAX_FILE_BYTES: Final = 65536
KEY_FILES: Final[dict[Purpose, str]] = {"admin": ADMIN_KEY_FILE, "root": ROOT_KEY_FILE}


class MeshFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """mesh.toml. ``credentials``: path of the S3 credentials of this administrator, if any, seen from
    the home. ``garage_admin``: URLs of Garage's admin API; ``garage_token_file``: path of its token.

    ``mesh_id`` is empty while the home waits for its bundle, ``admin_kid`` and ``root_kid`` without
    such a key. ``name``: what the home asked to be called. ``air_gapped``: it never asks a store.
    """

    format: Literal["wgctl-home/1"]
    mesh_id: str = ""
    mesh_name: str = ""
    admin_kid: str = ""
    root_kid: str = ""
    stores: tuple[str, ...] = ()
    credentials: str = ""
    name: str = ""
    air_gapped: bool = False
    garage_admin: tuple[str, ...] = ()
    garage_token_file: str = ""


class AdminHome(msgspec.Struct, frozen=True):
    """An admin home that exists and that nobody else can read."""

    directory: Path
    mesh: MeshFile
    passphrase: PassphraseSource = msgspec.field(default_factory=PassphraseSource)

    @property
    def cache(self) -> RegistryCache:
        return RegistryCache(self.directory / REGISTRY_DIRECTORY)

    @property
    def purposes(self) -> list[Purpose]:
        """The keys whose files are here; a root key may have been moved to a safer place."""
        return [
            purpose
            for purpose, name in KEY_FILES.items()
            if self.kid(purpose) and (purpose == "admin" or (self.directory / name).exists())
        ]

    def kid(self, purpose: Purpose) -> str:
        """The key of this home for a purpose; empty when it has none."""
        return self.mesh.admin_kid if purpose == "admin" else self.mesh.root_kid

    def key_file(self, purpose: Purpose) -> KeyFile:
        """Look at a key without opening it. ConfigError when there is none or others may read it."""
        path = self.directory / KEY_FILES[purpose]
        file = read_key_file(path, purpose)
        if file.kid != self.kid(purpose):
            expected = self.kid(purpose)[:8] or "none"
            raise TrustStateError(f"{path}: {purpose} key {file.kid[:8]} seen, {expected} expected")
        return file

    @property
    def credentials_path(self) -> Path | None:
        return self.directory / self.mesh.credentials if self.mesh.credentials else None

    def with_mesh(self, **changes: Any) -> AdminHome:
        """The home after mesh.toml was rewritten with ``changes``. StoreError when the disk refuses."""
        mesh = msgspec.structs.replace(self.mesh, **changes)
        write_mesh_file(self.directory, mesh)
        return replace(self, mesh=mesh)

    def read_admin_key(self) -> SigningKey:
        """The key that signs our log. ConfigError when it is missing, others may read it, or it is
        sealed and nobody can be asked; PassphraseError for a wrong passphrase."""
        if not self.mesh.admin_kid:
            raise ConfigError(f"{self.directory}: this home has no admin key, so it signs no statements")
        return self.key_file("admin").open(self.passphrase.get)

    def read_root_key(self) -> SigningKey:
        """The key that signs root documents; errors as read_admin_key."""
        if not self.mesh.root_kid:
            raise ConfigError(f"{self.directory}: this home has no root key, so it signs no root documents")
        return self.key_file("root").open(self.passphrase.get)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One wgctl at a time; ConfigError at once when another works here."""
        with _lock(self.directory / LOCK_FILE, self.directory):
            yield


def open_home(directory: Path, passphrase: PassphraseSource | None = None) -> AdminHome:
    """Open and check. ConfigError says what is missing, readable by others, or still waited for."""
    home = open_any_home(directory, passphrase)
    if not home.mesh.mesh_id:
        raise ConfigError(f"{directory}: this home waits for its bundle: wgctl admin join BUNDLE")
    return home


def open_any_home(directory: Path, passphrase: PassphraseSource | None = None) -> AdminHome:
    """As open_home, but a home may also still wait for its bundle."""
    try:
        status = directory.stat()
    except FileNotFoundError:
        raise ConfigError(
            f"{directory}: no admin home; found a mesh with: wgctl init, or name the home with --home"
        ) from None
    except OSError as error:
        raise ConfigError(f"{directory}: admin home cannot be opened: {error.strerror}") from None
    _refuse_other_owner(directory, status.st_uid)
    _refuse_closed_files(directory)
    mode = stat.S_IMODE(status.st_mode)
    if mode & PRIVATE_BITS:
        raise ConfigError(f"{directory}: mode {mode:04o} seen, 0700 expected: chmod 0700 {directory}")
    return AdminHome(directory, _read_mesh_file(directory / MESH_FILE), passphrase or PassphraseSource())


def _refuse_other_owner(directory: Path, owner: int) -> None:
    """Root could go on. But every file that it makes there is closed to whose home it is, from then on."""
    if owner == os.geteuid():
        return
    name = _user_name(owner)
    raise ConfigError(
        f"{directory}: the home belongs to {name}, you are uid {os.geteuid()}: run wgctl as {name}, without "
        f"sudo; if it is to be yours: chown -R {os.geteuid()} {directory}"
    )


def _refuse_closed_files(directory: Path) -> None:
    """What an older wgctl under sudo or a restored backup left there: a verb would end at it half-way."""
    for entry in sorted(directory.iterdir()):
        owner = entry.lstat().st_uid
        if owner != os.geteuid() and not os.access(entry, os.R_OK | os.W_OK):
            raise ConfigError(
                f"{entry}: it belongs to {_user_name(owner)} and is closed to you; to have it back: "
                f"sudo chown -R {os.geteuid()} {directory}"
            )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


@contextlib.contextmanager
def new_home(directory: Path) -> Iterator[Path]:
    """A directory to fill, which becomes the home when the block ends well and vanishes when it does not.

    What an interrupted run left behind was never used by anybody and is removed.
    """
    import shutil  # brings three compressors, and most commands find their home made

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


def write_home(
    directory: Path, mesh: MeshFile, keys: Mapping[Purpose, SigningKey], passphrase: bytes | None
) -> None:
    """Write keys and mesh.toml into a directory of ours. StoreError when the disk refuses."""
    for purpose, key in keys.items():
        write_key_file(directory / KEY_FILES[purpose], purpose, key, passphrase)
    write_mesh_file(directory, mesh)


def write_mesh_file(directory: Path, mesh: MeshFile) -> None:
    """Replace mesh.toml. StoreError when the disk refuses; the old one then stays."""
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


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _wait_for(descriptor: int, directory: Path) -> None:
    """Most commands end soon, and one that only reads has no reason to fail beside them."""
    deadline, told = time.monotonic() + LOCK_SECONDS, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= deadline:
                raise ConfigError(
                    f"{directory}: another wgctl works on this home; wait for it to end"
                ) from None
        else:
            return
        if not told:
            note(f"wgctl: another wgctl works on this home; waiting for up to {LOCK_SECONDS:.0f} s")
        told = True
        pause(LOOK_SECONDS)


@contextlib.contextmanager
def _lock(path: Path, directory: Path) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be opened: {error.strerror}; if somebody else made it (sudo wgctl): "
            f"sudo chown -R {os.geteuid()} {directory}"
        ) from None
    try:
        _wait_for(descriptor, directory)
        yield
    finally:
        os.close(descriptor)
