"""A store that somebody filled or fouled: whoever put it there is revoked all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_desk import AdminDesk
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)
    desk.found("ada")
    for name in ("newton", "mallory"):
        desk.add("ada", name)
    return desk


def flood_hosts(mesh: Path) -> None:
    for number in range(5_001):
        (mesh / "host" / f"{number:032x}.json").write_bytes(b"x")


def flood_roots(mesh: Path) -> None:
    for number in range(2_001):
        (mesh / "root" / f"000001-{number:064x}.json").write_bytes(b"x")


def foul_names(mesh: Path) -> None:
    for kind in ("root", "host"):
        (mesh / kind / "a\x1b[2J\x01").write_bytes(b"x")
        (mesh / kind / "loop").symlink_to(mesh)


def foul_records(mesh: Path) -> None:
    for path in (mesh / "host").iterdir():
        path.write_bytes(b"x" * 70_000)


@pytest.mark.slow
@pytest.mark.parametrize("attack", [flood_hosts, flood_roots, foul_names, foul_records])
def test_nothing_that_lies_in_a_store_keeps_a_host_from_being_revoked(
    desk: AdminDesk, attack: Callable[[Path], None]
) -> None:
    (mesh,) = desk.store.glob("v1/*")
    attack(mesh)
    done = desk.ok("ada", "remove-host", "mallory", "--yes")
    assert "no store answers" not in done.output and "not answering" not in done.output
    assert desk.members("ada") == {"newton"}
    log = [path.read_text() for path in mesh.glob("log/*/*.json")]
    assert len([json.loads(text) for text in log]) == 3
