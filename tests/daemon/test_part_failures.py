"""An exception of our own that nobody expected: it is a condition and a traceback, and nothing ends of it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon_rig import FakeUnderlay, Rig, build_rig, running
from exchange_rig import Loopback, all_running, build_exchanging, codes_of, offer
from meshes import SignedMesh
from until import until

from meshd.daemon.control_socket import ControlServer
from meshd.observe.protocol import ControlAnswer, ControlRequest
from meshd.store.memory import MemoryStore


class Faulty(random.Random):
    """Chances as always, but for samples while they are a defect of the program."""

    is_faulty = False

    def sample(self, population: Sequence[Any], k: int, **_: Any) -> list[Any]:
        if self.is_faulty:
            raise KeyError("a defect")
        return super().sample(population, k)


def failed_parts(rig: Rig) -> set[str]:
    return {each.subject for each in rig.conditions() if each.code == "part_failed"}


def failures(caplog: pytest.LogCaptureFixture) -> list[dict[str, str]]:
    """What the log says of each."""
    return [vars(r)["event_fields"] for r in caplog.records if r.getMessage() == "part_failed"]


def logged_parts(caplog: pytest.LogCaptureFixture) -> set[str]:
    return {fields["part"] for fields in failures(caplog)}


class FaultyNames(FakeUnderlay):
    """A resolver that is a defect of the program until it is mended."""

    def lookup(self, name: str) -> list[str]:
        if name not in self.names:
            raise KeyError("a defect")
        return ["198.18.0.77"]


@pytest.mark.slow
def test_a_defect_in_one_round_of_witnesses_is_a_condition_and_the_rounds_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mesh, store = SignedMesh.create(), MemoryStore()
    mesh.publish(store)
    hosts = [mesh.add(name) for name in ("tesla", "newton")]
    loopback = Loopback.of(hosts)
    faulty = Faulty()

    async def scenario() -> None:
        tesla, newton = (
            build_exchanging(tmp_path, mesh, host, loopback, stores=(store,), witness_seconds=0.1, rng=rng)
            for host, rng in zip(hosts, (faulty, random.Random()), strict=True)
        )
        async with all_running([tesla, newton]):
            faulty.is_faulty = True
            await until(lambda: "witnesses" in failed_parts(tesla))
            faulty.is_faulty = False
            assert tesla.exchange is not None
            await until(lambda: tesla.exchange is not None and tesla.exchange.stats().agrees is True)
            await until(lambda: "witnesses" not in failed_parts(tesla))

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    [defect, *_] = [fields for fields in failures(caplog) if fields["part"] == "witnesses"]
    assert "Traceback" in defect["traceback"] and "a defect" in defect["traceback"]


@pytest.mark.slow
def test_a_defect_while_news_is_received_is_a_condition_and_the_next_news_is_passed_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It happens in what a timer or another thread has the loop call: no task is there to fail."""
    mesh = SignedMesh.create()
    hosts = [mesh.add(name) for name in ("tesla", "newton", "bohr")]
    loopback, faulty = Loopback.of(hosts), Faulty()

    async def scenario() -> None:
        tesla, newton, bohr = (
            build_exchanging(tmp_path, mesh, host, loopback, rng=rng)
            for host, rng in zip(hosts, (faulty, random.Random(), random.Random()), strict=True)
        )
        bohr.prober.stats = {}  # it hears of news from nobody but tesla
        newton.prober.stats.pop(hosts[2].hid)
        async with all_running([tesla, newton, bohr]):
            faulty.is_faulty = True
            hid = mesh.add("curie").hid
            await offer(newton, mesh.objects.items())
            # What it knows already may come next, which ends well: so the log is asked, not the condition.
            await until(lambda: "received news" in logged_parts(caplog))
            faulty.is_faulty = False
            await until(lambda: hid in tesla.world.membership.hosts)
            hid = mesh.add("meitner").hid
            await offer(newton, mesh.objects.items())
            await until(lambda: hid in bohr.world.membership.hosts)
            await until(lambda: "received news" not in failed_parts(tesla))

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())


@pytest.mark.slow
def test_a_defect_while_a_name_is_resolved_is_a_condition_and_the_name_is_asked_for_again(
    tmp_path: Path,
) -> None:
    mesh = SignedMesh.create()
    mesh.add("tesla")
    newton = mesh.add("newton")
    named = newton.body(version=newton.record.version + 1, endpoints=("newton.example.net:51820",))
    mesh.offer(newton.key, named)

    async def scenario() -> None:
        rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], underlay=FaultyNames())
        async with running(rig):
            await until(lambda: "part_failed" in codes_of(rig))
            rig.underlay.names["newton.example.net"] = []
            key = newton.wireguard.public()

            def endpoint() -> str:
                device = rig.kernel().device
                return str(device.peers[key].config.endpoint) if device else ""

            await until(lambda: endpoint() == "198.18.0.77:51820")
            await until(lambda: "part_failed" not in codes_of(rig))

    asyncio.run(scenario())


def test_a_request_that_meets_a_defect_is_answered_with_an_error_and_the_next_one_as_always(
    tmp_path: Path,
) -> None:
    async def handler(request: ControlRequest) -> tuple[Any, int]:
        if request.verb == "status":
            raise RuntimeError("dictionary changed size during iteration")
        return {"done": True}, 0

    async def scenario() -> list[ControlAnswer]:
        server = ControlServer(tmp_path / "control.sock", handler)
        await server.start()
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
        answers = []
        for verb in ("status", "poll"):
            writer.write(msgspec.json.encode({"verb": verb}) + b"\n")
            answers.append(await asyncio.wait_for(reader.readline(), 20))
            assert answers[-1] != b"", "the connection was closed without an answer"
        writer.close()
        await server.close()
        return [msgspec.json.decode(line, type=ControlAnswer) for line in answers]

    failed, done = asyncio.run(scenario())
    assert failed.exit_code == 1
    assert failed.error is not None and "RuntimeError" in failed.error and "status" in failed.error
    assert done.error is None


def test_at_the_end_idle_connections_are_closed_and_what_is_being_answered_is_answered(
    tmp_path: Path,
) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def handler(request: ControlRequest) -> tuple[Any, int]:
        asked.set()
        await may_answer.wait()
        return {"done": True}, 0

    async def scenario() -> None:
        server, path = ControlServer(tmp_path / "control.sock", handler), str(tmp_path / "control.sock")
        await server.start()
        idle, idle_writer = await asyncio.open_unix_connection(path)
        busy, busy_writer = await asyncio.open_unix_connection(path)
        busy_writer.write(msgspec.json.encode({"verb": "status"}) + b"\n")
        await asyncio.wait_for(asked.wait(), 20)
        closing = asyncio.create_task(server.close())
        assert await asyncio.wait_for(idle.read(), 20) == b""
        may_answer.set()
        assert b"done" in await asyncio.wait_for(busy.read(), 20)
        await asyncio.wait_for(closing, 20)
        for writer in (idle_writer, busy_writer):
            writer.close()
            await writer.wait_closed()

    asyncio.run(scenario())
