"""Where the passphrase of the key files comes from: a terminal, a file, a descriptor; never argv.

It is asked for once a run, when the first sealed key is opened.
"""

from __future__ import annotations

import os
import stat
from typing import Final

import click

from meshd.errors import ConfigError
from meshd.text_files import STANDARD_STREAM, somebody_answers

MAX_BYTES: Final = 1024
PRIVATE_BITS: Final = 0o077
DESCRIPTOR_PREFIX: Final = "fd:"
VARIABLE: Final = "WGCTL_PASSPHRASE_FILE"
HOW: Final = f"--passphrase-file FILE (or {VARIABLE})"


class PassphraseSource:
    """``source``: a path, ``fd:N`` for an open descriptor, or None for the terminal."""

    def __init__(self, source: str | None = None) -> None:
        self._source = source
        self._stdin = ""
        self._known: bytes | None = None

    def leave_standard_input(self) -> None:
        """It holds a file: the terminal of the session is asked (getpass(3) opens that one anyway)."""
        self._stdin = STANDARD_STREAM

    @property
    def is_given(self) -> bool:
        """True when a file or descriptor was named, so that nobody needs to be asked."""
        return self._source is not None

    def get(self) -> bytes:
        """The passphrase of keys that exist. ConfigError when nobody can be asked."""
        if self._known is None:
            if self._source is not None:
                self._known = read_passphrase(self._source)
            elif somebody_answers(self._stdin):
                self._known = _ask("Passphrase of this admin home", twice=False)
            else:
                raise ConfigError(f"the key is sealed and there is no terminal to ask on: give {HOW}")
        return self._known

    def choose(self, *, protect: bool) -> bytes | None:
        """A passphrase for keys that are being made; None when there is to be none.

        ConfigError when it was not said how they are to be protected and nobody can be asked.
        """
        if not protect:
            return None
        if self._source is None:
            if not can_ask():
                raise ConfigError(
                    f"there is no terminal to ask for a passphrase: give {HOW}, or --no-passphrase for key "
                    f"files that whoever reads them can use"
                )
            self._known = _ask("New passphrase of this admin home", twice=True)
        return self.get()


def can_ask() -> bool:
    return somebody_answers()


def choose_new(source: str | None) -> bytes:
    """The passphrase that replaces another one."""
    if source is not None:
        return read_passphrase(source)
    if not can_ask():
        raise ConfigError(
            "there is no terminal to ask for the new passphrase: give --new-passphrase-file FILE, or "
            "--no-passphrase"
        )
    return _ask("New passphrase of this admin home", twice=True)


def read_passphrase(source: str) -> bytes:
    """The first line of a private file, or of ``fd:N``. ConfigError never repeats what it says."""
    try:
        if source.startswith(DESCRIPTOR_PREFIX):
            body = _read_descriptor(int(source.removeprefix(DESCRIPTOR_PREFIX)))
        else:
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                status = os.fstat(descriptor)
                if stat.S_ISREG(status.st_mode) and status.st_mode & PRIVATE_BITS:
                    mode = stat.S_IMODE(status.st_mode)
                    raise ConfigError(f"{source}: mode {mode:04o} seen, 0600 expected: it holds a passphrase")
                body = _read_descriptor(descriptor)
            finally:
                os.close(descriptor)
    except ValueError:
        raise ConfigError(f"{source}: a path or fd:NUMBER expected") from None
    except OSError as error:
        raise ConfigError(f"{source}: the passphrase cannot be read: {error.strerror}") from None
    line = body.splitlines()[0] if body else b""
    if not line:
        raise ConfigError(f"{source}: holds no passphrase in its first line")
    return line


def _read_descriptor(descriptor: int) -> bytes:
    body = b""
    while len(body) <= MAX_BYTES and b"\n" not in body:
        piece = os.read(descriptor, MAX_BYTES + 1 - len(body))
        if not piece:
            break
        body += piece
    return body


def _ask(prompt: str, *, twice: bool) -> bytes:
    text: str = click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True)
    return text.encode("utf-8", "surrogateescape")
