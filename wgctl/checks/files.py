"""Checks of this host's own files: settings, state directory, keys, boot file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from meshd.errors import ConfigError
from meshd.settings import Settings, read_settings
from wgctl.checks.base import Check, fail, ok, warn
from wgctl.options import is_there

KEY_PATTERNS = ("*.key", "s3.json", "credentials*.json")
PRIVATE_BITS = 0o077


def check_settings(path: Path, *, expected: bool) -> tuple[Settings | None, Check]:
    """Read the settings file. ``expected`` False: a machine that only administers may have none."""
    name = "settings"
    if not expected and not is_there(path):
        advice = "none needed on a machine that only runs wgctl; else install meshd's settings file"
        return None, warn(name, f"{path}: not there, this host runs no meshd", advice)
    try:
        return read_settings(path), ok(name, f"{path} is readable and valid")
    except ConfigError as error:
        return None, fail(name, str(error), f"correct {path}, then: wgctl doctor")


def check_state(settings: Settings) -> Iterator[Check]:
    """The state directory and every secret in it."""
    directory = settings.state_dir
    try:
        mode = _mode(directory)
    except OSError as error:
        advice = "run as root; on a new host: meshd enroll --name NAME, then meshd join BUNDLE"
        yield fail("state", f"{directory}: cannot be looked at: {error.strerror}", advice)
        return
    if mode & PRIVATE_BITS:
        yield fail("state", f"{directory}: mode {mode:04o} seen, 0700 expected", f"chmod 0700 {directory}")
    else:
        yield ok("state", f"{directory}: mode {mode:04o}")
    yield from _check_keys(directory)


def check_boot_file(settings: Settings) -> Iterator[Check]:
    """The wg-quick form of the mesh holds the private key."""
    if not settings.wireguard.boot_file:
        return
    path = Path(settings.wireguard.boot_file)
    try:
        mode = _mode(path)
    except FileNotFoundError:
        advice = "meshd writes it after its first plan; see: wgctl status"
        yield warn("boot file", f"{path}: not there yet", advice)
        return
    except OSError as error:
        yield warn("boot file", f"{path}: cannot be looked at: {error.strerror}", "run wgctl doctor as root")
        return
    if mode & PRIVATE_BITS:
        yield fail(
            "boot file",
            f"{path}: mode {mode:04o} seen, 0600 expected: it holds the private key",
            f"chmod 0600 {path}",
        )
    else:
        yield ok("boot file", f"{path}: mode {mode:04o}")


def _check_keys(directory: Path) -> Iterator[Check]:
    try:
        paths = sorted({path for pattern in KEY_PATTERNS for path in directory.glob(pattern)})
        modes = [(path, _mode(path)) for path in paths]
    except OSError as error:
        yield fail("keys", f"{directory}: cannot be listed: {error.strerror}", "run wgctl doctor as root")
        return
    if not os.access(directory, os.R_OK | os.X_OK):
        yield warn("keys", f"{directory}: not ours to list", "run wgctl doctor as root")
    elif not modes:
        yield fail("keys", f"{directory}: holds no key", "meshd enroll --name NAME, then meshd join BUNDLE")
    for path, mode in modes:
        if mode & PRIVATE_BITS:
            advice = f"chmod 0600 {path}; if others had access to this host, rotate the key"
            yield fail("keys", f"{path}: mode {mode:04o} seen, 0600 expected", advice)
        else:
            yield ok("keys", f"{path}: mode {mode:04o}")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
