"""The life of the userspace WireGuard process: killed, restarted under, hung, in the way."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import os
import secrets
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from meshd.backend import userspace
from meshd.backend.userspace import SOCKET_DIR, UserspaceBackend, find_program
from meshd.errors import BackendError
from meshd.model.device import PeerUpdate
from meshd.model.keys import PrivateKey, PublicKey

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network_namespace")]

NAME = f"mbu{os.getpid() % 1000000}"


@pytest.fixture
def backend() -> Iterator[UserspaceBackend]:
    made = new_backend()
    yield made
    made.destroy_interface(NAME)
    made.close()


def new_backend(log_path: Path | None = None) -> UserspaceBackend:
    program = find_program()
    assert program is not None, "wireguard-go or boringtun-cli has to be installed"
    return UserspaceBackend(program, log_path=log_path)


def process_id(name: str) -> int:
    """The process that was started for the interface."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if name.encode() in arguments and arguments[0].endswith((b"wireguard-go", b"boringtun-cli")):
            return int(entry.parent.name)
    raise AssertionError(f"no process of interface {name}")


def kill(pid: int) -> None:
    """End the process and wait until it is gone, its files closed."""
    watch = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert ended(watch)


def ended(watch: int) -> bool:
    try:
        return bool(select.select([watch], [], [], 10)[0])
    finally:
        os.close(watch)


def test_a_killed_process_is_noticed_and_replaced(backend: UserspaceBackend) -> None:
    backend.create_interface(NAME)
    backend.set_private_key(NAME, PrivateKey.generate())
    kill(process_id(NAME))
    assert (SOCKET_DIR / f"{NAME}.sock").exists(), "the stale socket is what this test is about"
    assert backend.observe(NAME).device is None
    backend.create_interface(NAME)
    device = backend.observe(NAME).device
    assert device is not None and device.public_key is None


def test_the_process_outlives_the_backend_and_is_adopted(backend: UserspaceBackend) -> None:
    backend.create_interface(NAME)
    backend.set_private_key(NAME, PrivateKey.generate())
    before, pid = backend.observe(NAME), process_id(NAME)
    backend.close()
    following = new_backend()
    following.create_interface(NAME)
    assert (following.observe(NAME), process_id(NAME)) == (before, pid)
    following.close()


def test_the_process_is_detached_and_knows_no_secret(backend: UserspaceBackend, tmp_path: Path) -> None:
    log = tmp_path / "wireguard.log"
    with contextlib.closing(new_backend(log)) as another:
        another.create_interface(NAME)
    secret = PrivateKey.generate()
    backend.set_private_key(NAME, secret)
    pid = process_id(NAME)
    assert os.getsid(pid) != os.getsid(0)
    streams = [str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in (0, 1, 2)]
    assert streams == ["/dev/null", str(log), str(log)]
    assert log.stat().st_mode & 0o777 == 0o600
    for text in (secret.reveal_text(), secret.reveal().hex()):
        assert text not in log.read_text()
        assert text.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_destroy_ends_the_process_and_its_socket(backend: UserspaceBackend) -> None:
    backend.create_interface(NAME)
    pid = process_id(NAME)
    watch = os.pidfd_open(pid)
    backend.destroy_interface(NAME)
    assert not (SOCKET_DIR / f"{NAME}.sock").exists()
    assert ended(watch)


def test_a_process_that_hangs_is_an_error_in_bounded_time(
    backend: UserspaceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.create_interface(NAME)
    pid = process_id(NAME)
    monkeypatch.setattr(userspace, "EXCHANGE_TIMEOUT_SECONDS", 0.2)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(BackendError, match="no answer in time"):
            backend.observe(NAME)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_the_socket_of_another_namespace_is_not_taken(
    backend: UserspaceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.create_interface(NAME)
    monkeypatch.setattr(userspace, "STOP_TIMEOUT_SECONDS", 0.1)
    pid = process_id(NAME)

    def elsewhere() -> None:
        stranger = new_backend()
        assert stranger.observe(NAME).device is None
        with pytest.raises(BackendError, match="another network namespace"):
            stranger.create_interface(NAME)
        stranger.close()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(_leave_namespace).result(10)
        pool.submit(elsewhere).result(10)
    assert process_id(NAME) == pid


def test_a_tun_device_without_wireguard_is_refused(backend: UserspaceBackend) -> None:
    subprocess.run(["ip", "tuntap", "add", "dev", "mbutun", "mode", "tun"], check=True, timeout=20)
    assert backend.observe("mbutun").device is None
    with pytest.raises(BackendError, match="userspace WireGuard expected"):
        backend.create_interface("mbutun")


def test_a_program_that_fails_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-such-program")
    for program, named in (("/bin/false", r"/bin/false.*exit code 1"), (missing, "no-such-program")):
        with (
            contextlib.closing(UserspaceBackend(program)) as backend,
            pytest.raises(BackendError, match=named),
        ):
            backend.create_interface(NAME)


def test_a_refused_request_names_the_errno_and_no_key(backend: UserspaceBackend) -> None:
    backend.create_interface(NAME)
    backend.set_up(NAME)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as busy:
        busy.bind(("0.0.0.0", 51911))
        with pytest.raises(BackendError, match=rf"listen port of {NAME} to 51911.*errno"):
            backend.set_listen_port(NAME, 51911)


def test_calls_from_a_worker_thread_beside_a_running_event_loop(backend: UserspaceBackend) -> None:
    """The daemon's way of calling: one worker thread, an asyncio loop in another."""
    key = PublicKey(secrets.token_bytes(32))
    prefix = ip_network("10.7.0.0/24")

    def work() -> None:
        backend.create_interface(NAME)
        backend.set_peers(NAME, [PeerUpdate(public_key=key, add_allowed_ips=frozenset([prefix]))])
        backend.set_up(NAME)

    async def daemon() -> int:
        ticks = 0
        pool = concurrent.futures.ThreadPoolExecutor(1)
        done = asyncio.get_running_loop().run_in_executor(pool, work)
        while not done.done():
            ticks += 1
            await asyncio.sleep(0)
        await done
        pool.shutdown()
        return ticks

    assert asyncio.run(daemon()) > 0
    device = backend.observe(NAME).device
    assert device is not None and device.peers[key].config.allowed_ips == {prefix}


def _leave_namespace() -> None:
    assert ctypes.CDLL(None).unshare(0x40000000) == 0
