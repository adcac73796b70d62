"""The version of this program, written down here alone: ``pyproject.toml`` reads it from here.

Asking for the metadata of the installed distribution would load a megabyte of libraries for one line, which
a daemon then keeps for ever.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
