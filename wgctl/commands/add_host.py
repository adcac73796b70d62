"""``wgctl add-host``: grant a host its place."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meshd.model.network import IPAddress, IPNetwork
from meshd.terminal import confirm, echo
from wgctl.files import STANDARD_STREAM, check_writable, read_text, write_text
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json
from wgctl.parameters import ADDRESS, INSTANT, NETWORK, draft_option, garage_options

if TYPE_CHECKING:
    from meshd.registry.bundle import EnrollmentRequest
    from meshd.registry.reducer import EffectiveGrant, WaitingGrant
    from wgctl.admin.admission import GrantRequest

REPORT_FORMAT: Final = "wgctl-add-host/1"
MAX_REQUEST_BYTES: Final = 65536


@click.command("add-host")
@click.argument("name")
@click.option("--request", required=True, metavar="FILE|-", help="What `meshd enroll` printed on the host.")
@click.option("--address", type=ADDRESS, help="Overlay address. [default: the lowest free one]")
@click.option(
    "--jails",
    "networks",
    type=NETWORK,
    multiple=True,
    help="Network that the host may announce; may be given again.",
)
@click.option("--region", help="Where it is, for people and for services.")
@click.option("--role", "roles", multiple=True, help="May be given again; `admin` is protected by meshd.")
@click.option("--tag", "tags", multiple=True, help="May be given again.")
@click.option("--expires", type=INSTANT, help="End of the membership: 90d, 12h, or a date in UTC.")
@click.option("--out", metavar="BUNDLE|-", help="Where the join bundle goes. [default: NAME.bundle]")
@click.option(
    "--s3-credentials",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The host's own S3 key, to travel in the bundle.",
)
@click.option(
    "--new-identity",
    is_flag=True,
    help="Replace the host's identity by that of the request, without being asked.",
)
@garage_options
@click.option("--offline", is_flag=True, help="Ask no store: for hosts that a store is to run on.")
@draft_option
@json_option
@pass_options
def command(
    options: Options,
    name: str,
    request: str,
    address: IPAddress | None,
    networks: tuple[IPNetwork, ...],
    region: str | None,
    roles: tuple[str, ...],
    tags: tuple[str, ...],
    expires: int | None,
    out: str | None,
    s3_credentials: Path | None,
    new_identity: bool,
    garage_admin: tuple[str, ...],
    garage_token_file: Path | None,
    offline: bool,
    draft: str | None,
    as_json: bool,
) -> None:
    """Grant a host its place and print its join bundle.

    With a Garage that wgctl administers, the bundle holds an S3 key of the host's own. The same
    request again prints the bundle again; with other options it changes the grant.
    """
    from meshd.registry.bundle import build_bundle, render_bundle
    from meshd.registry.signing import render_fingerprint
    from wgctl.admin.admission import (
        GrantRequest,
        admit,
        host_key_source,
        newest_grant,
        parse_named_request,
        read_host_credentials,
    )
    from wgctl.admin.session import open_session

    # Over 60 lines: what is asked, what is granted, and what is written, in the order of time.
    target = out or f"{name}.bundle"
    if as_json and target == STANDARD_STREAM:
        raise click.UsageError("--json and --out - both want standard output")
    text = read_text(request, "an enrollment request", MAX_REQUEST_BYTES)
    enrollment = parse_named_request(text, name)
    now = time.time()
    asked = GrantRequest(
        address=address,
        networks=networks or None,
        region=region,
        roles=roles or None,
        tags=tags or None,
        expires_at=expires,
    )
    if draft is not None:
        if out or s3_credentials or garage_admin or garage_token_file or offline:
            raise click.UsageError("--draft: the bundle and its S3 key are made where it is signed")
        _write_draft(options, draft, name, text, asked, now, as_json)
        return
    given = read_host_credentials(s3_credentials)
    check_writable(target, "the bundle")
    with open_session(options, offline=offline) as session:
        session.sync(now=now)
        _confirm_identity(newest_grant(session.ledger, enrollment.hid), enrollment, new_identity)
        with host_key_source(session, given, garage_admin, garage_token_file) as provide_key:
            outcome = admit(session, enrollment, asked, now=now)
            bundle, credentials = "", given
            if outcome.is_member:
                credentials = provide_key(enrollment.hid)
                bundle = render_bundle(build_bundle(session.ledger, enrollment.hid, s3=credentials)) + "\n"
        session.report_failures()
        root_fingerprint = render_fingerprint(session.ledger.chain.fingerprint)
    if bundle:
        write_text(target, bundle)
    fingerprint = render_fingerprint(enrollment.kid)
    if offline:
        note("wgctl: warning: no store was asked; the next command that reaches one publishes this")
    for warning in outcome.warnings:
        note(f"wgctl: warning: {warning}")
    if as_json:
        write_json(
            {
                "format": REPORT_FORMAT,
                "name": name,
                "hid": enrollment.hid,
                "fingerprint": fingerprint,
                "addresses": outcome.addresses,
                "networks": outcome.networks,
                "statement": outcome.seq,
                "gen": outcome.gen,
                "changed": outcome.seq is not None,
                "bundle": target if bundle else None,
                "root_fingerprint": root_fingerprint,
                "warnings": outcome.warnings,
            }
        )
        return
    done = f"granted as statement {outcome.seq}" if outcome.seq is not None else "was granted so before"
    again = "--new-identity" if outcome.gen > 1 else f"--name {name}"
    lines = [
        f"{name}: {done}: {' '.join(outcome.addresses)}",
        f"  networks     {' '.join(outcome.networks) or 'none'}",
        f"  fingerprint  {fingerprint}   the host must show the same: meshd enroll {again}",
    ]
    if not bundle:
        lines.append("  bundle       none yet: once it is endorsed, type this again")
    else:
        lines += [
            f"  bundle       {target if target != STANDARD_STREAM else 'on standard output'}"
            + (" (holds the host's S3 key)" if credentials else ""),
            f"  on {name}:   meshd join {name}.bundle --fingerprint {root_fingerprint}",
        ]
    if outcome.gen > 1:
        lines.append(f"  identity     {outcome.gen}: meshd there takes it up by itself; the old one is over")
    echo("\n".join(lines), err=target == STANDARD_STREAM)


def _confirm_identity(
    before: EffectiveGrant | WaitingGrant | None, request: EnrollmentRequest, agreed: bool
) -> None:
    """A request for another identity takes a host away from whoever holds the present one."""
    if before is None or agreed or request.gen <= before.grant.gen:
        return
    what = f"identity {before.grant.gen} of {before.grant.name} by identity {request.gen}"
    if not sys.stdin.isatty():
        raise click.UsageError(f"the request would replace {what}; if that is wanted: --new-identity")
    from meshd.registry.signing import render_fingerprint

    confirm(f"Replace {what}, fingerprint {render_fingerprint(request.kid)}?")


def _write_draft(
    options: Options, path: str, name: str, request: str, asked: GrantRequest, now: float, as_json: bool
) -> None:
    from wgctl.admin.signing_request import AddHost, draft_wish, report_draft

    wish = AddHost(
        name=name,
        request=request,
        region=asked.region,
        roles=asked.roles,
        tags=asked.tags,
        address=str(asked.address) if asked.address is not None else None,
        networks=tuple(map(str, asked.networks)) if asked.networks is not None else None,
        expires=asked.expires_at,
    )
    report_draft(path, draft_wish(options, path, lambda _: wish, now=now), as_json)
