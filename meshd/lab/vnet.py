"""FreeBSD's own commands for jails and their networks, each by absolute path.

Every command here was seen at work on a real 15.1. What exists is asked of the kernel,
never remembered: a lab that was killed half-way is swept by these same functions.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any, Final

import msgspec

from meshd.backend.runner import Finished, Runner
from meshd.errors import BackendError, ConfigError

TOOLS: Final[dict[str, tuple[Path, ...]]] = {
    "ifconfig": (Path("/sbin/ifconfig"),),
    "jail": (Path("/usr/sbin/jail"),),
    "jexec": (Path("/usr/sbin/jexec"),),
    "jls": (Path("/usr/sbin/jls"),),
    "kldload": (Path("/sbin/kldload"),),
    "kldstat": (Path("/sbin/kldstat"),),
    "sysctl": (Path("/sbin/sysctl"),),
}
MODULES: Final = ("if_wg", "if_epair", "if_bridge")
FORWARDING: Final = ("net.inet.ip.forwarding=1", "net.inet6.ip6.forwarding=1")
BRIDGE_FILTERS: Final = tuple(f"net.link.bridge.{name}" for name in ("pfil_member", "pfil_bridge", "ipfw"))
"""Whether packet filters look at what a bridge carries, bridge(4): off by default since 14.0 (FreeBSD's
commit 22893e584032). The lab's bridge stands in the machine's own stack, so its filter would."""
WIREGUARD_GROUP: Final = "wg"
LOOPBACK: Final = "lo0"
ALREADY_THERE: Final = "exists"
# A machine that is emulated and runs a whole mesh besides answers slowly.
COMMAND_SECONDS: Final = 120.0

_JLS_PARAMETERS: Final = ("jid", "name", "vnet", "ip4.addr", "ip6.addr", "path")


def find_tools() -> dict[str, Path]:
    """Raises ConfigError that names the first one missing."""
    found: dict[str, Path] = {}
    for name, candidates in TOOLS.items():
        path = next((candidate for candidate in candidates if candidate.exists()), None)
        if path is None:
            raise ConfigError(f"lab: the command {candidates[0]} is missing: it is in FreeBSD's base system")
        found[name] = path
    return found


class VnetCommands:
    """One method for each thing done; BackendError with what the tool said where it is refused."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    # what there is

    def jails(self) -> dict[str, int]:
        """Jail ids by name, as the host sees them: ``tesla`` and ``tesla.www``."""
        output = self._do("list jails", "jls", "--libxo", "json", *_JLS_PARAMETERS)
        try:
            rows: list[dict[str, Any]] = msgspec.json.decode(output)["jail-information"]["jail"]
            return {str(row["name"]): int(row["jid"]) for row in rows}
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
            raise BackendError(f"list jails: output of jls not understood: {error!r}") from None

    def interfaces(self) -> tuple[str, ...]:
        return tuple(self._do("list interfaces", "ifconfig", "-l").decode().split())

    def has_vnet(self) -> bool:
        done = self._run("sysctl", "-n", "kern.features.vimage")
        return done.exit_code == 0 and done.stdout.strip() == b"1"

    def load_modules(self) -> tuple[str, ...]:
        """Those of ``MODULES`` that were not there; they stay loaded, others may use them by now."""
        loaded = []
        for name in MODULES:
            if self._run("kldstat", "-qm", name).exit_code != 0:
                self._do(f"load kernel module {name}", "kldload", "-n", name)
                loaded.append(name)
        return tuple(loaded)

    def bridge_filters(self) -> tuple[str, ...]:
        """Those of ``BRIDGE_FILTERS`` that are on; if_bridge has to be loaded."""
        answers = {name: self._run("sysctl", "-n", name) for name in BRIDGE_FILTERS}
        return tuple(name for name, done in answers.items() if done.stdout.strip() not in (b"", b"0"))

    # the underlay

    def make_bridge(self, name: str) -> None:
        self._do(f"make bridge {name}", "ifconfig", "bridge", "create", "name", name)
        self._do(f"set up bridge {name}", "ifconfig", name, "up")

    def make_pair(self, unit: int) -> None:
        """``epairNa`` and ``epairNb``; ``ALREADY_THERE`` in the error: somebody else's."""
        self._do(f"make epair{unit}", "ifconfig", f"epair{unit}", "create")

    def rename_pair(self, unit: int, name: str) -> None:
        """The near end; the far one keeps its name."""
        self._do(f"rename epair{unit}a", "ifconfig", f"epair{unit}a", "name", name)

    def connect(self, bridge: str, unit: int, name: str, jail: str, address: IPv4Interface) -> None:
        """One end of the pair on the bridge, the other in the jail with its address."""
        far = f"epair{unit}b"
        self._do(f"move {far} into jail {jail}", "ifconfig", far, "vnet", jail)
        self._do(f"put {name} on {bridge}", "ifconfig", bridge, "addm", name)
        self._do(f"set up {name}", "ifconfig", name, "up")
        self._inside(jail, f"address of {far}", "ifconfig", far, "inet", address.with_prefixlen, "up")

    def destroy(self, interface: str) -> None:
        self._do(f"destroy {interface}", "ifconfig", interface, "destroy")

    # jails

    def make_host(self, jail: str, hostname: str, children: int) -> None:
        """A jail with a network stack of its own that may hold others, and forwards between them."""
        self._do(
            f"make jail {jail}", "jail", "-c", f"name={jail}", "vnet", "path=/", f"host.hostname={hostname}",
            f"children.max={children}", "allow.raw_sockets", "persist",
        )  # fmt: skip
        self._inside(jail, "loopback", "ifconfig", LOOPBACK, "inet", "127.0.0.1/8", "up")
        self._inside(jail, "forwarding", "sysctl", *FORWARDING)

    def make_jail_inside(self, jail: str, name: str, address: IPv4Address) -> None:
        """A jail that shares its host's stack, with an address on the host's loopback, as Bastille does."""
        self._inside(jail, f"address of {name}", "ifconfig", LOOPBACK, "inet", f"{address}/32", "alias")
        self._inside(
            jail, f"make jail {name}", "jail", "-c", f"name={name}", "path=/", f"host.hostname={name}",
            f"ip4.addr={address}", "allow.raw_sockets", "persist",
        )  # fmt: skip

    def remove_jail(self, jail: str) -> None:
        """With all that runs in it and in the jails inside it."""
        self._do(f"remove jail {jail}", "jail", "-r", jail)

    def destroy_wireguard(self, jail: str) -> None:
        """Every WireGuard interface inside: a host may have more than one."""
        for name in self._inside(jail, "list WireGuard", "ifconfig", "-g", WIREGUARD_GROUP).decode().split():
            self._inside(jail, f"destroy {name}", "ifconfig", name, "destroy")

    def _inside(self, jail: str, what: str, *words: str) -> bytes:
        return self._do(f"jail {jail}: {what}", "jexec", jail, *words)

    def _do(self, what: str, tool: str, *words: str) -> bytes:
        done = self._run(tool, *words)
        if done.exit_code != 0:
            raise done.refusal(what)
        return done.stdout

    def _run(self, tool: str, *words: str) -> Finished:
        return self._runner.run(tool, words, timeout_seconds=COMMAND_SECONDS)
