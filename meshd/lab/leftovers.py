"""Whose a lab is, and the end of labs whose owner was killed before it could tidy up.

A lab is called ``wgm``, the owner's process id and a letter; its directory has that name and
its namespaces begin with it.
"""

from __future__ import annotations

import os
import re
import shutil
import string
import tempfile
from pathlib import Path
from typing import Final

from meshd.errors import BackendError
from meshd.lab.netns import delete_netns, end_processes, list_netns

PREFIX: Final = "wgm"
OWNER_FILE: Final = "owner"


def cleanup_leftovers(prefix: str = PREFIX) -> tuple[str, ...]:
    """Remove the labs whose owner lives no more; the names of what was removed.

    The owner's start time is compared as well as its process id, which may have been reused.
    """
    pattern = re.compile(rf"({re.escape(prefix)}(\d+)[a-z])(-.*)?")
    directories = Path(tempfile.gettempdir()).glob(f"{prefix}*")
    seen = [*list_netns(prefix), *(path.name for path in directories if path.is_dir())]
    dead = {
        match[1] for match in map(pattern.fullmatch, seen) if match and not _is_owned(match[1], int(match[2]))
    }
    for lab in dead:
        names = list_netns(f"{lab}-")
        end_processes(names)
        delete_netns(names)
        shutil.rmtree(Path(tempfile.gettempdir(), lab), ignore_errors=True)
    return tuple(sorted(dead))


def _is_owned(lab: str, pid: int) -> bool:
    try:
        recorded = Path(tempfile.gettempdir(), lab, OWNER_FILE).read_text()
    except OSError:
        return False
    return recorded == _start_ticks(pid)


def _start_ticks(pid: int) -> str:
    """When a process started, in the kernel's ticks since boot (proc(5), stat field 22); '' if gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The command name is in parentheses and may contain anything.
    return text.rpartition(")")[2].split()[19]


def make_lab_directory() -> Path:
    pid = os.getpid()
    for letter in string.ascii_lowercase:
        path = Path(tempfile.gettempdir(), f"{PREFIX}{pid}{letter}")
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        (path / OWNER_FILE).write_text(_start_ticks(pid))
        return path
    raise BackendError(f"lab: {len(string.ascii_lowercase)} labs of process {pid} exist already")
