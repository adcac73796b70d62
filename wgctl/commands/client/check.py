"""``wgctl client check``: whether a client's file is still right."""

from __future__ import annotations

import time
from typing import Final

import click

from meshd.terminal import echo
from wgctl.commands.client.config import MAX_FILE_BYTES
from wgctl.completing import FILE
from wgctl.files import read_text
from wgctl.options import Options, pass_options
from wgctl.output import json_option, write_json

OUTDATED: Final = 1


@click.command("check")
@click.argument("file", type=FILE, metavar="FILE|-")
@click.option("--offline", is_flag=True, help="Ask no store: what was verified before.")
@json_option
@pass_options
def command(options: Options, file: str, offline: bool, as_json: bool) -> int:
    """Whether a client's file is still right: ends with 0, or with 1 and what has changed."""
    from wgctl.admin.clients import find_client_by_address
    from wgctl.admin.session import read_registry
    from wgctl.views.client_config import build_client_config, find_outdated, parse_client_file

    now = time.time()
    found = parse_client_file(read_text(file, "a client's file", MAX_FILE_BYTES), file)
    membership = read_registry(options, now=now, offline=offline).ledger.membership(now)
    client = find_client_by_address(membership, found.addresses, file)
    wrong = list(find_outdated(found, build_client_config(membership, client.name, client.addresses)))
    if as_json:
        from wgctl.documents.members import ClientChecked

        write_json(ClientChecked(name=client.name, is_right=not wrong, wrong=tuple(wrong)))
        return OUTDATED if wrong else 0
    for line in wrong:
        echo(f"{client.name}: {line}")
    if wrong:
        echo(f"to make it right: wgctl client config {client.name} --key-from {file} --out {file}")
        return OUTDATED
    echo(f"{client.name}: {file} is right")
    return 0
