"""A whole host under attack: a real daemon, a kernel in memory, and a store that the attacker owns."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fakemesh as fm
from daemon_rig import Rig, build_rig
from meshes import NOW, SignedHost, SignedMesh

from meshd.registry.canonical import encode_base64
from meshd.registry.envelope import Envelope, parse_envelope
from meshd.registry.layout import LOG_PREFIX, mesh_prefix
from meshd.registry.ledger import Ledger
from meshd.registry.root import root_objects
from meshd.registry.signer import LogSigner, NewMesh
from meshd.registry.signing import SigningKey
from meshd.registry.statement import Grant, parse_statement
from meshd.store.base import ObjectStore
from meshd.store.memory import MemoryStore

ADMIN, OTHER, RECOVERY = fm.key("admin0"), fm.key("admin1"), fm.key("recovery")
HOSTS = ("tesla", "newton", "bohr")

Objects = dict[str, bytes]


def create_mesh() -> SignedMesh:
    """Two administrators with pools of their own, a recovery key, three hosts; a new mesh id."""
    chain = fm.make_chain(2, mesh=secrets.token_hex(16))
    made = NewMesh(chain=chain, admin_key=ADMIN, root_key=ADMIN, recovery_key=RECOVERY)
    ledger = Ledger(chain)
    mesh = SignedMesh(mesh=made, ledger=ledger, signer=LogSigner(ledger, ADMIN), objects=dict(made.objects))
    for number, name in enumerate(HOSTS, 1):
        mesh.add(name, jails=(f"10.128.{number}.0/24",))
    return mesh


@dataclass(slots=True)
class Arena:
    """``mesh`` is what honest people know, ``store`` what everybody may write to.

    ``rig`` is the victim: the daemon of tesla, which follows ``store``.
    """

    mesh: SignedMesh
    store: ObjectStore
    directory: Path
    rig: Rig = field(init=False)

    def __post_init__(self) -> None:
        self.mesh.publish(self.store)
        self.rig = self.daemon_of("tesla")

    def daemon_of(self, name: str, *stores: ObjectStore, fresh: bool = False) -> Rig:
        """A daemon of that host; ``fresh``: it has seen nothing since it was granted."""
        return build_rig(
            self.directory / name,
            self.newborn_view(name) if fresh else self.mesh,
            self.mesh.hosts[name],
            stores=stores or (self.store,),
        )

    def newborn_view(self, name: str) -> SignedMesh:
        """The mesh when this host had just been granted, before any host record."""
        objects: Objects = {}
        for key, body in self.mesh.ledger.objects():
            objects[key] = body
            if key.startswith(LOG_PREFIX):
                entry = parse_statement(parse_envelope(body), self.mesh.ledger.mesh_id)
                if isinstance(entry.body, Grant) and entry.body.hid == self.mesh.hosts[name].hid:
                    break
        return SignedMesh(
            mesh=self.mesh.mesh, ledger=self.mesh.ledger, signer=self.mesh.signer, objects=objects
        )

    @property
    def memory(self) -> MemoryStore:
        """The store as one that can be told to lie; AssertionError for another kind."""
        assert isinstance(self.store, MemoryStore)
        return self.store

    def path(self, key: str) -> str:
        return mesh_prefix(self.mesh.ledger.mesh_id) + key

    def plant(self, *objects: tuple[str, bytes]) -> None:
        """Write as somebody with write access: whatever the key and the body are."""
        for key, body in objects:
            self.store.put(self.path(key), body)

    def take_away(self, *keys: str) -> None:
        for key in keys:
            self.store.delete(self.path(key))

    def shown(self) -> Objects:
        """Everything of this mesh that the store holds."""
        prefix = self.path("")
        found = {info.key: self.store.get(info.key) for info in list(self.store.list(prefix))}
        return {key.removeprefix(prefix): got.body for key, got in found.items() if got is not None}

    def put_back(self, before: Objects) -> None:
        """Make the store what it was: newer objects deleted, changed ones overwritten."""
        now = self.shown()
        self.take_away(*(now.keys() - before.keys()))
        self.plant(*((key, body) for key, body in before.items() if now.get(key) != body))

    def copied_signer(self, key: SigningKey) -> LogSigner:
        """An administrator's key and state on a second machine, as they are now."""
        copy = Ledger(self.mesh.ledger.chain)
        fm.fill(copy, list(self.mesh.ledger.objects()), now=NOW)
        return LogSigner(copy, key)

    def publish_missing(self) -> None:
        """Honest: whatever honest people know and the store does not show."""
        shown = self.shown()
        self.plant(*((key, body) for key, body in self.mesh.objects.items() if shown.get(key) != body))

    async def assert_honest_changes_arrive(self, name: str = "curie") -> None:
        """The attack did not stop the mesh: a new host still becomes a peer."""
        self.mesh.add(name)
        self.publish_missing()
        await self.rig.apply()
        assert name in self.peers()

    def say(self, item: tuple[str, bytes]) -> tuple[str, bytes]:
        """Honest: what an administrator signed goes into the store and into what honest people know."""
        key, body = item
        self.mesh.ledger.offer(key, body)
        self.mesh.objects[key] = body
        self.plant((key, body))
        return item

    def record(self, name: str, **changes: Any) -> tuple[str, bytes]:
        """The next record of a host, as it signs it itself; newer than all before unless told."""
        host = self.mesh.hosts[name]
        changes.setdefault("version", int(NOW * 1000))
        return host.key, host.body(**changes)

    def sign_root(self, envelope: Envelope) -> None:
        """Honest: the next root for everybody."""
        for item in root_objects(envelope):
            self.say(item)

    def peers(self, rig: Rig | None = None) -> set[str]:
        """The names of the peers in the victim's kernel; the key itself for one nobody knows."""
        device = (rig or self.rig).kernel().device
        names = {host.wireguard.public(): name for name, host in self.mesh.hosts.items()}
        return {names.get(key, str(key)) for key in device.peers} if device else set()

    def routed(self, rig: Rig | None = None) -> set[str]:
        return {str(route.destination) for route in (rig or self.rig).kernel().routes}

    def endpoint(self, name: str, rig: Rig | None = None) -> str:
        device = (rig or self.rig).kernel().device
        assert device is not None
        return str(device.peers[self.mesh.hosts[name].wireguard.public()].config.endpoint)


def grant_of(host: SignedHost, address: str, *networks: str, gen: int = 1, name: str = "") -> Grant:
    """A grant with any content, for forging."""
    return Grant(
        hid=host.hid,
        name=name or host.name,
        gen=gen,
        identity=encode_base64(host.identity.public),
        addresses=(address,),
        networks=networks,
        region="",
        roles=(),
        tags=(),
        expires=0,
    )


def stranger(name: str = "mallory") -> SignedHost:
    """A host that nobody granted, with keys and a record of its own."""
    return SignedMesh.create().add(name)
