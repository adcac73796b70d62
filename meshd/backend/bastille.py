"""What Bastille's tags say of a jail: ``svc.NAME`` or ``svc.NAME.PORT``, a service that lives there.

``bastille tags JAIL add TAG`` keeps them in a file beside the jail's root, which the jail cannot write. That
file is read. What ``bastille list`` prints is a table for eyes, and its JSON is made of it: its columns and
its keys have changed from one version to the next.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Final

import msgspec

from meshd.errors import BackendError

MAX_BYTES: Final = 16 * 1024
ROOT: Final = "root"
TAGS: Final = "tags"
PREFIX: Final = "svc."
_SERVICE: Final = re.compile(r"svc\.([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.([0-9]{1,5}))?")


class ServiceTag(msgspec.Struct, frozen=True, kw_only=True):
    """``port`` None: the tag names none."""

    service: str
    port: int | None


def tags_path(root: str) -> PurePosixPath | None:
    """``root``: of the jail, on this host. None: it does not lie as Bastille's jails do, in ``JAIL/root``."""
    path = PurePosixPath(root)
    return path.parent / TAGS if path.is_absolute() and path.name == ROOT else None


def read_tags(root: str) -> str:
    """Empty where there is no such file. BackendError: it is there and cannot be read as one."""
    path = tags_path(root)
    if path is None:
        return ""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise BackendError(f"{path}: {error.strerror}") from None
    with os.fdopen(number, "rb") as file:
        try:
            return file.read(MAX_BYTES).decode("utf-8", "replace")
        except OSError as error:
            raise BackendError(f"{path}: {error.strerror}") from None


def parse_tags(text: str) -> tuple[tuple[ServiceTag, ...], tuple[str, ...]]:
    """The services, and the tags that begin as one and name none. A tag a line, or with commas."""
    found: dict[ServiceTag, None] = {}
    bad = []
    for word in re.split(r"[\s,]+", text):
        if not word.startswith(PREFIX):
            continue
        match = _SERVICE.fullmatch(word)
        port = int(match[2]) if match and match[2] else None
        if match is None or (port is not None and not 1 <= port <= 65535):
            bad.append(word)
        else:
            found[ServiceTag(service=match[1], port=port)] = None
    return tuple(found), tuple(bad)
