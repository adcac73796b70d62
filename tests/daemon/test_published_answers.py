"""What a whole daemon answers to each question is what docs/schemas says of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from daemon_rig import Rig, build_rig, running
from meshes import SignedMesh, full_store
from published import check_document

from meshd.observe.protocol import ControlAnswer
from wgctl.views.status import build_report

QUESTIONS: tuple[tuple[dict[str, object], str], ...] = (
    ({"verb": "status"}, "wg-meshd-status/1"),
    ({"verb": "matrix"}, "wg-meshd-matrix/1"),
    ({"verb": "history"}, "wg-meshd-history/1"),
    ({"verb": "drain"}, "wg-meshd-drain/1"),
    ({"verb": "drain", "end": True}, "wg-meshd-drain/1"),
    ({"verb": "plan"}, "meshd-plan/1"),
    ({"verb": "apply"}, "meshd-apply/1"),
    ({"verb": "service", "service": {"action": "list"}}, "meshd-service/1"),
)


def test_every_answer_of_a_daemon_is_as_its_schema_has_it(tmp_path: Path) -> None:
    async def run() -> None:
        mesh = SignedMesh.create()
        for name in ("tesla", "newton", "bohr"):
            mesh.add(name)
        rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(full_store(mesh),))
        async with running(rig):
            await rig.turn()
            for question, name in QUESTIONS:
                assert check_document(await ask(rig, question))["format"] == name
            assert check_document(msgspec.json.encode(build_report(await rig.status(), None)))["status"]

    asyncio.run(run())


async def ask(rig: Rig, question: dict[str, object]) -> bytes:
    answer = msgspec.json.decode(await rig.raw(msgspec.json.encode(question) + b"\n"), type=ControlAnswer)
    assert answer.error is None, (question, answer.error)
    return bytes(answer.result)
