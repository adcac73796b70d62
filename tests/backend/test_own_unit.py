"""A WireGuard process that is started by a service leaves that service's unit."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from meshd.backend.own_unit import words_for_own_unit
from meshd.backend.userspace import UserspaceBackend
from meshd.errors import BackendError


def executable(folder: Path, name: str, body: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_only_a_service_of_systemd_asks_for_a_unit(tmp_path: Path) -> None:
    program = executable(tmp_path, "systemd-run", "exit 0")
    service = {"INVOCATION_ID": "0" * 32, "PATH": str(tmp_path)}
    words = words_for_own_unit("wg0", service)
    assert words[0] == str(program) and words[-1] == "--" and "--scope" in words
    assert words_for_own_unit("wg0", {"PATH": str(tmp_path)}) == []
    assert words_for_own_unit("wg0", service | {"PATH": "/nonexistent"}) == []


def test_the_scope_of_a_process_on_its_way_out_is_not_in_the_way_of_the_next(tmp_path: Path) -> None:
    executable(tmp_path, "systemd-run", "exit 0")
    service = {"INVOCATION_ID": "0" * 32, "PATH": str(tmp_path)}
    assert words_for_own_unit("wg0", service) != words_for_own_unit("wg0", service)


def test_where_systemd_refuses_a_unit_the_mesh_comes_up_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told from the words of the program, which here does no more than to say how it was called."""
    executable(tmp_path, "systemd-run", f'echo "systemd-run $*" >>{tmp_path}/called; exit 1')
    program = executable(tmp_path, "wireguard-go", f'echo "wireguard-go $*" >>{tmp_path}/called; exit 3')
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    backend = UserspaceBackend(str(program), socket_dir=tmp_path)
    with pytest.raises(BackendError, match="exit code 3 seen"):
        backend.create_interface("mesh-none")
    backend.close()
    asked, started = (tmp_path / "called").read_text().splitlines()
    assert asked.startswith("systemd-run") and asked.endswith(f"-- {program} mesh-none")
    assert started == "wireguard-go mesh-none"
