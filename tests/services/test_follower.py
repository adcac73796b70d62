"""The daemon's services: last to follow, never waited for, and every end of a run is told."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon_rig import Rig, build_rig, running, settings_for
from meshes import NOW, SignedMesh, full_store
from module_scripts import NAMES, public_directory
from module_stage import app, mesh_with_a_database, place, say, staged
from ports import free_port
from until import until

from meshd.observe.protocol import ControlAnswer, ServiceDocument
from meshd.store.memory import MemoryStore

pytestmark = pytest.mark.slow


@pytest.fixture
def directory() -> Iterator[Path]:
    with public_directory() as made:
        yield made


@pytest.fixture
def mesh() -> SignedMesh:
    return mesh_with_a_database()


async def ask(rig: Rig, action: str, **more: Any) -> tuple[ServiceDocument, int]:
    line = msgspec.json.encode({"verb": "service", "service": {"action": action, **more}}) + b"\n"
    answer = msgspec.json.decode(await rig.raw(line), type=ControlAnswer)
    assert answer.error is None, answer.error
    return msgspec.json.decode(answer.result, type=ServiceDocument), answer.exit_code


def test_a_daemon_brings_its_services_to_what_the_registry_says(
    tmp_path: Path, directory: Path, mesh: SignedMesh
) -> None:
    hosts = directory / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    tables = {**app(directory), "hosts": {"file": str(hosts)}}
    store = full_store(mesh)
    rig = build_rig(
        tmp_path, mesh, mesh.hosts["tesla"], stores=(store,), settings=settings_for(tmp_path, services=tables)
    )

    async def scenario() -> None:
        async with running(rig):
            document, code = await ask(rig, "apply")
            assert code == 0 and {each.outcome for each in document.reports} <= {"applied", "unchanged"}
            assert "bohr\nnewton\ntesla\n" in (directory / "app.conf").read_text()
            text = hosts.read_text()
            assert text.startswith("127.0.0.1 localhost\n# BEGIN meshd hosts\n") and "db.svc.mesh" in text
            mesh.add("curie")
            mesh.publish(store)
            await rig.apply()
            document, code = await ask(rig, "diff", module="app")
            assert code == 5 and "+curie" in document.reports[0].diffs[0]
            assert "curie" not in (directory / "app.conf").read_text()
            _, code = await ask(rig, "apply", module="app")
            assert code == 0 and "curie" in (directory / "app.conf").read_text()
            states = {each.name: each.state for each in (await rig.status()).services.modules}
            assert states == {"app": "ok", "hosts": "ok"} and not await rig.codes()
            await ask(rig, "rollback", module="hosts", original=True)
            assert hosts.read_text() == "127.0.0.1 localhost\n"

    asyncio.run(scenario())


def test_a_module_that_hangs_keeps_nothing_of_the_mesh_waiting(
    tmp_path: Path, directory: Path, mesh: SignedMesh
) -> None:
    """The new host is a peer while the module still hangs: it has ten minutes of sleep before it."""
    asked = directory / "asked"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(asked))
    asked.chmod(0o666)
    server.listen()
    server.settimeout(30)
    code = f"socket.socket(socket.AF_UNIX).connect('{asked}'); time.sleep(600)"
    store = full_store(mesh)
    settings = settings_for(tmp_path, services=app(directory, code))
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,), settings=settings)

    async def scenario() -> None:
        async with running(rig):
            (await asyncio.to_thread(server.accept))[0].close()
            mesh.add("curie")
            mesh.publish(store)
            assert (await rig.apply()).outcome == "applied"
            device = rig.kernel().device
            assert device is not None and mesh.hosts["curie"].wireguard.public() in device.peers
            [module] = (await rig.status()).services.modules
            assert module.state == "pending" and not (directory / "app.conf").exists()

    with server:
        asyncio.run(scenario())


def test_wrong_settings_of_a_module_are_refused_and_the_old_ones_stay(
    tmp_path: Path, directory: Path, mesh: SignedMesh
) -> None:
    settings = settings_for(tmp_path, services=app(directory))
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], settings=settings)

    async def scenario() -> None:
        async with running(rig):
            rig.reload_with = settings_for(tmp_path, services={"hosts": {"flie": "x"}})
            answer = await rig.ask("reload")
            assert answer.exit_code == 2 and "flie" in (answer.error or "")
            assert [each.name for each in (await rig.status()).services.modules] == ["app"]
            rig.reload_with = settings_for(tmp_path)
            assert (await rig.ask("reload")).error is None
            assert (await rig.status()).services.modules == ()

    asyncio.run(scenario())


def test_a_daemon_without_a_store_changes_services_from_its_cache_and_removes_nothing(
    tmp_path: Path, directory: Path, mesh: SignedMesh
) -> None:
    store = MemoryStore()
    store.faults.unreachable = True
    settings = settings_for(tmp_path, services=app(directory))
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,), settings=settings)

    async def scenario() -> None:
        async with running(rig):
            _, code = await ask(rig, "apply")
            assert code == 0 and (directory / "app.conf").exists()
            view = msgspec.json.decode((await ask(rig, "list"))[0].view)
            assert view["stale"] is True and view["registry_age_seconds"] is None

    asyncio.run(scenario())


# --- the follower alone, with a clock that hurries


def test_a_module_follows_by_itself_and_only_when_something_changed(
    directory: Path, mesh: SignedMesh
) -> None:
    async def scenario() -> None:
        async with staged(directory, mesh, app(directory)) as stage:
            await stage.until("applied")
            inode = (directory / "app.conf").stat().st_ino
            stage.update()
            await stage.until("unchanged", 2)
            assert (directory / "app.conf").stat().st_ino == inode
            mesh.add("curie")
            stage.update()
            await stage.until("applied", 2)
            assert "curie" in (directory / "app.conf").read_text() and stage.codes() == set()

    asyncio.run(scenario())


def test_a_generation_with_nothing_for_a_module_is_one_that_its_service_has(
    directory: Path, mesh: SignedMesh
) -> None:
    """Or whoever compares it with the registry's would take a service for one that is left behind."""

    async def scenario() -> None:
        async with staged(directory, mesh, app(directory)) as stage:
            await stage.until("applied")
            say(mesh, place(mesh, "bohr"))
            stage.update()
            await stage.until("unchanged")
            [module] = stage.follower.status().modules
            assert module.generation < module.view_generation == mesh.ledger.membership(NOW).generation

    asyncio.run(scenario())


