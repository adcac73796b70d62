"""Where the S3 key comes from that a bundle carries: a file, a choice of this home, or Garage.

Garage is asked while other things go on: whether it answers before anything is signed, for the key once the
grant is signed and kept here, while it is published.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from meshd.errors import ConfigError, MeshError, StoreError
from meshd.registry.bundle import S3Credentials
from meshd.store.credentials import S3Credentials as FileCredentials
from meshd.store.credentials import read_credentials
from wgctl.admin.host_keys import HOST_KEYS, KeyFolder
from wgctl.admin.session import AdminSession


def read_host_credentials(path: Path | None) -> S3Credentials | None:
    """The key that a bundle carries. ConfigError for one that ends before the host does."""
    if path is None:
        return None
    credentials = read_credentials(path)
    if credentials.session_token:
        raise ConfigError(
            f"{path}: --s3-credentials: a session token seen, a lasting key expected; where there is none, "
            "give the host no key and renew s3.json in its state directory there (docs/garage.md)"
        )
    return _bundled(credentials)


class HostKeys:
    """Where the S3 key of a host comes from, by its hid: ``given``, a choice of ours, Garage, or nowhere."""

    def __init__(
        self,
        given: S3Credentials | None = None,
        *,
        check: Callable[[], None] = lambda: None,
        supply: Callable[[str], S3Credentials] | None = None,
    ) -> None:
        self._given = given
        self._supply = supply
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="keys")
        self._checking = self._pool.submit(check)
        self._supplying: dict[str, Future[S3Credentials]] = {}

    def check(self) -> None:
        """Before anything is signed: raises where a Garage does not answer, or does not take our token."""
        self._checking.result()

    def begin(self, hid: str) -> None:
        """Make the key of a host that is granted, in a thread. What fails, the same command makes again."""
        if self._supply is not None and hid not in self._supplying:
            self._supplying[hid] = self._pool.submit(self._supply, hid)

    def provide(self, hid: str) -> S3Credentials | None:
        """The key, once it is made. StoreError says what to do when it could not be."""
        self.begin(hid)
        return self._supplying[hid].result() if hid in self._supplying else self._given

    def close(self) -> None:
        self._pool.shutdown()


@contextlib.contextmanager
def host_key_source(
    session: AdminSession, given: S3Credentials | None, urls: Sequence[str], token_file: Path | None
) -> Iterator[HostKeys]:
    """Where hosts' keys come from. Whether Garage answers is asked meanwhile, from now on."""
    administered = bool(urls or session.home.mesh.garage_admin)
    with contextlib.ExitStack() as stack:
        if given is not None or not (administered or token_file):
            keys = HostKeys(given)
        elif session.alone:
            folder = KeyFolder(session.home.directory / HOST_KEYS)
            keys = HostKeys(supply=lambda hid: _bundled(folder.choose(hid)))
        else:
            keys = _keys_in_garage(session, urls, token_file, stack)
        stack.callback(keys.close)
        yield keys


def _keys_in_garage(
    session: AdminSession, urls: Sequence[str], token_file: Path | None, stack: contextlib.ExitStack
) -> HostKeys:
    from wgctl.admin.garage import open_garage, supply_host_key

    folder = KeyFolder(session.home.directory / HOST_KEYS)
    garage = stack.enter_context(open_garage(session.home.mesh, session.store_urls, urls, token_file))
    assert garage is not None

    def supply(hid: str) -> S3Credentials:
        try:
            # The root may name other stores since it was read anew.
            garage.use_stores(session.store_urls)
            return _bundled(supply_host_key(garage, folder, hid))
        except MeshError as error:
            raise StoreError(f"granted, but without a bundle: {error}; run this again") from None

    return HostKeys(check=garage.check, supply=supply)


def _bundled(credentials: FileCredentials) -> S3Credentials:
    return S3Credentials(access_key=credentials.access_key, secret_key=credentials.secret_key)
