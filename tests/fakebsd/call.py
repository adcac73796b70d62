"""One call of one tool: its arguments, and what it says on which stream."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .shapes import Host, Jail, Link, Stack

NOT_IMITATED = 99


class Exit(Exception):
    """The tool ends here: its last words on the standard error, and its exit code."""

    def __init__(self, code: int, error: str = "") -> None:
        super().__init__(code, error)
        self.code = code
        self.error = error


class Call:
    __slots__ = ("args", "environment", "errors", "follow_up", "jail", "lines", "stdin", "tool")

    def __init__(self, tool: str, args: list[str], environment: Mapping[str, str], stdin: str) -> None:
        self.tool = tool
        self.args = args
        self.environment = environment
        self.stdin = stdin
        self.jail = environment.get("FAKEBSD_JAIL", "")
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.follow_up: list[str] = []

    @property
    def privileged(self) -> bool:
        return self.environment.get("FAKEBSD_USER", "root") == "root"

    def say(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, line: str) -> None:
        self.errors.append(line)

    def not_imitated(self) -> Exit:
        """Never a silent success: a test that meets this needs a wider imitation, not luck."""
        return Exit(NOT_IMITATED, f"fakebsd: not imitated: {self.tool} {' '.join(self.args)}")


def stack_of(host: Host, jail: str) -> Stack:
    """The network stack that a process in this jail sees: only VNET jails have one of their own, the
    others use that of the jail around them."""
    while jail not in host["stacks"]:
        jail = jail.rpartition(".")[0]
    return host["stacks"][jail]


def full_name(jail: str, child: str) -> str:
    """`web` as the host names it when seen from inside `h1`: h1.web."""
    return f"{jail}.{child}" if jail else child


def find_jail(host: Host, inside: str, name: str) -> Jail | None:
    """By jid or by name, as somebody inside a jail knows it: only the jails below are there."""
    for one in host["jails"]:
        below = not inside or one["name"].startswith(f"{inside}.")
        if below and (one["name"] == full_name(inside, name) or str(one["jid"]) == name):
            return one
    return None


def find_link(stack: Stack, name: str) -> Link | None:
    for link in stack["links"]:
        if link["name"] == name:
            return link
    return None


def set_jail(host: Host, call: Call, name: str, error: str) -> None:
    """-j JAIL of ifconfig, route and netstat, by name or jid."""
    jail = find_jail(host, call.jail, name)
    if jail is None:
        raise Exit(1, error)
    call.jail = jail["name"]
