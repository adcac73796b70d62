"""What third parties, the underlay and the power do to a host."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from bench.faults.outcome import Bound
from bench.faults.stage import Stage, expect_done
from bench.faults.trial import Scenario, Trial
from meshd.errors import BackendError
from meshd.lab.fleet import LISTEN_PORT, Member
from meshd.lab.namespaces import UNDERLAY, UNDERLAY_INTERFACE
from meshd.lab.pace import PACE
from meshd.lab.transfer import transfer
from meshd.model.network import Endpoint

MESHD: Final = str(Path(sys.executable).parent / "meshd")
SETTLE_SECONDS: Final = 3.0
"""For packets that were under way by the old address when the others went over."""
OFF_SECONDS: Final = 2.0
NARROW_BYTES: Final = 1280
MEBIBYTE: Final = 1 << 20
TRANSFER_SECONDS: Final = 60.0
STEP_SECONDS: Final = 3600.0
STEPPED_SECONDS: Final = 20.0
NEW_ADDRESSES: Final = (IPv4Address("198.19.0.1"), IPv4Address("198.19.0.2"))


def destroy_interface(trial: Trial) -> None:
    _ip_once(trial, "link delete wg0")


def flush_routes(trial: Trial) -> None:
    _ip_once(trial, "route flush dev wg0")


def flush_addresses(trial: Trial) -> None:
    _ip_once(trial, "address flush dev wg0")


def set_down(trial: Trial) -> None:
    _ip_once(trial, "link set wg0 down")


def _ip_once(trial: Trial, command: str) -> None:
    trial.fault()
    _ip(trial.stage.victim, command)


def _ip(member: Member, command: str) -> None:
    expect_done(member, ["ip", *command.split()])


def kill_wireguard(trial: Trial) -> None:
    """The program of this host: processes are seen from everywhere, its namespace tells it apart."""
    host = trial.stage.victim.host
    namespace = host.run(["ip", "netns", "identify"]).stdout.strip()
    pids = [int(pid) for pid in host.run(["ip", "netns", "pids", namespace]).stdout.split()]
    found = [pid for pid in pids if _name_of(pid) in ("wireguard-go", "boringtun-cli")]
    if len(found) != 1:
        raise BackendError(f"{host.name}: {len(found)} WireGuard programs seen, 1 expected")
    trial.fault()
    os.kill(found[0], signal.SIGKILL)


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def power_cycle(trial: Trial) -> None:
    """All processes and interfaces of the host are gone at once, and it boots as one does."""
    stage, victim = trial.stage, trial.stage.victim
    trial.fault()
    stage.fleet.lab.power_off(victim.name)
    if victim.process is not None:
        victim.process.wait()
    time.sleep(OFF_SECONDS)
    switched_on_at = time.monotonic()
    expect_done(victim, [MESHD, "--config", str(victim.config), "bring-up"])
    trial.note = f"`bring-up` took {time.monotonic() - switched_on_at:.1f} s of it"
    stage.fleet.start(victim)
    stage.wait_started(victim)


def move_planned(trial: Trial) -> None:
    """The new address is there and said so; when the others send to it, the old one goes."""
    stage, victim = trial.stage, trial.stage.victim
    old, new = _addresses(stage)
    stage.fleet.lab.underlay.add_address(victim.name, str(new))  # type: ignore[attr-defined]
    # Otherwise the kernel takes an interface's further addresses away with its first one.
    promote = f"echo 1 >/proc/sys/net/ipv4/conf/{UNDERLAY_INTERFACE}/promote_secondaries"
    expect_done(victim, ["sh", "-c", promote])
    _ip(victim, f"address add {new}/{UNDERLAY.prefixlen} dev {UNDERLAY_INTERFACE}")
    _announce(victim, old, new)
    stage.until("the new address is not used", lambda: _all_use(stage, new))
    time.sleep(SETTLE_SECONDS)
    trial.fault()
    _ip(victim, f"address delete {old}/{UNDERLAY.prefixlen} dev {UNDERLAY_INTERFACE}")
    stage.until("the new address is not used", lambda: _all_use(stage, new))


def move_suddenly(trial: Trial) -> None:
    """The address is another one from one moment to the next; the settings follow."""
    stage, victim = trial.stage, trial.stage.victim
    old, new = _addresses(stage)
    stage.fleet.lab.underlay.add_address(victim.name, str(new))  # type: ignore[attr-defined]
    trial.fault()
    _ip(victim, f"address delete {old}/{UNDERLAY.prefixlen} dev {UNDERLAY_INTERFACE}")
    _ip(victim, f"address add {new}/{UNDERLAY.prefixlen} dev {UNDERLAY_INTERFACE}")
    _announce(victim, old, new)
    stage.until("the new address is not used", lambda: _all_use(stage, new))


def narrow(trial: Trial) -> None:
    """The paths to and from the host swallow long packets, and a mebibyte of TCP goes over each at once."""
    stage, victim = trial.stage, trial.stage.victim
    _limit(stage, NARROW_BYTES)
    trial.fault()
    try:
        seconds = [_send(*pair) for other in stage.members[1:] for pair in ((victim, other), (other, victim))]
    finally:
        _limit(stage, 0)
    trial.note = f"1 MiB of TCP was whole after {max(seconds):.1f} s at most"


def _limit(stage: Stage, mtu_bytes: int) -> None:
    lab, victim = stage.fleet.lab, stage.victim
    for other in stage.members[1:]:
        for source, target in ((victim.name, other.name), (other.name, victim.name)):
            lab.set_link(source, target, replace(lab.link(source, target), mtu_bytes=mtu_bytes))


def _send(source: Member, target: Member) -> float:
    """-> seconds. BackendError when not every byte arrived."""
    jail = target.host.jails[0]
    report = transfer(
        source.host.jails[0], jail, jail.address, MEBIBYTE, timeout_seconds=TRANSFER_SECONDS * PACE
    )
    if not report.whole:
        came = f"{report.received_bytes} of {MEBIBYTE} bytes came"
        raise BackendError(f"{source.name} to {target.name}: {came} within {TRANSFER_SECONDS * PACE:g} s")
    return report.seconds


def step_clock(trial: Trial) -> None:
    """All hosts' clocks, for they are one. Never back: WireGuard refuses handshakes that look older."""
    trial.fault()
    time.clock_settime(time.CLOCK_REALTIME, time.time() + STEP_SECONDS)
    time.sleep(STEPPED_SECONDS)


