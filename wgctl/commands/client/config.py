"""``wgctl client config``: a client's file as it should be now."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meshd.errors import ConfigError
from wgctl.commands.client import picture
from wgctl.completing import CLIENT, FILE
from wgctl.files import STANDARD_STREAM, check_writable, read_text, write_text
from wgctl.options import Options, pass_options

if TYPE_CHECKING:
    from meshd.model.keys import PrivateKey

MAX_FILE_BYTES: Final = 4 * 1024 * 1024


@click.command("config")
@click.argument("name", type=CLIENT)
@click.option(
    "--key-from",
    type=FILE,
    metavar="FILE|-",
    help="Take the private key over from the file that the client has. [default: the line is left to it]",
)
@click.option(
    "--out", type=FILE, metavar="FILE|-", default=STANDARD_STREAM, help="[default: standard output]"
)
@click.option("--qr", is_flag=True, help="Draw a QR code on the terminal. Needs --key-from.")
@click.option("--offline", is_flag=True, help="Ask no store: what was verified before.")
@pass_options
def command(options: Options, name: str, key_from: str | None, out: str, qr: bool, offline: bool) -> None:
    """Print a client's file for wg-quick, as it should be now.

    wgctl keeps no private key of a client: --key-from takes it from the file that it has. For a phone that
    reads a picture: --key-from FILE --qr.
    """
    from wgctl.admin.clients import find_client
    from wgctl.admin.session import read_registry
    from wgctl.views.client_config import build_client_config, parse_client_file, render_client_config

    now = time.time()
    if qr:
        _check_picture(key_from, out)
    check_writable(out, "the client's file")
    membership = read_registry(options, now=now, offline=offline).ledger.membership(now)
    client = find_client(membership, name)
    key = None
    if key_from is not None:
        key = parse_client_file(read_text(key_from, "a client's file", MAX_FILE_BYTES), key_from).private_key
        if key is None or client.record is None or key.public() != client.record.public_key:
            seen = "no private key" if key is None else f"the private key of {key.public()}"
            raise ConfigError(f"--key-from {key_from}: {seen} seen, that of {name} expected")
    _refuse_to_lose_a_key(out, key)
    config = build_client_config(membership, client.name, client.addresses)
    if qr and key is not None:
        picture.require_room(config, key)
        picture.show(config, key)
        return
    write_text(out, render_client_config(config, key, now=now))


def _refuse_to_lose_a_key(out: str, key: PrivateKey | None) -> None:
    """ConfigError where a file is in the way that is no client's, or has a private key that the new one has
    not: it may be the one place where that key is."""
    from wgctl.views.client_config import parse_client_file

    if out == STANDARD_STREAM or not Path(out).exists():
        return
    found = parse_client_file(read_text(out, "a client's file", MAX_FILE_BYTES), out).private_key
    if found is not None and found != key:
        raise ConfigError(
            f"{out}: there is a file already, with a private key that the new one has not: name another, or "
            f"keep the key by --key-from {out}"
        )


def _check_picture(key_from: str | None, out: str) -> None:
    if key_from is None:
        raise click.UsageError(
            "--qr needs --key-from FILE: a phone takes no settings without its private key; wgctl has none"
        )
    if out != STANDARD_STREAM:
        raise click.UsageError("--qr and --out exclude each other")
    picture.require_terminal()
