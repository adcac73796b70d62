"""Run the project's own commands as an operator would, many of them, without waiting for Python.

A small server process loads the commands' entry points once and forks for each command, so
every command still has a process of its own: own arguments, own exit code, own output. What
it saves is the start of the interpreter, ten times the work of the command itself. The
commands are found as the shell finds them, by the installed distribution's entry points.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, BinaryIO, Final

import msgspec

from meshd.errors import BackendError

COMMAND_SECONDS: Final = 30
END_SECONDS: Final = 5.0
PROGRAMS: Final = ("meshd", "wgctl")

Command = Callable[[], Any]


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True):
    program: str
    arguments: tuple[str, ...]
    seconds: int = COMMAND_SECONDS


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    exit_code: int
    output: str
    errors: str


class CommandServer:
    """The owner's end. Calls block until the command has ended; they may come from several threads."""

    def __init__(
        self, preload: Sequence[str] = (), *, enter: Sequence[str] = (), patience: float = 1.0
    ) -> None:
        """``preload``: modules that the commands would import each time anew. ``enter``: what to type
        in front, so that the commands run in a place of the lab. ``patience``: how many times longer
        they may take."""
        self._patience = patience
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [*enter, sys.executable, "-m", "meshd.lab.commands", *preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, program: str, *arguments: object, seconds: int = COMMAND_SECONDS) -> str:
        """What the command printed on standard output. BackendError with what it said if it failed.

        A command that takes longer than ``seconds`` is ended.
        """
        allowed = round(seconds * self._patience)
        request = CommandRequest(program=program, arguments=tuple(map(str, arguments)), seconds=allowed)
        result = self._ask(request)
        if result.exit_code != 0:
            line = " ".join([program, *request.arguments])
            raise BackendError(f"{line}: exit {result.exit_code}: {(result.errors or result.output).strip()}")
        return result.output

    def _ask(self, request: CommandRequest) -> CommandResult:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise BackendError("command server: it has no pipes")
        with self._lock:
            try:
                stdin.write(msgspec.json.encode(request) + b"\n")
                stdin.flush()
                line = stdout.readline()
            except (OSError, ValueError) as error:
                raise BackendError(f"command server: {error}") from None
        if not line:
            raise BackendError(f"command server: ended before {request.program} was done")
        return msgspec.json.decode(line, type=CommandResult)

    def close(self) -> None:
        """End of input ends the server; one that does not heed it is killed."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _load_programs() -> dict[str, Command]:
    found = {point.name: point for point in entry_points(group="console_scripts") if point.name in PROGRAMS}
    missing = [name for name in PROGRAMS if name not in found]
    if missing:
        sys.exit(f"command {missing[0]} is not installed: pip install wg-meshd")
    return {name: point.load() for name, point in found.items()}


def _run_forked(command: Command, request: CommandRequest) -> CommandResult:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            _become(command, request, output, errors)
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return CommandResult(exit_code=os.waitstatus_to_exitcode(status), output=texts[0], errors=texts[1])


def _become(command: Command, request: CommandRequest, output: BinaryIO, errors: BinaryIO) -> None:
    """In the child: run the command to its end and never come back."""
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        sys.argv = [request.program, *request.arguments]
        # A command that hangs must not hang the lab: SIGALRM's default action ends it.
        signal.alarm(request.seconds)
        command()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - it is shown, as at the end of a process
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    programs = _load_programs()
    for module in sys.argv[1:]:
        importlib.import_module(module)
    # The answers' pipe is kept away from the commands, whose standard output is a file.
    for line in sys.stdin.buffer:
        request = msgspec.json.decode(line, type=CommandRequest)
        result = _run_forked(programs[request.program], request)
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
