"""The S3 keys that this admin home chose for hosts: made up here, before any store hears of them.

They stay here, 0600 beside the keys that sign, so that the same bundle can be written again and
a store that lost everything can be given the same keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from meshd.files import sync_directory
from meshd.store.credentials import S3Credentials, generate_credentials, read_credentials, write_credentials

HOST_KEYS: Final = "s3"
OWN_KEY: Final = "s3.json"


class KeyFolder(msgspec.Struct, frozen=True):
    """One file a host, named by its hid."""

    directory: Path

    def read(self, hid: str) -> S3Credentials | None:
        path = self._path(hid)
        return read_credentials(path) if path.exists() else None

    def write(self, hid: str, credentials: S3Credentials) -> None:
        """StoreError when the disk refuses."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        write_credentials(self._path(hid), credentials)

    def remove(self, hid: str) -> None:
        if self._path(hid).exists():
            self._path(hid).unlink()
            sync_directory(self.directory)

    def hids(self) -> list[str]:
        return sorted(path.stem for path in self.directory.glob("*.json"))

    def choose(self, hid: str) -> S3Credentials:
        """The key of this host, made up now if there is none."""
        credentials = self.read(hid)
        if credentials is None:
            credentials = generate_credentials()
            self.write(hid, credentials)
        return credentials

    def _path(self, hid: str) -> Path:
        return self.directory / f"{hid}.json"
