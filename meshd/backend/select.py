"""Choose the backend for this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, Literal

from meshd.backend.base import Backend
from meshd.errors import BackendError

BackendName = Literal["auto", "linux", "userspace", "freebsd"]

_INSTALL: Final = (
    "the kernel has no WireGuard and no userspace program is installed: load the kernel module "
    "wireguard, or install wireguard-go or boringtun-cli"
)


def open_backend(
    name: BackendName, *, userspace_program: str = "", log_path: Path | None = None
) -> Backend:
    """The backend of that name; ``auto``: the kernel's WireGuard, else a userspace program.

    ``userspace_program``: name or path, empty: the first known one on PATH. ``log_path``: where
    that program's output goes, None: nowhere. Raises BackendError saying what is missing.
    """
    if name == "freebsd" or not sys.platform.startswith("linux"):
        raise BackendError(
            f"backend {name!r} on platform {sys.platform!r}: not part of this release, Linux expected"
        )
    if os.geteuid() != 0:
        raise BackendError(f"backend {name!r}: user id {os.geteuid()} seen, root expected")
    if name == "linux":
        return _require(_open_linux(), "backend 'linux': no WireGuard in the kernel: load module wireguard")
    if name == "userspace":
        return _require(_open_userspace(userspace_program, log_path), _missing(userspace_program))
    found = _open_linux() or _open_userspace(userspace_program, log_path)
    return _require(found, f"backend 'auto': {_INSTALL}")


def _require(backend: Backend | None, missing: str) -> Backend:
    if backend is None:
        raise BackendError(missing)
    return backend


def _missing(program: str) -> str:
    sought = repr(program) if program else "neither wireguard-go nor boringtun-cli"
    return f"backend 'userspace': {sought} on PATH: install wireguard-go or boringtun-cli"


def _open_linux() -> Backend | None:
    from meshd.backend.linux import LinuxBackend

    backend = LinuxBackend()
    if backend.find_family() is not None:
        return backend
    backend.close()
    return None


def _open_userspace(program: str, log_path: Path | None) -> Backend | None:
    from meshd.backend.userspace import UserspaceBackend, find_program

    path = find_program(program)
    return None if path is None else UserspaceBackend(path, log_path=log_path)
