"""``wgctl add-client``: grant a laptop or a phone its place, and write its file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from meshd.errors import ConfigError
from meshd.model.network import IPAddress
from meshd.terminal import echo
from wgctl.commands.client import picture
from wgctl.completing import FILE
from wgctl.files import STANDARD_STREAM, check_writable, write_text
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json
from wgctl.parameters import ADDRESS, EXPIRY, PUBLIC_KEY

if TYPE_CHECKING:
    from meshd.model.keys import PrivateKey
    from wgctl.admin.clients import Granted
    from wgctl.admin.session import AdminSession
    from wgctl.views.client_config import ClientConfig

WIDEST_ADDRESSES: Final = (ip_address("255.255.255.255"), ip_address(2**128 - 1))
"""As long as a client's addresses can be when they are written."""


@click.command("add-client")
@click.argument("name")
@click.option(
    "--public-key",
    type=PUBLIC_KEY,
    help="Of a key that the client has made. [default: make one, which is in the file and nowhere else]",
)
@click.option("--address", type=ADDRESS, help="Overlay address. [default: the lowest free one]")
@click.option("--expires", type=EXPIRY, help="End of the membership: 90d, 12h, a date in UTC, or never.")
@click.option(
    "--out", type=FILE, metavar="FILE|-", help="Where its file for wg-quick goes. [default: NAME.conf]"
)
@click.option("--qr", is_flag=True, help="Draw a QR code on the terminal, and write no file.")
@json_option
@pass_options
def command(
    options: Options,
    name: str,
    public_key: Any,
    address: IPAddress | None,
    expires: int | None,
    out: str | None,
    qr: bool,
    as_json: bool,
) -> None:
    """Grant a laptop or a phone its place, and write its file.

    A plain WireGuard client, without meshd. Every host takes it as a peer, and nobody waits for it or misses
    it. The file holds its private key, unless it made its own: it is written once, with mode 0600. With --qr
    a phone reads it from the terminal instead.
    """
    from meshd.model.keys import PrivateKey
    from wgctl.admin.clients import grant_client
    from wgctl.admin.session import open_session
    from wgctl.views.client_config import build_client_config, render_client_config

    now, target = time.time(), out or f"{name}.conf"
    if qr:
        _check_picture(public_key, out, as_json)
    elif as_json and target == STANDARD_STREAM:
        raise click.UsageError("--json and --out - both want standard output")
    else:
        _check_place(target)
    private = PrivateKey.generate() if public_key is None else None
    kept_in = None if qr or target == STANDARD_STREAM else Path(target)
    with open_session(options) as session:
        session.sync(now=now)
        if qr and private is not None:  # before it is granted: a picture that fits nowhere loses the key
            widest = build_client_config(session.ledger.membership(now), name, WIDEST_ADDRESSES)
            picture.require_room(widest, private)
        with _kept(private, name, kept_in, session):
            granted = grant_client(
                session, name, private or public_key, address=address, expires_at=expires, now=now
            )
        session.report_failures()
        config = build_client_config(session.ledger.membership(now), name, granted.addresses)
    for warning in granted.outcome.warnings:
        note(f"wgctl: warning: {warning}")
    if qr and private is not None:
        picture.show(config, private)
        target, secret = "none", "its private key is in the picture and nowhere else"
    else:
        write_text(target, render_client_config(config, private, now=now))
        secret = "with its private key, which is kept nowhere else" if private else "without a private key"
    if as_json:
        _write(granted, config, target)
    else:
        _tell(granted, config, target, secret)


def _check_picture(public_key: object, out: str | None, as_json: bool) -> None:
    if public_key is not None:
        raise click.UsageError("--qr and --public-key exclude each other: the picture needs the private key")
    if out is not None or as_json:
        raise click.UsageError(f"--qr and {'--json' if as_json else '--out'} exclude each other")
    picture.require_terminal()


def _write(granted: Granted, config: ClientConfig, target: str) -> None:
    from wgctl.documents.members import ClientAdded

    document = ClientAdded(
        name=config.name,
        hid=granted.hid,
        fingerprint=granted.fingerprint,
        addresses=granted.outcome.addresses,
        statement=granted.outcome.seq,
        file=target,
        hosts=tuple(peer.name for peer in config.peers),
        unreachable=config.unreachable,
        warnings=granted.outcome.warnings,
    )
    write_json(document)


def _tell(granted: Granted, config: ClientConfig, target: str, secret: str) -> None:
    lines = [
        f"{config.name}: granted as statement {granted.outcome.seq}: {' '.join(granted.outcome.addresses)}",
        f"  file         {'on standard output' if target == STANDARD_STREAM else target} ({secret})",
        f"  hosts        {len(config.peers)}",
        *([] if granted.outcome.is_member else [f"  to endorse   fingerprint {granted.fingerprint}"]),
        *(f"  not reached  {each}: it names no endpoint" for each in config.unreachable),
    ]
    echo("\n".join(lines), err=target == STANDARD_STREAM)


def _check_place(target: str) -> None:
    """ConfigError where the file cannot be written, or something is in the way."""
    check_writable(target, "the client's file")
    if target != STANDARD_STREAM and Path(target).exists():
        raise ConfigError(
            f"{target}: there is a file already, perhaps with somebody's one private key: name another by "
            "--out, or remove it"
        )


@contextlib.contextmanager
def _kept(private: PrivateKey | None, name: str, file: Path | None, session: AdminSession) -> Iterator[None]:
    """The key is in its file before anything is signed: what was signed and could not be published will be
    by the next command, and is granted for this key. Where nothing was signed, nothing is left."""
    from wgctl.views.client_config import render_key_alone

    if private is None:
        yield
        return
    last = session.journal.seq
    if file is not None:
        write_text(str(file), render_key_alone(name, private))
    try:
        yield
    except BaseException:
        is_signed = session.journal.seq != last
        if is_signed and file is not None:
            note(f"wgctl: {file} has the private key of {name}, and says how to have the rest")
        elif is_signed:
            note(f"nobody has the private key of {name}: wgctl remove-host {name}, and add another client")
        elif file is not None:
            file.unlink(missing_ok=True)
        raise
