"""SVG pictures: a path over time, and the hosts on a ring. Colours come from the style sheet alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import atan2, cos, degrees, isnan, pi, sin
from typing import Final

import msgspec

from meshd.observe.history import Span
from meshd.observe.page.markup import Markup, element
from meshd.observe.wording import PathGrade, render_duration, render_loss, render_rtt

SPARK_WIDTH, SPARK_HEIGHT = 160, 28
CHART_WIDTH, CHART_HEIGHT, CHART_MARGIN = 720, 170, 96
LEAST_SCALE_SECONDS: Final = 0.001
"""A path of microseconds is a flat line and no mountain range."""
MAX_NAMED_HOSTS: Final = 72
"""More names than that do not fit around a ring."""
MAX_LEVEL_NAMES: Final = 24
"""More than that are written outward."""


def sparkline(span: Span) -> Markup:
    """Round-trip time as a line, loss as bars from below; without axes, for a table."""
    return element(
        "svg",
        _curves(span, 0, 0, SPARK_WIDTH, SPARK_HEIGHT, _scale(span)),
        width=SPARK_WIDTH,
        height=SPARK_HEIGHT,
        viewBox=f"0 0 {SPARK_WIDTH} {SPARK_HEIGHT}",
        role="img",
        aria_label=describe(span),
    )


def chart(span: Span) -> Markup:
    """The same with axes: milliseconds on the left, the time below."""
    top, scale = 16, _scale(span)
    height, width = CHART_HEIGHT - 46, CHART_WIDTH - CHART_MARGIN - 10
    bottom, left = top + height, CHART_MARGIN
    marks: list[Markup] = []
    for part in (0.0, 0.5, 1.0):
        y = bottom - part * height
        marks.append(element("line", class_="axis", x1=left, x2=left + width, y1=y, y2=y))
        text = render_rtt(part * scale) if part else "0"
        marks.append(element("text", text, class_="faint", x=left - 6, y=y + 4, text_anchor="end"))
    seconds = span.step_seconds * len(span.rtt_seconds)
    for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        text = f"{render_duration(seconds * (1 - part))} ago" if part < 1 else "now"
        x = left + part * width
        marks.append(element("text", text, class_="faint", x=x, y=bottom + 20, text_anchor=anchor))
    return element(
        "svg",
        marks,
        _curves(span, left, top, width, height, scale),
        width=CHART_WIDTH,
        height=CHART_HEIGHT,
        viewBox=f"0 0 {CHART_WIDTH} {CHART_HEIGHT}",
        role="img",
        aria_label=describe(span),
    )


def describe(span: Span) -> str:
    """What the picture shows, for who does not see it."""
    seconds = span.step_seconds * len(span.rtt_seconds)
    rtts = [value for value in span.rtt_seconds if not isnan(value)]
    losses = [value for value in span.loss_ratio if not isnan(value)]
    head = f"the last {render_duration(seconds)}: "
    if not losses:
        return head + "nothing measured"
    text = f"round trip {render_rtt(min(rtts))} to {render_rtt(max(rtts))}" if rtts else "no answer"
    return f"{head}{text}, loss up to {render_loss(max(losses))}"


def _scale(span: Span) -> float:
    return max([LEAST_SCALE_SECONDS, *(1.1 * value for value in span.rtt_seconds if not isnan(value))])


def _curves(span: Span, x: float, y: float, width: float, height: float, scale: float) -> list[Markup]:
    step = width / max(len(span.rtt_seconds), 1)
    bars = [
        element(
            "rect",
            class_="loss",
            x=round(x + at * step, 2),
            y=round(y + height * (1 - loss), 1),
            width=round(step, 2),
            height=round(height * loss, 1),
        )
        for at, loss in enumerate(span.loss_ratio)
        if loss > 0  # never true of NaN
    ]
    lines = [
        element(
            "polyline",
            class_="rtt",
            points=" ".join(
                f"{x + (at + 0.5) * step:.1f},{y + height * (1 - rtt / scale):.1f}" for at, rtt in run
            ),
        )
        for run in _runs(span.rtt_seconds)
    ]
    return bars + lines


def _runs(values: Sequence[float]) -> Iterator[list[tuple[int, float]]]:
    """Neighbours that were measured; a line must not lead over what was not."""
    for measured, run in groupby(enumerate(values), key=lambda each: not isnan(each[1])):
        found = list(run)
        if measured:
            yield found * 2 if len(found) == 1 else found


class RingHost(msgspec.Struct, frozen=True, kw_only=True):
    """``grade``: of the path to it; None: this host itself. ``via``: the host that passes its packets on."""

    name: str
    region: str
    grade: PathGrade | None
    says: str
    link: str
    via: str | None = None


def ring(hosts: Sequence[RingHost]) -> Markup:
    """All hosts on a circle by region, and this host's path to each, from whoever passes its packets on."""
    placed = sorted(hosts, key=lambda host: (host.region, host.name))
    radius = 120 if len(placed) <= 12 else min(120 + 4 * (len(placed) - 12), 260)
    half_width = radius + 110
    side = 2 * (half_width if len(placed) > MAX_LEVEL_NAMES else radius + 30)
    where = {host.name: _place(at / max(len(placed), 1), radius) for at, host in enumerate(placed)}
    own = next((host for host in placed if host.grade is None), None)
    lines = [
        element(
            "line",
            class_=host.grade,
            x1=where.get(host.via or own.name, where[own.name])[0],
            y1=where.get(host.via or own.name, where[own.name])[1],
            x2=where[host.name][0],
            y2=where[host.name][1],
            stroke_dasharray="4 4" if host.grade is PathGrade.BAD else "1 4" if host.via else None,
        )
        for host in placed
        if own is not None and host.grade is not None
    ]
    named, along = len(placed) <= MAX_NAMED_HOSTS, len(placed) > MAX_LEVEL_NAMES
    return element(
        "svg",
        lines,
        _regions(placed, radius) if named else (),
        [_dot(host, *where[host.name], named=named, along=along) for host in placed],
        width=2 * half_width,
        height=side,
        viewBox=f"{-half_width} {-side / 2:g} {2 * half_width} {side}",
        role="group",
        aria_label="hosts by region, and the path from this host to each",
    )


