"""``control.group``: its members may look, nobody but root may change, and the kernel says who asks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from daemon_rig import Rig, build_rig, running, settings_for
from meshes import SignedMesh
from real_service import open_folder
from until import until

from meshd.backend.memory import MemoryBackend
from meshd.daemon.caller import Caller, find_group, find_refusal, parse_xucred
from meshd.daemon.control_socket import MAX_LOOKERS, SHOWN_SECONDS, ControlServer
from meshd.errors import ConfigError
from meshd.observe.protocol import ControlAnswer, ControlRequest, Verb

GROUP = grp.getgrnam("games")
MEMBER = Caller(uid=65534, groups=frozenset({65534, GROUP.gr_gid}))
STRANGER = Caller(uid=65534, groups=frozenset({65534}))
WGCTL = Path(sys.executable).with_name("wgctl")


@pytest.mark.parametrize("verb", get_args(Verb))
def test_a_member_looks_and_changes_nothing(verb: Verb) -> None:
    request = ControlRequest(verb=verb)
    assert bool(find_refusal(MEMBER, GROUP.gr_gid, request)) is (verb not in {"status", "matrix", "plan"})
    assert find_refusal(STRANGER, GROUP.gr_gid, request)
    assert find_refusal(MEMBER, None, request), "without the setting root alone"
    assert not find_refusal(Caller(uid=0, groups=frozenset()), None, request)
    assert not find_refusal(Caller(uid=os.geteuid(), groups=frozenset()), None, request)


def test_a_group_that_this_host_does_not_know_is_refused_by_name() -> None:
    assert find_group("") is None and find_group("games") == GROUP.gr_gid
    with pytest.raises(ConfigError, match=r"control\.group: 'nobodies' seen"):
        find_group("nobodies")


def test_the_word_of_freebsds_kernel_is_read_as_its_header_has_it() -> None:
    """sys/ucred.h: version, uid, number of groups, padding, 16 groups, a pointer that carries the pid."""
    said = struct.pack("=IIh2x16IQ", 0, 1001, 2, 1001, 13, *[0] * 14, 4711)
    assert parse_xucred(said) == Caller(uid=1001, groups=frozenset({1001, 13}))
    with pytest.raises(OSError, match="struct xucred"):
        parse_xucred(said[:8])


@pytest.fixture
def place() -> Iterator[Path]:
    """Where another user may go, which pytest's own directories are not. A round of the registry that is
    under way at a daemon's end goes on unheard, and may write until it has ended."""
    with open_folder() as made:
        yield made


def rig_with(place: Path, mesh: SignedMesh, group: str) -> Rig:
    settings = settings_for(place, control={"group": group})
    return build_rig(place, mesh, mesh.hosts["tesla"], backend=MemoryBackend(), settings=settings)


def as_nobody(rig: Rig, *words: str, groups: tuple[int, ...]) -> subprocess.CompletedProcess[str]:
    """wgctl, run by a real user of another id."""
    return subprocess.run(
        [str(WGCTL), "--socket", str(rig.socket), *words],
        user=MEMBER.uid,
        group=MEMBER.uid,
        extra_groups=groups,
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.root
@pytest.mark.slow
def test_another_user_of_the_group_sees_the_mesh_and_has_no_hand_in_it(place: Path, mesh: SignedMesh) -> None:
    rig = rig_with(place, mesh, "games")

    async def scenario() -> None:
        async with running(rig):
            ask = asyncio.to_thread
            shown = await ask(as_nobody, rig, "status", "--local", "--json", groups=(GROUP.gr_gid,))
            assert shown.returncode == 0, shown.stderr
            assert len(json.loads(shown.stdout)["status"]["peers"]) == 2
            assert (await ask(as_nobody, rig, "plan", groups=(GROUP.gr_gid,))).returncode == 0
            asked = len(rig.backend.calls)
            for words in (("apply",), ("apply", "--force"), ("rollback", "--yes"), ("service", "apply")):
                done = await ask(as_nobody, rig, *words, groups=(GROUP.gr_gid,))
                assert done.returncode == 3 and "change nothing" in done.stderr, words
            stranger = await ask(as_nobody, rig, "status", "--local", groups=())
            assert stranger.returncode == 3 and "control.group" in stranger.stderr
            checked = await ask(as_nobody, rig, "status", "--check", groups=())
            assert checked.returncode == 3
            assert len(rig.backend.calls) == asked

    asyncio.run(scenario())


@pytest.mark.root
@pytest.mark.slow
def test_without_the_setting_the_socket_is_roots(place: Path, mesh: SignedMesh) -> None:
    rig = rig_with(place, mesh, "")

    async def scenario() -> None:
        async with running(rig):
            assert rig.socket.stat().st_mode & 0o777 == 0o600
            done = await asyncio.to_thread(as_nobody, rig, "status", groups=(GROUP.gr_gid,))
            assert done.returncode == 3 and "permission denied" in done.stderr

    asyncio.run(scenario())


@pytest.mark.parametrize(("group", "code"), [("", 0), ("games", 3)])
def test_a_kernel_that_does_not_say_who_asks_costs_the_group_alone(
    place: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch, group: str, code: int
) -> None:
    def silent(connection: object) -> Caller:
        raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    monkeypatch.setattr("meshd.daemon.control_socket.read_caller", silent)
    rig = rig_with(place, mesh, group)

    async def scenario() -> None:
        task = asyncio.create_task(rig.daemon.run())
        try:
            await until(rig.socket.exists)
            answer = await rig.ask("status")
            assert answer.exit_code == code
            assert not code or "empty control.group" in str(answer.error)
        finally:
            rig.daemon.stop()
            await asyncio.wait_for(task, 20)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "line", [b'{"verb":"objects","ask":' + b"[" * 9_000, b"[" * 9_000, b"\xff", b"{}", b"7"], ids=range(5)
)
def test_whatever_is_written_is_answered_or_passed_over(place: Path, mesh: SignedMesh, line: bytes) -> None:
    """A request that nests deeper than Python counts is no defect of ours, nor a traceback in the log."""
    rig = rig_with(place, mesh, "")

    async def scenario() -> None:
        async with running(rig):
            answer = msgspec.json.decode(await rig.raw(line + b"\n"), type=ControlAnswer)
            assert answer.exit_code == 2 and "not understood" in str(answer.error)
            assert (await rig.ask("status")).exit_code == 0

    asyncio.run(scenario())


