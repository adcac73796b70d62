"""The kernel of a golden transcript on Linux: the netlink messages of LinuxBackend, decoded and written down.

They are done on a kernel in memory and answered in the kernel's encoding, so no root is needed. The backend's
conformance suite is passed on this kernel as on a real one (the kernel lab), so it keeps the same promises.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from ipaddress import ip_interface, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_netlink import NetlinkKernel
from golden_transcript import Spoken, Transcript
from netlink_messages import FAMILY, Request

from meshd.backend import ipv6_switch, linux, netlink_routes, reverse_path
from meshd.backend.base import Backend
from meshd.backend.linux import LinuxBackend
from meshd.model.device import PeerStats, PeerUpdate
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, ForeignRoute, network_key


class _Socket:
    """Stands for NetlinkSocket: every message to the kernel of this test, and into its transcript."""

    def __init__(self, kernel: NetlinkKernel, transcript: Transcript) -> None:
        self._kernel = kernel
        self._transcript = transcript

    def close(self) -> None:
        pass

    def transact(self, messages: Sequence[Any]) -> list[tuple[int, str]]:
        return [self.request(message)[0] for message in messages]

    def transact_packed(self, messages: Sequence[bytearray]) -> list[tuple[int, str]]:
        return self.transact(messages)

    def request(self, message: Any) -> tuple[tuple[int, str], list[bytes]]:
        request = Request.read(message)
        if not request.is_look:
            self._transcript.about_to_change()
        number, bodies = self._kernel.answer(request)
        self._transcript.add(
            Spoken(
                command=self._kernel.describe(request),
                answer="0" if number == 0 else errno.errorcode[number],
                stdin=tuple(self._kernel.describe_peers(request)),
                look=request.is_look,
            )
        )
        return (number, ""), bodies

    def dump(self, message: Any) -> list[bytes]:
        (number, _), bodies = self.request(message)
        assert number == 0
        return bodies


class GoldenLinux:
    """One host. What the world does to it is said in the words of ip(8) and wg(8)."""

    def __init__(self, directory: Path, transcript: Transcript, patch: pytest.MonkeyPatch) -> None:
        directory.mkdir(parents=True)
        self._transcript = transcript
        self._kernel = NetlinkKernel()
        self.memory = self._kernel.memory
        patch.setattr(reverse_path, "DIRECTORY", directory)  # not this machine's
        patch.setattr(ipv6_switch, "DIRECTORY", directory)
        patch.setattr(netlink_routes, "_interface_name", self._kernel.name_of)
        throwaway_key = SimpleNamespace(urandom=lambda count: b"\x7f" * count)
        patch.setattr(linux, "os", throwaway_key)

    def rename(self, interface: str, to: str) -> None:
        self.memory.third_party_renames(interface, to)
        self._kernel.indexes[to] = self._kernel.indexes.pop(interface)

    def open(self) -> Backend:
        backend = LinuxBackend()
        socket: Any = _Socket(self._kernel, self._transcript)
        backend._socket = socket
        backend._links._socket = socket
        backend._links._table._socket = socket
        backend._family = FAMILY
        return backend

    def add_plain_interface(self, name: str) -> None:
        self._somebody(f"ip link add {name} type bridge")
        self._kernel.add_index(name)
        self.memory.third_party_interface(name)

    def destroy(self, interface: str) -> None:
        self._somebody(f"ip link delete {interface}")
        self.memory.third_party_destroys(interface)

    def delete_route(self, destination: str, interface: str) -> None:
        self._somebody(f"ip route delete {destination} dev {interface}")
        del self.memory._routes[ip_network(destination)]

    def block_route(self, destination: str) -> None:
        self._somebody(f"ip route add blackhole {destination}")
        network = ip_network(destination)
        self.memory.third_party_routes(
            {network: ForeignRoute(destination=network, interface=None, description="blackhole")}
        )

    def unblock_route(self, destination: str) -> None:
        self._somebody(f"ip route delete blackhole {destination}")
        self.memory.third_party_routes({})

    def add_peer(self, interface: str, key: str, allowed_ip: str) -> None:
        self._somebody(f"wg set {interface} peer {key} allowed-ips {allowed_ip}")
        update = PeerUpdate(
            public_key=PublicKey.parse(key), add_allowed_ips=frozenset({ip_network(allowed_ip)})
        )
        self.memory.set_peers(interface, [update])

    def roam(self, interface: str, key: str, endpoint: str, at: float) -> None:
        self._transcript.remark(f"the peer speaks from {endpoint}")
        peer = PublicKey.parse(key)
        self.memory.peer_roams(interface, peer, Endpoint.parse(endpoint))
        self.memory.peer_counts(interface, peer, PeerStats(latest_handshake_at=at))

    def refuse_route_once(self, destination: str) -> None:
        self._transcript.remark(f"no buffer space for the route to {destination}, once")
        self._kernel.refusals[f"RTM_NEWROUTE create,excl {destination} "] = errno.ENOBUFS

    def state(self, interface: str) -> list[str]:
        found = self.memory.observe(interface)
        if found.device is None:
            return []
        up = "up" if found.up else "down"
        lines = [f"{interface}: {up} mtu {found.mtu_bytes} port {found.device.listen_port}"]
        addresses = sorted(found.addresses, key=lambda one: network_key(ip_interface(one).network))
        lines += [f"address {address}" for address in addresses]
        for peer in found.device.peers.values():
            config = peer.config
            allowed = " ".join(map(str, sorted(config.allowed_ips, key=network_key)))
            lines.append(
                f"peer {config.public_key} endpoint {config.endpoint or '(none)'} allowed-ips {allowed} "
                f"latest-handshake {int(peer.stats.latest_handshake_at)} "
                f"keepalive {config.persistent_keepalive_seconds}"
            )
        for route in sorted(found.routes, key=lambda one: network_key(one.destination)):
            mtu = f" mtu {route.mtu_bytes}" if route.mtu_bytes else ""
            lines.append(f"route {route.destination} dev {interface}{mtu}")
        return lines

    def _somebody(self, command: str) -> None:
        self._transcript.remark(f"somebody: {command}")
