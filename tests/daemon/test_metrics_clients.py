"""The metrics port on the mesh address: what another network next door may see of it."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import ip_address, ip_network

import pytest

from meshd.daemon.metrics_endpoint import MetricsListener
from meshd.model.host import Host, Membership, Provenance
from meshd.observe.status import Status

HERE = "127.0.0.1"
BY = Provenance(kid="a1b2c3d4" * 4, seq=7, statement="00" * 32, signed_at=1)


def member(name: str, address: str, *networks: str) -> Host:
    return Host(
        hid=(name * 32)[:32],
        name=name,
        gen=1,
        identity_key=bytes(32),
        addresses=(ip_address(address),),
        granted_networks=frozenset(map(ip_network, networks)),
        networks=frozenset(map(ip_network, networks)),
        region="",
        roles=frozenset(),
        tags=frozenset(),
        expires_at=None,
        provenance=BY,
        record=None,
    )


def fleet(*hosts: Host) -> Membership:
    return Membership(
        mesh_id="m",
        mesh_name="lab",
        generation=1,
        root_version=1,
        mesh_ranges=(ip_network("127.0.0.0/8"),),
        store_urls=(),
        hosts={each.hid: each for each in hosts},
    )


def answer_to(source: str, port: int) -> bytes:
    """What a client that has the address ``source`` gets from the port."""
    with socket.socket() as connection:
        connection.settimeout(10)
        connection.bind((source, 0))
        connection.connect((HERE, port))
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"HEAD /metrics HTTP/1.0\r\n\r\n")
            return connection.recv(64)
    return b""


def no_status() -> Status:
    raise AssertionError("the scrape is answered with 503, which is an answer")


@pytest.mark.parametrize(
    ("own", "source", "is_answered"),
    [
        (HERE, "127.0.0.9", False),  # a stranger of the network next door, at the address of the mesh
        (HERE, "127.0.0.3", True),  # a member
        (HERE, HERE, True),  # this host itself
        (HERE, "127.5.1.7", True),  # a jail, or what else lives in a network that a member has
        ("127.0.0.2", "127.0.0.9", True),  # at an address that the operator named, whoever asks
    ],
)
def test_a_mesh_address_answers_members_alone(own: str, source: str, is_answered: bool) -> None:
    scrapes = MetricsListener(report=lambda error: None)
    tesla = member("a", own)
    scrapes.follow(fleet(tesla, member("b", "127.0.0.3", "127.5.0.0/16")), tesla)
    with contextlib.closing(scrapes):
        assert scrapes.serve(((HERE, 0),), no_status) is None
        port = int(scrapes.urls[0].rpartition(":")[2].partition("/")[0])
        assert bool(answer_to(source, port)) is is_answered
