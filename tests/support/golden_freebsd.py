"""The kernel of a golden transcript on FreeBSD: fakebsd's tools, each call written down."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fakebsd import FakeBSD, Release
from golden_transcript import Spoken, Transcript

from meshd.backend.base import Backend
from meshd.backend.freebsd import TOOLS, FreeBSDBackend
from meshd.backend.runner import TIMEOUT_SECONDS, Finished, ToolRunner, no_end
from tests.fakebsd.call import Call
from tests.fakebsd.run import log

NO_BUFFERS = "route: message indicates error: No buffer space available\n"


class RecordedTools:
    """A Runner over the imitated tools. ``processes``: each call starts the tool's own executable, as
    the product does; else the same code answers in this process, a hundred times faster, and one that
    hangs takes no time. ``waited_seconds``: what hanging tools cost; a hanging process gets a second."""

    def __init__(self, bsd: FakeBSD, transcript: Transcript, *, processes: bool) -> None:
        self._bsd = bsd
        self._transcript = transcript
        self._real = ToolRunner(bsd.tools) if processes else None
        self.waited_seconds = 0.0
        self.before: Callable[[str], None] = lambda command: None
        """Called with each command line that changes something, before it is run."""

    def run(
        self,
        tool: str,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Finished:
        look = _is_look(tool, arguments)
        if not look:
            self._transcript.about_to_change()
            self.before(" ".join([tool, *arguments]))
        if self._hangs(tool, arguments):
            self.waited_seconds += timeout_seconds
            if self._real is None:
                raise no_end(tool, arguments, timeout_seconds)
            timeout_seconds = 1.0
        if self._real is not None:
            done = self._real.run(tool, arguments, stdin=stdin, timeout_seconds=timeout_seconds)
        else:
            done = self._answer(tool, arguments, stdin)
        self._transcript.add(
            Spoken(
                command=" ".join([str(TOOLS[tool][0]), *arguments]),
                answer=str(done.exit_code),
                stdin=_shown(arguments, stdin),
                stdout=tuple(done.stdout.decode().splitlines()),
                stderr=tuple(done.stderr.decode().splitlines()),
                look=look,
            )
        )
        return done

    def _hangs(self, tool: str, arguments: Sequence[str]) -> bool:
        with self._bsd.state() as host:
            return any(" ".join([tool, *arguments]).startswith(prefix) for prefix in host["hangs"])

    def _answer(self, tool: str, arguments: Sequence[str], stdin: bytes) -> Finished:
        log(str(self._bsd.directory), Call(tool, list(arguments), {}, ""))
        done = self._bsd.answer([tool, *arguments], stdin=stdin.decode())
        return Finished(
            tool=tool, exit_code=done.returncode, stdout=done.stdout.encode(), stderr=done.stderr.encode()
        )


def _is_look(tool: str, arguments: Sequence[str]) -> bool:
    return tool == "netstat" or (tool == "ifconfig" and len(arguments) == 1) or arguments[0] == "show"


def _shown(arguments: Sequence[str], stdin: bytes) -> tuple[str, ...]:
    for word in ("private-key", "preshared-key"):
        if word in arguments:
            return (f"({word.replace('-', ' ')})",)
    return tuple(stdin.decode().splitlines())


class GoldenFreeBSD:
    """One host. What the world does to it is said as a command."""

    def __init__(
        self, directory: Path, transcript: Transcript, release: Release, *, processes: bool = False
    ) -> None:
        self.bsd = FakeBSD(directory, release)
        self._note = directory / "routes.json"
        self._transcript = transcript
        self.tools = RecordedTools(self.bsd, transcript, processes=processes)

    def open(self) -> Backend:
        return FreeBSDBackend(self.tools, self._note)

    def destroy(self, interface: str) -> None:
        self._somebody(f"ifconfig {interface} destroy")

    def delete_route(self, destination: str, interface: str) -> None:
        self._somebody(f"route -n delete {_family(destination)} {destination} -interface {interface}")

    def block_route(self, destination: str) -> None:
        """Somebody else's route to the destination."""
        self._somebody(f"route -n add {_family(destination)} {destination} 127.0.0.1 -blackhole")

    def unblock_route(self, destination: str) -> None:
        self._somebody(f"route -n delete {_family(destination)} {destination} 127.0.0.1 -blackhole")

    def add_peer(self, interface: str, key: str, allowed_ip: str) -> None:
        self._somebody(f"wg set {interface} peer {key} allowed-ips {allowed_ip}")

    def roam(self, interface: str, key: str, endpoint: str, at: float) -> None:
        self._transcript.remark(f"the peer speaks from {endpoint}")
        self.bsd.answer(["wg", "set", interface, "peer", key, "endpoint", endpoint])
        self.bsd.handshake(interface, key, at=int(at))

    def refuse_route_once(self, destination: str) -> None:
        """No buffer space for the next message about it (ENOBUFS)."""
        self._transcript.remark(f"no buffer space for the route to {destination}, once")
        command = f"route -n add {_family(destination)} {destination}"
        self.bsd.fail(command, stderr=NO_BUFFERS)

    def state(self, interface: str) -> list[str]:
        """What its own tools say of it, without what is not ours and without faults."""
        with self._undisturbed():
            return self._state(interface)

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        with self.bsd.state() as host:
            failures, hangs = host["failures"], host["hangs"]
            host["failures"], host["hangs"] = [], []
        yield
        with self.bsd.state() as host:
            host["failures"], host["hangs"] = failures, hangs

    def _state(self, interface: str) -> list[str]:
        if self.bsd.answer(["ifconfig", interface]).returncode != 0:
            return []
        shown = self._lines(f"ifconfig {interface}")
        shown += [
            re.sub(r"^\S+\t", "(private key)\t", line) if number == 0 else line
            for number, line in enumerate(self._lines(f"wg show {interface} dump"))
        ]
        for family in ("inet", "inet6"):
            table = self._lines(f"netstat -rnW -f {family}")
            shown += [line for line in table if line.split()[-1:] == [interface]]
        return [line.replace("\t", " ").strip() for line in shown]

    def _lines(self, command: str) -> list[str]:
        done = self.bsd.answer(command.split())
        return (done.stdout + done.stderr).splitlines()

    def _somebody(self, command: str) -> None:
        self._transcript.remark(f"somebody: {command}")
        done = self.bsd.answer(command.split())
        assert done.returncode == 0, done


def _family(destination: str) -> str:
    return "-inet6" if ":" in destination else "-inet"
