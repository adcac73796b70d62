"""The process. Importing this package first has msgspec loaded without typing_extensions.

It takes two functions from there, which Python 3.11 has in typing: half a MiB that a daemon would keep.
"""

from __future__ import annotations

from meshd.lean import instead_of

with instead_of("typing_extensions", None):
    import msgspec as _msgspec  # noqa: F401
