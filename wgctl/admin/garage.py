"""Garage's side of a mesh: its buckets, the administrators' keys and one key a host, kept in line.

A key is chosen here and kept in the admin home before Garage hears of it. So an interrupted
command is simply repeated, a bundle can hold a key of a Garage that does not run yet, and a
Garage that lost everything gets the same keys again. Whose a key is, its name says.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from meshd.errors import ConfigError, MeshError, StoreDeniedError, StoreError
from meshd.registry.layout import HOST_PREFIX, ROOT_PREFIX, mesh_prefix
from meshd.store.credentials import S3Credentials
from meshd.store.garage_admin import (
    GarageAdmin,
    KeyGoneError,
    Permissions,
    parse_token,
    read_token,
)
from meshd.store.garage_http import AdminToken
from meshd.store.select import open_store, parse_location
from wgctl.admin.home import MeshFile
from wgctl.admin.host_keys import KeyFolder

TOKEN_VARIABLE: Final = "GARAGE_ADMIN_TOKEN"
USABLE_SECONDS: Final = 10.0
"""How long a new key may still be unknown to one of the nodes."""
RETRY_SECONDS: Final = 0.1

READ: Final = Permissions(read=True)
READ_WRITE: Final = Permissions(read=True, write=True)


class GarageKeys:
    """Buckets and keys of one mesh. Errors are those of GarageAdmin; all of it may be repeated."""

    def __init__(self, admin: GarageAdmin, mesh_id: str, stores: Sequence[str]) -> None:
        """``stores``: the URLs of the mesh. ConfigError when none of them is an S3 store."""
        self._admin = admin
        self._prefix = f"wg-meshd/{mesh_id}/"
        self._mesh_id = mesh_id
        self.use_stores(stores)
        self._there: dict[str, str] | None = None
        self._buckets: dict[str, str] = {}
        self._names: dict[str, str] | None = None

    def use_stores(self, stores: Sequence[str]) -> None:
        """From now on these are the URLs of the mesh. ConfigError when none of them is an S3 store."""
        self._urls = [url for url in stores if parse_location(url) is not None]
        if not self._urls:
            raise ConfigError("Garage's admin API is of no use here: none of the stores is an S3 store")

    def check(self) -> None:
        """Raises when the admin API does not answer, or does not take our token; remembers what is there."""
        with ThreadPoolExecutor(1) as pool:
            listing = pool.submit(self._admin.list_buckets)
            self._keys()
            self._there = listing.result()

    def provide_buckets(self) -> list[str]:
        """Make the buckets that are missing; -> their names."""
        there = self._there if self._there is not None else self._admin.list_buckets()
        missing = [name for name in self._host_rights() if name not in there]
        made = {name: self._admin.create_bucket(name) for name in missing}
        self._buckets = {name: ({**there, **made})[name] for name in self._host_rights()}
        return missing

    def provide_admin(self, kid: str, credentials: S3Credentials) -> bool:
        """Make an administrator's key and let it write everywhere; True when it is new."""
        rights = dict.fromkeys(self._host_rights(), READ_WRITE)
        return self._provide(f"{self._prefix}admin/{kid}", credentials, rights)

    def provide_host(self, hid: str, credentials: S3Credentials) -> bool:
        """Make a host's key: it writes records, and only reads where roots and logs are apart from them.

        True when it is new, KeyGoneError when it was deleted in Garage.
        """
        return self._provide(self._host_name(hid), credentials, self._host_rights())

    def find_host(self, hid: str) -> S3Credentials | None:
        """The key that Garage has for this host, whoever made it."""
        held = sorted(key for key, name in self._keys().items() if name == self._host_name(hid))
        key = self._admin.read_key(held[0]) if held else None
        return key.credentials if key is not None else None

    def remove_host(self, hid: str) -> int:
        """Delete every key of this host; -> how many there were."""
        return self._remove(self._host_name(hid))

    def remove_admin(self, kid: str) -> int:
        """Delete an administrator's keys; -> how many there were."""
        return self._remove(f"{self._prefix}admin/{kid}")

    def hids_with_keys(self) -> set[str]:
        begin = self._host_name("")
        return {name.removeprefix(begin) for name in self._keys().values() if name.startswith(begin)}

    def wait_until_usable(self, credentials: S3Credentials) -> list[str]:
        """Wait until no store refuses the new key any more; -> what still does after 10 s.

        The nodes learn of a key one after the other. A store that does not answer at all is not
        waited for: that says nothing about the key.
        """
        deadline = time.monotonic() + USABLE_SECONDS

        def wait(ask: Callable[[], object]) -> str:
            while (refusal := _refusal(ask)) and time.monotonic() < deadline:
                time.sleep(RETRY_SECONDS)
            return refusal

        prefix = mesh_prefix(self._mesh_id)
        with contextlib.ExitStack() as stack:
            asks = []
            for url in self._urls:
                store = stack.enter_context(contextlib.closing(open_store(url, credentials)))
                asks += [partial(store.get, f"{prefix}{kind}none") for kind in (ROOT_PREFIX, HOST_PREFIX)]
            # All at once: each is an answer from afar, and none depends on another.
            with ThreadPoolExecutor(len(asks)) as pool:
                return [refusal for refusal in pool.map(wait, asks) if refusal]

    def _host_rights(self) -> dict[str, Permissions]:
        rights: dict[str, Permissions] = {}
        for url in self._urls:
            location = parse_location(url)
            assert location is not None
            for bucket in location.buckets:
                rights.setdefault(bucket, READ)
            rights[location.bucket] = READ_WRITE
        return rights

    def _host_name(self, hid: str) -> str:
        return f"{self._prefix}host/{hid}"

    def _keys(self) -> dict[str, str]:
        """Names by id."""
        if self._names is None:
            self._names = {key.id: key.name for key in self._admin.list_keys()}
        return self._names

    def _remove(self, name: str) -> int:
        # Listed anew: a key may be there although the answer to its making never came.
        self._names = None
        held = [key for key, each in self._keys().items() if each == name]
        for key in held:
            del self._keys()[key]
        return sum(self._admin.delete_key(key) for key in held)

    def _provide(self, name: str, credentials: S3Credentials, wanted: Mapping[str, Permissions]) -> bool:
        if not self._buckets:
            self.provide_buckets()
        key = credentials.access_key
        is_new = key not in self._keys()
        if is_new:
            self._admin.create_key(name, credentials)
            self._keys()[key] = name
        found = None if is_new else self._admin.read_key(key)
        held = found.permissions if found is not None else {}
        with ThreadPoolExecutor(len(wanted)) as pool:
            permitting = [
                pool.submit(self._permit, self._buckets[bucket], key, permissions, held, node)
                for node, (bucket, permissions) in enumerate(wanted.items())
            ]
        for each in permitting:
            each.result()
        return is_new

    def _permit(
        self, bucket_id: str, key: str, wanted: Permissions, held: Mapping[str, Permissions], node: int
    ) -> None:
        """Give what is missing and take what is too much, and ask nothing when it is right already."""
        now = held.get(bucket_id, Permissions())
        if missing := wanted.minus(now):
            self._admin.allow(bucket_id, key, missing, node=node)
        if excess := now.minus(wanted):
            self._admin.deny(bucket_id, key, excess, node=node)


