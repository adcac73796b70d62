"""A text as a QR code (ISO/IEC 18004) that a phone reads from the terminal.

The text may be a secret: it stays in this process, and is in nothing that is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

import msgspec

from meshd.errors import ConfigError

EXTRA: Final = "pip install 'wg-meshd[qr]'"
QUIET_ZONE: Final = 4
"""Light modules around the code, as the standard asks for."""
LARGEST_BYTES: Final = 2953
"""Of version 40 with the least error correction: nothing covers a part of a screen."""
DARK_ON_LIGHT: Final = "\x1b[38;5;16;48;5;231m"
"""Black on white from the fixed part of xterm's colours, whatever the theme: readers expect it."""
PLAIN: Final = "\x1b[0m"
HALF_BLOCKS: Final = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


class QrCode(msgspec.Struct, frozen=True):
    """``lines``: two rows of modules each, a character a module wide."""

    lines: tuple[str, ...]

    @property
    def columns(self) -> int:
        return len(self.lines[0])

    def render(self) -> str:
        """With colours, so that it is dark on light in every terminal."""
        return "".join(f"{DARK_ON_LIGHT}{line}{PLAIN}\n" for line in self.lines)

    def fits(self, columns: int, lines: int) -> bool:
        """``lines``: of the terminal, one of which the cursor needs."""
        return self.columns <= columns and len(self.lines) < lines


def draw_qr_code(text: str) -> QrCode:
    """ConfigError where segno is missing, and for a text that no code holds."""
    size_bytes = len(text.encode())
    if size_bytes > LARGEST_BYTES:
        raise ConfigError(f"{size_bytes} bytes seen, a QR code holds {LARGEST_BYTES} at most")
    try:
        import segno
    except ImportError:
        raise ConfigError(f"a QR code needs the package segno, which is not installed: {EXTRA}") from None
    code = segno.make_qr(text, error="l", boost_error=False, mode="byte", encoding="utf-8")
    rows = [[bool(module) for module in row] for row in code.matrix_iter(border=QUIET_ZONE)]
    return QrCode(_half_blocks(rows))


def _half_blocks(rows: Sequence[Sequence[bool]]) -> tuple[str, ...]:
    """A code has an odd number of rows: the last line's lower half is light."""
    below = zip_longest(rows[::2], rows[1::2], fillvalue=[False] * len(rows[0]))
    return tuple("".join(HALF_BLOCKS[pair] for pair in zip(*both, strict=True)) for both in below)
