"""``wgctl demo``: a whole mesh on this machine, built, measured and taken away again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from meshd.errors import BackendError, ConfigError
from wgctl.output import (
    BAD,
    FAINT,
    GOOD,
    json_option,
    note,
    say,
    show,
    styled,
    terminal_console,
    write_json,
)

if TYPE_CHECKING:
    from meshd.lab.demo import DemoResult

REPORT_FORMAT: Final = "wgctl-demo/1"
SERVICES_FORMAT: Final = "wgctl-demo-services/1"
SWEEP_FORMAT: Final = "wgctl-demo-sweep/1"
MIN_HOSTS: Final = 2
MIN_DEADLINE_SECONDS: Final = 10


@click.command("demo")
@click.option(
    "--hosts",
    type=click.IntRange(min=MIN_HOSTS),
    default=6,
    show_default=True,
    help="Hosts to build; one more joins and leaves.",
)
@click.option(
    "--store",
    type=click.Choice(["directory", "garage"]),
    default="directory",
    show_default=True,
    help="Where the registry lives: a folder, or a Garage on three of the hosts.",
)
@click.option(
    "--deadline",
    type=click.IntRange(min=MIN_DEADLINE_SECONDS),
    default=60,
    show_default=True,
    help="Seconds for every pair to answer; a slow machine needs more.",
)
@click.option("--services", is_flag=True, help="Real servers on three hosts, and their leader is cut off.")
@click.option("--check", is_flag=True, help="End with 1 unless all that the demo shows came true.")
@click.option("--keep", is_flag=True, help="Leave it running until Ctrl-C.")
@click.option(
    "--sweep",
    "only_sweep",
    is_flag=True,
    help="Build nothing: take away what demos that were killed have left.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    hosts: int,
    store: Literal["directory", "garage"],
    deadline: int,
    services: bool,
    check: bool,
    keep: bool,
    only_sweep: bool,
    as_json: bool,
) -> None:
    """Build a whole mesh on this machine and measure it.

    Hosts with their own meshd, keys and jails, a signed registry, on Linux the latencies of several
    continents between them. Needs root; nothing outside of it is touched, and it is all taken
    away at the end. On Linux hosts are network namespaces, on FreeBSD VNET jails.

    With --services (Linux, make demo-services) HAProxy, NSD, Prometheus, Redis with Sentinel, and PostgreSQL
    under Patroni with etcd run on three of them, told by nothing but meshd where the others are. Then
    the leader's host is cut off, and comes back.
    """
    if os.geteuid() != 0:
        raise ConfigError(f"demo: user id {os.geteuid()} seen, 0 expected: only root can make hosts")
    if only_sweep:
        _sweep(as_json)
        return
    if services:
        _expect_no_other_mesh(ctx)
        whole = _run_services(keep=keep, deadline=_given(ctx, "deadline"), as_json=as_json)
        ctx.exit(1 if check and not whole else 0)
    from meshd.lab.demo import DemoOptions, run_demo

    with _progress() as progress:
        wanted = DemoOptions(hosts=hosts, keep=keep, store=store, deadline_seconds=deadline)
        result = run_demo(wanted, progress, _write if as_json else _show)
    ctx.exit(1 if check and not _is_whole(result) else 0)


def _given(ctx: click.Context, name: str) -> Any:
    """What was typed; None when it was not."""
    is_default = ctx.get_parameter_source(name) is click.core.ParameterSource.DEFAULT
    return None if is_default else ctx.params[name]


def _expect_no_other_mesh(ctx: click.Context) -> None:
    for name in ("hosts", "store"):
        if _given(ctx, name) is not None:
            raise click.UsageError(f"--services has three hosts and a folder: without --{name}")


def _run_services(*, keep: bool, deadline: int | None, as_json: bool) -> bool:
    """Whether all came true. ``deadline``: seconds for each of the three steps."""
    import msgspec

    from meshd.lab.services_demo import ServicesOptions, ServicesResult, run_services_demo
    from wgctl.views.services_demo import show_services_demo

    def write(result: ServicesResult) -> None:
        write_json({"format": SERVICES_FORMAT, **msgspec.to_builtins(result)})

    wanted = ServicesOptions(keep=keep)
    if deadline is not None:
        wanted = ServicesOptions(keep=keep, deadline_seconds=deadline)
    with _progress() as progress:
        result = run_services_demo(wanted, progress, write if as_json else show_services_demo)
    return not result.failures


def _sweep(as_json: bool) -> None:
    from meshd.lab.select import sweep_labs

    refusals: list[str] = []
    swept = sweep_labs(refusals.append)
    if as_json:
        write_json({"format": SWEEP_FORMAT, "swept": list(swept), "failures": refusals})
    else:
        say(f"taken away: {', '.join(swept)}" if swept else "nothing was left of other demos")
    if refusals:
        raise BackendError("; ".join(refusals))


def _is_whole(result: DemoResult) -> bool:
    talked = (result.pairs_ok, result.jail_pairs_ok) == (result.pairs_total, result.jail_pairs_total)
    return talked and not result.failures


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A live line on a terminal, plain lines elsewhere; standard error in both cases."""
    console = terminal_console(stderr=True)
    if not console.is_terminal:
        yield note
        return
    with console.status("starting") as status:

        def report(text: str) -> None:
            console.print(styled(text, FAINT))
            status.update(styled(text))

        yield report


def _write(result: DemoResult) -> None:
    import msgspec

    write_json({"format": REPORT_FORMAT, **msgspec.to_builtins(result)})


def _show(result: DemoResult) -> None:
    from meshd.model.path import PathStats
    from wgctl.views.matrix import build_matrix_table

    matrix = {
        name: {
            other: PathStats(up=seconds is not None, srtt_seconds=seconds) for other, seconds in row.items()
        }
        for name, row in result.matrix.items()
    }
    show(build_matrix_table(sorted(matrix), matrix))
    say("")
    _show_pairs("host", result.pairs_ok, result.pairs_total)
    _show_pairs("jail", result.jail_pairs_ok, result.jail_pairs_total)
    if result.converge_seconds is not None:
        say(f"from nothing to every pair in {result.converge_seconds:.2f} s")
    if result.add_host_seconds is not None:
        say(f"one more host: every pair answers after {result.add_host_seconds:.2f} s")
    if result.remove_host_seconds is not None:
        say(f"that host revoked: gone from every other after {result.remove_host_seconds:.2f} s")
    if not result.distances:
        say("distances are not emulated on this system: every path is as short as this machine is fast")
    for url in result.metrics_urls:
        say(f"metrics: {url}")
    for failure in result.failures:
        say(f"FAILED: {failure}", BAD)


def _show_pairs(what: str, answered: int, total: int) -> None:
    say(f"{answered} of {total} pairs of {what}s answer", GOOD if answered == total else BAD)
