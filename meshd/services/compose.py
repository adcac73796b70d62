"""A module's text -> the bytes of a file: header, marked block, digests. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from meshd.errors import ConfigError
from meshd.services.plan import GENERATION, File

_SECRET: Final = re.compile(r"\{secret:([a-z0-9_-]{1,40})\}")
REDACTED: Final = "(secret)"
LEAST_HIDDEN: Final = 4
"""A shorter secret is none, and its letters stand in any text."""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def fill_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """Put secrets in. ConfigError names one that is not there."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in secrets:
            raise ConfigError(f"secret {match[1]!r}: not in this module's settings (secrets)")
        return secrets[match[1]]

    return _SECRET.sub(value, text)


def hide_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """What a checker or a service says may quote the file that it was given."""
    for value in sorted(secrets.values(), key=len, reverse=True):
        if len(value) >= LEAST_HIDDEN:
            text = text.replace(value, REDACTED)
    return text


def body_of(file: File, generation: int) -> str:
    """What the module said, ending with a line feed: HAProxy for one refuses a file that does not."""
    text = file.text if file.text.endswith("\n") or not file.text else file.text + "\n"
    return text.replace(GENERATION, str(generation))


def whole(file: File, module: str, generation: int, body: str) -> str:
    """The file as it is written: a header line where the format has comments, then the body."""
    if not file.comment:
        return body
    return f"{file.comment} meshd: module={module} generation={generation} sha256={digest(body)}\n{body}"


def without_header(text: str, file: File) -> str:
    """The body of a file that ``whole`` made; a text without our header is all body."""
    first, _, rest = text.partition("\n")
    return rest if file.comment and first.startswith(f"{file.comment} meshd: module=") else text


def with_block(text: str, module: str, body: str, comment: str = "#", *, top: bool = False) -> str:
    """The text with our block in it: where it stood, else at the end, or at the ``top``. All other lines
    stay as they are."""
    before, found, after = _split(text, module, comment)
    if not found and top:
        before, after = "", before
    if not found and before and not before.endswith("\n"):
        before += "\n"
    begin, end = _marks(module, comment)
    return f"{before}{begin}\n{body}{end}\n{after}"


def without_block(text: str, module: str, comment: str = "#") -> str:
    before, _, after = _split(text, module, comment)
    return before + after


def block_of(text: str, module: str, comment: str = "#") -> str | None:
    """What stands between our marks; None without them."""
    begin, end = _marks(module, comment)
    lines = text.splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if line.rstrip("\n") in (begin, end)]
    if not places:
        return None
    if len(places) != 2 or lines[places[0]].rstrip("\n") != begin:
        raise ConfigError(f"the lines {begin!r} and {end!r}: once each and in this order expected")
    return "".join(lines[places[0] + 1 : places[1]])


def _split(text: str, module: str, comment: str) -> tuple[str, bool, str]:
    found = block_of(text, module, comment)
    if found is None:
        return text, False, ""
    begin, _end = _marks(module, comment)
    before, _, rest = text.partition(begin + "\n")
    return before, True, rest[len(found) :].partition("\n")[2]


def _marks(module: str, comment: str) -> tuple[str, str]:
    return f"{comment} BEGIN meshd {module}", f"{comment} END meshd {module}"
