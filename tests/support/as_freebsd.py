"""Runs pytest as on FreeBSD: ``sys.platform`` is freebsd15, and there is no pyroute2.

    python tests/support/as_freebsd.py tests/plan ...

What a real FreeBSD has and this system has not, as kqueue, is not there all the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType


class NoPyroute2:
    """An import hook that comes first and finds this package nowhere."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        if name.partition(".")[0] == "pyroute2":
            raise ImportError(f"{name}: not on this system")


def main(arguments: list[str]) -> int:
    sys.meta_path.insert(0, NoPyroute2())
    sys.platform = "freebsd15"
    import pytest

    return int(pytest.main(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
