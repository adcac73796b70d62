"""Checks of the operating system: a WireGuard to configure, and forwarding for jails.

FreeBSD has no /proc: there sysctl(8) and kldstat(8) are asked.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from meshd.backend.forwarding import FREEBSD_VARIABLES, LINUX_FILES, read_forwarding
from meshd.settings import FREEBSD, Settings
from wgctl.checks.base import Check, fail, ok, warn

COMMAND_SECONDS: Final = 5.0
USERSPACE_PROGRAMS: Final = ("wireguard-go", "boringtun-cli", "boringtun")


def check_wireguard(settings: Settings | None) -> Check:
    """Some implementation must be there: the kernel's, or a userspace one."""
    name = "wireguard"
    program = settings.wireguard.userspace_program if settings else ""
    if settings and settings.wireguard.backend == "userspace":
        return _check_userspace(program)
    if _kernel_has_wireguard():
        return ok(name, "the kernel has WireGuard")
    found = _find_userspace(program)
    if found and not FREEBSD:
        return ok(name, f"the kernel has no WireGuard, {found} is used")
    advice = (
        'kldload if_wg, and if_wg_load="YES" in /boot/loader.conf'
        if FREEBSD
        else ("modprobe wireguard, or install wireguard-go")
    )
    return fail(name, "no WireGuard implementation: neither in the kernel nor a userspace program", advice)


def check_network(network: tuple[str, ...]) -> Iterator[Check]:
    """Says where the rest of the checks looked; nothing where that is where this shell is."""
    if network:
        there = " ".join((*network, "wgctl", "doctor"))
        yield warn(
            "network",
            "meshd has another network than this shell (a namespace): packet filter and forwarding are those "
            "of meshd, ports and metrics were left out",
            f"to look at all of it there: {there}",
        )


def check_forwarding(settings: Settings, network: tuple[str, ...] = ()) -> Iterator[Check]:
    """Packets for jails pass through this host only where the kernel forwards.

    ``network``: as ``network_of`` gives it.
    """
    versions = {4} if settings.jails.is_auto else {network.version for network in settings.jail_networks}
    for version in sorted(versions):
        name = f"forwarding IPv{version}"
        value = read_forwarding(version) if not network else _read_forwarding_there(version, network)
        if value is None:
            yield warn(name, "the kernel does not tell", "see docs/operating.md, section Jails")
        elif not value:
            yield warn(name, "off, though jail networks are announced", _forwarding_advice(version))
        else:
            yield ok(name, "on")


def network_of(pid: int | None, proc: Path = Path("/proc")) -> tuple[str, ...]:
    """The words that a command begins with to run where the process has its network; none: it is ours.

    meshd may run in a container, or be asked from another namespace: what the filter and the kernel do to its
    packets is to be seen there alone (network_namespaces(7)).
    """
    try:
        theirs, ours = ((proc / str(each) / "ns" / "net").readlink() for each in (pid, "self"))
    except OSError:
        return ()
    return () if theirs == ours else ("nsenter", f"--net={proc / str(pid) / 'ns' / 'net'}", "--")


def read_ruleset(network: tuple[str, ...] = ()) -> str | None:
    """What nft(8) says of Linux's packet filter; None where it is not there, fails or hangs.

    ``network``: as ``network_of`` gives it.
    """
    return read_output([*network, "nft", "-j", "list", "ruleset"])


def _read_forwarding_there(version: int, network: tuple[str, ...]) -> bool | None:
    """Files below /proc/sys/net show the network of who reads them (network_namespaces(7))."""
    text = (read_output([*network, "cat", str(LINUX_FILES[version])]) or "").strip()
    return text != "0" if text else None


def _forwarding_advice(version: int) -> str:
    if FREEBSD:
        variable = "gateway_enable" if version == 4 else "ipv6_gateway_enable"
        return (
            f"VNET jails need it: sysrc {variable}=YES; sysctl {FREEBSD_VARIABLES[version]}=1 "
            f"(jails that share the host's addresses do not)"
        )
    key = "net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"
    return f"sysctl -w {key}=1, and in /etc/sysctl.d/ (not needed if jails share the host's addresses)"


def _check_userspace(program: str) -> Check:
    found = _find_userspace(program)
    if found:
        return ok("wireguard", f"{found} is used, as the settings say")
    wanted = program or " or ".join(USERSPACE_PROGRAMS)
    advice = f"install {wanted}, or set wireguard.backend"
    return fail("wireguard", f"wireguard.backend is userspace, but {wanted} is not there", advice)


def _find_userspace(program: str) -> str | None:
    candidates = (program,) if program else USERSPACE_PROGRAMS
    return next((found for candidate in candidates if (found := shutil.which(candidate))), None)


def _kernel_has_wireguard() -> bool:
    if FREEBSD:
        return (
            read_output(["kldstat", "-q", "-m", "if_wg"]) is not None
            or Path("/boot/kernel/if_wg.ko").exists()
        )
    return (
        Path("/sys/module/wireguard").exists()
        or read_output(["modprobe", "-n", "-q", "wireguard"]) is not None
    )


def read_output(argv: Sequence[str]) -> str | None:
    """The output, or None when the program is not there, fails or hangs."""
    path = f"/sbin/{argv[0]}" if Path(f"/sbin/{argv[0]}").exists() else argv[0]
    try:
        done = subprocess.run(
            [path, *argv[1:]],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
