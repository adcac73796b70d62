"""One Status as a monitoring plugin says it: a line, figures behind a bar, an exit code.

The form is that of the Monitoring Plugins Development Guidelines, which Nagios, Icinga, Naemon and
Checkmk read: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
"""

from __future__ import annotations

from typing import Final

from meshd.observe.status import ConditionStatus, Status
from wgctl.views.status import own_name

OK: Final = 0
WARNING: Final = 1
CRITICAL: Final = 2
UNKNOWN: Final = 3
WORDS: Final = {OK: "OK", WARNING: "WARNING", CRITICAL: "CRITICAL", UNKNOWN: "UNKNOWN"}
MAX_NAMED: Final = 5


def check_line(status: Status) -> tuple[str, int]:
    """The line and its exit code. The worst condition decides; a peer that is silent is a warning."""
    configured = [peer for peer in status.peers if peer.configured]
    silent = [peer.name for peer in configured if not peer.path.up]
    severe = [each for each in status.conditions if each.severity == "critical"]
    warned = [each for each in status.conditions if each.severity == "warning"]
    code = WARNING if warned or silent else OK
    if severe or not status.host.interface_up:
        code = CRITICAL
    found = [] if status.host.interface_up else [f"{status.host.interface} is down"]
    found.append(f"{len(configured) - len(silent)} of {len(configured)} peers answer")
    if silent:
        found.append(f"silent: {_some(silent)}")
    if severe or warned:
        found.append(_some([_name(each) for each in (*severe, *warned)]))
    figures = (
        f"peers={len(configured)} peers_up={len(configured) - len(silent)} "
        f"critical={len(severe)} warning={len(warned)}"
    )
    return render_line(code, f"{own_name(status)}: {', '.join(found)}", figures), code


def render_line(code: int, text: str, figures: str = "") -> str:
    """``figures``: performance data; a bar in ``text`` would begin them too early."""
    line = f"MESH {WORDS[code]} - {text.replace('|', '/')}"
    return f"{line} | {figures}" if figures else line


def _name(condition: ConditionStatus) -> str:
    return f"{condition.code} {condition.subject}".strip()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
