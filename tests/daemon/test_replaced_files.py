"""meshd's files are replaced under a running daemon, as an upgrade does it, before it is started anew.

What a daemon loads late (what renders its page, what looks after services) is of another version then, or
half written, or gone. A daemon of its own shows it, with a copy of the package that may be damaged.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

DAEMON = """
import asyncio, http.client, json, pathlib, sys
from daemon_rig import build_rig, running, settings_for
from meshes import NOW, SignedMesh
from ports import free_port
from until import until
import meshd
from meshd.registry.statement import Service
from meshd.store.memory import MemoryStore

package = pathlib.Path(meshd.__file__).parent
directory, damage = pathlib.Path(sys.argv[1]), sys.argv[2]
assert package.is_relative_to(directory)
LATE = [package / "control" / "services.py", *sorted((package / "observe" / "page").glob("[!_v]*.py"))]
DAMAGES = {
    "another version": lambda path, text: path.write_text(text + "\\nfrom meshd.model.keys import Later\\n"),
    "half written": lambda path, text: path.write_text(text[: len(text) // 2] + "\\n(((\\n"),
    "gone": lambda path, text: path.unlink(),
}

async def ask(port, path):
    def get():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    return await asyncio.to_thread(get)

async def main():
    mesh, store, said = SignedMesh.create(), MemoryStore(), {}
    port = free_port()
    tesla = mesh.add("tesla")
    mesh.publish(store)
    rig = build_rig(directory, mesh, tesla, stores=(store,),
                    settings=settings_for(directory, metrics={"listen": [f"127.0.0.1:{port}"]}))
    async with running(rig):
        texts = {path: path.read_text() for path in LATE}
        for path, text in texts.items():
            DAMAGES[damage](path, text)
        service = Service(name="db", kind="patroni", port=5432, scope="mesh", min_endpoints=1, check="tcp",
                          state="active")
        key, body = mesh.signer.append(service, now=NOW - 5)
        mesh.objects[key] = body
        newton = mesh.add("newton")
        mesh.publish(store)
        await rig.news_and_turn()
        await until(lambda: any(each.code == "part_failed" for each in rig.conditions()))
        status = await rig.status()
        said["conditions"] = [[each.code, each.subject, each.text] for each in status.conditions]
        said["page"] = await ask(port, "/")
        said["metrics"] = (await ask(port, "/metrics"))[0]
        said["is peer"] = newton.wireguard.public() in rig.kernel().device.peers
        for path, text in texts.items():
            path.write_text(text)
        await rig.news_and_turn()
        await until(lambda: not any(each.code == "part_failed" for each in rig.conditions()))
        said["services"] = sorted(rig.world.membership.services)
        said["page again"] = (await ask(port, "/"))[0]
    print(json.dumps(said))

asyncio.run(main())
"""


def run_daemon(directory: Path, damage: str) -> dict[str, Any]:
    """The daemon's words. Its package is a copy, before all else on the path."""
    shutil.copytree(CHECKOUT / "meshd", directory / "meshd", ignore=shutil.ignore_patterns("__pycache__"))
    path = os.pathsep.join([str(directory), str(CHECKOUT / "tests" / "support"), str(CHECKOUT)])
    done = subprocess.run(
        [sys.executable, "-c", DAEMON, str(directory), damage],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["another version", "half written", "gone"])
def test_files_that_were_replaced_cost_what_they_hold_and_the_operator_is_told_what_to_do(
    tmp_path: Path, damage: str
) -> None:
    said = run_daemon(tmp_path, damage)
    texts = [text for code, _, text in said["conditions"] if code == "part_failed"]
    assert texts and all("restart meshd" in text for text in texts), said["conditions"]
    status, page = said["page"]
    assert status == 503 and "restart meshd" in page and "Traceback" not in page
    assert said["metrics"] == 200 and said["is peer"], "the rest goes on"
    assert said["page again"] == 200 and said["services"] == ["db"]
