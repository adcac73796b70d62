"""Executables ``meshd-service-NAME`` for tests, where the unprivileged user can read them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODULE = """#!/usr/bin/python3 -I
import json, os, signal, socket, subprocess, sys, time
request = json.load(sys.stdin)
view, settings = request["view"], request["settings"]
def answer(text, **more):
    endpoints = [
        "%s/%s%s@%s" % (p["service"], p["host"], "/" + p["jail"] if p["jail"] else "", p["address"])
        for s in view["services"].values() for p in s["placements"]
    ]
    plan = {"files": [{"path": settings["file"], "text": text}], "endpoints": endpoints}
    print(json.dumps({**plan, **more}))
"""

NAMES = 'answer("".join(sorted(name + chr(10) for name in view["hosts"])))'


@contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that everybody may read, which pytest's own is not."""
    made = Path(tempfile.mkdtemp(prefix="meshd-module-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_module(directory: Path, code: str, name: str = "app") -> Path:
    path = directory / f"meshd-service-{name}"
    path.write_text(MODULE + code + "\n")
    path.chmod(0o755)
    return path
