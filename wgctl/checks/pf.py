"""Checks of FreeBSD's packet filter: are the mesh's packets let in, and left as they are?

Read only, by pfctl(8), which needs root. Anchors in anchors are not looked into.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from meshd.backend.pf_rules import (
    GROUP,
    UNLIMITED,
    PfRule,
    Translation,
    parse_anchors,
    parse_pf_rules,
    parse_skipped,
)
from meshd.backend.pf_verdicts import (
    Packet,
    Ruling,
    find_rule_translations,
    find_spared,
    find_translations,
    judge,
    unknown_anchors,
)
from meshd.backend.runner import Finished, Runner, ToolRunner
from meshd.errors import BackendError
from meshd.plan.pf_anchor import mesh_ports
from meshd.settings import Settings
from wgctl.checks.base import Check, fail, ok, warn

PFCTL: Final = Path("/sbin/pfctl")
COMMAND_SECONDS: Final = 5.0
ANCHOR_ADVICE: Final = "meshd pf-anchor prints rules to include; see docs/freebsd.md, Packet filter"

MAX_ANCHORS: Final = 64
"""Each is a run of pfctl; Bastille has one for each jail."""
CHILDREN: Final = "/*"

Rules = tuple[PfRule, ...]


class _Ruleset(msgspec.Struct, frozen=True):
    """What pf was told. ``anchors`` and ``translation_anchors``: the rules of those that ``rules`` and
    ``translations`` name; ``skips``: interfaces and groups that it does not look at."""

    rules: Rules
    translations: Rules
    anchors: dict[str, Rules]
    translation_anchors: dict[str, Rules]
    skips: frozenset[str]

    def judge(self, packet: Packet) -> Ruling:
        return judge(self.rules, packet, self.anchors)

    def translating(self, packet: Packet, *sorts: Translation) -> Rules:
        """The rules of both kinds that do, or may do, this to the packet."""
        return (
            *find_translations(self.translations, packet, self.translation_anchors, *sorts),
            *find_rule_translations(self.rules, packet, self.anchors, *sorts),
        )

    def not_looked_into(self) -> tuple[str, ...]:
        """Anchors that could not be read, and those inside others."""
        inner = [rule for found in self.anchors.values() for rule in found]
        inner += [rule for found in self.translation_anchors.values() for rule in found]
        known = {*self.anchors, *self.translation_anchors}
        outer = unknown_anchors([*self.rules, *self.translations], known)
        return tuple(sorted({*outer, *unknown_anchors(inner, ())}))


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

    def anchors(self, rules: Rules, *show: str) -> dict[str, Rules]:
        """The rules of the anchors that these name, as far as pfctl shows them."""
        found: dict[str, Rules] = {}
        for name in unknown_anchors(rules, ())[:MAX_ANCHORS]:
            try:
                paths = self._children(name) if name.endswith(CHILDREN) else (name,)
                found[name] = tuple(rule for path in paths for rule in self.rules("-a", path, *show))
            except BackendError:
                continue  # it counts as one that was not looked into
        return found

    def _children(self, name: str) -> tuple[str, ...]:
        done = self.run("-a", name.removesuffix(CHILDREN), "-sA")
        if done.exit_code != 0:
            raise done.refusal(f"pfctl: anchors in {name}")
        paths = parse_anchors(done.stdout)
        if len(paths) > MAX_ANCHORS:
            raise BackendError(f"anchors in {name}: {len(paths)} seen, {MAX_ANCHORS} or fewer expected")
        return paths

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
    skipped = pfctl.run("-sI", "-v")
    ruleset = _Ruleset(
        rules=rules,
        translations=translations,
        anchors=pfctl.anchors(rules, "-sr"),
        translation_anchors=pfctl.anchors(translations, "-sn"),
        skips=parse_skipped(skipped.stdout) if skipped.exit_code == 0 else frozenset(),
    )
    yield from _check_ports(settings, ruleset)
    yield _check_tunnel(settings, ruleset)
    yield _check_sources(settings, ruleset)
    yield from _check_redirections(settings, ruleset)
    unknown = ruleset.not_looked_into()
    if unknown:
        yield ok("pf anchors", f"not looked into: {', '.join(unknown)}")


def _check_ports(settings: Settings, ruleset: _Ruleset) -> Iterator[Check]:
    for port in mesh_ports(settings.wireguard.listen_port):
        name = f"pf UDP port {port}"
        use = "WireGuard" if port == settings.wireguard.listen_port else "the next key's interface"
        advice = f"pass in quick proto udp from any to any port {port}; {ANCHOR_ADVICE}"
        ruling = ruleset.judge(Packet(direction="in", protocol="udp", port=port))
        named = next((r for r in ruling.by if r.action == "pass" and _names(r, port)), None)
        if ruling.verdicts == {"block"}:
            yield fail(name, f"{use}: blocked by {_said(ruling)}", advice)
        elif "block" in ruling.verdicts and named is None:
            yield warn(name, f"{use}: no rule names it, and this may block it: {_said(ruling)}", advice)
        else:
            yield ok(name, f"{use}: let in" + (f" by {named.text!r}" if named else ""))


def _names(rule: PfRule, port: int) -> bool:
    return rule.protocol == "udp" and rule.ports is not None and rule.ports[0] <= port <= rule.ports[1]


def _check_tunnel(settings: Settings, ruleset: _Ruleset) -> Check:
    """By name the rules fit the interface of today, by group also that of the next key."""
    name, advice = "pf tunnel", f"pass in quick on {GROUP}; {ANCHOR_ADVICE}"
    interface, spared = settings.wireguard.interface, ""
    if GROUP in ruleset.skips:
        return ok(name, f"set skip on {GROUP}: what comes out of the tunnel is not filtered")
    for use, protocol, port in (("probes", "icmp", 0), ("other hosts' news", "tcp", settings.exchange.port)):
        now, following = (
            ruleset.judge(Packet(direction="in", protocol=protocol, port=port, interfaces=names))
            for names in (frozenset({GROUP, interface}), frozenset({GROUP}))
        )
        if interface in ruleset.skips:
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


def _tunnels(settings: Settings, ruleset: _Ruleset) -> Iterator[frozenset[str]]:
    """The names of the interface of today and of that of the next key, as far as pf looks at them."""
    interface = settings.wireguard.interface
    if GROUP not in ruleset.skips:
        yield frozenset({GROUP})
        if interface not in ruleset.skips:
            yield frozenset({GROUP, interface})


def _check_sources(settings: Settings, ruleset: _Ruleset) -> Check:
    """Is what goes into the tunnel given another source?"""
    packets = [
        Packet(direction="out", family=family, interfaces=names)
        for names in _tunnels(settings, ruleset)
        for family in (4, 6)
    ]
    nat = _unique(rule for packet in packets for rule in ruleset.translating(packet, "nat", "binat"))
    if nat:
        text = "may change the source of what goes into the tunnel, and the other end then drops it"
        return warn("pf nat", f"{text}: {_list(nat)}", _ways_out(nat, "nat"))
    spared = _unique(
        rule
        for packet in packets
        for rule in find_spared(ruleset.rules, packet, ruleset.anchors, "nat", "binat")
    )
    text = "nothing is translated into the tunnel"
    return ok("pf nat", f"{text}: rules before it spare it {_list(spared)}" if spared else text)


def _check_redirections(settings: Settings, ruleset: _Ruleset) -> Iterator[Check]:
    """Is WireGuard's port sent elsewhere, or what comes out of the tunnel for this host?"""
    for port in mesh_ports(settings.wireguard.listen_port):
        packet = Packet(direction="in", protocol="udp", port=port)
        rdr = ruleset.translating(packet, "rdr", "binat", "af")
        advice = f"take the port out, or before it: {_ways_past(rdr, port)}"
        if any(not rule.narrow or rule.ports != UNLIMITED for rule in rdr):
            yield fail("pf rdr", f"UDP port {port} of WireGuard is redirected: {_list(rdr)}", advice)
        elif rdr:
            yield warn("pf rdr", f"UDP port {port} of WireGuard may be redirected: {_list(rdr)}", advice)
    yield from _check_tunnel_redirections(settings, ruleset)


