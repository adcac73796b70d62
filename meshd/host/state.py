"""The host's own files: identity, WireGuard key, verified registry, and what was applied last.

    identity.key      Ed25519 seed, hex, 0600: signs this host's record; never leaves the host
    identity.next.key the identity that this host has asked for, until a grant names it
    hid               the host's id, once its identity is no longer the first one
    wireguard.key     the interface's private key, base64 as wg(8) writes it, 0600
    wireguard.next.key the key that a rotation brings, until it is over; rotation.json says what of
    registry/         the verified cache (meshd.registry.cache)
    applied.json      the registry generation and administrators' keys of the last applied plan
    learned.json      where the other hosts see this one; a hint, learned again when it is lost
    history           how the paths were over the last day; a hint, for pictures
    change.json       what was there before that plan, and whether it is on trial or rolled back
    s3.json           the store's credentials, 0600, when the join bundle held some

Anything else that is there but unreadable is an error: never taken for absent, never made anew. Notes of
what was done (applied.json, change.json, rotation.json) keep no host out of its mesh: ``salvage_note``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import msgspec

from meshd.errors import ConfigError, RegistryError, StateClaimedError, StoreError, TrustStateError
from meshd.files import sync_directory, write_file
from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint
from meshd.registry.envelope import KID_HEX_DIGITS, is_hex
from meshd.registry.signing import SigningKey

if TYPE_CHECKING:  # `meshd enroll` needs none of them
    from meshd.mesh.reflexive import Learned
    from meshd.plan.record import ChangeRecord
    from meshd.registry.cache import RegistryCache

IDENTITY_FILE: Final = "identity.key"
NEXT_IDENTITY_FILE: Final = "identity.next.key"
HID_FILE: Final = "hid"
WIREGUARD_FILE: Final = "wireguard.key"
NEXT_WIREGUARD_FILE: Final = "wireguard.next.key"
ROTATION_FILE: Final = "rotation.json"
APPLIED_FILE: Final = "applied.json"
LEARNED_FILE: Final = "learned.json"
CHANGE_FILE: Final = "change.json"
HISTORY_FILE: Final = "history"
CREDENTIALS_FILE: Final = "s3.json"
ROUTES_FILE: Final = "routes.json"
REGISTRY_DIRECTORY: Final = "registry"
MAX_KEY_FILE_BYTES: Final = 4096
MAX_HISTORY_BYTES: Final = 16 * 1024 * 1024
"""Of some 9,000 paths."""


Note = TypeVar("Note", "AppliedNote", "RotationNote")
Struct = TypeVar("Struct", bound=msgspec.Struct)
Kind = TypeVar("Kind")


class AppliedNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the last carried-out plan was made from. ``revoked``: hids of hosts whose revoke was carried out
    with it, so that no peer of this kernel is theirs."""

    generation: int = 0
    admin_keys: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()


class LearnedNote(msgspec.Struct, frozen=True, kw_only=True):
    """What reflection had learned (meshd.mesh.reflexive)."""

    endpoints: tuple[str, ...] = ()
    translated: tuple[Literal[4, 6], ...] = ()


class RotationNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of the newest rotation beside its keys. ``statement``: the signed request that it
    obeys, empty for the host's own schedule. ``retired``: the public key that it replaces, once it did.
    Instants in unix seconds."""

    statement: str = ""
    reason: str = ""
    started_at: float = 0.0
    retired: str = ""
    returning_since: float = 0.0


class HostState(msgspec.Struct, frozen=True):
    """The state directory of one meshd."""

    directory: Path

    @property
    def joined(self) -> bool:
        """True when there is trust state, readable or not."""
        return self.open_cache().exists()

    @property
    def enrolled(self) -> bool:
        return (self.directory / IDENTITY_FILE).exists()

    @property
    def credentials_path(self) -> Path:
        return self.directory / CREDENTIALS_FILE

    @property
    def routes_path(self) -> Path:
        """Where a kernel that cannot mark routes has it noted which are ours."""
        return self.directory / ROUTES_FILE

    def open_cache(self) -> RegistryCache:
        """The verified registry's files; one object a process, it remembers what it wrote."""
        from meshd.registry.cache import RegistryCache

        return RegistryCache(self.directory / REGISTRY_DIRECTORY)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the one process that writes the registry here, until this is left.

        A lock on the directory itself (flock(2)): it needs no room on a full disk, and the kernel lets go of
        it in whatever way the process ends. A file system without such locks keeps nobody from running.

        Raises:
            StateClaimedError: another process has it.
        """
        if not self.directory.is_dir():
            self.read_identity()  # says what is missing
        try:
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"state_dir {self.directory}: cannot be opened: {error.strerror}") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StateClaimedError(
                    f"state_dir {self.directory}: another meshd works on it, nothing was changed: a running "
                    "meshd takes news from stores and hosts by itself; else stop it first"
                ) from None
            except OSError:
                pass  # no reason to leave a host without its mesh
            yield
        finally:
            os.close(descriptor)

    def create(self) -> None:
        """Make the directory, 0700. ConfigError when it cannot be."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"state_dir {self.directory}: cannot be made: {error.strerror}") from None

    def read_identity(self) -> SigningKey:
        """The identity key; ConfigError when this host was never enrolled."""
        path = self.directory / IDENTITY_FILE
        if not path.exists():
            raise ConfigError(f"{path}: there is no identity yet; run: meshd enroll --name NAME")
        return _read_identity(path)

    def read_hid(self) -> str:
        """The host's id: that of its first identity, also after it has another one."""
        path = self.directory / HID_FILE
        try:
            hid = path.read_text("ascii").strip()
        except FileNotFoundError:
            return self.read_identity().kid
        except (OSError, UnicodeDecodeError) as error:
            raise TrustStateError(f"{path}: cannot be read: {error}") from None
        if not is_hex(hid, KID_HEX_DIGITS):
            raise TrustStateError(f"{path}: not a host id ({KID_HEX_DIGITS} hex digits expected)")
        return hid

    def create_next_identity(self) -> SigningKey:
        """The identity to ask for next, made now if there is none. The present one stays in use."""
        path = self.directory / NEXT_IDENTITY_FILE
        if path.exists():
            return _read_identity(path)
        # The id first: once the next identity takes over, nothing else says what it was.
        write_file(self.directory / HID_FILE, self.read_hid().encode() + b"\n")
        key = SigningKey.generate()
        write_file(path, key.seed().hex().encode() + b"\n")
        return key

    def find_identity(self, public: bytes) -> SigningKey | None:
        """The key that a grant names. The next one takes the place of the present one by that.

        None when this host has no such key; StoreError when the disk refuses the change.
        """
        identity, path = self.read_identity(), self.directory / NEXT_IDENTITY_FILE
        if identity.public == public:
            return identity
        if not path.exists():
            return None
        following = _read_identity(path)
        if following.public != public:
            return None
        try:
            path.rename(self.directory / IDENTITY_FILE)
            sync_directory(self.directory)
        except OSError as error:
            raise StoreError(f"{path}: cannot take the place of {IDENTITY_FILE}: {error.strerror}") from None
        return following

    def create_identity(self) -> SigningKey:
        """The identity key, made now if there is none."""
        if self.enrolled:
            return self.read_identity()
        key = SigningKey.generate()
        write_file(self.directory / IDENTITY_FILE, key.seed().hex().encode() + b"\n")
        return key

    def read_wireguard_key(self) -> tuple[PrivateKey, float]:
        """The key and when it was made (unix seconds)."""
        path = self.directory / WIREGUARD_FILE
        if not path.exists():
            raise ConfigError(f"{path}: there is no WireGuard key yet; run: meshd enroll --name NAME")
        try:
            return PrivateKey.parse(_read_secret(path)), path.stat().st_mtime
        except ValueError as error:
            raise TrustStateError(f"{path}: {error}") from None

    def create_wireguard_key(self) -> PrivateKey:
        """The WireGuard key, made now if there is none."""
        if (self.directory / WIREGUARD_FILE).exists():
            return self.read_wireguard_key()[0]
        key = PrivateKey.generate()
        write_file(self.directory / WIREGUARD_FILE, key.reveal_text().encode() + b"\n")
        return key

    def read_next_wireguard_key(self) -> PrivateKey | None:
        """The key of a rotation that is not over; None: there is none."""
        path = self.directory / NEXT_WIREGUARD_FILE
        if not path.exists():
            return None
        try:
            return PrivateKey.parse(_read_secret(path))
        except ValueError as error:
            raise TrustStateError(f"{path}: {error}") from None

    def write_wireguard_key(self, key: PrivateKey, *, following: bool) -> None:
        """The key in force, or with ``following`` the one that a rotation brings. StoreError when the
        disk refuses; the old one then stays."""
        path = self.directory / (NEXT_WIREGUARD_FILE if following else WIREGUARD_FILE)
        write_file(path, key.reveal_text().encode() + b"\n")

    def remove_next_wireguard_key(self) -> None:
        """The rotation is over. StoreError when the disk refuses; it is then not."""
        path = self.directory / NEXT_WIREGUARD_FILE
        try:
            path.unlink(missing_ok=True)
            sync_directory(self.directory)
        except OSError as error:
            raise StoreError(f"{path}: cannot be removed: {error.strerror}") from None

    def read_rotation(self) -> RotationNote:
        """The note of the newest rotation; an empty one before the first."""
        return self._read_note(ROTATION_FILE, RotationNote)

    def write_rotation(self, note: RotationNote) -> None:
        """StoreError when the disk refuses; the old note then stays."""
        write_file(self.directory / ROTATION_FILE, msgspec.json.encode(note))

    def read_applied(self) -> AppliedNote:
        """The note of the last applied plan; an empty one before the first."""
        return self._read_note(APPLIED_FILE, AppliedNote)

    def write_applied(self, note: AppliedNote) -> None:
        """StoreError when the disk refuses; the old note then stays."""
        write_file(self.directory / APPLIED_FILE, msgspec.json.encode(note))

    def read_change(self) -> ChangeRecord | None:
        """The record of the last change; None before the first."""
        if not (self.directory / CHANGE_FILE).exists():
            return None
        from meshd.plan.record import ChangeRecord

        return self._decode(CHANGE_FILE, ChangeRecord)

    def write_change(self, record: ChangeRecord) -> None:
        """StoreError when the disk refuses; the old record then stays."""
        write_file(self.directory / CHANGE_FILE, msgspec.json.encode(record))

    def discard(self, name: str) -> None:
        """Remove a note that cannot be read. StoreError when the disk refuses."""
        path = self.directory / name
        try:
            path.unlink(missing_ok=True)
            sync_directory(self.directory)
        except OSError as error:
            raise StoreError(f"{path}: cannot be removed: {error.strerror}") from None

    def _read_note(self, name: str, kind: type[Note]) -> Note:
        return self._decode(name, kind) if (self.directory / name).exists() else kind()

    def _decode(self, name: str, kind: type[Struct]) -> Struct:
        path = self.directory / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TrustStateError(f"{path}: cannot be read: {error}") from None

    def read_learned(self) -> Learned:
        """Nothing when there is no note, or none that can be read: peers say it again."""
        from meshd.mesh.reflexive import MAX_LEARNED, Learned

        try:
            note = msgspec.json.decode((self.directory / LEARNED_FILE).read_bytes(), type=LearnedNote)
            endpoints = tuple(map(Endpoint.parse, note.endpoints[:MAX_LEARNED]))
        except (OSError, ValueError):  # msgspec's errors are ValueErrors
            return Learned()
        return Learned(endpoints=endpoints, translated=note.translated)

    def write_learned(self, learned: Learned) -> None:
        """StoreError when the disk refuses; the old note then stays."""
        note = LearnedNote(endpoints=tuple(map(str, learned.endpoints)), translated=learned.translated)
        write_file(self.directory / LEARNED_FILE, msgspec.json.encode(note))

    def read_history(self) -> bytes:
        """What ``write_history`` was given. OSError when there is none or the disk refuses."""
        with (self.directory / HISTORY_FILE).open("rb") as file:
            return file.read(MAX_HISTORY_BYTES)

    def write_history(self, data: bytes) -> None:
        """StoreError when the disk refuses; the old one then stays."""
        write_file(self.directory / HISTORY_FILE, data)

    def write_credentials(self, access_key: str, secret_key: str) -> None:
        document = {"access_key": access_key, "secret_key": secret_key}
        write_file(self.credentials_path, msgspec.json.encode(document))


def salvage_note(read: Callable[[], Kind], lost: Kind) -> tuple[Kind, str]:
    """What a note says, and no text; or ``lost``, and what is wrong with it.

    A note only makes things safer. Whoever uses one that is lost knows nothing of the past, and acts
    accordingly: see ``SafetyLimits.unknown_past``.
    """
    try:
        return read(), ""
    except TrustStateError as error:
        return lost, str(error)


def _read_identity(path: Path) -> SigningKey:
    try:
        return SigningKey.from_seed(bytes.fromhex(_read_secret(path)))
    except (ValueError, RegistryError) as error:
        if isinstance(error, TrustStateError):
            raise
        raise TrustStateError(f"{path}: not an identity key (64 hex digits expected)") from None


def _read_secret(path: Path) -> str:
    """The text of a key file. ConfigError when others may read it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise ConfigError(f"{path}: mode {mode:04o} seen, 0600 expected: others may read the key")
            return file.read(MAX_KEY_FILE_BYTES).decode("ascii").strip()
    except UnicodeDecodeError:
        raise TrustStateError(f"{path}: not a key file") from None
    except OSError as error:
        raise TrustStateError(f"{path}: cannot be read: {error.strerror}") from None
