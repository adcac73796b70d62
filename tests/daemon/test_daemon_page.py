"""The page of a running daemon."""

from __future__ import annotations

import asyncio
import logging
import socket
import urllib.request
from pathlib import Path

import pytest
from daemon_rig import build_rig, running, settings_for
from meshes import SignedMesh

from meshd.store.memory import MemoryStore


def free_place() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def test_it_shows_the_hosts_that_there_are_and_what_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshd")  # as the program sets its logging up
    mesh, store = SignedMesh.create(), MemoryStore()
    for name in ("tesla", "newton"):
        mesh.add(name)
    mesh.publish(store)
    listen = free_place()
    settings = settings_for(tmp_path, metrics={"listen": [listen]})
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,), settings=settings)

    async def scenario() -> None:
        async with running(rig):
            await rig.turn()
            mesh.add("bohr")
            mesh.publish(store)
            await rig.apply()
            page = await asyncio.to_thread(fetch, f"http://{listen}/")
            assert 'href="/host/newton"' in page and 'href="/host/bohr"' in page
            assert "bohr granted by admin" in page, "why something changed is on the page"
            assert "tesla to bohr" in await asyncio.to_thread(fetch, f"http://{listen}/host/bohr")

    asyncio.run(scenario())