def test_a_module_that_dies_is_tried_three_times_and_a_new_view_once_more(
    directory: Path, mesh: SignedMesh
) -> None:
    code = "sys.exit('no') if len(view['hosts']) == 3 else " + NAMES

    async def scenario() -> None:
        async with staged(directory, mesh, app(directory, code)) as stage:
            await stage.until("failed", 3)
            [condition] = stage.follower.conditions()
            assert condition.code == "service_failed" and "no further try" in condition.text
            mesh.add("curie")
            stage.update()
            await stage.until("applied")
            assert stage.codes() == set() and stage.follower.status().modules[0].runs["failed"] == 3

    asyncio.run(scenario())


def test_a_defect_in_the_run_of_a_module_is_reported_and_the_module_follows_on(
    directory: Path, mesh: SignedMesh
) -> None:
    reported: list[tuple[str, str]] = []

    def report(part: str, error: Exception | None) -> None:
        reported.append((part, str(error)))

    async def scenario() -> None:
        async with staged(directory, mesh, app(directory), report) as stage:
            stage.defects = 2
            await stage.until("applied")
            assert (directory / "app.conf").exists()

    asyncio.run(scenario())
    name = "service app"
    assert reported == [(name, "'a defect'"), (name, "'a defect'"), (name, "None")]


def test_somebody_elses_change_is_found_and_held(directory: Path, mesh: SignedMesh) -> None:
    async def scenario() -> None:
        async with staged(directory, mesh, app(directory)) as stage:
            await stage.until("applied")
            (directory / "app.conf").write_text("by hand\n")
            await stage.until("held")
            assert stage.codes() == {"service_held"}
            assert stage.follower.status().modules[0].guard == "drift"
            assert (directory / "app.conf").read_text() == "by hand\n"

    asyncio.run(scenario())


def test_a_module_that_is_taken_out_and_put_back_while_it_runs_runs_once_at_a_time(
    directory: Path, mesh: SignedMesh
) -> None:
    """Two reloads of the settings in a minute. The second run would take the first one's journal for that of
    a run that was cut off, and undo what is under way."""
    note, go_on = directory / "note", directory / "go-on"
    os.mkfifo(go_on)
    check = {"type": "command", "argv": ["/bin/sh", "-c", f"echo begun >>{note}; read x <{go_on}"]}
    code = f'answer("x", checks=[{check!r}])'
    tables = app(directory, code, programs=["/bin/sh"])

    def begun() -> int:
        return note.read_text().count("begun") if note.exists() else 0

    async def scenario() -> None:
        async with staged(directory, mesh, tables) as stage:
            await until(lambda: begun() == 1)
            for again in ({}, tables):
                stage.follower.configure(again, "test")
            stage.update()
            await asyncio.sleep(1.0)  # it would begin within a tenth of that
            assert begun() == 1
            await asyncio.to_thread(go_on.write_text, "\n")
            await stage.until("unchanged")

    asyncio.run(scenario())
    assert (directory / "app.conf").read_text().endswith("\nx\n")


