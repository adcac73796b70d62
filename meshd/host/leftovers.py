"""What a power cut or a kill left in the state directory of files that were being written.

Nobody ever reads such a file. It may hold a secret, and it would lie there for good.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from meshd.files import is_temporary

SETTLED_SECONDS: Final = 60.0
"""A younger one may be about to take its place: ``meshd enroll`` keeps no daemon from running. One from the
future is as old as any."""
FOLDERS: Final = (".", "registry", "services", "services/*")


def remove_leftovers(state_dir: Path, *, now: float) -> list[str]:
    """Whoever calls has claimed the state. ``now``: unix seconds. -> their paths below ``state_dir``.

    One that cannot be removed keeps nobody from running.
    """
    removed = []
    for path in _temporaries(state_dir):
        with contextlib.suppress(OSError):
            found = path.lstat()
            is_own = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
            if is_own and abs(now - found.st_mtime) >= SETTLED_SECONDS:
                path.unlink()
                removed.append(str(path.relative_to(state_dir)))
    return sorted(removed)


def _temporaries(state_dir: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        for directory in state_dir.glob(folder) if folder != "." else (state_dir,):
            with contextlib.suppress(OSError):
                yield from [path for path in directory.iterdir() if is_temporary(path.name)]
