"""``wgctl root request``: a root key that is made in this home, and the request to be named."""

from __future__ import annotations

import click

from wgctl.admin.key_addition import print_request
from wgctl.completing import FILE
from wgctl.options import Options, pass_options


@click.command("request")
@click.option("--name", required=True, help="What root documents will call the key.")
@click.option(
    "--out", default="-", type=FILE, metavar="FILE|-", help="Where it goes. [default: standard output]"
)
@click.option("--no-passphrase", is_flag=True, help="Leave the key file unprotected.")
@pass_options
def command(options: Options, name: str, out: str, no_passphrase: bool) -> None:
    """Make a root key in this home and print the request to be named."""
    from wgctl.admin.home_setup import request_key

    print_request(*request_key(options, "root", name, protect=not no_passphrase), name=name, out=out)
