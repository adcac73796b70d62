"""The ways from an administrator's machine to the hosts themselves, when it is one of them.

Beside a running meshd it is its control socket; else, on a machine with an address of the mesh, the
hosts' exchange port. What hosts hold is verified like what stores hold, and what was signed here
reaches them without any store.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Protocol

from meshd.errors import ConfigError, ControlError, MeshError, RegistryError, StoreError
from meshd.exchange.authentication import Authenticator
from meshd.exchange.flood import ALL_UP_TO
from meshd.exchange.host_sync import SyncResult, fetch
from meshd.exchange.messages import (
    MAX_ALREADY_NOTIFIED,
    MAX_OFFER_OBJECTS,
    Inventory,
    Object,
    ObjectsPage,
    ObjectsRequest,
    Offer,
    parse_message,
    render_message,
)
from meshd.exchange.partner import Partner, mesh_addresses, partner_of
from meshd.exchange.shared_ledger import SharedLedger
from meshd.model.host import Membership
from meshd.model.network import IPAddress
from meshd.registry.ledger import Ledger
from meshd.settings import DEFAULT_EXCHANGE_PORT
from wgctl.client import ControlClient
from wgctl.options import Options

if TYPE_CHECKING:
    from meshd.exchange.client import ExchangeClient

ASKED_HOSTS: Final = 3
_PARALLEL: Final = 16


class HostChannel(Protocol):
    def ask(self) -> bool:
        """Add what hosts hold to the ledger; False when none answered. For a thread of its own."""

    def give(self) -> bool:
        """Hand those that answered what they lack of the ledger; False when none took it."""

    def offer(self, objects: Sequence[Object]) -> int:
        """Hosts that hold all of these now."""

    def close(self) -> None: ...


def open_host_channel(
    options: Options, ledger: Ledger, lock: AbstractContextManager[object], *, now: float
) -> HostChannel | None:
    """The way to the hosts of ``ledger``'s mesh from here; None when there is none."""
    shared_ledger = SharedLedger(ledger=ledger, lock=lock, hid="", identity=None, clock=lambda: now)
    with contextlib.suppress(ControlError, ConfigError):
        return _BesideDaemon(ControlClient(options.control_socket()), shared_ledger)
    return _open_direct(options, shared_ledger, ledger.membership(now))


class _BesideDaemon:
    def __init__(self, client: ControlClient, shared_ledger: SharedLedger) -> None:
        self._client = client
        self._shared_ledger = shared_ledger
        self._theirs: Inventory | None = None

    def ask(self) -> bool:
        try:
            self._theirs = fetch(self._shared_ledger, self._ask_page, SyncResult(), giver="")
        except MeshError:
            return False
        return True

    def give(self) -> bool:
        try:
            for batch in self._shared_ledger.batches(self._theirs) if self._theirs is not None else ():
                self._client.offer(batch)
        except MeshError:
            return False
        return True

    def offer(self, objects: Sequence[Object]) -> int:
        try:
            document = self._client.offer(objects)
        except MeshError:
            return 0
        if document.mesh != self._shared_ledger.mesh_id or not set(document.outcomes) <= {"new", "known"}:
            return 0
        return document.hosts + 1

    def close(self) -> None:
        self._client.close()

    def _ask_page(self, request: ObjectsRequest) -> ObjectsPage:
        document = self._client.objects(render_message(request))
        if document.mesh != self._shared_ledger.mesh_id:
            raise RegistryError(
                f"meshd here is in mesh {document.mesh}, {self._shared_ledger.mesh_id} expected"
            )
        return parse_message(bytes(document.page), ObjectsPage)


class _Direct:
    def __init__(
        self, client: ExchangeClient, shared_ledger: SharedLedger, partners: Sequence[Partner]
    ) -> None:
        self._client = client
        self._shared_ledger = shared_ledger
        self._partners = partners
        self._asking = iter(partners[:ASKED_HOSTS])
        self._answered: tuple[Partner, Inventory | None] | None = None

    def ask(self) -> bool:
        """One after the other; the first that answers whole is enough."""
        for partner in self._asking:
            with contextlib.suppress(StoreError, RegistryError):
                ask = partial(self._client.objects, partner)
                theirs = fetch(self._shared_ledger, ask, SyncResult(), giver=partner.hid)
                self._answered = partner, theirs
                return True
        return False

    def give(self) -> bool:
        """To the one that answered, or else to the next that does."""
        while self._answered is not None:
            partner, theirs = self._answered
            with contextlib.suppress(StoreError, RegistryError):
                for batch in self._shared_ledger.batches(theirs) if theirs is not None else ():
                    self._client.offer(partner, Offer(objects=batch))
                return True
            self._answered = None
            self.ask()
        return False

    def offer(self, objects: Sequence[Object]) -> int:
        notified = tuple(partner.hid for partner in self._partners)[:MAX_ALREADY_NOTIFIED]
        offer = Offer(objects=tuple(objects[:MAX_OFFER_OBJECTS]), notified=notified)

        def tell(partner: Partner) -> bool:
            try:
                answer = self._client.offer(partner, offer)
            except (StoreError, RegistryError):
                return False
            return set(answer.outcomes) <= {"new", "known"}

        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="offer") as pool:
            return sum(pool.map(tell, self._partners))

    def close(self) -> None:
        """Each call has a connection of its own."""


def _open_direct(options: Options, shared_ledger: SharedLedger, membership: Membership) -> HostChannel | None:
    port = DEFAULT_EXCHANGE_PORT
    with contextlib.suppress(ConfigError):
        port = options.read_settings().exchange.port
    hosts = [host for host in membership.with_daemon.values() if host.record is not None]
    ours = {address for host in membership.hosts.values() for address in host.addresses}
    random.shuffle(hosts)
    partners = []
    for host in hosts[:ALL_UP_TO]:
        address = mesh_addresses(host)[0]
        source = _source_towards(address, port)
        if source in ours and source not in host.addresses:
            partners.append(partner_of(host, address, source))
    if not partners:
        return None
    from meshd.exchange.client import ExchangeClient  # with the HTTP client, which nobody else needs

    nobody = Authenticator(shared_ledger.mesh_id, identity=None)  # what is signed here proves itself
    client = ExchangeClient(mesh_id=shared_ledger.mesh_id, port=port, authenticator=lambda: nobody)
    return _Direct(client, shared_ledger, partners)


def _source_towards(address: IPAddress, port: int) -> IPAddress | None:
    """Which address the system would call from; connecting a datagram socket sends nothing."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), port))
            return ip_address(probe.getsockname()[0])
    except OSError:
        return None
