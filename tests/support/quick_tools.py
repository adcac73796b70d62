"""A Runner over an imitated FreeBSD without a process for each call: a hundred times faster."""

from __future__ import annotations

from collections.abc import Sequence

from fakebsd import FakeBSD

from meshd.backend.runner import TIMEOUT_SECONDS, Finished, ToolRunner
from tests.fakebsd.call import Call
from tests.fakebsd.run import log


class QuickTools:
    """The same code answers in this process, and the call is on record; one that hangs does so outside."""

    def __init__(self, bsd: FakeBSD) -> None:
        self._bsd = bsd
        self._processes = ToolRunner(bsd.tools)

    def run(
        self,
        tool: str,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Finished:
        with self._bsd.state() as host:
            hanging = any(" ".join([tool, *arguments]).startswith(prefix) for prefix in host["hangs"])
        if hanging:
            return self._processes.run(tool, arguments, stdin=stdin, timeout_seconds=timeout_seconds)
        log(str(self._bsd.directory), Call(tool, list(arguments), {}, ""))
        done = self._bsd.answer([tool, *arguments], stdin=stdin.decode())
        return Finished(
            tool=tool, exit_code=done.returncode, stdout=done.stdout.encode(), stderr=done.stderr.encode()
        )
