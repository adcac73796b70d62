"""Interfaces with this host's key under names that are none of its settings'.

meshd takes its own interface by its mark away where somebody gave it another name. One that it never marked
is known by the key alone, such as a tunnel of wg-quick's whose key it was given. That is no reason to end a
tunnel that somebody may be logged in through: it is reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshd.settings import FREEBSD, Settings
from wgctl.checks.base import Check, fail
from wgctl.checks.system import read_output


def check_same_key(settings: Settings, public_key: str | None) -> Iterator[Check]:
    """Names each. ``public_key``: that of the meshd that answers here, base64."""
    own = (settings.wireguard.interface, settings.wireguard.rotation_interface)
    for line in (read_output(["wg", "show", "all", "public-key"]) or "").splitlines():
        name, _, key = line.partition("\t")
        if key and key == public_key and name not in own:
            remove = f"ifconfig {name} destroy" if FREEBSD else f"ip link delete {name}"
            yield fail(
                "interface",
                f"{name} has this host's key too, and may hold its port: meshd is to use {own[0]}",
                f'it is meshd\'s under that name: interface = "{name}" below [wireguard] in meshd.toml, '
                f"restart meshd; else end it where it is made (wg-quick down {name}), or {remove}",
            )
