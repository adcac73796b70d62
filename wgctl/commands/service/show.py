"""``wgctl service list`` and ``show``: what is declared, and how this host's modules are."""

from __future__ import annotations

import time

import click

from wgctl.completing import MODULE_OR_SERVICE
from wgctl.options import Options, pass_options
from wgctl.output import json_option, say, write_json


@click.command("list")
@click.option("--offline", is_flag=True, help="Ask no store and no daemon: show what was verified before.")
@json_option
@pass_options
def list_command(options: Options, offline: bool, as_json: bool) -> None:
    """Services of the signed registry with their placements, and the modules of this host's meshd."""
    from wgctl.admin.session import read_registry
    from wgctl.views.services import ask_modules, build_rows, show_modules, show_services

    now = time.time()
    registry = read_registry(options, now=now, offline=offline)
    rows = build_rows(registry.ledger, now)
    status = None if offline else ask_modules(options)
    if as_json:
        from wgctl.documents.services import ServiceList

        write_json(ServiceList(services=tuple(rows), host=status))
        return
    show_services(rows, status, now)
    if status is not None and (status.modules or status.placements):
        say("")
        show_modules(status, now)


@click.command("show")
@click.argument("name", metavar="SERVICE|MODULE", type=MODULE_OR_SERVICE)
@json_option
@pass_options
def show_command(options: Options, name: str, as_json: bool) -> None:
    """One service with its statements, or one module of this host with its last run.

    On a host also where each region finds the service, and what that costs in milliseconds.
    """
    from meshd.errors import ConfigError
    from wgctl.admin.session import read_registry
    from wgctl.views.distance import ask_costs, show_traffic
    from wgctl.views.services import ask_modules, build_rows, show_module, show_service

    now = time.time()
    rows = [
        row
        for row in build_rows(read_registry(options, now=now, offline=False).ledger, now)
        if row.name == name
    ]
    status = ask_modules(options)
    modules = [each for each in status.modules if each.name == name] if status is not None else []
    if not rows and not modules:
        raise ConfigError(
            f"{name[:63]!r}: neither a service nor a module of this host; see: wgctl service list"
        )
    costs = ask_costs(options) if rows and status is not None else None
    found = costs.traffic(name) if costs is not None else []
    if as_json:
        from wgctl.documents.services import ServiceShown

        write_json(ServiceShown(services=tuple(rows), modules=tuple(modules), traffic=tuple(found)))
        return
    for row in rows:
        show_service(row)
    show_traffic(found)
    for module in modules:
        show_module(module, now)
