"""The lab that this operating system can run."""

from __future__ import annotations

import sys

from meshd.errors import ConfigError
from meshd.lab.base import Lab


def open_lab() -> Lab:
    """An empty lab; the caller closes it. Raises ConfigError where hosts cannot be made."""
    if sys.platform != "linux":
        raise ConfigError(f"lab: {sys.platform} seen, linux expected: hosts are network namespaces")
    from meshd.lab.namespaces import NamespaceLab

    return NamespaceLab()
