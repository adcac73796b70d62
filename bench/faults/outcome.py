"""What a scenario cost, as values: kept as JSON, rendered into the table."""

from __future__ import annotations

import msgspec


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream that is touched may cost. A loss of None: whatever fits into the gap."""

    lost: int | None = 0
    gap_seconds: float | None = None


class StreamCost(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of a pair of jails. ``touched``: one of its ends is the host that the fault is at.

    ``traffic_seconds``: from the fault until the last lost packet was due, None: none was lost.
    """

    source: str
    target: str
    touched: bool
    sent: int
    lost: int
    refused: int
    longest_gap_seconds: float
    traffic_seconds: float | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario on one side. ``at``: unix seconds of its start. ``load_average``: the machine's at its
    end, with whatever else runs there. ``left_out``: why it could not run here; ``failed``: what went
    wrong. ``repeated``: how often the fault was made. ``note``: what else was seen.

    ``whole_seconds``: from the (last) fault until the scenario was over: every daemon answers, every
    pair does, and no host has a second interface.
    """

    scenario: str
    at: float = 0.0
    commit: str = ""
    load_average: float = 0.0
    packets_per_second: float = 0.0
    streams: tuple[StreamCost, ...] = ()
    whole_seconds: float | None = None
    repeated: int = 0
    note: str = ""
    left_out: str = ""
    failed: str = ""

    def worst(self, *, touched: bool) -> StreamCost | None:
        """The stream that lost most, of equals the one with the longest gap; None: there is none."""
        streams = [stream for stream in self.streams if stream.touched is touched]
        return max(streams, key=lambda each: (each.lost, each.longest_gap_seconds), default=None)


class SideReport(msgspec.Struct, frozen=True, kw_only=True):
    """Scenarios on one side, on one kernel with one set of ``programs`` (name to version)."""

    side: str
    kernel: str
    programs: dict[str, str]
    outcomes: tuple[Outcome, ...] = ()

    def outcome(self, scenario: str) -> Outcome | None:
        return next((each for each in self.outcomes if each.scenario == scenario), None)

    def followed_by(self, later: SideReport) -> SideReport:
        """Both, the later outcome of each scenario. Of another kernel or other programs: the later alone."""
        if (self.kernel, self.programs) != (later.kernel, later.programs):
            return later
        kept = {each.scenario: each for each in (*self.outcomes, *later.outcomes)}
        return msgspec.structs.replace(self, outcomes=tuple(kept.values()))
