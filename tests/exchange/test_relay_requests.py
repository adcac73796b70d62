"""Who asks a host to carry a pair: hosts, about hosts, and not without end."""

from __future__ import annotations

import math

import pytest
from exchange_host import ExchangeHost, client_for, partner_for
from meshes import SignedMesh

from meshd.errors import RegistryError, StoreError
from meshd.exchange.relaying import RelayAnswer, RelayRequest, check_relay_answer

NAMES = ("tesla", "newton", "bohr")


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    for name in NAMES:
        mesh.add(name)
    return mesh


def ask(mesh: SignedMesh, other: str = "bohr") -> RelayRequest:
    return RelayRequest(kind="ask", other=mesh.hosts[other].hid)


def test_who_asks_is_the_host_that_it_proves_to_be_and_is_an_end_of_the_pair(
    mesh: SignedMesh, tesla: ExchangeHost, port: int
) -> None:
    """There is no word for the other end but the asker itself, and none for a place."""
    newton = mesh.hosts["newton"]
    client_for(mesh, port, newton).relay(partner_for(tesla, newton), ask(mesh))
    assert tesla.relayed == [(newton.hid, ask(mesh))]
    assert set(RelayRequest.__struct_fields__) == {"kind", "other", "is_return", "is_for_latency"}


def test_hosts_alone_are_relayed(mesh: SignedMesh, tesla: ExchangeHost, port: int) -> None:
    with pytest.raises(StoreError, match="401 hosts alone"):
        client_for(mesh, port).relay(partner_for(tesla, mesh.hosts["newton"]), ask(mesh))
    assert not tesla.relayed


def test_one_that_asks_without_end_is_limited_and_the_others_are_answered(
    mesh: SignedMesh, tesla: ExchangeHost, port: int
) -> None:
    newton, bohr = mesh.hosts["newton"], mesh.hosts["bohr"]
    client = client_for(mesh, port, newton)
    with pytest.raises(StoreError, match="429"):
        for _ in range(150):
            client.relay(partner_for(tesla, newton), ask(mesh))
    client_for(mesh, port, bohr).relay(partner_for(tesla, bohr), ask(mesh, "newton"))
    assert tesla.relayed[-1][0] == bohr.hid


@pytest.mark.parametrize("other", ["", "192.0.2.7:51820", "zz" * 16, "aa" * 17, "AA" * 16])
def test_what_names_no_host_is_refused(mesh: SignedMesh, tesla: ExchangeHost, port: int, other: str) -> None:
    newton = mesh.hosts["newton"]
    with pytest.raises(StoreError, match="400 RelayRequest"):
        client_for(mesh, port, newton).relay(
            partner_for(tesla, newton), RelayRequest(kind="open", other=other)
        )
    assert not tesla.relayed


@pytest.mark.parametrize(
    "answer",
    [
        RelayAnswer(rtt_seconds=math.nan),
        RelayAnswer(rtt_seconds=math.inf),
        RelayAnswer(rtt_seconds=-0.001),
        RelayAnswer(loss_ratio=math.nan),
        RelayAnswer(loss_ratio=1.5),
        RelayAnswer(refusal="x" * 41),
    ],
)
def test_an_answer_that_is_none_is_refused_whole(answer: RelayAnswer) -> None:
    with pytest.raises(RegistryError, match="RelayAnswer"):
        check_relay_answer(answer)
