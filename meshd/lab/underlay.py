"""The owner's end of the packet switch: start it, tell it what to do, end it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from meshd.errors import BackendError
from meshd.lab.base import LinkState
from meshd.lab.pace import PACE

END_SECONDS: Final = 5.0 * PACE


class Underlay:
    """A switch process. Calls block until it has answered and may come from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # A session of its own: a Ctrl-C at our terminal must not take the network away
        # while the hosts are being shut down.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "meshd.lab.switch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def add_port(self, name: str, *, netns: str, interface: str, addresses: Sequence[str]) -> None:
        """Make ``interface`` in the namespace file ``netns``; packets to ``addresses`` go there."""
        self._ask("add", port=name, netns=netns, interface=interface, addresses=list(addresses))

    def add_address(self, name: str, address: str) -> None:
        """Packets to ``address`` go to this port from now on: a host that moved, or has two."""
        self._ask("own", port=name, address=address)

    def remove_address(self, address: str) -> None:
        """Packets to ``address`` go nowhere from now on."""
        self._ask("disown", address=address)

    def remove_port(self, name: str) -> None:
        self._ask("remove", port=name)

    def set_link(self, source: str, target: str, state: LinkState) -> None:
        self._ask("link", source=source, target=target, state=msgspec.to_builtins(state))

    def counts(self) -> dict[str, int]:
        """Packets since the start: carried, lost, cut, too_long, unknown, refused; and under_way now."""
        return msgspec.convert(self._ask("counts"), dict[str, int])

    def close(self) -> None:
        """End of input ends the switch; one that does not heed it is killed."""
        process = self._process
        if process.stdin is None or process.stdout is None or process.stderr is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        process.stderr.close()

    def _ask(self, operation: str, **fields: Any) -> Any:
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise BackendError("packet switch: it has no pipes")
        with self._lock:
            try:
                stdin.write(msgspec.json.encode({"operation": operation, **fields}) + b"\n")
                stdin.flush()
                line = stdout.readline()
            except (OSError, ValueError) as error:
                raise BackendError(f"packet switch: {error}") from None
            if not line:
                raise BackendError(f"packet switch ended: {stderr.read().decode(errors='replace').strip()}")
        answer = msgspec.json.decode(line, type=dict[str, Any])
        if "error" in answer:
            raise BackendError(f"packet switch: {operation} {fields.get('port', '')}: {answer['error']}")
        return answer["result"]
