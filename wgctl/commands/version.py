"""``wgctl version``."""

from __future__ import annotations

import platform

import click

from meshd.terminal import echo
from meshd.version import VERSION
from wgctl.output import json_option, write_json


@click.command("version")
@json_option
def command(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        system = platform.system()
        from wgctl.documents.machine import ProgramVersion

        write_json(ProgramVersion(version=VERSION, python=platform.python_version(), system=system))
    else:
        echo(f"wgctl {VERSION}")
