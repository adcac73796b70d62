"""Commands on another machine, through the system's own ssh(1).

Whom one talks to is what ssh knows of that machine's host key. So a key that nobody has seen is never
taken silently here, whatever ~/.ssh/config says: ssh asks on the terminal, and refuses where there is none.

What that machine says is bounded in bytes and in time, and shown in short: it may be broken, or hostile.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from meshd.backend.runner import Conversation, EndlessOutputError, Patience, await_end, end
from meshd.errors import ConfigError, MeshError

PROGRAM: Final = "ssh"
CONNECTION_FAILED: Final = 255
LOGIN_SECONDS: Final = 300
"""Somebody may have to type a passphrase and compare a host key meanwhile."""
STEP_SECONDS: Final = 120
END_SECONDS: Final = 10
MAX_SHOWN: Final = 300
MAX_OUTPUT_BYTES: Final = 16 * 1024 * 1024
"""Of each output of a command there: the status of a thousand peers has some two megabytes."""
# The first value of an option counts: what a user gives stands behind these.
FIXED: Final = (
    "-T",
    "-oStrictHostKeyChecking=ask",
    "-oClearAllForwardings=yes",
    "-oForwardAgent=no",
    "-oForwardX11=no",
    "-oPermitLocalCommand=no",
    "-oLogLevel=ERROR",  # without the banners, of which a server may send any number
    "-oConnectTimeout=20",
    "-oServerAliveInterval=5",
    "-oServerAliveCountMax=6",
)
PATHS: Final = 'PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin"; export PATH; '
"""A shell that sshd starts for one command has read no profile."""


class RemoteError(MeshError):
    """The other machine cannot be reached, or a command there failed; the same command again goes on."""


class Answer(msgspec.Struct, frozen=True):
    """What a command there ended with and printed."""

    exit_code: int
    output: str
    errors: str

    @property
    def reason(self) -> str:
        """The last thing that it complained about, in one line."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        return lines[-1][:MAX_SHOWN] if lines else f"exit status {self.exit_code}, and not a word"


class Ssh:
    """One connection that all commands share, so that nobody types a passphrase twice."""

    def __init__(self, destination: str, options: Sequence[str], control: Path) -> None:
        self.destination = destination
        self._command = [
            PROGRAM,
            *FIXED,
            f"-oControlPath={control}",
            *(f"-o{option}" for option in options),
        ]

    def connect(self) -> None:
        """Log in, on the terminal if need be. RemoteError when ssh does not get there."""
        # In the background from then on; by itself it ends a minute after its last command.
        words = ["-M", "-N", "-f", "-oControlPersist=60"]
        try:
            done = subprocess.run(
                [*self._command, *words, "--", self.destination],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                timeout=LOGIN_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise ConfigError("ssh: there is no such program on this machine; install OpenSSH") from None
        except subprocess.TimeoutExpired:
            raise RemoteError(f"{self.destination}: no login within {LOGIN_SECONDS} s") from None
        if done.returncode != 0:
            raise RemoteError(
                f"{self.destination}: ssh could not log in, and says above why; "
                f"try: ssh {self.destination} true"
            )

    def run(self, script: str, *words: str, stdin: str = "", seconds: int = STEP_SECONDS) -> Answer:
        """Run a POSIX shell script there, ``words`` being its $1 and so on; whatever it ends with.

        The login shell may be csh(1): it gets one command, without line breaks or exclamation marks.
        RemoteError when it does not end within ``seconds``, or says more than ``MAX_OUTPUT_BYTES``.
        """
        assert "\n" not in script and "!" not in script
        remote = shlex.join(["sh", "-c", PATHS + script, "sh", *words])
        process = subprocess.Popen(
            [*self._command, "-oControlMaster=no", "--", self.destination, remote],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        patience = Patience(seconds)
        try:
            said = Conversation(process, stdin.encode(), MAX_OUTPUT_BYTES).finish(patience)
            exit_code = await_end(process, patience)
        except TimeoutError:
            raise RemoteError(f"{self.destination}: no end within {seconds} s seen, one expected") from None
        except EndlessOutputError as error:
            raise RemoteError(f"{self.destination}: {error}") from None
        finally:
            end(process)
        answer = Answer(exit_code, *(each.decode(errors="replace") for each in said))
        if answer.exit_code == CONNECTION_FAILED:
            raise RemoteError(f"{self.destination}: ssh: {answer.reason}")
        return answer

    def disconnect(self) -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [*self._command, "-O", "exit", "--", self.destination],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=END_SECONDS,
                check=False,
            )


@contextlib.contextmanager
def connected(destination: str, options: Sequence[str]) -> Iterator[Ssh]:
    """A connection until this is left. ConfigError for what ssh would take for an option of its own."""
    if not destination or destination.startswith("-"):
        raise ConfigError(f"--ssh: {destination[:80]!r} seen, [USER@]HOST or ssh://USER@HOST:PORT expected")
    # Not in $TMPDIR, which may be longer than the path of a socket may be.
    with tempfile.TemporaryDirectory(prefix="wgctl-", dir="/tmp") as directory:
        ssh = Ssh(destination, options, Path(directory) / "s")
        ssh.connect()
        try:
            yield ssh
        finally:
            ssh.disconnect()