def test_what_the_service_refused_is_not_repeated(directory: Path, mesh: SignedMesh) -> None:
    check = {"type": "command", "argv": ["/bin/false"]}
    code = f'answer("x", checks=[{check!r}])'

    async def scenario() -> None:
        async with staged(directory, mesh, app(directory, code, programs=["/bin/false"])) as stage:
            await stage.until("refused")
            stage.update()
            await asyncio.sleep(0.5)
            assert stage.follower.status().modules[0].runs == {"refused": 1}
            assert stage.codes() == {"service_refused"} and not (directory / "app.conf").exists()

    asyncio.run(scenario())


def test_a_thief_of_a_placement_takes_nothing_from_the_running_service(
    directory: Path, mesh: SignedMesh
) -> None:
    """What a stolen key can sign about other hosts' addresses has no effect; the files stay as they are."""

    async def scenario() -> None:
        async with staged(
            directory, mesh, app(directory, 'answer(json.dumps(view["services"], sort_keys=True))')
        ) as stage:
            await stage.until("applied")
            before = (directory / "app.conf").read_text()
            forged = msgspec.structs.replace(place(mesh, "bohr"), hid=mesh.hosts["newton"].hid, jail="evil")
            key, envelope = mesh.signer.append(forged, now=NOW)
            mesh.objects[key] = envelope
            assert "placement_outside_host" in {each.code for each in mesh.ledger.membership(NOW).conditions}
            stage.update()
            await stage.until("unchanged", 2)
            assert (directory / "app.conf").read_text() == before

    asyncio.run(scenario())


def test_a_registry_that_lost_its_services_empties_nothing(directory: Path, mesh: SignedMesh) -> None:
    """A cache that was lost and is half filled again: hosts, but no word of any service."""
    bare = SignedMesh.create()
    bare.add("tesla")

    async def scenario() -> None:
        code = 'answer("".join(sorted(view["services"])) + chr(10))'
        async with staged(directory, mesh, app(directory, code)) as stage:
            await stage.until("applied")
            stage.mesh = bare
            stage.follower._hid = bare.hosts["tesla"].hid
            stage.update()
            await stage.until("held")
            assert (directory / "app.conf").read_text().endswith("\ndb\n")

    asyncio.run(scenario())


def test_running_services_are_answered_from_the_view_and_stay_as_they_are_without_one(
    directory: Path, mesh: SignedMesh
) -> None:
    """HAProxy's agent and Prometheus's discovery, asked as they ask."""
    agent, discovery = free_port(), free_port()
    say(mesh, place(mesh, "bohr", "draining"))
    tables = {
        "haproxy": {
            "file": str(directory / "mesh.cfg"),
            "bind": {"db": "127.0.0.1:1"},
            "agent_listen": f"127.0.0.1:{agent}",
        },
        "prometheus": {"listen": f"127.0.0.1:{discovery}"},
    }

    async def asked(question: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", agent)
        writer.write(question.encode() + b"\n")
        answer = (await asyncio.wait_for(reader.read(), 20)).decode()
        writer.close()
        return answer

    async def scenario() -> None:
        async with staged(directory, mesh, tables) as stage:
            assert stage.follower._following is not None
            await stage.follower._following
            view = stage.follower._view
            assert view is not None and stage.codes() <= {"service_failed", "service_refused"}
            named = {each.host: each.id for each in view.services["db"].placements}
            assert await asked(named["tesla"]) == "100%\n" and await asked(named["newton"]) == "5%\n"
            assert await asked(named["bohr"]) == "drain\n"
            assert await asked("nobody/knows@this") == "" and await asked("x" * 5000) == ""
            url = f"http://127.0.0.1:{discovery}/sd/prometheus"
            document = await asyncio.to_thread(read_json, url)
            assert {group["labels"]["host"] for group in document} == {"tesla", "newton", "bohr"}

    asyncio.run(scenario())


def read_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)