def _place(part: float, radius: float) -> tuple[float, float]:
    angle = 2 * pi * part - pi / 2
    return round(radius * cos(angle), 1), round(radius * sin(angle), 1)


def _dot(host: RingHost, x: float, y: float, *, named: bool, along: bool) -> Markup:
    """``along``: the name is written outward, as side by side there would be no room for it."""
    if not named:
        label = None
    elif along:
        turn = round(degrees(atan2(y, x)), 1)
        is_left = abs(turn) > 90
        label = element(
            "text",
            host.name,
            x=-9 if is_left else 9,
            y=4,
            text_anchor="end" if is_left else "start",
            transform=f"translate({x} {y}) rotate({turn + 180 if is_left else turn:g})",
        )
    else:
        anchor = "middle" if abs(x) < 1 else "start" if x > 0 else "end"
        shift_x, shift_y = (0, -10 if y < 0 else 20) if anchor == "middle" else (9 if x > 0 else -9, 4)
        label = element("text", host.name, x=x + shift_x, y=y + shift_y, text_anchor=anchor)
    dot = element("circle", class_=host.grade or "own", cx=x, cy=y, r=5)
    return element("a", element("title", host.says), dot, label, href=host.link)


def _regions(placed: Sequence[RingHost], radius: float) -> list[Markup]:
    """The name of each region, inside the ring in front of its hosts."""
    names: list[Markup] = []
    at = 0
    for region, group in groupby(placed, key=lambda host: host.region):
        count = len(list(group))
        x, y = _place((at + (count - 1) / 2) / len(placed), radius * 0.72)
        at += count
        if region:
            names.append(element("text", region, class_="faint", x=x, y=y + 4, text_anchor="middle"))
    return names
