"""One set of rules for settings: what a file may say is what the daemon can make of it.

A record that readers would refuse is refused where somebody looks: by ``check-config`` and at a reload. So
the record is built as the daemon builds it, and the stores are opened as it opens them. Nothing is sent.
"""

from __future__ import annotations

from meshd.errors import ConfigError, RegistryError
from meshd.host.state import HostState
from meshd.model.host import ENROLLMENT_VERSION
from meshd.model.keys import PrivateKey
from meshd.registry.record import build_record, sign_record
from meshd.registry.signing import SigningKey
from meshd.settings import Settings
from meshd.store.credentials import read_credentials
from meshd.store.select import open_store, parse_location
from meshd.version import VERSION


def refuse_unusable(settings: Settings, state: HostState, source: str) -> None:
    """ConfigError names ``source`` and what of these settings no record can say, or no store can be.

    Args:
        state: has the stores' credentials, once this host has joined.
    """
    refuse_unsayable(settings, source)
    path = state.credentials_path
    found = read_credentials(path) if path.exists() else None
    for url in settings.registry.stores:
        try:
            is_waiting = found is None and not state.joined and parse_location(url) is not None
            if not is_waiting:
                open_store(url, found).close()
        except ConfigError as error:
            raise ConfigError(f"{source}: registry.stores: {error}") from None


def refuse_unsayable(settings: Settings, source: str) -> None:
    """The part of ``refuse_unusable`` that a reload may change. Keys of a moment stand for this host's."""
    identity = SigningKey.generate()
    record = build_record(
        mesh="",
        hid=identity.kid,
        gen=1,
        version=ENROLLMENT_VERSION,
        private_key=PrivateKey.generate(),
        listen_port=settings.wireguard.listen_port,
        endpoints=settings.endpoints,
        networks=settings.jail_networks,
        behind_nat=settings.host.behind_nat,
        software=f"meshd/{VERSION}",
    )
    try:
        sign_record(record, identity)
    except RegistryError as error:
        raise ConfigError(f"{source}: no record of this host could say that: {error}") from None