def test_the_sockets_mode_is_nobody_elses_umask(
    place: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The umask is the process's: a thread that makes a file meanwhile makes none that all may write."""
    masks: list[int] = []
    real = os.umask

    def noted(mask: int) -> int:
        masks.append(mask)
        return real(mask)

    monkeypatch.setattr("os.umask", noted)
    rig = rig_with(place, mesh, "games")

    async def scenario() -> None:
        async with running(rig):
            assert rig.socket.stat().st_mode & 0o777 == 0o666
            assert masks and all(mask & 0o022 == 0o022 for mask in masks)

    asyncio.run(scenario())


def test_those_who_look_without_end_cost_one_view_a_second(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matrix of 200 hosts is a second's work on the loop that probes, and answers the other hosts."""
    monkeypatch.setattr("meshd.daemon.control_socket.read_caller", lambda connection: MEMBER)
    made: list[ControlRequest] = []

    async def handler(request: ControlRequest) -> tuple[object, int]:
        made.append(request)
        return {"made": len(made)}, 0

    async def hammer(path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(str(path))
        for _ in range(2):
            writer.write(b'{"verb":"matrix","force":true,"host":"tesla"}\n')
            assert msgspec.json.decode(await reader.readline(), type=ControlAnswer).exit_code == 0
        writer.close()
        await writer.wait_closed()

    async def scenario() -> None:
        server = ControlServer(place / "control.sock", handler, group=GROUP.gr_gid)
        await server.start()
        began_at = asyncio.get_running_loop().time()
        await asyncio.gather(*(hammer(place / "control.sock") for _ in range(2)))
        seconds = asyncio.get_running_loop().time() - began_at
        await server.close()
        assert 0 < len(made) <= 1 + seconds / SHOWN_SECONDS
        assert {(each.verb, each.force, each.host) for each in made} == {("matrix", False, "")}

    asyncio.run(scenario())


IDLE = """
import socket, sys, time
opened = []
for _ in range(int(sys.argv[2])):
    each = socket.socket(socket.AF_UNIX)
    each.connect(sys.argv[1])
    opened.append(each)
print("opened", flush=True)
sys.stdin.read()
"""


@pytest.mark.root
@pytest.mark.slow
def test_a_member_that_opens_connections_without_end_keeps_root_from_nothing(
    place: Path, mesh: SignedMesh
) -> None:
    rig = rig_with(place, mesh, "games")

    async def scenario() -> None:
        async with running(rig):
            flood = subprocess.Popen(  # noqa: ASYNC220 - a start takes a moment
                [sys.executable, "-c", IDLE, str(rig.socket), str(4 * MAX_LOOKERS)],
                user=MEMBER.uid,
                group=MEMBER.uid,
                extra_groups=(GROUP.gr_gid,),
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            try:
                assert flood.stdout is not None
                assert await asyncio.to_thread(flood.stdout.readline) == b"opened\n"
                line = msgspec.json.encode({"verb": "status"}) + b"\n"
                assert msgspec.json.decode(await rig.raw(line), type=ControlAnswer).error is None
                late = await asyncio.to_thread(as_nobody, rig, "plan", groups=(GROUP.gr_gid,))
                assert late.returncode == 3 and "looking already" in late.stderr
            finally:
                with contextlib.suppress(ProcessLookupError):
                    flood.kill()
                flood.communicate()

    asyncio.run(scenario())
