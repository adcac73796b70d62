"""A process that outlives its service, in a unit of its own.

systemd counts every process in a service's control group to that service. One that stays when the service
ends is reported at each stop and start, as if something had gone wrong: "Found left-over process ... This
usually indicates unclean termination of a previous run" (systemd.kill(5), ``KillMode=process``).
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from typing import Final

PROGRAM: Final = "systemd-run"

_OF_A_SERVICE: Final = "INVOCATION_ID"
"""systemd gives it to the processes of its services (systemd.exec(5))."""
_PROPERTIES: Final = (
    # At shutdown it is ended with what is left at last, so the services above the mesh stop first.
    "DefaultDependencies=no",
    # What the unit forbids by control group. All else (capabilities, system calls, mounts) is inherited.
    "DevicePolicy=closed",
    "DeviceAllow=/dev/net/tun rw",
)


def words_for_own_unit(name: str, environment: Mapping[str, str]) -> list[str]:
    """What to put before a command, so that its process leaves the service's unit for a scope of its own.

    Empty where no systemd has started us. ``name`` is for people. The digits after it are drawn, as the
    scope of a process that is still on its way out has that name too.
    """
    program = shutil.which(PROGRAM, path=environment.get("PATH")) if _OF_A_SERVICE in environment else None
    if program is None:
        return []
    properties = [f"--property={each}" for each in _PROPERTIES]
    unit = f"meshd-{name}-{secrets.token_hex(4)}"
    return [program, "--quiet", "--scope", "--collect", f"--unit={unit}", *properties, "--"]
