"""What following a registry in a real Garage costs: requests, bytes and time of a poll, by mesh size.

Bytes are counted by a relay in between: HTTP with its heads and listings, both ways. One node on
loopback: what distance adds is round trips, so multiply the requests. Needs a garage binary; without
one it says so and measures nothing.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from nacl.signing import VerifyKey

from bench.synthetic import NOW, SyntheticRegistry, build_registry
from meshd.errors import ConfigError
from meshd.lab.garage import GarageNode, GaragePorts, GarageSecrets, find_garage
from meshd.registry.envelope import pae, parse_envelope
from meshd.registry.layout import mesh_prefix
from meshd.registry.ledger import Ledger
from meshd.registry.root import root_objects
from meshd.registry.sync import PollMemory, poll, poll_interval_seconds
from meshd.store.credentials import S3Credentials, generate_credentials
from meshd.store.s3 import S3Location, S3Store

SIZES = (6, 100, 1000)
BUCKET = "bench"
START_SECONDS = 30.0
CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    requests: int
    objects: int
    wire_bytes: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.requests:5d} requests {self.wire_bytes / 1024:9.1f} KiB {self.seconds * 1e3:8.1f} ms"


def run() -> None:
    try:
        binary = find_garage()
    except ConfigError as error:
        print(f"left out: {error}")
        return
    credentials = generate_credentials()
    with tempfile.TemporaryDirectory(prefix="bench-garage-") as directory:
        node = _node(binary, Path(directory))
        with _serving(node, credentials), contextlib.closing(Relay(node.ports.s3)) as relay:
            for hosts in SIZES:
                _measure(hosts, node.ports.s3, relay, credentials)


def _measure(hosts: int, port: int, relay: Relay, credentials: S3Credentials) -> None:
    registry = build_registry(hosts)
    with contextlib.closing(_open(port, credentials)) as store:
        _fill(store, registry)
        times = []
        for _ in range(3):
            gc.collect()
            started = time.perf_counter()
            _poll(store, Ledger(registry.chain), PollMemory(), registry)
            times.append(time.perf_counter() - started)
    bare = _bare_seconds(registry)
    with contextlib.closing(_open(relay.port, credentials)) as store:
        ledger, memory = Ledger(registry.chain), PollMemory()
        cold = _cost(store, ledger, memory, registry, relay)
        still = _cost(store, ledger, memory, registry, relay)
        key, body = registry.record(hosts // 2, 1_700_000_000_001)
        store.put(mesh_prefix(registry.chain.mesh_id) + key, body)
        changed = _cost(store, ledger, memory, registry, relay)
        restarted = _cost(store, ledger, PollMemory(), registry, relay)
        pause = poll_interval_seconds(hosts, store=store)
    print(f"{hosts} hosts, polled every {pause:.0f} s")
    print(f"   unchanged:            {still}")
    print(f"   one record changed:   {changed}")
    print(f"   after a restart:      {restarted}   (nothing changed, verified cache on disk)")
    print(f"   from nothing:         {cold}   ({cold.objects} objects)")
    best, verify = min(times), _verify_seconds(registry)
    print(f"   from nothing, without the relay: {best * 1e3:.0f} ms, {cold.objects / best:.0f} objects/s")
    print(
        f"   verified and reduced, no store:  {verify * 1e3:.0f} ms, {2 * hosts / verify:.0f} objects/s; "
        f"PyNaCl alone {2 * hosts / bare:.0f}/s: {verify / bare:.2f} x bare",
        flush=True,
    )


def _verify_seconds(registry: SyntheticRegistry) -> float:
    ledger = Ledger(registry.chain)
    gc.collect()
    started = time.perf_counter()
    for key, body in registry.objects:
        ledger.offer(key, body)
    assert len(ledger.membership(NOW).hosts) == len(registry.identities)
    return time.perf_counter() - started


def _fill(store: S3Store, registry: SyntheticRegistry) -> None:
    prefix = mesh_prefix(registry.chain.mesh_id)
    objects = [*root_objects(registry.chain.current.envelope), *registry.objects]
    with ThreadPoolExecutor(store.parallel_requests) as pool:
        list(pool.map(lambda item: store.put(prefix + item[0], item[1]), objects))


def _poll(store: S3Store, ledger: Ledger, memory: PollMemory, registry: SyntheticRegistry) -> tuple[int, int]:
    outcome = poll(store, ledger, now=NOW, memory=memory)
    assert outcome.complete, outcome.error
    assert len(ledger.membership(NOW).hosts) == len(registry.identities)
    return outcome.requests, len(outcome.new)


def _cost(
    store: S3Store, ledger: Ledger, memory: PollMemory, registry: SyntheticRegistry, relay: Relay
) -> Cost:
    relay.count = 0
    started = time.perf_counter()
    requests, objects = _poll(store, ledger, memory, registry)
    seconds = time.perf_counter() - started
    return Cost(requests=requests, objects=objects, wire_bytes=relay.count, seconds=seconds)


def _bare_seconds(registry: SyntheticRegistry) -> float:
    """Two signatures a host, by PyNaCl, nothing parsed inside the clock."""
    hosts = len(registry.identities)
    key = VerifyKey(registry.identities[0].public)
    envelope = parse_envelope(registry.objects[-hosts][1])
    message = pae(envelope.payload_type, envelope.payload)
    started = time.perf_counter()
    for _ in range(2 * hosts):
        key.verify(message, envelope.signatures[0].sig)
    return time.perf_counter() - started


def _open(port: int, credentials: S3Credentials) -> S3Store:
    location = S3Location(secure=False, host="127.0.0.1", port=port, bucket=BUCKET)
    return S3Store(location, credentials)


def _node(binary: Path, directory: Path) -> GarageNode:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    s3, rpc, admin = (each.getsockname()[1] for each in held)
    for each in held:
        each.close()
    return GarageNode(
        name="bench",
        binary=binary,
        directory=directory,
        address=IPv4Address("127.0.0.1"),
        secrets=GarageSecrets.generate(),
        ports=GaragePorts(s3=s3, rpc=rpc, admin=admin),
        replication_factor=1,
    )


@contextlib.contextmanager
def _serving(node: GarageNode, credentials: S3Credentials) -> Iterator[None]:
    node.write_config()
    environment = {
        **os.environ,
        "RUST_LOG": "garage=warn",
        "GARAGE_DEFAULT_ACCESS_KEY": credentials.access_key,
        "GARAGE_DEFAULT_SECRET_KEY": credentials.secret_key,
        "GARAGE_DEFAULT_BUCKET": BUCKET,
    }
    with node.log.open("wb") as log:
        process = subprocess.Popen(
            node.command("server", "--single-node", "--default-bucket"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        _wait_listening(node.ports.s3)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _wait_listening(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class Relay:
    """Passes connections on to a port of this machine; ``count`` is the bytes of both directions."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.count = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
                for source, sink in ((client, server), (server, client)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                with self._lock:
                    self.count += len(chunk)
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
