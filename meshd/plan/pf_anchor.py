"""The pf anchor that lets the mesh through, as text. Pure."""

from __future__ import annotations

from typing import Final

ANCHOR: Final = "meshd"


def mesh_ports(listen_port: int) -> tuple[int, int]:
    """The UDP ports of the mesh: while a key is replaced, a second interface listens on the next one."""
    return listen_port, listen_port + 1


def render_pf_anchor(listen_port: int, path: str, *, relay_port: int | None = None) -> str:
    """``path``: where the operator keeps the text. The group ``wg`` holds every WireGuard interface, so
    the rules stay right when another one takes over. ``relay_port``: of its own lines; None: none."""
    first, last = mesh_ports(listen_port)
    relay = [
        f"pass in quick proto udp from any to any port {relay_port} keep state",
        f"pass out quick proto udp from any port {relay_port} to any keep state",
    ]
    return "\n".join(
        [
            f"# Rules of the mesh for pf(4): meshd pf-anchor > {path}",
            "# In /etc/pf.conf, before the first rule that blocks with quick, after set, scrub, nat and rdr",
            "# (with Bastille 1.4.2 or later: below the line that includes its pf.conf):",
            f'#   anchor "{ANCHOR}"',
            f'#   load anchor "{ANCHOR}" from "{path}"',
            "# then: service pf reload; wgctl doctor",
            f"pass in quick proto udp from any to any port {first}:{last} keep state",
            f"pass out quick proto udp from any port {first}:{last} to any keep state",
            *(relay if relay_port is not None else ()),
            "pass in quick on wg keep state",
            "pass out quick on wg keep state",
            "",
        ]
    )
