"""Three Garage nodes that are killed, frozen and brought back under a registry that is in use."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from itertools import count

import pytest
from garage_cluster import NODES, GarageCluster
from msgspec import structs
from signed_mesh import NOW, SignedMesh, key_of

from meshd.errors import StoreError
from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint
from meshd.registry.canonical import encode
from meshd.registry.envelope import ROOT_TYPE
from meshd.registry.layout import host_key
from meshd.registry.ledger import Ledger
from meshd.registry.record import build_record, sign_record
from meshd.registry.root import RootChain, root_objects
from meshd.registry.signer import LogSigner, build_root_key, create_mesh
from meshd.registry.signing import SigningKey
from meshd.registry.sync import PollMemory, PollOutcome, poll, publish
from meshd.store.base import ObjectStore
from meshd.store.deadlines import Timeouts

pytestmark = [pytest.mark.garage, pytest.mark.slow]

_MESHES = count(1)
Object = tuple[str, bytes]


@pytest.fixture
def stores(cluster: GarageCluster) -> Iterator[Sequence[ObjectStore]]:
    """The same bucket by way of each node."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(cluster.open(i))) for i in range(NODES)]


@pytest.fixture
def mesh() -> SignedMesh:
    return SignedMesh(mesh_id=f"{next(_MESHES):032x}")


def members(ledger: Ledger) -> set[str]:
    return {host.name for host in ledger.membership(NOW).hosts.values() if host.record is not None}


def test_writers_of_different_keys_do_not_disturb_each_other(
    stores: Sequence[ObjectStore], mesh: SignedMesh
) -> None:
    names = [f"host{i}" for i in range(30)]
    grants = [mesh.grant(name) for name in names]
    publish(stores[0], [*mesh.objects.items()][: -len(grants)], mesh_id=mesh.mesh_id)

    def enter(i: int) -> None:
        publish(stores[i % NODES], [grants[i], mesh.record(names[i])], mesh_id=mesh.mesh_id)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(enter, range(len(names))))
    for store in stores:
        ledger = mesh.ledger()
        assert poll(store, ledger, now=NOW, memory=PollMemory()).complete
        assert members(ledger) == set(names)


def test_what_was_published_is_read_while_a_node_dies_in_the_middle_of_writes(
    cluster: GarageCluster, stores: Sequence[ObjectStore], mesh: SignedMesh
) -> None:
    """Written by way of node 0, read by way of node 1, and node 2 loses its power half-way."""
    names = [f"host{i}" for i in range(24)]
    for name in names:
        mesh.host(name)
    written: list[str] = []
    half, done = threading.Event(), threading.Event()
    missed: list[set[str]] = []

    def write() -> None:
        try:
            roots = [item for item in mesh.objects.items() if item[0].startswith("root/")]
            publish(stores[0], roots, mesh_id=mesh.mesh_id)
            logs = iter(mesh.log_keys)
            for name in names:
                record = host_key(key_of(name).kid)
                items = [(key, mesh.objects[key]) for key in (next(logs), record)]
                publish(stores[0], items, mesh_id=mesh.mesh_id)
                written.append(name)
                if len(written) == len(names) // 2:
                    half.set()
        finally:
            half.set()
            done.set()

    def read() -> None:
        ledger, memory = mesh.ledger(), PollMemory()
        while not done.is_set():
            expected = set(written)
            if poll(stores[1], ledger, now=NOW, memory=memory).complete:
                missed.append(expected - members(ledger))

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(write), pool.submit(read)]
        half.wait(60)
        cluster.kill(2)
        for each in running:
            each.result(120)
    assert written == names
    assert missed and not any(missed)
    cluster.heal()
    ledger = mesh.ledger()
    assert poll(stores[2], ledger, now=NOW, memory=PollMemory()).complete
    assert members(ledger) == set(names)


def test_without_a_quorum_it_says_so_at_once_and_recovers(
    cluster: GarageCluster, stores: Sequence[ObjectStore], mesh: SignedMesh
) -> None:
    mesh.host("tesla")
    publish(stores[0], [*mesh.objects.items()], mesh_id=mesh.mesh_id)
    ledger, memory = mesh.ledger(), PollMemory()
    assert poll(stores[0], ledger, now=NOW, memory=memory).complete
    cluster.kill(1)
    cluster.kill(2)
    generation = ledger.generation
    outcome = poll(stores[0], ledger, now=NOW, memory=memory)
    assert not outcome.complete and "503" in outcome.error and "quorum" in outcome.error
    assert (members(ledger), ledger.generation) == ({"tesla"}, generation)
    with pytest.raises(StoreError, match="503"):
        publish(stores[0], [mesh.record("tesla", version=2)], mesh_id=mesh.mesh_id, pause=lambda _: None)
    cluster.heal()
    mesh.host("newton")
    publish(stores[1], [*mesh.objects.items()], mesh_id=mesh.mesh_id)
    assert poll(stores[0], ledger, now=NOW, memory=memory).complete
    assert members(ledger) == {"tesla", "newton"}


