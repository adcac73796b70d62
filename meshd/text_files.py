"""Text that people hand over: settings, requests, bundles, credentials, from a file or standard input.

Editors of other systems put marks before it. Notepad and PowerShell 5 begin a file with EF BB BF, and ``>``
of PowerShell writes UTF-16. A parser names line 1, column 1 then, where nobody sees anything. Here the first
is passed over and the second is named. Standard streams may be closed: cron and CI do that.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from meshd.errors import ConfigError

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


def read_standard_input(what: str, max_bytes: int) -> str:
    """ConfigError where it is closed."""
    if sys.stdin is None:  # so Python says that descriptor 0 is closed
        raise ConfigError(f"standard input is closed, {what} expected on it: name a file instead")
    return decode_text(sys.stdin.buffer.read(max_bytes), "standard input", what)


def somebody_answers() -> bool:
    """Whether a person can be asked: standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()
