"""``wgctl service diff``, ``apply``, ``rollback``, ``retry``, ``advise``: this host's modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from meshd.terminal import echo
from wgctl.completing import MODULE, MODULE_OR_SERVICE, SERVICE
from wgctl.options import Options, pass_options
from wgctl.output import json_option, write_json

if TYPE_CHECKING:
    from meshd.observe.protocol import ServiceDocument, ServiceRequest


@click.command("diff")
@click.argument("name", metavar="[MODULE]", default="", type=MODULE)
@json_option
@pass_options
@click.pass_context
def diff_command(ctx: click.Context, options: Options, name: str, as_json: bool) -> None:
    """What a module, or every one, would change on this host; nothing is changed.

    Ends with 0 when there is nothing to do, 5 when there are changes, 4 when a guard holds them.
    """
    from meshd.observe.protocol import ServiceRequest

    ctx.exit(_ask(options, ServiceRequest(action="diff", module=name), as_json))


@click.command("apply")
@click.argument("name", metavar="[MODULE]", default="", type=MODULE)
@click.option("--dry-run", is_flag=True, help="As `diff`.")
@click.option("--restart", is_flag=True, help="The service may be interrupted, where it must restart.")
@click.option("--overwrite", is_flag=True, help="Changes that somebody else made in meshd's files may go.")
@json_option
@pass_options
@click.pass_context
def apply_command(
    ctx: click.Context,
    options: Options,
    name: str,
    dry_run: bool,
    restart: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Let a module, or every one, bring its service to what the mesh says, now.

    Also what was refused before. Ends with 0 when the service has taken it, 4 when a guard holds it, else 1.
    """
    from meshd.observe.protocol import ServiceRequest

    action = "diff" if dry_run else "apply"
    request = ServiceRequest(
        action="diff" if action == "diff" else "apply", module=name, restart=restart, overwrite=overwrite
    )
    ctx.exit(_ask(options, request, as_json))


@click.command("rollback")
@click.argument("name", metavar="MODULE", type=MODULE)
@click.option(
    "--original", is_flag=True, help="The files as they were before meshd; it leaves them alone then."
)
@json_option
@pass_options
@click.pass_context
def rollback_command(ctx: click.Context, options: Options, name: str, original: bool, as_json: bool) -> None:
    """Back to the files before the last change, and reload.

    The same input is not tried again until something changes or you type `apply`.
    """
    from meshd.observe.protocol import ServiceRequest

    ctx.exit(_ask(options, ServiceRequest(action="rollback", module=name, original=original), as_json))


@click.command("retry")
@click.argument("name", metavar="[MODULE]", default="", type=MODULE)
@json_option
@pass_options
@click.pass_context
def retry_command(ctx: click.Context, options: Options, name: str, as_json: bool) -> None:
    """Try again what failed, was refused or was rolled back. Answers at once.

    A run that is under way goes on to its end before.
    """
    from meshd.observe.protocol import ServiceRequest
    from wgctl.views.services import show_retries

    document, code = _answer(options, ServiceRequest(action="retry", module=name))
    if as_json:
        write_json(document)
    else:
        show_retries(document)
    ctx.exit(code)


@click.command("advise")
@click.argument("name", metavar="[MODULE|SERVICE]", default="", type=MODULE_OR_SERVICE)
@click.option(
    "--used-by",
    type=SERVICE,
    metavar="SERVICE",
    default="",
    help="Only its hosts are readers. [default: all hosts]",
)
@json_option
@pass_options
@click.pass_context
def advise_command(ctx: click.Context, options: Options, name: str, used_by: str, as_json: bool) -> None:
    """What a module recommends and never does, and which placements are far from who uses them.

    Who uses a service is taken to be every host, or the hosts of the service that `--used-by` names.
    """
    from meshd.errors import ConfigError
    from meshd.observe.protocol import ServiceRequest
    from wgctl.views.distance import ask_costs
    from wgctl.views.services import show_advice

    known, _ = _answer(options, ServiceRequest(action="list"))
    modules = {each.name for each in known.status.modules}
    costs = ask_costs(options)
    services = costs.view.services if costs is not None else {}
    if name and name not in modules and name not in services:
        raise ConfigError(
            f"{name[:63]!r}: neither a module of this host nor a service; see: wgctl service list"
        )
    document, code = known, 0
    if not name or name in modules:
        document, code = _answer(options, ServiceRequest(action="advise", module=name))
    placement = costs.advice(name, used_by) if costs is not None else []
    if as_json:
        from wgctl.documents.services import Advised

        write_json(Advised(modules=document.reports, placement=tuple(placement)))
    else:
        show_advice(document)
        for text in placement or (
            [f"{name}: no placement is far from who uses it"] if name in services else []
        ):
            echo(text)
    ctx.exit(0 if code == 5 else code)


def _ask(options: Options, request: ServiceRequest, as_json: bool) -> int:
    from wgctl.views.services import show_reports

    document, code = _answer(options, request)
    if as_json:
        write_json(document)
    else:
        show_reports(document, dry_run=request.action == "diff")
    return code


def _answer(options: Options, request: ServiceRequest) -> tuple[ServiceDocument, int]:
    from wgctl.client import ControlClient

    with ControlClient(options.control_socket()) as client:
        return client.service(request)
