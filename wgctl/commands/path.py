"""``wgctl path``: what the path between two hosts is, since when and why."""

from __future__ import annotations

import time

import click

from meshd.errors import ConfigError
from wgctl.completing import HOST
from wgctl.options import Options, pass_options
from wgctl.output import json_option, show, write_json


@click.command("path")
@click.argument("first", metavar="HOST", type=HOST)
@click.argument("second", metavar="[HOST]", required=False, type=HOST)
@json_option
@pass_options
def command(options: Options, first: str, second: str | None, as_json: bool) -> None:
    """What the path between two hosts is, since when and why.

    Of this host and another one: directly or through whom, why, what happened before, and who was asked to
    carry the pair with what answer. Of two others: what they measure, as far as this host knows.
    """
    from meshd.observe.path_document import MeasuredPath
    from wgctl.client import ControlClient
    from wgctl.views.path import render_path, render_row

    with ControlClient(options.control_socket()) as client:
        own = client.status().host
        names = [first, *([second] if second is not None else [])]
        others = [name for name in names if name not in (own.name, own.hid)]
        if second is not None and len(others) == 2:
            matrix = client.matrix()
            row = matrix.rows.get(first)
            path = row.paths.get(second) if row is not None else None
            if row is None or path is None:
                raise ConfigError(f"{first} {second}: nothing is known here of that path; ask on {first}")
            if as_json:
                write_json(MeasuredPath(own=first, host=second, age_seconds=row.age_seconds, path=path))
            else:
                show(render_row(first, second, path, row.age_seconds))
            return
        if len(others) != 1:
            raise ConfigError(f"{' '.join(names)}: two different hosts expected, or one beside this one")
        document = client.path(others[0])
    if as_json:
        write_json(document)
    else:
        show(render_path(document, now=time.time()))
