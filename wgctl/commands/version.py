"""``wgctl version``."""

from __future__ import annotations

import platform

import click

from meshd.terminal import echo
from meshd.version import read_version
from wgctl.output import json_option, write_json


@click.command("version")
@json_option
def command(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        system = platform.system()
        write_json({"version": read_version(), "python": platform.python_version(), "system": system})
    else:
        echo(f"wgctl {read_version()}")
