"""The table of faults, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from bench.faults.outcome import Bound, Outcome, SideReport, StreamCost
from bench.faults.trial import Scenario

NOTHING = "–"

_HEAD = """\
# What faults cost

Made by `make bench-faults`, never by hand: what each fault does to packets under way, measured in the lab.
Three whole hosts with a jail each, one UDP stream in each direction of each pair of jails, six in all; the
fault is at the first host unless it says otherwise, so four streams touch it and two do not.

"""

_READING = """
## How to read it

* **lost**: of the packets that the *worst* stream sent, those that never arrived; one that the sender's own
  kernel refused counts. **gap**: the longest time between two arrivals on it; without any fault it is one
  over the packet rate and whatever the scheduler adds. **over after**: from the last fault until every daemon
  answers, every pair does, and no host has a second interface.
* **untouched**: the worst stream between hosts that have nothing to do with the fault. Its bound is always 0.
* **bound**: what we hold the worst stream to. **Exceeded** says that it was not kept in this run.
* In the kernel's column the processor is emulated, 10 to 15 times slower than a real one, so losses count and
  times do not: rates are lower, what is repeated is repeated less often, a bound in seconds is not judged.
* A machine that is busy with other things as well (its load average says so) makes gaps and times longer.
* A side that cannot run a scenario says why. One that failed says what was seen. **not run**: there is no
  measurement yet.
"""


def render_table(scenarios: Sequence[Scenario], sides: Mapping[str, SideReport]) -> str:
    """The page, in Markdown. ``sides``: ``userspace`` and ``kernel``, either may be missing."""
    present = [name for name in ("userspace", "kernel") if name in sides]
    lines = [_HEAD, *(_side_line(name, sides[name]) for name in present), "\n"]
    lines.append("| fault | bound | wireguard-go | untouched | the kernel's WireGuard | untouched |\n")
    lines.append("|---|---|---|---|---|---|\n")
    for scenario in scenarios:
        cells = [f"**{scenario.title}**: {scenario.what}", _bound(scenario.bound)]
        for name in ("userspace", "kernel"):
            outcome = sides[name].outcome(scenario.name) if name in sides else None
            cells += _cells(scenario, outcome, emulated=name == "kernel")
        lines.append(f"| {' | '.join(cells)} |\n")
    lines.append(_READING)
    return "".join(lines)


def exceeded(scenario: Scenario, outcome: Outcome, *, emulated: bool) -> bool:
    """Whether the scenario cost more than its bound, or did not come to its end."""
    if outcome.failed:
        return True
    touched, other = outcome.worst(touched=True), outcome.worst(touched=False)
    if other is not None and other.lost:
        return True
    return touched is not None and not _is_within(scenario.bound, touched, emulated)


def _is_within(bound: Bound, stream: StreamCost, emulated: bool) -> bool:
    if bound.lost is not None and stream.lost > bound.lost:
        return False
    return emulated or bound.gap_seconds is None or stream.longest_gap_seconds <= bound.gap_seconds


def _side_line(name: str, side: SideReport) -> str:
    on = "wireguard-go" if name == "userspace" else "the kernel's own, on an emulated processor"
    ran = [outcome for outcome in side.outcomes if not outcome.left_out]
    rates = sorted({outcome.packets_per_second for outcome in ran})
    versions = ", ".join(f"{program} {version}" for program, version in side.programs.items())
    commits = ", ".join(sorted({outcome.commit for outcome in ran}))
    return (
        f"* WireGuard: {on}. Measured {_period([outcome.at for outcome in ran])}, "
        f"{' and '.join(f'{rate:g}' for rate in rates)} packets a second on each stream; "
        f"Linux {side.kernel}, {versions}, commit {commits}{_load(ran)}.\n"
    )


def _load(outcomes: Sequence[Outcome]) -> str:
    loads = [outcome.load_average for outcome in outcomes if outcome.load_average]
    return f"; load average {min(loads):.0f} to {max(loads):.0f}" if loads else ""


def _period(instants: Sequence[float]) -> str:
    """When the first and the last of them were, in UTC."""
    if not instants:
        return "never"
    first, last = (datetime.fromtimestamp(at, UTC) for at in (min(instants), max(instants)))
    day = "%Y-%m-%d %H:%M"
    return f"{first.strftime(day)} to {last.strftime(day if first.date() != last.date() else '%H:%M')} UTC"


def _bound(bound: Bound) -> str:
    words = []
    if bound.lost is not None:
        words.append(f"{bound.lost} lost")
    if bound.gap_seconds is not None:
        words.append(f"gap {bound.gap_seconds:g} s")
    return ", ".join(words)


def _cells(scenario: Scenario, outcome: Outcome | None, *, emulated: bool) -> tuple[str, str]:
    if outcome is None:
        return "not run", NOTHING
    if outcome.left_out:
        return outcome.left_out, NOTHING
    if outcome.failed:
        return f"**failed**: {_one_line(outcome.failed)}", NOTHING
    touched, other = outcome.worst(touched=True), outcome.worst(touched=False)
    first = NOTHING
    if touched is not None:
        first = f"{_cost(touched)}, over after {_seconds(outcome.whole_seconds or 0.0)}"
        if outcome.repeated > 1:
            first += f" ({outcome.repeated} times)"
        if outcome.note:
            first += f"; {outcome.note}"
        if not _is_within(scenario.bound, touched, emulated):
            first += ". **Exceeded**"
    second = NOTHING
    if other is not None:
        second = _cost(other) + (". **Exceeded**" if other.lost else "")
        if touched is None:
            second += f" ({outcome.repeated} times)"
    return first, second


def _cost(stream: StreamCost) -> str:
    return f"{stream.lost:,} of {stream.sent:,} lost, gap {_seconds(stream.longest_gap_seconds)}"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:200]
