"""Choose the backend for this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from meshd.backend.base import DEFAULT_MARK, Backend
from meshd.backend.freebsd_changes import ChangeLog
from meshd.backend.jails import JailHost
from meshd.errors import BackendError

BackendName = Literal["auto", "linux", "userspace", "freebsd"]

DEFAULT_ROUTE_NOTE: Final = Path("/var/db/meshd/routes.json")

_INSTALL: Final = (
    "the kernel has no WireGuard and no userspace program is installed: load the kernel module "
    "wireguard, or install wireguard-go or boringtun-cli"
)


def open_backend(
    name: BackendName,
    *,
    userspace_program: str = "",
    log_path: Path | None = None,
    route_note_path: Path = DEFAULT_ROUTE_NOTE,
    tools: Mapping[str, Path] | None = None,
    fibs: Sequence[int] = (),
    changes: ChangeLog | None = None,
    mark: str = DEFAULT_MARK,
) -> Backend:
    """The backend of that name; ``auto``: the kernel's WireGuard, else a userspace program.

    ``userspace_program``: name or path, empty: the first known one on PATH. ``log_path``: where
    that program's output goes, None: nowhere. ``route_note_path``: where FreeBSD's backend notes
    which routes are ours. ``tools``: programs to run instead of FreeBSD's own, on any system, as
    any user. ``changes``: what FreeBSD's routing socket tells. ``mark``: see ``Backend.mark_interface``.
    Raises BackendError saying what is missing.
    """
    if tools is not None:
        return _open_freebsd(tools, route_note_path, fibs, changes, mark)
    freebsd = sys.platform.startswith("freebsd")
    _check_platform(name, freebsd)
    if os.geteuid() != 0:
        raise BackendError(f"backend {name!r}: user id {os.geteuid()} seen, root expected")
    if freebsd:
        return _open_freebsd(None, route_note_path, fibs, changes, mark)
    if name == "linux":
        return _require(
            _open_linux(mark), "backend 'linux': no WireGuard in the kernel: load module wireguard"
        )
    if name == "userspace":
        return _require(_open_userspace(userspace_program, log_path, mark), _missing(userspace_program))
    found = _open_linux(mark) or _open_userspace(userspace_program, log_path, mark)
    return _require(found, f"backend 'auto': {_INSTALL}")


def open_jail_host(
    tools: Mapping[str, Path] | None = None, changes: ChangeLog | None = None
) -> JailHost | None:
    """What knows this system's jails or containers; None where nothing does.

    ``tools`` and ``changes``: as for ``open_backend``.
    """
    if tools is None and sys.platform.startswith("linux"):
        from meshd.backend.linux_containers import LinuxContainers

        return LinuxContainers()
    from meshd.backend.freebsd_jails import FreeBSDJails, find_jail_tools
    from meshd.backend.runner import ToolRunner

    found = find_jail_tools() if tools is None else tools
    return FreeBSDJails(ToolRunner(found), changes) if "jls" in found else None


def _check_platform(name: BackendName, freebsd: bool) -> None:
    fitting = ("auto", "freebsd") if freebsd else ("auto", "linux", "userspace")
    known = freebsd or sys.platform.startswith("linux")
    if not known or name not in fitting:
        expected = " or ".join(fitting) if known else "freebsd or linux"
        raise BackendError(f"backend {name!r} on platform {sys.platform!r} seen, {expected} expected")


def _require(backend: Backend | None, missing: str) -> Backend:
    if backend is None:
        raise BackendError(missing)
    return backend


def _missing(program: str) -> str:
    sought = repr(program) if program else "neither wireguard-go nor boringtun-cli"
    return f"backend 'userspace': {sought} on PATH: install wireguard-go or boringtun-cli"


def _open_freebsd(
    tools: Mapping[str, Path] | None,
    route_note_path: Path,
    fibs: Sequence[int],
    changes: ChangeLog | None,
    mark: str,
) -> Backend:
    from meshd.backend.freebsd import FreeBSDBackend, find_tools
    from meshd.backend.runner import ToolRunner

    found = find_tools() if tools is None else tools
    return FreeBSDBackend(ToolRunner(found), route_note_path, fibs, changes, mark)


def _open_linux(mark: str) -> Backend | None:
    from meshd.backend.linux import LinuxBackend

    backend = LinuxBackend(mark)
    if backend.find_family() is not None:
        return backend
    backend.close()
    return None


def _open_userspace(program: str, log_path: Path | None, mark: str) -> Backend | None:
    from meshd.backend.userspace import UserspaceBackend, find_program

    path = find_program(program)
    return None if path is None else UserspaceBackend(path, log_path=log_path, mark=mark)
