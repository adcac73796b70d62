"""``wgctl ping``: echoes to one host, beside what meshd sees of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import click

from wgctl.completing import HOST
from wgctl.options import Options, pass_options
from wgctl.output import json_option, show, write_json

if TYPE_CHECKING:
    from meshd.observe.status import PeerStatus
    from meshd.probe.echoes import Echo

ANSWER_SECONDS: Final = 2.0
LEAST_INTERVAL_SECONDS: Final = 0.02
LEAST_SIZE_BYTES: Final = 64
LARGEST_SIZE_BYTES: Final = 65535
NO_ANSWER: Final = 1


@click.command("ping")
@click.argument("host", metavar="HOST|ADDRESS", type=HOST)
@click.option("-c", "--count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="Echoes.")
@click.option(
    "-i",
    "--interval",
    "interval_seconds",
    type=click.FloatRange(LEAST_INTERVAL_SECONDS, 60.0),
    default=1.0,
    show_default=True,
    help="Seconds between two.",
)
@click.option(
    "-s",
    "--size",
    "packet_bytes",
    type=click.IntRange(LEAST_SIZE_BYTES, LARGEST_SIZE_BYTES),
    default=LEAST_SIZE_BYTES,
    show_default=True,
    help="Bytes of the whole packet, which no router may cut.",
)
@json_option
@pass_options
@click.pass_context
def command(
    ctx: click.Context,
    options: Options,
    host: str,
    count: int,
    interval_seconds: float,
    packet_bytes: int,
    as_json: bool,
) -> None:
    """Echoes to one host, beside what meshd sees of it.

    They go through the tunnel, to each of its addresses. Ends with 0 when every address has answered, 1 when
    one has not. Ctrl-C shows what there is so far.
    """
    from wgctl.client import ControlClient
    from wgctl.views.ping import build_report, find_host, render_echo, render_report

    with ControlClient(options.control_socket()) as client:
        peer = find_host(client.status(), host)
    echoes: list[Echo] = []
    with suppress(KeyboardInterrupt):
        for echo in _ping(peer, count, interval_seconds, packet_bytes):
            echoes.append(echo)
            if not as_json:
                show(render_echo(echo))
    report = build_report(peer, echoes)
    if as_json:
        write_json(report)
    else:
        show(render_report(report, now=time.time()))
    if not report.all_answer:
        ctx.exit(NO_ANSWER)


def _ping(peer: PeerStatus, count: int, interval_seconds: float, packet_bytes: int) -> Iterator[Echo]:
    from meshd.probe.echoes import EchoOrder, EchoRun, open_sockets

    addresses = tuple(map(ip_address, peer.addresses))
    sockets = open_sockets(addresses)
    order = EchoOrder(
        addresses=addresses,
        count=count,
        interval_seconds=interval_seconds,
        answer_seconds=ANSWER_SECONDS,
        packet_bytes=packet_bytes,
    )
    try:
        yield from EchoRun(order, sockets)
    finally:
        for each in sockets.values():
            each.close()
