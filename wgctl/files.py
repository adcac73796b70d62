"""Files that travel by hand: requests, bundles and exports, or the standard streams for ``-``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meshd.errors import ConfigError
from meshd.terminal import echo
from meshd.text_files import read_standard_input, read_text_file, refuse_to_replace

STANDARD_STREAM: Final = "-"
MAX_BUNDLE_BYTES: Final = 96 * 1024 * 1024
"""Of a whole registry that travels as a file: an export or a bundle."""


def read_text(source: str, what: str, max_bytes: int) -> str:
    """The text of a file, or of standard input. ConfigError when it cannot be read."""
    if source == STANDARD_STREAM:
        return read_standard_input(what, max_bytes)
    return read_text_file(Path(source), what, max_bytes)


def check_writable(target: str, what: str, said: Mapping[str, str] | None = None) -> None:
    """Before anything is signed: a file that cannot be written, or may not be replaced, is found out early.

    ``said``: as for ``refuse_to_replace``; None: whoever calls looks at what is there.
    """
    directory = Path(target).absolute().parent
    if target != STANDARD_STREAM and (Path(target).is_dir() or not os.access(directory, os.W_OK | os.X_OK)):
        raise ConfigError(f"{target}: {what} cannot be written there")
    if target != STANDARD_STREAM and said is not None:
        refuse_to_replace(Path(target), what, said)


def write_text(target: str, text: str) -> None:
    """Whole or not at all, mode 0600. StoreError when the disk refuses."""
    from meshd.files import write_file

    if target == STANDARD_STREAM:
        echo(text, nl=False)
    else:
        write_file(Path(target).absolute(), text.encode())
