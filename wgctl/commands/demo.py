"""``wgctl demo``: a whole mesh on this machine, built, measured and taken away again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

import click
from msgspec.structs import asdict

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

T = TypeVar("T")

MIN_HOSTS: Final = 2
NEXT_STEP: Final = (
    "next: a mesh of your own, from three machines in fifteen minutes: docs/tutorial.md; or stay here: "
    "{program} demo --keep"
)
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
    default=None,
    show_default="60, or what so many hosts need on this machine",
    help="Seconds for every pair to answer.",
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
    deadline: int | None,
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
        whole = _run_services(keep=keep, deadline=deadline, as_json=as_json)
        ctx.exit(1 if check and not whole else 0)
    from meshd.lab.capacity import expected_seconds
    from meshd.lab.demo import DEADLINE_SECONDS, DemoOptions, run_demo

    needed = max(DEADLINE_SECONDS, expected_seconds(hosts, os.cpu_count() or 1))
    with Progress() as progress:
        if needed > DEADLINE_SECONDS and deadline is None:
            progress(f"{hosts} hosts on {os.cpu_count()} processors: up to {needed:.0f} s until all have met")
        wanted = DemoOptions(hosts=hosts, keep=keep, store=store, deadline_seconds=deadline or needed)
        result = run_demo(wanted, progress, progress.beside(_write if as_json else partial(_show, keep=keep)))
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
    from meshd.lab.services_demo import ServicesOptions, ServicesResult, run_services_demo
    from wgctl.documents.lab import ServicesDemoShown
    from wgctl.views.services_demo import show_services_demo

    def write(result: ServicesResult) -> None:
        write_json(ServicesDemoShown(**asdict(result)))

    wanted = ServicesOptions(keep=keep)
    if deadline is not None:
        wanted = ServicesOptions(keep=keep, deadline_seconds=deadline)
    with Progress() as progress:
        result = run_services_demo(
            wanted, progress, progress.beside(write if as_json else show_services_demo)
        )
    return not result.failures


def _sweep(as_json: bool) -> None:
    from meshd.lab.select import sweep_labs

    refusals: list[str] = []
    swept = sweep_labs(refusals.append)
    if as_json:
        from wgctl.documents.lab import Swept

        write_json(Swept(swept=tuple(swept), failures=tuple(refusals)))
    else:
        say(f"taken away: {', '.join(swept)}" if swept else "nothing was left of other demos")
    if refusals:
        raise BackendError("; ".join(refusals))


def _is_whole(result: DemoResult) -> bool:
    talked = (result.pairs_ok, result.jail_pairs_ok) == (result.pairs_total, result.jail_pairs_total)
    return talked and not result.failures


class Progress:
    """A live line on a terminal, plain lines elsewhere; standard error in both cases."""

    def __init__(self) -> None:
        self._console = terminal_console(stderr=True)
        self._status = self._console.status("starting") if self._console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, text: str) -> None:
        if self._status is None:
            note(text)
        else:
            self._console.print(styled(text, FAINT))
            self._status.update(styled(text))

    def beside(self, show_result: Callable[[T], None]) -> Callable[[T], None]:
        """``show_result`` with the live line gone: both would write to one line of the terminal."""

        def shown(result: T) -> None:
            if self._status is not None:
                self._status.stop()
            show_result(result)

        return shown


def _write(result: DemoResult) -> None:
    from wgctl.documents.lab import DemoShown

    write_json(DemoShown(**asdict(result)))


def _show(result: DemoResult, *, keep: bool) -> None:
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
    for trial in result.trials:
        style = BAD if trial.failure else GOOD
        say(f"{trial.name}: {trial.lost} of {trial.sent} packets lost in {trial.seconds:.1f} s", style)
        if trial.said:
            say(f"  {trial.said}", FAINT)
    if result.explained:
        say("wgctl explain says of the host that was revoked:")
        for line in result.explained.splitlines():
            say(f"  {line}", FAINT)
    if not result.distances:
        say("distances are not emulated on this system: every path is as short as this machine is fast")
    for failure in result.failures:
        say(f"FAILED: {failure}", BAD)
    if keep:
        for url in result.metrics_urls:
            say(f"metrics: {url}")
    else:
        say(NEXT_STEP.format(program=sys.argv[0]))


def _show_pairs(what: str, answered: int, total: int) -> None:
    say(f"{answered} of {total} pairs of {what}s answer", GOOD if answered == total else BAD)
