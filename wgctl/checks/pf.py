"""Checks of FreeBSD's packet filter: are the mesh's packets let in, and left as they are?

Read only, by pfctl(8), which needs root. Rules in anchors other than ``meshd`` are not looked into.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from meshd.backend.pf_rules import (
    GROUP,
    Packet,
    PfRule,
    Ruling,
    find_translations,
    judge,
    parse_pf_rules,
    parse_skipped,
    unknown_anchors,
)
from meshd.backend.runner import Finished, Runner, ToolRunner
from meshd.errors import BackendError
from meshd.plan.pf_anchor import ANCHOR, mesh_ports
from meshd.settings import Settings
from wgctl.checks.base import Check, fail, ok, warn

PFCTL: Final = Path("/sbin/pfctl")
COMMAND_SECONDS: Final = 5.0
ANCHOR_ADVICE: Final = "meshd pf-anchor prints rules to include; see docs/freebsd.md, Packet filter"

Rules = tuple[PfRule, ...]


class _Stopped(Exception):
    """pf cannot be asked further; the check says why."""

    def __init__(self, check: Check) -> None:
        self.check = check


def check_pf(settings: Settings, runner: Runner | None = None) -> Iterator[Check]:
    """``runner`` has pfctl; None: the system's."""
    try:
        yield from _check(settings, _Pfctl(runner or ToolRunner({"pfctl": PFCTL})))
    except _Stopped as stop:
        yield stop.check
    except BackendError as error:
        yield warn("pf", str(error), "look by hand: pfctl -s info, pfctl -sr, pfctl -sn")


class _Pfctl:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def run(self, *arguments: str) -> Finished:
        return self._runner.run("pfctl", arguments, timeout_seconds=COMMAND_SECONDS)

    def rules(self, *arguments: str) -> Rules:
        done = self.run(*arguments)
        if done.exit_code != 0:
            raise done.refusal(f"pfctl {' '.join(arguments)}")
        return parse_pf_rules(done.stdout)

    def expect_enabled(self) -> None:
        """Stops where pf is not in the way, or may not be looked at."""
        done = self.run("-s", "info")
        if b"Permission denied" in done.stderr:
            raise _Stopped(warn("pf", "its rules can be read by root alone", "run wgctl doctor as root"))
        if b"No such file" in done.stderr:
            raise _Stopped(ok("pf", "not loaded: nothing is filtered"))
        if done.exit_code != 0:
            raise done.refusal("pfctl -s info")
        if b"Status: Enabled" not in done.stdout:
            raise _Stopped(ok("pf", "not enabled: nothing is filtered"))


def _check(settings: Settings, pfctl: _Pfctl) -> Iterator[Check]:
    pfctl.expect_enabled()
    rules, translations = pfctl.rules("-sr"), pfctl.rules("-sn")
    anchors = {ANCHOR: pfctl.rules("-a", ANCHOR, "-sr")} if _has_anchor(rules) else {}
    skipped = pfctl.run("-sI", "-v")
    skips = parse_skipped(skipped.stdout) if skipped.exit_code == 0 else frozenset()
    yield from _check_ports(settings, rules, anchors)
    yield _check_tunnel(settings, rules, anchors, skips)
    yield from _check_translations(settings, translations)
    unknown = unknown_anchors([*rules, *translations], anchors)
    if unknown:
        yield ok("pf anchors", f"not looked into: {', '.join(unknown)}")


def _has_anchor(rules: Rules) -> bool:
    return any(rule.action == "anchor" and rule.anchor == ANCHOR for rule in rules)


def _check_ports(settings: Settings, rules: Rules, anchors: dict[str, Rules]) -> Iterator[Check]:
    for port in mesh_ports(settings.wireguard.listen_port):
        name = f"pf UDP port {port}"
        use = "WireGuard" if port == settings.wireguard.listen_port else "the next key's interface"
        advice = f"pass in quick proto udp from any to any port {port}; {ANCHOR_ADVICE}"
        ruling = judge(rules, Packet(direction="in", protocol="udp", port=port), anchors)
        named = next((r for r in ruling.by if r.action == "pass" and _names(r, port)), None)
        if ruling.verdicts == {"block"}:
            yield fail(name, f"{use}: blocked by {_said(ruling)}", advice)
        elif "block" in ruling.verdicts and named is None:
            yield warn(name, f"{use}: no rule names it, and this may block it: {_said(ruling)}", advice)
        else:
            yield ok(name, f"{use}: let in" + (f" by {named.text!r}" if named else ""))


def _names(rule: PfRule, port: int) -> bool:
    return rule.protocol == "udp" and rule.ports is not None and rule.ports[0] <= port <= rule.ports[1]


def _check_tunnel(
    settings: Settings, rules: Rules, anchors: dict[str, Rules], skips: frozenset[str]
) -> Check:
    """By name the rules fit the interface of today, by group also that of the next key."""
    name, advice = "pf tunnel", f"pass in quick on {GROUP}; {ANCHOR_ADVICE}"
    interface, spared = settings.wireguard.interface, ""
    if GROUP in skips:
        return ok(name, f"set skip on {GROUP}: what comes out of the tunnel is not filtered")
    for use, protocol, port in (("probes", "icmp", 0), ("other hosts' news", "tcp", settings.exchange.port)):
        now, following = (
            judge(rules, Packet(direction="in", protocol=protocol, port=port, interfaces=names), anchors)
            for names in (frozenset({GROUP, interface}), frozenset({GROUP}))
        )
        if interface in skips:
            now = Ruling(verdicts=frozenset({"pass"}))
        if now.verdicts == {"block"}:
            return fail(name, f"{use} that come out of the tunnel are blocked by {_said(now)}", advice)
        if "block" in now.verdicts and not _spares_most(now):
            return warn(name, f"{use} that come out of the tunnel may be blocked: {_said(now)}", advice)
        if following.verdicts != now.verdicts:
            text = f"let in on {interface} alone: while a key is replaced the tunnel is another interface"
            return warn(name, text, advice)
        spared = f", but for {_said(now)}" if "block" in now.verdicts else spared
    return ok(name, f"what comes out of the tunnel is let in{spared}")


def _spares_most(ruling: Ruling) -> bool:
    """Certain addresses are blocked, as by a table of bad ones, and a rule lets the others in."""
    blocking = [rule for rule in ruling.by if rule.action == "block"]
    return all(rule.narrow for rule in blocking) and len(blocking) < len(ruling.by)


def _check_translations(settings: Settings, rules: Rules) -> Iterator[Check]:
    out = Packet(direction="out", interfaces=frozenset({GROUP, settings.wireguard.interface}))
    nat = find_translations(rules, out, "nat", "binat")
    if nat:
        text = "may change the source of what goes into the tunnel, and the other end then drops it"
        yield warn(
            "pf nat",
            f"{text}: {_list(nat)}",
            f"bind it to the outer interface, or before it: no nat on {GROUP} all",
        )
    else:
        yield ok("pf nat", "nothing is translated into the tunnel")
    for port in mesh_ports(settings.wireguard.listen_port):
        rdr = find_translations(rules, Packet(direction="in", protocol="udp", port=port), "rdr")
        if rdr:
            yield fail(
                "pf rdr",
                f"UDP port {port} of WireGuard is redirected: {_list(rdr)}",
                f"take the port out, or before it: no rdr proto udp from any to any port {port}",
            )


def _said(ruling: Ruling) -> str:
    return _list([rule for rule in ruling.by if rule.action == "block"]) or "the ruleset"


def _list(rules: Sequence[PfRule]) -> str:
    return "; ".join(repr(rule.text) for rule in rules[:3])
