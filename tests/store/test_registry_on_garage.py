"""Publishing to and following a real Garage."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from garage_node import GarageNode
from signed_mesh import NOW, SignedMesh

from meshd.registry.layout import mesh_prefix
from meshd.registry.ledger import Ledger
from meshd.registry.sync import PollMemory, poll, publish

pytestmark = pytest.mark.garage


def recorded(ledger: Ledger) -> set[str]:
    return {host.name for host in ledger.membership(NOW).hosts.values() if host.record is not None}


def test_a_registry_is_published_followed_and_changed(garage_node: GarageNode) -> None:
    mesh, store = SignedMesh(mesh_id="a" * 32), garage_node.open()
    for name in ("tesla", "newton"):
        mesh.host(name)
    publish(store, list(mesh.objects.items()), mesh_id=mesh.mesh_id)
    ledger, memory = mesh.ledger(), PollMemory()
    assert poll(store, ledger, now=NOW, memory=memory).complete
    assert recorded(ledger) == {"tesla", "newton"}
    publish(store, [*mesh.host("bohr"), mesh.revoke("tesla")], mesh_id=mesh.mesh_id)
    outcome = poll(store, ledger, now=NOW, memory=memory)
    assert outcome.complete and len(outcome.new) == 3
    assert recorded(ledger) == {"newton", "bohr"}
    store.close()


@pytest.mark.slow
def test_a_thousand_unchanged_hosts_cost_a_handful_of_requests(garage_node: GarageNode) -> None:
    mesh, store = SignedMesh(mesh_id="b" * 32), garage_node.open()
    for number in range(1000):
        mesh.host(f"host{number}")
    prefix = mesh_prefix(mesh.mesh_id)
    with ThreadPoolExecutor(store.parallel_requests) as pool:
        list(pool.map(lambda item: store.put(prefix + item[0], item[1]), mesh.objects.items()))
    ledger, memory = mesh.ledger(), PollMemory()
    assert poll(store, ledger, now=NOW, memory=memory).complete
    assert len(recorded(ledger)) == 1000
    again = poll(store, ledger, now=NOW, memory=memory)
    assert again.complete and again.new == ()
    assert (again.requests, again.fetched_bytes) == (3, 0)
    restarted = poll(store, mesh.full_ledger(), now=NOW, memory=PollMemory())
    assert restarted.complete and restarted.requests <= 5 and restarted.fetched_bytes == 0
    store.close()
