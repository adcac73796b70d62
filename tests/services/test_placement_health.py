"""A placement's own host asks it; one lost answer is no outage, and three are told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from meshes import NOW, SignedMesh
from until import until

from meshd.control.placement_health import PlacementHealth
from meshd.model.service import HealthCheck, parse_check
from meshd.registry.statement import Place, Service
from meshd.services.health import works
from meshd.supervisor import Report, Supervisor, log_failure


def a_mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    mesh.add("tesla")
    mesh.add("newton")
    declared = Service(
        name="db",
        kind="x",
        port=5432,
        scope="mesh",
        min_endpoints=1,
        check="http=:8008/health",
        state="active",
    )
    mesh.signer.service(declared, now=NOW)
    for name in ("tesla", "newton"):
        hid = mesh.hosts[name].hid
        address = str(mesh.ledger.membership(NOW).hosts[hid].addresses[0])
        body = Place(hid=hid, service="db", jail="", address=address, tags={}, state="active")
        mesh.signer.place(body, now=NOW)
    return mesh


def supervised(scenario: Callable[[Supervisor], Awaitable[None]], report: Report = log_failure) -> None:
    async def whole() -> None:
        async with Supervisor(report) as tasks:
            await scenario(tasks)

    asyncio.run(whole())


def test_three_failures_in_a_row_are_told_and_one_answer_closes_it() -> None:
    mesh, now, answers, asked = a_mesh(), [NOW], [False], []

    def ask(check: HealthCheck, address: str, port: int) -> bool:
        asked.append((check.path, address, check.port, port))
        return answers[0]

    async def scenario(tasks: Supervisor) -> None:
        health = PlacementHealth(lambda: now[0], tasks, ask, lambda: now[0])
        membership = mesh.ledger.membership(NOW)
        own = membership.hosts[mesh.hosts["tesla"].hid]

        async def look() -> list[str]:
            health.look(membership, own)
            health.look(membership, own)
            await until(lambda: not health.is_asking)
            now[0] += 11
            return [condition.code for condition in health.conditions()]

        assert await look() == [] and await look() == []
        assert await look() == ["placement_down"]
        assert len(asked) == 3, "its own host asks, once each time, and asks nobody else's"
        assert set(asked) == {("/health", str(own.addresses[0]), 8008, 5432)}
        answers[0] = True
        assert await look() == []
        [(found, at)] = health.results().values()
        assert found == "pass" and at > NOW

    supervised(scenario)


def test_a_check_that_is_a_defect_of_ours_is_reported_and_asked_again() -> None:
    mesh, now, reported = a_mesh(), [NOW], list[tuple[str, str]]()
    defects = [KeyError("a defect")]

    def ask(check: HealthCheck, address: str, port: int) -> bool:
        if defects:
            raise defects.pop()
        return True

    async def scenario(tasks: Supervisor) -> None:
        health = PlacementHealth(lambda: now[0], tasks, ask, lambda: now[0])
        membership = mesh.ledger.membership(NOW)
        own = membership.hosts[mesh.hosts["tesla"].hid]
        for expected in ([], ["pass"]):
            health.look(membership, own)
            await until(lambda: not health.is_asking)
            assert [found for found, _ in health.results().values()] == expected
            now[0] += 11

    supervised(scenario, lambda part, error: reported.append((part, str(error))))
    assert reported == [("placement checks", "'a defect'"), ("placement checks", "None")]


def test_a_connection_is_an_answer_and_none_is_not() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    check = parse_check("tcp")
    assert check is not None and works(check, "127.0.0.1", port)
    server.close()
    assert not works(check, "127.0.0.1", port)


@pytest.mark.parametrize("text", ["udp", "tcp=:0", "tcp=:70000", "tcp=:80/x", "http=8008/x", "x y"])
def test_checks_that_nobody_understands_are_no_checks(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_check(text)
