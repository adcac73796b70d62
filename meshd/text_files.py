"""Text that people hand over: settings, requests, bundles, credentials, from a file or standard input.

Editors of other systems put marks before it. Notepad and PowerShell 5 begin a file with EF BB BF, and ``>``
of PowerShell writes UTF-16. A parser names line 1, column 1 then, where nobody sees anything. Here the first
is passed over and the second is named. Standard streams may be closed: cron and CI do that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meshd.errors import ConfigError

STANDARD_STREAM: Final = "-"
TERMINAL: Final = "/dev/tty"
UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def decode_text(data: bytes, source: str, what: str) -> str:
    """The text without a mark. ConfigError names ``source``, and ``what`` was expected of it."""
    if data.startswith(_UTF16_MARKS):
        raise ConfigError(f"{source}: UTF-16 seen, {what} in UTF-8 expected: save it again in that encoding")
    try:
        return data.removeprefix(UTF8_MARK).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{source}: not {what}: not text in UTF-8") from None


def read_text_file(path: Path, what: str, max_bytes: int) -> str:
    """At most ``max_bytes`` of a file. ConfigError when it cannot be read, or is no text."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return decode_text(data, str(path), what)


def refuse_to_replace(path: Path, what: str, said: Mapping[str, str]) -> None:
    """ConfigError where a file is in the way that is not an older ``what``.

    Args:
        said: what such a file says in the members of its JSON object. Another host's bundle, a key or a
            device that was named by mistake says something else.
    """
    import msgspec  # not for who only asks for help

    if not path.exists():
        return
    if not path.is_file():
        raise ConfigError(f"{path}: not a file, a place for {what} expected (- is standard output)")
    try:
        found = msgspec.json.decode(path.read_bytes())
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        found = None
    if not isinstance(found, dict) or any(found.get(name) != value for name, value in said.items()):
        raise ConfigError(f"{path}: there is a file already that is not {what}: name another, or remove it")


def read_standard_input(what: str, max_bytes: int) -> str:
    """ConfigError where it is closed."""
    if sys.stdin is None:  # so Python says that descriptor 0 is closed
        raise ConfigError(f"standard input is closed, {what} expected on it: name a file instead")
    return decode_text(sys.stdin.buffer.read(max_bytes), "standard input", what)


def somebody_answers(source: str = "") -> bool:
    """Whether a person can be asked: standard input is a terminal.

    Args:
        source: ``-``: standard input holds the file that is asked about, as in ``ssh HOST meshd enroll |
            wgctl add-host -``. The terminal of the session is then asked, where it has one.
    """
    if source == STANDARD_STREAM:
        return terminal_answers()
    return sys.stdin is not None and sys.stdin.isatty()


def terminal_answers() -> bool:
    """Whether this session has a terminal, whatever its standard streams are (tty(4))."""
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
