"""What echoes to one host say, beside what meshd has measured of it."""

from __future__ import annotations

import difflib
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import click
import msgspec

from meshd.model.path import PathStats
from meshd.observe.status import PeerStatus, Status
from meshd.probe.echoes import Echo
from wgctl.output import (
    BAD,
    NOTHING,
    Cell,
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
    from rich.text import Text

COLUMNS: Final = (
    Column(name="ADDRESS"),
    Column(name="SENT", right=True, gives_way=2),
    Column(name="LOST", right=True),
    Column(name="LEAST", right=True, gives_way=1),
    Column(name="MEDIAN", right=True),
    Column(name="MOST", right=True),
)


class EchoSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the echoes to one address. RTTs None: none came back."""

    address: str
    sent: int
    received: int
    minimum_rtt_seconds: float | None
    median_rtt_seconds: float | None
    maximum_rtt_seconds: float | None
    refused: str = ""
    """Why the kernel did not send the last one that it refused."""


class PingReport(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="wgctl-ping/1"):
    """``wgctl ping``. ``live``: of just now. ``path`` and what follows: as meshd had it before."""

    host: str
    live: tuple[EchoSummary, ...]
    path: PathStats
    endpoint: str | None
    mtu_bytes: int | None
    latest_handshake_at: float | None

    @property
    def all_answer(self) -> bool:
        return all(each.received for each in self.live)


def find_host(status: Status, text: str) -> PeerStatus:
    """The host of that name, hid (its first eight letters do) or address.

    Raises:
        click.UsageError: there is none, it is this one, or it has not joined yet.
    """
    own = status.host
    if text in (own.name, own.hid, *own.addresses):
        raise click.UsageError(f"{text} is this host; another one expected")
    for peer in status.peers:
        if text in (peer.name, peer.hid, peer.hid[:8], *peer.addresses):
            if not peer.configured:
                raise click.UsageError(f"{peer.name} is no peer of this host yet: {_why_no_peer(peer)}")
            return peer
    near = difflib.get_close_matches(text, [peer.name for peer in status.peers], n=3)
    hint = f"; is it {' or '.join(near)}?" if near else "; wgctl status lists them"
    raise click.UsageError(f"{text}: this host knows no host of that name or address{hint}")


def _why_no_peer(peer: PeerStatus) -> str:
    return "it has published no record" if peer.record_version is None else "wgctl plan says why"


def summarize(address: str, echoes: Iterable[Echo]) -> EchoSummary:
    """The echoes to one address as one line."""
    of_it = [echo for echo in echoes if str(echo.address) == address]
    rtts = [echo.rtt_seconds for echo in of_it if echo.rtt_seconds is not None]
    return EchoSummary(
        address=address,
        sent=len(of_it),
        received=len(rtts),
        minimum_rtt_seconds=min(rtts, default=None),
        median_rtt_seconds=statistics.median(rtts) if rtts else None,
        maximum_rtt_seconds=max(rtts, default=None),
        refused=next((echo.refused for echo in reversed(of_it) if echo.refused), ""),
    )


def build_report(peer: PeerStatus, echoes: Sequence[Echo]) -> PingReport:
    return PingReport(
        host=peer.name,
        live=tuple(summarize(address, echoes) for address in peer.addresses),
        path=peer.path,
        endpoint=peer.endpoint,
        mtu_bytes=peer.mtu_bytes,
        latest_handshake_at=peer.latest_handshake_at,
    )


def render_echo(echo: Echo) -> Text:
    """One line, as it comes."""
    if echo.refused:
        return styled(f"{echo.address}  {echo.number}  not sent: {echo.refused}", BAD)
    if echo.rtt_seconds is None:
        return styled(f"{echo.address}  {echo.number}  no answer", BAD)
    return styled(
        f"{echo.address}  {echo.number}  {render_rtt(echo.rtt_seconds)}", rtt_style(echo.rtt_seconds)
    )


def render_report(report: PingReport, *, now: float) -> RenderableType:
    """The sum by address, and below it what meshd sees."""
    from rich.console import Group

    return Group(
        styled(),
        build_table(COLUMNS, [_row(each) for each in report.live]),
        styled(),
        build_table(["", Column(text=True)], _seen_rows(report, now)),
    )


def _row(each: EchoSummary) -> list[Cell]:
    lost = 1 - each.received / each.sent if each.sent else 0.0
    style = rtt_style(each.median_rtt_seconds, up=each.received > 0, loss_ratio=lost)
    rtts = (each.minimum_rtt_seconds, each.median_rtt_seconds, each.maximum_rtt_seconds)
    figures: list[Cell] = [(NOTHING if rtt is None else render_rtt(rtt), style) for rtt in rtts]
    return [each.address, str(each.sent), (render_loss(lost), style), *figures]


def _seen_rows(report: PingReport, now: float) -> list[list[Cell]]:
    path = report.path
    state = f"{path.via}, RTT {render_rtt(path.srtt_seconds)}, jitter {render_rtt(path.jitter_seconds)}, "
    state += f"{render_loss(path.loss_ratio)} lost, last answer {render_age(path.last_reply_at, now)}"
    if not path.sent:
        state = "not measured yet"
    elif not path.up:
        state = f"down, last answer {render_age(path.last_reply_at, now)}"
    handshake = render_age(report.latest_handshake_at, now)
    style = rtt_style(path.srtt_seconds, up=path.up, loss_ratio=path.loss_ratio) if path.sent else ""
    return [
        ["meshd sees", (state, style)],
        ["endpoint", f"{report.endpoint or 'none known'}, handshake {handshake}"],
        ["path MTU", f"{report.mtu_bytes} bytes" if report.mtu_bytes else "not measured yet"],
    ]
