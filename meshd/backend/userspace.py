"""WireGuard in a process: wireguard-go or boringtun, configured over its UAPI socket.

The process outlives us: it is started in a session of its own and adopted by whoever finds
its socket answering, so that a restart of meshd loses no packet. Links, addresses and routes
are the kernel's: see netlink.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from meshd.backend import uapi
from meshd.backend.base import DEFAULT_MARK
from meshd.backend.linux_links import LinuxLinks
from meshd.backend.netlink import Link
from meshd.backend.own_unit import words_for_own_unit
from meshd.backend.peer_steps import PeerStep, build_peer_steps, call_afresh, takes_allowed_ips
from meshd.errors import BackendError, BackendSilentError
from meshd.model.device import Device, PeerUpdate
from meshd.model.keys import KEY_BYTES, PrivateKey, PublicKey

PROGRAMS: Final = ("wireguard-go", "boringtun-cli")
SOCKET_DIR: Final = Path("/var/run/wireguard")
LINK_KIND: Final = "tun"

START_TIMEOUT_SECONDS: Final = 10.0
STOP_TIMEOUT_SECONDS: Final = 5.0
EXCHANGE_TIMEOUT_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.02
MAX_ANSWER_BYTES: Final = 64 << 20
NOBODY_LISTENS: Final = (FileNotFoundError, ConnectionRefusedError)
"""What connecting to the socket raises then: the file of a process that is gone refuses."""

_RECEIVE_BYTES: Final = 1 << 16
_ENVIRONMENT: Final = {
    "LOG_LEVEL": "error",
    "WG_LOG_LEVEL": "error",
    # wireguard-go refuses Linux without it, although we come here only if the kernel has none
    "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1",
}


def find_program(name: str = "") -> str | None:
    """The absolute path of ``name``, or of the first known program on PATH; None: not found."""
    for candidate in (name,) if name else PROGRAMS:
        path = shutil.which(candidate)
        if path is not None:
            return path
    return None


class UserspaceBackend(LinuxLinks):
    """``program``: absolute path of the WireGuard program. ``log_path``: where its output goes."""

    name: str = "userspace"

    def __init__(
        self,
        program: str,
        *,
        log_path: Path | None = None,
        socket_dir: Path = SOCKET_DIR,
        mark: str = DEFAULT_MARK,
    ) -> None:
        super().__init__(mark)
        self._program = program
        self._log_path = log_path
        self._socket_dir = socket_dir

    def _device_of(self, interface: str, link: Link) -> Device | None:
        """One connection tells both: whether a process listens, and what it says."""
        what = f"interface {interface}: get"
        try:
            try:
                connection = self._connect(interface)
            except NOBODY_LISTENS:
                return None
            with connection:
                answer = _ask(connection, uapi.GET, what)
        except OSError as error:
            raise self._socket_error(interface, error) from None
        return uapi.parse_get(answer, interface, Path(self._program).name)

    def create_interface(self, interface: str) -> None:
        link = self._links.link(interface)
        if link is not None:
            self._expect_adoptable(interface, link)
            return
        # The process of an interface that was deleted a moment ago may still be on its way out.
        if not _wait_until(lambda: not self._answers(interface), STOP_TIMEOUT_SECONDS):
            raise BackendError(
                f"socket {self._socket_path(interface)}: answers although there is no interface {interface} "
                "here (another network namespace?), no process on it expected"
            )
        self._socket_path(interface).unlink(missing_ok=True)
        self._start(interface)
        self.mark_interface(interface)

    def destroy_interface(self, interface: str) -> None:
        link = self._links.link(interface)
        if link is None:
            return
        if link.kind != LINK_KIND:
            raise _wrong_kind(interface, link)
        self._links.delete_link(interface)  # the process ends when its device is gone
        if not _wait_until(lambda: not self._answers(interface), STOP_TIMEOUT_SECONDS):
            raise BackendError(
                f"interface {interface}: deleted, but its process answers after "
                f"{STOP_TIMEOUT_SECONDS:g} s, its end expected"
            )
        self._socket_path(interface).unlink(missing_ok=True)

    def read_private_key(self, interface: str) -> PrivateKey | None:
        if self._links.link(interface) is None or not self._answers(interface):
            return None
        answer = self._exchange(interface, uapi.GET, f"interface {interface}: get")
        return uapi.parse_private_key(answer, interface)

    def set_private_key(self, interface: str, key: PrivateKey) -> None:
        self._set(interface, uapi.render_set(private_key=key), f"set private key of {interface}")

    def set_listen_port(self, interface: str, port: int) -> None:
        self._set(interface, uapi.render_set(listen_port=port), f"set listen port of {interface} to {port}")

    def set_peers(self, interface: str, updates: Sequence[PeerUpdate]) -> None:
        if not updates:
            return
        calls = any(update.endpoint is not None for update in updates)
        device = self._device(interface) if calls or takes_allowed_ips(updates) else None
        throwaway = PublicKey(os.urandom(KEY_BYTES))
        steps = build_peer_steps(updates, device, throwaway)
        if device is not None:
            steps = call_afresh(steps, device)
        self._set(interface, uapi.render_set(steps=steps), f"set peers of {interface}")

    def forget_sources(self, interface: str) -> None:
        """wireguard-go goes on with a source that is gone until its handshake is tried again, 15 s later
        (it clears sources only where the interface changes): giving it the same endpoints anew helps."""
        steps = [
            PeerStep(public_key=key, endpoint=peer.config.endpoint)
            for key, peer in self._device(interface).peers.items()
            if peer.config.endpoint is not None
        ]
        if steps:
            self._set(interface, uapi.render_set(steps=steps), f"set endpoints of {interface}")

    def _socket_path(self, interface: str) -> Path:
        return self._socket_dir / f"{interface}.sock"

    def _device(self, interface: str) -> Device:
        answer = self._exchange(interface, uapi.GET, f"interface {interface}: get")
        return uapi.parse_get(answer, interface, Path(self._program).name)

    def _set(self, interface: str, request: bytes, what: str) -> None:
        uapi.check_answer(self._exchange(interface, request, what), what)

    def _answers(self, interface: str) -> bool:
        """Whether a process listens on the socket."""
        try:
            self._connect(interface).close()
        except NOBODY_LISTENS:
            return False
        except OSError as error:
            raise self._socket_error(interface, error) from None
        return True

    def _connect(self, interface: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(EXCHANGE_TIMEOUT_SECONDS)
            connection.connect(str(self._socket_path(interface)))
        except OSError:
            connection.close()
            raise
        return connection

    def _exchange(self, interface: str, request: bytes, what: str) -> bytes:
        """One request and its answer, up to the empty line that ends it."""
        try:
            with self._connect(interface) as connection:
                return _ask(connection, request, what)
        except OSError as error:
            raise self._socket_error(interface, error) from None

    def _socket_error(self, interface: str, error: OSError) -> BackendError:
        silent = isinstance(error, TimeoutError)
        seen = "no answer in time" if silent else error.strerror or str(error)
        kind = BackendSilentError if silent else BackendError
        return kind(f"socket {self._socket_path(interface)}: {seen} seen, an answer expected")

    def _expect_adoptable(self, interface: str, link: Link) -> None:
        if link.kind != LINK_KIND:
            raise _wrong_kind(interface, link)
        if not self._answers(interface):
            raise BackendError(
                f"interface {interface}: a tun device without a process on "
                f"{self._socket_path(interface)} seen, userspace WireGuard expected"
            )

    def _start(self, interface: str) -> None:
        """Start the program, which puts itself into the background, and wait for its socket.

        Without a unit of its own where systemd refuses one: the mesh is worth more than a clean journal.
        """
        command = [self._program, interface]
        if Path(self._program).name.startswith("boringtun"):
            command.append("--disable-drop-privileges")
        output = self._open_log()
        try:
            own_unit = words_for_own_unit(interface, os.environ)
            if not own_unit or _run([*own_unit, *command], output) is not None:
                failure = _run(command, output)
                if failure is not None:
                    told = f", its words are in {self._log_path}" if self._log_path else ""
                    raise BackendError(f"{self._program} {interface}: {failure}{told}")
        finally:
            os.close(output)
        if not _wait_until(lambda: self._running(interface), START_TIMEOUT_SECONDS):
            raise BackendError(
                f"{self._program} {interface}: no answer on {self._socket_path(interface)} within "
                f"{START_TIMEOUT_SECONDS:g} s seen, one expected"
            )

    def _running(self, interface: str) -> bool:
        return self._answers(interface) and self._links.link(interface) is not None

    def _open_log(self) -> int:
        if self._log_path is None:
            return os.open(os.devnull, os.O_WRONLY)
        try:
            return os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            seen = error.strerror or str(error)
            raise BackendError(f"log {self._log_path}: {seen} seen, a writable file expected") from None


def _run(command: Sequence[str], output: int) -> str | None:
    """What went wrong; None: it ended well."""
    try:
        process = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            close_fds=True,
            cwd="/",
            env={**os.environ, **_ENVIRONMENT},
            timeout=START_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{error} seen, a start expected"
    return f"exit code {process.returncode} seen, 0 expected" if process.returncode else None


def _ask(connection: socket.socket, request: bytes, what: str) -> bytes:
    deadline = time.monotonic() + EXCHANGE_TIMEOUT_SECONDS
    with contextlib.suppress(BrokenPipeError):  # refused half-way: the answer says why
        connection.sendall(request)
    answer = bytearray()
    while not answer.endswith(uapi.END):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        data = connection.recv(_RECEIVE_BYTES)
        if not data:
            raise BackendError(f"{what}: the answer ends after {len(answer)} bytes, an empty line expected")
        answer += data
        if len(answer) > MAX_ANSWER_BYTES:
            raise BackendError(f"{what}: more than {MAX_ANSWER_BYTES} bytes seen, fewer expected")
    return bytes(answer)


def _wait_until(done: Callable[[], bool], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _wrong_kind(interface: str, link: Link) -> BackendError:
    kind = link.kind or "hardware"
    return BackendError(f"interface {interface}: kind {kind!r} seen, {LINK_KIND!r} expected")
