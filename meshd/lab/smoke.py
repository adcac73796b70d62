"""A backend through the life of one interface, on whatever system this is: ``python -m meshd.lab.smoke``.

Made for a real host where the test suite is not at hand (contrib/freebsd-check.sh runs it
inside a jail with a network stack of its own). It touches the interface that it is given and
the routes into it, and takes them away at the end.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Final

from meshd.backend.base import Backend
from meshd.backend.select import open_backend
from meshd.errors import BackendError
from meshd.model.device import Device, ObservedState, PeerUpdate
from meshd.model.keys import PresharedKey, PrivateKey
from meshd.model.network import Endpoint, Route

DEFAULT_INTERFACE: Final = "wg9"
LISTEN_PORT: Final = 51999
MTU_BYTES: Final = 1400
NARROW_BYTES: Final = 1300
ADDRESS: Final = ip_interface("10.99.0.1/32")
FIRST, SECOND = ip_network("10.17.2.0/24"), ip_network("10.17.3.0/24")
SIX: Final = ip_network("fd17:2::/64")
ENDPOINT: Final = Endpoint.parse("192.0.2.7:51820")

OpenBackend = Callable[[], Backend]


class Smoke:
    """Steps in order, each on what the one before has left. BackendError: seen is not expected."""

    def __init__(self, open_backend: OpenBackend, interface: str) -> None:
        self._open = open_backend
        self._backend = open_backend()
        self._interface = interface
        self._private = PrivateKey.generate()
        self._peer, self._other = (PrivateKey.generate().public() for _ in range(2))

    def steps(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        return (
            ("there is no such interface", self.absent),
            ("an interface is made, with key, port, MTU and address, and runs", self.make),
            ("peers are added and read back", self.add_peers),
            ("an allowed IP moves from one peer to the other", self.move_allowed_ip),
            ("routes are added, changed and removed", self.change_routes),
            ("another process finds it all as it was", self.reopen),
            ("a peer is removed, the other stays", self.remove_peer),
            ("the interface goes, and its routes with it", self.remove),
        )

    def absent(self) -> None:
        expect("interface", self._look().device, None)

    def make(self) -> None:
        backend, interface = self._backend, self._interface
        backend.create_interface(interface)
        backend.set_private_key(interface, self._private)
        backend.set_listen_port(interface, LISTEN_PORT)
        backend.add_address(interface, ADDRESS)
        backend.set_mtu(interface, MTU_BYTES)
        backend.set_up(interface)
        state, device = self._look(), self._device()
        expect("public key", device.public_key, self._private.public())
        seen = (device.listen_port, state.mtu_bytes, state.up)
        expect("port, MTU, up", seen, (LISTEN_PORT, MTU_BYTES, True))
        expect("addresses", state.addresses, frozenset({ADDRESS}))

    def add_peers(self) -> None:
        psk = PresharedKey.generate()
        added = PeerUpdate(
            public_key=self._peer, endpoint=ENDPOINT, preshared_key=psk, persistent_keepalive_seconds=25,
            add_allowed_ips=frozenset({FIRST, SIX}),
        )  # fmt: skip
        second = PeerUpdate(public_key=self._other, add_allowed_ips=frozenset({SECOND}))
        self._backend.set_peers(self._interface, [added, second])
        peers = self._device().peers
        expect("peers", set(peers), {self._peer, self._other})
        config = peers[self._peer].config
        expect("endpoint, keepalive", (config.endpoint, config.persistent_keepalive_seconds), (ENDPOINT, 25))
        expect("preshared key is set", config.preshared_key == psk, True)
        expect("allowed IPs", config.allowed_ips, frozenset({FIRST, SIX}))

    def move_allowed_ip(self) -> None:
        moved = frozenset({SIX})
        giver = PeerUpdate(public_key=self._peer, remove_allowed_ips=moved)
        taker = PeerUpdate(public_key=self._other, add_allowed_ips=moved)
        self._backend.set_peers(self._interface, [giver, taker])
        peers = self._device().peers
        expect("allowed IPs of the giver", peers[self._peer].config.allowed_ips, frozenset({FIRST}))
        expect("allowed IPs of the taker", peers[self._other].config.allowed_ips, frozenset({SECOND, SIX}))
        expect("endpoint of the giver", peers[self._peer].config.endpoint, ENDPOINT)

    def change_routes(self) -> None:
        wide = [self._route(FIRST), self._route(SECOND), self._route(SIX)]
        self._backend.set_routes(self._interface, wide)
        expect("routes", self._look().routes, frozenset(wide))
        narrow = Route(destination=FIRST, interface=self._interface, mtu_bytes=NARROW_BYTES)
        self._backend.set_routes(self._interface, [narrow])
        expect("routes with a narrow one", self._look().routes, frozenset({narrow, *wide[1:]}))
        self._backend.remove_routes(self._interface, [SECOND, SIX])
        expect("routes that are left", self._look().routes, frozenset({narrow}))

    def reopen(self) -> None:
        before = self._look()
        self._backend.close()
        self._backend = self._open()
        self._backend.create_interface(self._interface)
        expect("what another process sees", self._look() == before, True)

    def remove_peer(self) -> None:
        self._backend.set_peers(self._interface, [PeerUpdate(public_key=self._other, remove=True)])
        expect("peers", set(self._device().peers), {self._peer})

    def remove(self) -> None:
        self._backend.destroy_interface(self._interface)
        state = self._look()
        expect("interface and routes", (state.device, state.routes), (None, frozenset()))

    def clean(self) -> None:
        with contextlib.suppress(BackendError):
            self._backend.destroy_interface(self._interface)
        self._backend.close()

    def _route(self, destination: object) -> Route:
        return Route(destination=ip_network(str(destination)), interface=self._interface)

    def _look(self) -> ObservedState:
        return self._backend.observe(self._interface)

    def _device(self) -> Device:
        device = self._look().device
        if device is None:
            raise BackendError(f"interface {self._interface}: none seen, a WireGuard interface expected")
        return device


def expect(what: str, seen: object, expected: object) -> None:
    if seen != expected:
        raise BackendError(f"{what}: {seen} seen, {expected} expected")


def run_smoke(open_backend: OpenBackend, interface: str, say: Callable[[str], None]) -> bool:
    """True: every step did what it should. An interface that is there already is left alone."""
    smoke = Smoke(open_backend, interface)
    ours = False
    try:
        for title, step in smoke.steps():
            step()
            ours = True
            say(f"ok: {title}")
    except BackendError as error:
        say(f"FAILED: {title}: {error}")
        return False
    finally:
        if ours:
            smoke.clean()
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    if len(words) > 1:
        print("usage: python -m meshd.lab.smoke [INTERFACE]", file=sys.stderr)
        return 2
    interface = words[0] if words else DEFAULT_INTERFACE
    with tempfile.TemporaryDirectory(prefix="meshd-smoke-") as directory:
        note = Path(directory, "routes.json")
        try:
            whole = run_smoke(lambda: open_backend("auto", route_note_path=note), interface, print)
        except BackendError as error:
            print(f"FAILED: {error}")
            return 1
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