def _addresses(stage: Stage) -> tuple[IPv4Address, IPv4Address]:
    """The underlay address that the victim has, and one that it gets."""
    text = stage.victim.host.run(["ip", "-o", "-4", "address", "show", "dev", UNDERLAY_INTERFACE]).stdout
    old = IPv4Address(text.split()[3].partition("/")[0])
    return old, next(address for address in NEW_ADDRESSES if address != old)


def _announce(victim: Member, old: IPv4Address, new: IPv4Address) -> None:
    """What the operator does: ``host.endpoints``, and a reload."""
    text = victim.config.read_text()
    before, after = str(Endpoint(old, LISTEN_PORT)), str(Endpoint(new, LISTEN_PORT))
    if before not in text:
        raise BackendError(f"{victim.config}: endpoint {before} expected")
    victim.config.write_text(text.replace(before, after))
    if victim.process is not None:
        victim.process.send_signal(signal.SIGHUP)


def _all_use(stage: Stage, address: IPv4Address) -> bool:
    endpoint = str(Endpoint(address, LISTEN_PORT))
    key = stage.fleet.status(stage.victim).host.public_key
    for member in stage.members[1:]:
        lines = member.host.run(["wg", "show", "wg0", "endpoints"]).stdout.splitlines()
        if f"{key}\t{endpoint}" not in lines:
            return False
    return True


SCENARIOS: Final = (
    Scenario(
        name="move-planned", title="underlay address replaced, announced", run=move_planned,
        what="the new address is there first, `host.endpoints`, reload; once all send there the old one goes",
    ),
    Scenario(
        name="move-suddenly", title="underlay address replaced, suddenly", run=move_suddenly,
        what="from one moment to the next; the settings follow", bound=Bound(lost=None, gap_seconds=1.0),
    ),
    Scenario(
        name="destroyed", title="interface destroyed by a third party", run=destroy_interface,
        what="`ip link delete wg0`", bound=Bound(lost=None, gap_seconds=2.0),
    ),
    Scenario(
        name="down", title="interface set down", run=set_down,
        what="`ip link set wg0 down`", bound=Bound(lost=None, gap_seconds=2.0),
    ),
    Scenario(
        name="routes", title="routes flushed", run=flush_routes,
        what="`ip route flush dev wg0`", bound=Bound(lost=None, gap_seconds=1.0),
    ),
    Scenario(
        name="addresses", title="addresses flushed", run=flush_addresses,
        what="`ip address flush dev wg0`", bound=Bound(lost=None, gap_seconds=1.0),
    ),
    Scenario(
        name="wireguard-killed", title="WireGuard's process killed", run=kill_wireguard,
        what="kill -9 of wireguard-go", bound=Bound(lost=None, gap_seconds=2.0),
        sides=("userspace",), elsewhere="the kernel's WireGuard has no process",
    ),
    Scenario(
        name="power", title="host powered off for 2 s and on", run=power_cycle,
        what="nothing but its files is left; `bring-up`, then `run`",
        bound=Bound(lost=None, gap_seconds=OFF_SECONDS + 3.0),
    ),
    Scenario(
        name="narrow", title="underlay of 1280 bytes, no ICMP", run=narrow,
        what="longer packets vanish from now on; 1 MiB of TCP in each direction must be whole",
    ),
    Scenario(
        name="clock", title="clock set forward by an hour", run=step_clock, touches="all",
        what="on all hosts at once", sides=("kernel",),
        elsewhere="the clock is the whole machine's: set in the virtual machine alone",
    ),
)  # fmt: skip
