"""``wgctl add-host``: grant a host its place."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import click

from meshd.errors import ConfigError
from meshd.model.network import IPAddress, IPNetwork
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json
from wgctl.parameters import ADDRESS, INSTANT, NETWORK, garage_options

REPORT_FORMAT: Final = "wgctl-add-host/1"
MAX_REQUEST_BYTES: Final = 65536
STANDARD_STREAM: Final = "-"


@click.command("add-host")
@click.argument("name")
@click.option("--request", required=True, metavar="FILE|-", help="What `meshd enroll` printed on the host.")
@click.option("--address", type=ADDRESS, help="Overlay address. [default: the lowest free one]")
@click.option("--jails", "networks", type=NETWORK, multiple=True,
              help="Network that the host may announce; may be given again.")
@click.option("--region", help="Where it is, for people and for services.")
@click.option("--role", "roles", multiple=True, help="May be given again; `admin` is protected by meshd.")
@click.option("--tag", "tags", multiple=True, help="May be given again.")
@click.option("--expires", type=INSTANT, help="End of the membership: 90d, 12h, or a date in UTC.")
@click.option("--out", metavar="BUNDLE|-", help="Where the join bundle goes. [default: NAME.bundle]")
@click.option("--s3-credentials", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="The host's own S3 key, to travel in the bundle.")
@garage_options
@click.option("--offline", is_flag=True, help="Ask no store: for hosts that a store is to run on.")
@json_option
@pass_options
def command(
    options: Options, name: str, request: str, address: IPAddress | None, networks: tuple[IPNetwork, ...],
    region: str | None, roles: tuple[str, ...], tags: tuple[str, ...], expires: int | None,
    out: str | None, s3_credentials: Path | None, garage_admin: tuple[str, ...],
    garage_token_file: Path | None, offline: bool, as_json: bool,
) -> None:
    """Grant a host its place and print its join bundle.

    With a Garage that wgctl administers, the bundle holds an S3 key of the host's own. The same
    request again prints the bundle again; with other options it changes the grant.
    """
    from meshd.registry.bundle import build_bundle, render_bundle
    from meshd.registry.signing import render_fingerprint
    from wgctl.admission import Wishes, admit, host_key_source, parse_named_request, read_host_credentials
    from wgctl.session import open_session

    target = out or f"{name}.bundle"
    if as_json and target == STANDARD_STREAM:
        raise click.UsageError("--json and --out - both want standard output")
    enrollment = parse_named_request(_read_request(request), name)
    given = read_host_credentials(s3_credentials)
    _check_writable(target)
    now = time.time()
    wishes = Wishes(
        address=address, networks=networks or None, region=region, roles=roles or None, tags=tags or None,
        expires_at=expires,
    )
    with open_session(options, offline=offline) as session:
        session.sync(now=now)
        with host_key_source(session, given, garage_admin, garage_token_file) as provide_key:
            outcome = admit(session, enrollment, wishes, now=now)
            credentials = provide_key(enrollment.hid)
        bundle = render_bundle(build_bundle(session.ledger, enrollment.hid, s3=credentials)) + "\n"
        session.report_failures()
        root_fingerprint = render_fingerprint(session.ledger.chain.fingerprint)
    _write_bundle(target, bundle)
    fingerprint = render_fingerprint(enrollment.hid)
    if offline:
        note("wgctl: warning: no store was asked; the next command that reaches one publishes this")
    for warning in outcome.warnings:
        note(f"wgctl: warning: {warning}")
    if as_json:
        write_json({
            "format": REPORT_FORMAT, "name": name, "hid": enrollment.hid, "fingerprint": fingerprint,
            "addresses": outcome.addresses, "networks": outcome.networks, "statement": outcome.seq,
            "changed": outcome.seq is not None, "bundle": target, "root_fingerprint": root_fingerprint,
            "warnings": outcome.warnings,
        })
        return
    done = f"granted as statement {outcome.seq}" if outcome.seq is not None else "was granted so before"
    lines = [
        f"{name}: {done}: {' '.join(outcome.addresses)}",
        f"  networks     {' '.join(outcome.networks) or 'none'}",
        f"  fingerprint  {fingerprint}   the host must show the same: meshd enroll --name {name}",
        f"  bundle       {target if target != STANDARD_STREAM else 'on standard output'}"
        + (" (holds the host's S3 key)" if credentials else ""),
        f"  on {name}:   meshd join {name}.bundle --fingerprint {root_fingerprint}",
    ]
    click.echo("\n".join(lines), err=target == STANDARD_STREAM)


def _read_request(source: str) -> str:
    if source == STANDARD_STREAM:
        return sys.stdin.read(MAX_REQUEST_BYTES)
    try:
        with Path(source).open("rb") as file:
            return file.read(MAX_REQUEST_BYTES).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{source}: not an enrollment request: not text") from None
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror}") from None


def _check_writable(target: str) -> None:
    """Before anything is signed: a bundle that cannot be written is found out early."""
    import os

    directory = Path(target).absolute().parent
    if target != STANDARD_STREAM and (Path(target).is_dir() or not os.access(directory, os.W_OK | os.X_OK)):
        raise ConfigError(f"{target}: the bundle cannot be written there")


def _write_bundle(target: str, bundle: str) -> None:
    from meshd.store.atomic import write_file

    if target == STANDARD_STREAM:
        click.echo(bundle, nl=False)
    else:
        write_file(Path(target).absolute(), bundle.encode())
