"""Several real daemons in one process, that talk over loopback addresses in place of mesh addresses."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
from daemon_rig import Rig, build_rig, running, settings_for
from meshes import SignedHost, SignedMesh

from meshd.exchange.exchange import MeshAddresses
from meshd.model.host import Host
from meshd.model.network import IPAddress
from meshd.model.path import PathStats
from meshd.observe.protocol import ControlAnswer, OfferDocument
from meshd.store.base import ObjectStore

WAIT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Loopback:
    """An address of 127/8 for every host, and a port that was free on all of them."""

    addresses: Mapping[str, IPv4Address]
    port: int

    @classmethod
    def of(cls, hosts: Iterable[SignedHost]) -> Loopback:
        hids = [host.hid for host in hosts]
        for _ in range(50):
            base = int(IPv4Address("127.16.0.0")) + random.randrange(1 << 20) * 8
            addresses = {hid: IPv4Address(base + number) for number, hid in enumerate(hids, 1)}
            port = random.randrange(20000, 60000)
            if all(_is_free(str(address), port) for address in addresses.values()):
                return cls(addresses, port)
        raise AssertionError("no free port on loopback")

    def places(self, host: Host) -> tuple[IPAddress, ...]:
        return (self.addresses[host.hid],)


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def build_exchanging(
    directory: Path,
    mesh: SignedMesh,
    host: SignedHost,
    loopback: Loopback,
    *,
    stores: tuple[ObjectStore, ...] | None = None,
    witness_seconds: float = 3600.0,
    poll_seconds: float = 3600.0,
    rng: random.Random | None = None,
) -> Rig:
    """A daemon with its exchange on loopback; all other hosts answer its probes."""
    settings = settings_for(
        directory / host.name,
        exchange={"port": loopback.port, "witness_seconds": witness_seconds},
        registry={"poll_seconds": poll_seconds},
    )
    places: MeshAddresses = loopback.places
    rig = build_rig(
        directory / host.name, mesh, host, stores=stores, settings=settings, mesh_addresses_of=places, rng=rng
    )
    rig.prober.stats = {hid: PathStats(up=True) for hid in loopback.addresses if hid != host.hid}
    return rig


@contextlib.asynccontextmanager
async def all_running(rigs: Iterable[Rig]) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for rig in rigs:
            await stack.enter_async_context(running(rig))
        yield


async def offer(rig: Rig, objects: Iterable[tuple[str, bytes]]) -> OfferDocument:
    """What ``wgctl`` does beside a daemon."""
    line = msgspec.json.encode({"verb": "offer", "objects": list(objects)}) + b"\n"
    answer = msgspec.json.decode(await rig.raw(line), type=ControlAnswer)
    assert answer.error is None, answer.error
    return msgspec.json.decode(answer.result, type=OfferDocument)


def codes_of(rig: Rig) -> set[str]:
    """Codes of the conditions that are open now."""
    return {condition.code for condition in rig.conditions()}
