"""``wgctl service garage layout``: what Garage's nodes hold. Shown, staged, and applied by hand alone."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from meshd.terminal import confirm, echo
from wgctl.completing import SERVICE
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json
from wgctl.parameters import garage_options

if TYPE_CHECKING:
    from meshd.store.garage_layout import Layout, LayoutAdmin
    from wgctl.admin.garage_layout import DesiredLayout

F = TypeVar("F", bound=Callable[..., Any])

PENDING: Final = 5
"""Exit status: there are changes, as ``wgctl service diff`` has it."""


@click.group("garage")
def command() -> None:
    """Garage's layout, as the signed registry wants it."""


@command.group("layout", invoke_without_command=True)
@click.pass_context
def layout_group(ctx: click.Context) -> None:
    """Which node holds how much: show, stage, apply.

    Wanted is what placements of the service say: the tags node_id and capacity (500G, 2T, gateway), and zone
    where it is not the host's region. A draining placement's data moves to the others.
    """
    if ctx.invoked_subcommand is None:
        echo(ctx.get_help())


def layout_options(function: F) -> F:
    """What all three verbs take."""
    service = click.option(
        "--service", type=SERVICE, default="garage", metavar="NAME", help="[default: garage]"
    )
    offline = click.option(
        "--offline", is_flag=True, help="Ask no store: the registry as it was verified before."
    )
    return cast("F", service(offline(garage_options(json_option(pass_options(function))))))


@layout_group.command("show")
@layout_options
@click.pass_context
def show_command(
    ctx: click.Context,
    options: Options,
    service: str,
    offline: bool,
    garage_admin: tuple[str, ...],
    garage_token_file: Path | None,
    as_json: bool,
) -> None:
    """What the registry wants beside what Garage has, and what is staged.

    Ends with 0 when both agree, 5 when something would change.
    """
    with _open(options, service, offline, garage_admin, garage_token_file) as (admin, desired):
        layout = admin.read()
        _report(admin, desired, layout, as_json)
    from wgctl.admin.garage_layout import changes

    ctx.exit(PENDING if layout.staged_role_changes or changes(desired, layout) else 0)


@layout_group.command("stage")
@click.option("--revert", is_flag=True, help="Forget all that is staged first, whoever staged it.")
@layout_options
def stage_command(
    options: Options,
    service: str,
    offline: bool,
    garage_admin: tuple[str, ...],
    garage_token_file: Path | None,
    as_json: bool,
    revert: bool,
) -> None:
    """Stage what the registry wants, and show what it would move. No data moves.

    A node that the registry does not know stays as it is.
    """
    from wgctl.admin.garage_layout import changes

    with _open(options, service, offline, garage_admin, garage_token_file) as (admin, desired):
        layout = admin.revert() if revert else admin.read()
        wanted = changes(desired, layout)
        if wanted:
            layout = admin.stage(wanted)
        _report(admin, desired, layout, as_json)


@layout_group.command("apply")
@click.option("--yes", is_flag=True, help="Do not ask.")
@layout_options
def apply_command(
    options: Options,
    service: str,
    offline: bool,
    garage_admin: tuple[str, ...],
    garage_token_file: Path | None,
    as_json: bool,
    yes: bool,
) -> None:
    """Make what is staged the layout, after showing what it moves. Data moves from then on.

    Refused (4) when Garage cannot make a layout of it, or when it changed while you read.
    """
    from meshd.errors import UnsafePlanError
    from wgctl.admin.garage_layout import foreign_changes

    if not yes and not sys.stdin.isatty():
        raise click.UsageError("--yes is needed where nobody can be asked")
    with _open(options, service, offline, garage_admin, garage_token_file) as (admin, desired):
        layout = admin.read()
        if not layout.staged_role_changes:
            _say_nothing_staged(as_json)
            return
        if not as_json:
            _report(admin, desired, layout, as_json=False)
        preview = admin.preview()
        if preview.error:
            raise UnsafePlanError(f"Garage can make no layout of what is staged: {preview.error}")
        for node_id in foreign_changes(desired, layout):
            note(f"wgctl: warning: {node_id[:16]}: staged by somebody else, and not what the registry says")
        if not yes:
            confirm(f"Apply version {layout.version + 1}?")
            if admin.read() != layout:
                raise UnsafePlanError("the layout changed while you read: nothing was applied; look again")
        done = admin.apply(layout.version + 1)
    if as_json:
        from wgctl.documents.services import LayoutApplied

        write_json(LayoutApplied(applied=layout.version + 1, message=done.message))
        return
    echo(f"applied: version {layout.version + 1}")


def _say_nothing_staged(as_json: bool) -> None:
    from wgctl.documents.services import LayoutApplied

    if as_json:
        write_json(LayoutApplied(applied=None, message=()))
    else:
        echo("nothing is staged: wgctl service garage layout stage")


@contextlib.contextmanager
def _open(
    options: Options, service: str, offline: bool, urls: tuple[str, ...], token_file: Path | None
) -> Iterator[tuple[LayoutAdmin, DesiredLayout]]:
    """Garage's admin API as named here, else as this home remembers it, and what the registry wants of it."""
    from meshd.errors import ConfigError
    from meshd.store.garage_layout import LayoutAdmin
    from wgctl.admin.garage import find_token
    from wgctl.admin.garage_layout import read_desired
    from wgctl.admin.home import open_home
    from wgctl.admin.session import read_registry

    remembered = ""
    if options.has_home:
        mesh = open_home(options.home).mesh
        urls, remembered = urls or mesh.garage_admin, mesh.garage_token_file
    if not urls:
        raise ConfigError("no Garage is known here; name its admin API with --garage-admin")
    admin = LayoutAdmin(urls, find_token(token_file, remembered))
    try:
        now = time.time()
        ledger = read_registry(options, now=now, offline=offline).ledger
        yield admin, read_desired(ledger.membership(now), service)
    finally:
        admin.close()


def _report(admin: LayoutAdmin, desired: DesiredLayout, layout: Layout, as_json: bool) -> None:
    from wgctl.admin.garage_layout import compare

    rows = compare(desired, layout)
    preview = admin.preview() if layout.staged_role_changes else None
    if as_json:
        from wgctl.documents.services import LayoutShown

        document = LayoutShown(
            version=layout.version, nodes=tuple(rows), staged=layout.staged_role_changes, preview=preview
        )
        write_json(document)
        return
    from wgctl.views.garage_layout import show_layout

    show_layout(rows, layout, preview)