def _check_tunnel_redirections(settings: Settings, ruleset: _Ruleset) -> Iterator[Check]:
    packets = [
        Packet(direction="in", protocol=protocol, port=port, family=family, interfaces=names)
        for names in _tunnels(settings, ruleset)
        for protocol, port, family in (
            ("icmp", 0, 4),
            ("ipv6-icmp", 0, 6),
            ("tcp", settings.exchange.port, 4),
            ("tcp", settings.exchange.port, 6),
        )
    ]
    rdr = _unique(rule for packet in packets for rule in ruleset.translating(packet, "rdr", "af"))
    if rdr:
        text = "may send what comes out of the tunnel elsewhere"
        yield warn("pf rdr on the tunnel", f"{text}: {_list(rdr)}", _ways_out(rdr, "rdr"))


def _ways_out(rules: Rules, sort: str) -> str:
    """What keeps them off the tunnel."""
    if _filters(rules):
        direction = "out" if sort == "nat" else "in"
        before = f"pass {direction} quick on {GROUP}; {ANCHOR_ADVICE}"
    else:
        before = f"no {sort} on {GROUP} all"
    return f"bind it to the outer interface, or before it: {before}"


def _ways_past(rules: Rules, port: int) -> str:
    """What keeps them off WireGuard's port."""
    if _filters(rules):
        return f"pass in quick proto udp from any to any port {port}; {ANCHOR_ADVICE}"
    return f"no rdr proto udp from any to any port {port}"


def _filters(rules: Rules) -> bool:
    """A rule of ``-sn`` is kept off by another of its kind, one of ``-sr`` by a quick one before it."""
    return any(rule.action in ("pass", "match") for rule in rules)


def _unique(rules: Iterable[PfRule]) -> Rules:
    return tuple(dict.fromkeys(rules))


def _said(ruling: Ruling) -> str:
    return _list([rule for rule in ruling.by if rule.action == "block"]) or "the ruleset"


def _list(rules: Sequence[PfRule]) -> str:
    return "; ".join(repr(rule.text) for rule in rules[:3])