def _refusal(ask: Callable[[], object]) -> str:
    try:
        ask()
    except StoreDeniedError as error:
        return str(error)
    except StoreError:
        return ""
    return ""


def find_token(file: Path | None, remembered: str = "") -> AdminToken:
    """From ``file``, else the environment, else the file that mesh.toml names. ConfigError without any."""
    if file is not None:
        return read_token(file)
    if text := os.environ.get(TOKEN_VARIABLE):
        return parse_token(text, f"${TOKEN_VARIABLE}")
    if remembered:
        return read_token(Path(remembered))
    raise ConfigError(
        f"Garage's admin API: no token; name its file with --garage-token-file or set ${TOKEN_VARIABLE}"
    )


@contextlib.contextmanager
def open_garage(
    mesh: MeshFile, stores: Sequence[str], urls: Sequence[str] = (), token_file: Path | None = None
) -> Iterator[GarageKeys | None]:
    """Garage as mesh.toml, or else ``urls`` and ``token_file``, say; None when nobody named one."""
    urls = urls or mesh.garage_admin
    if not urls:
        if token_file is not None:
            raise ConfigError("--garage-token-file without --garage-admin: whose token is it?")
        yield None
        return
    admin = GarageAdmin(urls, find_token(token_file, mesh.garage_token_file))
    try:
        yield GarageKeys(admin, mesh.mesh_id, stores)
    finally:
        admin.close()


def supply_host_key(garage: GarageKeys, folder: KeyFolder, hid: str) -> S3Credentials:
    """The host's key, working at every store that answers: the one it has, or else a new one."""
    kept = folder.read(hid)
    if kept is None and (kept := garage.find_host(hid)) is not None:
        folder.write(hid, kept)
    credentials = kept or folder.choose(hid)
    try:
        is_new = garage.provide_host(hid, credentials)
    except KeyGoneError:
        folder.remove(hid)
        credentials = folder.choose(hid)
        is_new = garage.provide_host(hid, credentials)
    if is_new and (refused := garage.wait_until_usable(credentials)):
        raise StoreError(f"the new S3 key is still refused after {USABLE_SECONDS:g} s: {refused[0]}")
    return credentials


def withdraw_host_key(mesh: MeshFile, stores: Sequence[str], folder: KeyFolder, hid: str) -> str:
    """Delete a revoked host's key where that can be done; -> a few words on what became of it."""
    try:
        with open_garage(mesh, stores) as garage:
            if garage is None:
                return "take its S3 key away, if it has one"
            removed = garage.remove_host(hid)
            folder.remove(hid)
            return "its S3 key is deleted" if removed else "Garage had no S3 key for it"
    except (MeshError, OSError) as error:
        return f"its S3 key could NOT be deleted: {error}; when that works again: wgctl garage-sync"
