"""How the path between two hosts looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group

from meshd.model.path import DIRECT, PathStats
from meshd.observe.path_document import PathDocument
from wgctl.output import (
    BAD,
    FAINT,
    FAIR,
    GOOD,
    Column,
    build_table,
    render_age,
    render_loss,
    render_rtt,
    rtt_style,
    styled,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

ASKED_COLUMNS: Final = (
    Column(name="ASKED"),
    Column(name="TO IT", right=True),
    Column(name="FURTHER", right=True),
    Column(name="ANSWER", text=True),
)
STEP_COLUMNS: Final = (Column(name="AGO", right=True), Column(name="WHAT", text=True))
STANDINGS: Final = {
    "direct": "directly",
    "asking": "not at all; other hosts are being asked",
    "waiting": "not at all, or badly; nobody can carry it, and others are asked again",
}


def render_path(document: PathDocument, *, now: float) -> RenderableType:
    """The path, why it is so, what was asked, what happened."""
    parts: list[RenderableType] = [_head(document, now), _measured(document.path)]
    if document.via != DIRECT:
        parts.append(_direct(document, now))
    if document.switches:
        parts.append(styled(f"switched {document.switches} times, there and back, since meshd runs"))
    if document.asked:
        parts += [styled(), _asked(document)]
    if document.steps:
        rows = [((render_age(step.at, now), FAINT), step.text) for step in document.steps]
        parts += [
            styled(),
            build_table(list(STEP_COLUMNS), rows),
        ]
    return Group(*parts)


def render_row(first: str, second: str, path: PathStats, age_seconds: float) -> RenderableType:
    """What another host measures of one more."""
    way = "directly" if path.via == DIRECT else f"through {path.via}"
    line = f"{first} reaches {second} {way}" if path.up else f"{first} does not reach {second}"
    return Group(
        styled(line, GOOD if path.up else BAD),
        _measured(path),
        styled(
            f"by its own word, {age_seconds:.0f} s old; why: wgctl path {first} {second}, on either", FAINT
        ),
    )


def _head(document: PathDocument, now: float) -> RenderableType:
    ends = f"{document.own} reaches {document.host}"
    if document.via != DIRECT:
        way, style = f"through {document.via}", FAIR
    else:
        way, style = STANDINGS.get(document.standing, document.standing), GOOD if document.path.up else BAD
    text = f"{ends} {way}"
    if document.why or document.via != DIRECT:
        text += f", since {render_age(document.since, now)}"
    return styled(text + (f": {document.why}" if document.why else ""), style)


def _measured(path: PathStats) -> RenderableType:
    if not path.up:
        return styled(f"no probe is answered; {path.received} of {path.sent} were", BAD)
    style = rtt_style(path.srtt_seconds, loss_ratio=path.loss_ratio)
    return styled(f"round trip {render_rtt(path.srtt_seconds)}, loss {render_loss(path.loss_ratio)}", style)


def _direct(document: PathDocument, now: float) -> RenderableType:
    where = f" ({document.direct})" if document.direct else ""
    if document.direct_answers_since is None:
        offset = document.echo_port_offset
        return styled(
            f"the direct path{where} answers no echo: it is dead, or the UDP port {offset} above "
            "WireGuard's is closed at both ends"
        )
    since, rtt = render_age(document.direct_answers_since, now), render_rtt(document.direct_rtt_seconds)
    if document.direct_vain_at is not None and document.direct_again_at is not None:
        tried = render_age(document.direct_vain_at, now)
        minutes = max(0.0, document.direct_again_at - now) / 60
        return styled(
            f"echoes along the direct path{where} are answered since {since}, in {rtt}, at the "
            f"UDP port {document.echo_port_offset} above WireGuard's; but when it was used {tried} ago it "
            f"carried nothing: open WireGuard's own port. It is tried again in {minutes:.0f} min, or at once "
            "at another address",
            BAD,
        )
    again = f"it is used again after {document.hold_seconds:.0f} s"
    if document.is_for_latency:
        again = f"it is used again once it is about as short for {document.hold_seconds / 60:.0f} min"
    return styled(f"the direct path{where} answers since {since}, in {rtt}; {again}")


def _asked(document: PathDocument) -> RenderableType:
    rows = [
        (
            (each.host, GOOD if each.host == document.via else ""),
            render_rtt(each.rtt_seconds),
            render_rtt(each.further_rtt_seconds),
            each.answer,
        )
        for each in document.asked
    ]
    return build_table(list(ASKED_COLUMNS), rows)