def test_a_frozen_node_costs_its_time_outs_and_the_others_go_on(
    cluster: GarageCluster, mesh: SignedMesh
) -> None:
    """It takes connections and answers none. Another node may wait for it, too, where it had chosen it for
    its quorum, until Garage itself calls it dead after a minute or two: so there are several stores."""
    second = Timeouts(connect_seconds=1, read_seconds=1, request_seconds=2)
    mesh.host("tesla")
    with contextlib.ExitStack() as stack:
        stores = [
            stack.enter_context(contextlib.closing(cluster.open(i, timeouts=second))) for i in range(NODES)
        ]
        publish(stores[0], [*mesh.objects.items()], mesh_id=mesh.mesh_id)
        ledger, memory = mesh.ledger(), PollMemory()
        cluster.freeze(2)
        outcome = poll(stores[2], ledger, now=NOW, memory=memory)
        assert not outcome.complete and stores[2].url.split("/")[2] in outcome.error
        assert "no complete answer" in outcome.error
        with pytest.raises(StoreError, match="no complete answer"):
            publish(stores[2], [mesh.record("tesla", version=2)], mesh_id=mesh.mesh_id)
        mesh.host("newton")
        patiently(stores[:2], lambda store: publish(store, [*mesh.objects.items()], mesh_id=mesh.mesh_id))
        patiently(stores[:2], lambda store: complete(poll(store, ledger, now=NOW, memory=PollMemory())))
        assert members(ledger) == {"tesla", "newton"}
        cluster.thaw(2)
        mesh.host("bohr")
        patiently(stores[2:], lambda store: publish(store, [*mesh.objects.items()], mesh_id=mesh.mesh_id))
        patiently(stores[2:], lambda store: complete(poll(store, ledger, now=NOW, memory=memory)))
        assert members(ledger) == {"tesla", "newton", "bohr"}


def complete(outcome: PollOutcome) -> None:
    if not outcome.complete:
        raise StoreError(outcome.error)


def patiently(stores: Sequence[ObjectStore], attempt: Callable[[ObjectStore], None]) -> None:
    """As daemons and operators do: one store after the other, again and again, until one does it."""
    failure: StoreError | None = None
    for store in [*stores] * 60:
        try:
            return attempt(store)
        except StoreError as error:
            failure = error
    assert failure is not None
    raise failure


def test_two_administrators_who_add_ten_hosts_each_at_once_collide_in_nothing(
    stores: Sequence[ObjectStore],
) -> None:
    """Each signs from the view before either began, in a pool of the own, by a node of the own."""
    chain, roots, admins = two_administrators()
    publish(stores[0], roots, mesh_id=chain.mesh_id)
    barrier = threading.Barrier(2)

    def add_ten(number: int) -> None:
        signer = LogSigner(Ledger(chain), admins[number])
        barrier.wait(30)
        for i in range(10):
            name = f"{'ab'[number]}{i}"
            identity, key = SigningKey.generate(), PrivateKey.generate()
            grant = signer.grant(
                now=NOW,
                hid=identity.kid,
                identity=identity.public,
                name=name,
                networks=[ip_network(f"10.17.{100 * number + i}.0/24")],
            )
            record = build_record(
                mesh=chain.mesh_id,
                hid=identity.kid,
                gen=1,
                version=1,
                private_key=key,
                listen_port=51820,
                endpoints=(Endpoint.parse("192.0.2.1:51820"),),
            )
            item = host_key(identity.kid), sign_record(record, identity)
            publish(stores[number], [grant, item], mesh_id=chain.mesh_id)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add_ten, range(2)))
    ledger = Ledger(chain)
    assert poll(stores[2], ledger, now=NOW, memory=PollMemory()).complete
    membership = ledger.membership(NOW)
    hosts = membership.hosts.values()
    assert {host.name for host in hosts} == {f"{letter}{i}" for letter in "ab" for i in range(10)}
    addresses = [address for host in hosts for address in host.addresses]
    assert len(set(addresses)) == len(addresses) == 40
    assert membership.conditions == () and not membership.unplaced
    assert all(host.record is not None for host in hosts)


def two_administrators() -> tuple[RootChain, list[Object], tuple[SigningKey, SigningKey]]:
    """A mesh whose second root names a second administrator; each has half of every range."""
    first = create_mesh(
        name="two",
        overlay=[ip_network("10.99.0.0/16"), ip_network("fd00:1234:5678::/48")],
        jail=[ip_network("10.17.0.0/16")],
        now=NOW,
        pools=[ip_network("10.99.0.0/17"), ip_network("10.17.0.0/18")],
    )
    second = SigningKey.generate()
    entry = build_root_key(
        second.public, ("admin",), "second", [ip_network("10.99.128.0/17"), ip_network("10.17.64.0/18")]
    )
    root = first.chain.root
    keys = {**root.keys, second.kid: entry}
    newer = structs.replace(root, version=2, prev=first.chain.fingerprint, keys=keys)
    envelope = first.root_key.sign(encode(newer), ROOT_TYPE)
    chain = first.chain.advance(envelope)
    return chain, [*first.objects, *root_objects(envelope)], (first.admin_key, second)
