"""A control socket that answers with prepared documents, and a status worth looking at."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from meshd.model.path import PathStats
from meshd.observe.protocol import ChangeDocument, ControlAnswer, ControlRequest, PlanDocument
from meshd.observe.status import (
    ConditionStatus,
    PeerStatus,
    PlanStatus,
    ReconcileCounters,
    RegistryStatus,
    SelfStatus,
    Status,
    StoreStatus,
)

NOW = 1_750_000_000.0

Answer = Callable[[ControlRequest], ControlAnswer | bytes]


class FakeMeshd:
    """Serves one control socket from a thread; every request is kept."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.path = path
        self.requests: list[ControlRequest] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    request = msgspec.json.decode(line, type=ControlRequest)
                    self.requests.append(request)
                    answer = self._answer(request)
                    if isinstance(answer, bytes):
                        connection.sendall(answer)
                        break
                    connection.sendall(msgspec.json.encode(answer) + b"\n")


def answer_with(document: object, exit_code: int = 0) -> Answer:
    raw = msgspec.Raw(msgspec.json.encode(document))
    return lambda request: ControlAnswer(exit_code=exit_code, result=raw)


def build_peer(
    name: str,
    *,
    up: bool = True,
    configured: bool = True,
    endpoint: str | None = "192.0.2.7:51820",
    rtt_seconds: float | None = 0.0123,
    address: str = "10.99.0.2",
    loss_ratio: float = 0.0,
    mtu_bytes: int | None = 1420,
) -> PeerStatus:
    return PeerStatus(
        hid=f"{name.encode().hex():0<32}"[:32],
        name=name,
        region="eu",
        roles=("web",),
        addresses=(address,),
        networks=("10.17.2.0/24",),
        public_key="a" * 43 + "=",
        endpoint=endpoint,
        configured=configured,
        latest_handshake_at=NOW - 42,
        receive_bytes=3 * 1024 * 1024,
        transmit_bytes=512,
        mtu_bytes=mtu_bytes,
        granted_by="admin deadbeef statement 3",
        record_version=int(NOW * 1000) if configured else None,
        path=PathStats(
            up=up,
            srtt_seconds=rtt_seconds,
            jitter_seconds=0.0004,
            loss_ratio=loss_ratio,
            sent=60,
            received=60,
        ),
    )


def build_status(
    *peers: PeerStatus,
    conditions: tuple[ConditionStatus, ...] = (),
    last_plan: PlanStatus | None = None,
    store_up: bool = True,
) -> Status:
    return Status(
        at=NOW,
        version="0.1.0",
        started_at=NOW - 7200,
        host=SelfStatus(
            hid="7e57" * 8,
            name="tesla",
            region="eu",
            addresses=("10.99.0.1",),
            networks=("10.17.1.0/24",),
            public_key="b" * 43 + "=",
            interface="wg0",
            listen_port=51820,
            mtu_bytes=1420,
            backend="linux",
            interface_up=True,
            key_created_at=NOW - 86400,
        ),
        registry=RegistryStatus(
            mesh_id="ab" * 16,
            mesh_name="fleet",
            generation=17,
            applied_generation=17,
            root_version=1,
            hosts=len(peers) + 1,
            conflicts=0,
            forks=0,
            gaps=0,
            verified_at=NOW - 12,
            newest_signed_at=int(NOW) - 60,
            stores=(
                StoreStatus(
                    url="s3+https://s3.example.org/registry",
                    up=store_up,
                    last_success_at=NOW - 12,
                    error=None if store_up else "503 ServiceUnavailable",
                ),
            ),
        ),
        peers=peers,
        conditions=conditions,
        last_plan=last_plan or PlanStatus(outcome="unchanged", at=NOW - 5, duration_seconds=0.01),
        counters=ReconcileCounters(),
    )


def build_plan(
    *, held_because: str | None = None, changes: int = 2, conflicts: tuple[str, ...] = ()
) -> PlanDocument:
    listed = (
        ChangeDocument(kind="AddPeer", summary="add peer newton 10.99.0.2/32", reason="newton is granted"),
        ChangeDocument(kind="AddRoute", summary="add route 10.17.2.0/24", reason="newton announces it"),
    )[:changes]
    return PlanDocument(
        digest="0123456789abcdef",
        interface="wg0",
        changes=listed,
        counts={change.kind: 1 for change in listed},
        held_because=held_because,
        objections=(held_because,) if held_because else (),
        conflicts=conflicts,
    )
