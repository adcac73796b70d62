"""Hosts whose system has no IPv6 hand each other news over IPv4, and nothing is reported as broken."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from daemon_rig import build_rig, settings_for
from exchange_rig import WAIT_SECONDS, Loopback, all_running, codes_of, offer
from meshes import SignedMesh
from until import until

from meshd.backend.memory import MemoryBackend
from meshd.model.host import Host
from meshd.model.network import IPAddress
from meshd.model.path import PathStats
from meshd.store.memory import MemoryStore

NOBODYS = IPv6Address("2001:db8::7")
"""No address of this machine: it can neither be listened on nor called."""


@pytest.mark.slow
def test_news_goes_over_ipv4_where_ipv6_is_off(tmp_path: Path) -> None:
    mesh = SignedMesh.create()
    hosts = [mesh.add(name) for name in ("tesla", "newton")]
    mesh.add("bohr")
    loopback = Loopback.of(mesh.hosts.values())

    def places(host: Host) -> tuple[IPAddress, ...]:
        return (NOBODYS, *loopback.places(host))

    rigs = []
    for host in hosts:
        backend = MemoryBackend()
        backend.third_party_switches_ipv6_off("the kernel runs without IPv6")
        settings = settings_for(tmp_path / host.name, exchange={"port": loopback.port})
        rig = build_rig(
            tmp_path / host.name,
            mesh,
            host,
            stores=(MemoryStore(),),
            settings=settings,
            backend=backend,
            mesh_addresses_of=places,
        )
        rig.prober.stats = {each.hid: PathStats(up=True) for each in mesh.hosts.values()}
        rigs.append(rig)

    async def scenario() -> None:
        async with all_running(rigs):
            assert "exchange_down" not in codes_of(rigs[0]) | codes_of(rigs[1])
            mesh.revoke("bohr", "stolen")
            await offer(rigs[0], [list(mesh.objects.items())[-1]])
            await until(lambda: mesh.hosts["bohr"].hid not in rigs[1].world.membership.hosts, WAIT_SECONDS)

    asyncio.run(scenario())
