"""Linux network namespaces by name: enter one for a moment, and find who lives in it.

A namespace is a file under /run/netns, as ip-netns(8) keeps it. A thread may change its own
network namespace (setns(2)) without moving the process, and a socket stays in the namespace
it was made in: so a thread enters, opens, and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, TypeVar

from meshd.errors import BackendError
from meshd.lab.pace import PACE

NETNS_DIR: Final = Path("/run/netns")
CLONE_NEWNET: Final = 0x40000000
IP_SECONDS: Final = 30.0 * PACE
END_SECONDS: Final = 5.0 * PACE

T = TypeVar("T")

_libc: Final = ctypes.CDLL(None, use_errno=True)


def netns_path(name: str) -> Path:
    return NETNS_DIR / name


def enter_netns(path: Path | str) -> None:
    """Move the calling thread for good. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def inside_netns(name: str, action: Callable[[], T]) -> T:
    """Call ``action`` on a thread of its own inside the namespace and hand back what it returns.

    An OSError of the action or of entering becomes a BackendError that names the namespace.
    """
    results: list[T] = []
    errors: list[OSError] = []

    def body() -> None:
        try:
            enter_netns(netns_path(name))
            results.append(action())
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=body, name=f"netns-{name}")
    thread.start()
    thread.join()
    if errors or not results:
        raise BackendError(f"network namespace {name}: {errors[0] if errors else 'nothing was returned'}")
    return results[0]


def open_socket_in(name: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A non-blocking socket made inside the namespace. Raises BackendError."""

    def action() -> socket.socket:
        opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        return opened

    return inside_netns(name, action)


def write_sysctls(name: str, values: dict[str, str]) -> None:
    """Set kernel parameters of the namespace: ``net/ipv4/ip_forward`` -> text. Raises BackendError."""

    def action() -> bool:
        for key, value in values.items():
            Path("/proc/sys", key).write_text(value)
        return True

    inside_netns(name, action)


def pids_in(names: Collection[str]) -> set[int]:
    """Every process, but ours, whose network namespace is one of these.

    One walk over /proc for all names: a host's processes include daemons that detached
    themselves, so our children are not enough to go by.
    """
    wanted = set()
    for name in names:
        try:
            status = netns_path(name).stat()
        except OSError:
            continue
        wanted.add((status.st_dev, status.st_ino))
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            status = (entry / "ns/net").stat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in wanted:
            found.add(int(entry.name))
    return found


def list_netns(prefix: str) -> list[str]:
    """Names of the namespaces that begin with ``prefix``, sorted."""
    try:
        return sorted(entry.name for entry in NETNS_DIR.iterdir() if entry.name.startswith(prefix))
    except FileNotFoundError:
        return []


def ip_batch(netns: str, *lines: str) -> None:
    ip(["-netns", netns, "-batch", "-"], "".join(f"{line}\n" for line in lines))


def ip(arguments: Sequence[str], input_text: str = "") -> str:
    """Run ip(8); -> its output. Raises BackendError with what it said."""
    try:
        done = subprocess.run(
            ["ip", *arguments],
            input=input_text,
            capture_output=True,
            text=True,
            timeout=IP_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendError(f"ip {' '.join(arguments)}: {error}") from None
    if done.returncode != 0:
        raise BackendError(f"ip {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def list_links(netns: str, kind: str) -> list[str]:
    """Names of the interfaces of one kind, as ip-link(8) calls kinds. Raises BackendError."""
    listing = ip(["-netns", netns, "-oneline", "link", "show", "type", kind])
    return [line.split(": ")[1].partition("@")[0] for line in listing.splitlines()]


def delete_netns(names: Collection[str]) -> None:
    """Delete those that exist; one that is gone already is no error."""
    present = [name for name in names if netns_path(name).exists()]
    if present:
        with contextlib.suppress(BackendError):
            ip(["-force", "-batch", "-"], "".join(f"netns delete {name}\n" for name in present))


def end_processes(names: Collection[str]) -> None:
    """Kill whatever lives in the namespaces, what it starts in the meantime included."""
    deadline = time.monotonic() + END_SECONDS
    while (pids := pids_in(names)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
