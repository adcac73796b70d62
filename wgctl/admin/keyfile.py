"""Key files of the admin home: an Ed25519 seed, as it is or sealed by a passphrase.

A key file is JSON and says how it is protected. The protected form is the seed in a secretbox
(XSalsa20-Poly1305) under a key that Argon2id (RFC 9106) makes of the passphrase; salt and cost
stand in the file, so that later versions may ask for more and still read what is there.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec

from meshd.errors import ConfigError, MeshError, TrustStateError
from meshd.files import write_file
from meshd.registry.canonical import decode_base64, encode_base64
from meshd.registry.signing import SEED_BYTES, SigningKey

PRIVATE_BITS: Final = 0o077
MAX_FILE_BYTES: Final = 65536

Purpose = Literal["admin", "root"]
Protection = Literal["none", "argon2id-secretbox"]


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one guess costs: passes over ``memory_bytes`` of memory."""

    passes: int
    memory_bytes: int


MODERATE: Final = Cost(passes=3, memory_bytes=256 * 1024 * 1024)
"""libsodium's MODERATE: most of a second on a workstation."""
MAX_COST: Final = Cost(passes=64, memory_bytes=4 * 1024 * 1024 * 1024)
"""A damaged file must not ask for more than a machine has."""


class PassphraseError(MeshError):
    """The passphrase does not open the file."""


class _Sealed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    salt: str
    cost: Cost
    box: str


class _KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    format: Literal["wgctl-key/1"]
    purpose: Purpose
    protection: Protection
    kid: str
    seed: str = ""
    sealed: _Sealed | None = None


class KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """A key file that was looked at but not opened. ``kid`` is what the file says of itself."""

    path: Path
    purpose: Purpose
    kid: str
    _file: _KeyFile

    @property
    def is_sealed(self) -> bool:
        return self._file.protection != "none"

    def open(self, passphrase: Callable[[], bytes]) -> SigningKey:
        """The key. ``passphrase`` is called only when one is needed.

        PassphraseError for a wrong one, TrustStateError when the file holds another key than it says.
        """
        sealed = self._file.sealed
        try:
            if sealed is None:
                key = SigningKey.from_seed(bytes.fromhex(self._file.seed))
            else:
                key = SigningKey.from_seed(_unseal(sealed, passphrase(), self.path))
        except (ValueError, MeshError) as error:
            if isinstance(error, PassphraseError | ConfigError):
                raise
            raise _not_ours(self.path) from None
        if key.kid != self.kid:
            raise TrustStateError(f"{self.path}: key {key.kid[:8]} seen, {self.kid[:8]} expected")
        return key


def read_key_file(path: Path, purpose: Purpose) -> KeyFile:
    """Look at a key file. ConfigError when it is missing or others may read it."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        with path.open("rb") as opened:
            body = opened.read(MAX_FILE_BYTES)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no {purpose} key in this home") from None
    except OSError as error:
        raise ConfigError(f"{path}: the {purpose} key cannot be read: {error.strerror}") from None
    if mode & PRIVATE_BITS:
        raise ConfigError(f"{path}: mode {mode:04o} seen, 0600 expected: others may read the key")
    try:
        file = msgspec.json.decode(body, type=_KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _not_ours(path) from None
    if (file.sealed is None) != (file.protection == "none"):
        raise _not_ours(path)
    if file.purpose != purpose:
        raise TrustStateError(f"{path}: {file.purpose} key {file.kid[:8]} seen, a {purpose} key expected")
    return KeyFile(path=path, purpose=purpose, kid=file.kid, _file=file)


def write_key_file(path: Path, purpose: Purpose, key: SigningKey, passphrase: bytes | None) -> None:
    """Write whole or not at all, 0600; None: unprotected. StoreError when the disk refuses."""
    if passphrase is None:
        file = _KeyFile(
            format="wgctl-key/1", purpose=purpose, protection="none", kid=key.kid, seed=key.seed().hex()
        )
    else:
        file = _KeyFile(
            format="wgctl-key/1",
            purpose=purpose,
            protection="argon2id-secretbox",
            kid=key.kid,
            sealed=_seal(key.seed(), passphrase),
        )
    write_file(path, msgspec.json.encode(file) + b"\n")


def _seal(seed: bytes, passphrase: bytes) -> _Sealed:
    from nacl.pwhash import argon2id
    from nacl.secret import SecretBox
    from nacl.utils import random as random_bytes

    salt = random_bytes(argon2id.SALTBYTES)
    box = SecretBox(_derive(passphrase, salt, MODERATE)).encrypt(seed)
    return _Sealed(salt=encode_base64(salt), cost=MODERATE, box=encode_base64(bytes(box)))


def _unseal(sealed: _Sealed, passphrase: bytes, path: Path) -> bytes:
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    salt, box = decode_base64(sealed.salt, "salt"), decode_base64(sealed.box, "box")
    cost = sealed.cost
    if (
        not (1 <= cost.passes <= MAX_COST.passes and 8192 <= cost.memory_bytes <= MAX_COST.memory_bytes)
        or len(box) != SEED_BYTES + SecretBox.NONCE_SIZE + SecretBox.MACBYTES
    ):
        raise _not_ours(path)
    try:
        return SecretBox(_derive(passphrase, salt, cost)).decrypt(box)
    except CryptoError:
        raise PassphraseError(f"{path}: the passphrase is wrong") from None


def _derive(passphrase: bytes, salt: bytes, cost: Cost) -> bytes:
    from nacl.exceptions import CryptoError
    from nacl.pwhash import argon2id
    from nacl.secret import SecretBox

    try:
        return argon2id.kdf(
            SecretBox.KEY_SIZE, passphrase, salt, opslimit=cost.passes, memlimit=cost.memory_bytes
        )
    except (CryptoError, MemoryError, RuntimeError):
        mebibytes = cost.memory_bytes // (1024 * 1024)
        raise ConfigError(f"key file: {mebibytes} MiB of memory are needed and cannot be had") from None


def _not_ours(path: Path) -> TrustStateError:
    return TrustStateError(f"{path}: not a key file of wgctl")
