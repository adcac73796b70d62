"""What rc.conf(5) of FreeBSD says about our interface, read by sysrc(8).

The rc script of the port net/wireguard-tools destroys and creates the interfaces that it is
told, and that of net/wireguard-lite unloads if_wg when it stops: every session of the mesh is
gone, and two programs go on configuring one interface.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from meshd.backend.runner import Runner, ToolRunner
from meshd.errors import BackendError, ConfigError

SYSRC: Final = Path("/usr/sbin/sysrc")
VARIABLE: Final = "wireguard_interfaces"
TIMEOUT_SECONDS: Final = 10.0


def open_sysrc() -> Runner | None:
    """None on a system that has no sysrc(8)."""
    return ToolRunner({"sysrc": SYSRC}) if SYSRC.exists() else None


def refuse_shared_interface(runner: Runner, interfaces: Iterable[str]) -> None:
    """ConfigError when rc.conf gives one of ``interfaces`` to wg-quick. A sysrc(8) that fails or hangs
    refuses nothing: the mesh does not depend on it."""
    try:
        done = runner.run("sysrc", ["-n", VARIABLE], timeout_seconds=TIMEOUT_SECONDS)
    except BackendError:
        return
    names = done.stdout.decode("utf-8", "replace").split() if done.exit_code == 0 else []
    for interface in interfaces:
        if interface in names:
            raise ConfigError(
                f"rc.conf: {VARIABLE}={' '.join(names)!r} seen, without {interface} expected: wg-quick and "
                f"meshd would both configure it; type: sysrc {VARIABLE}-={interface}"
            )
