"""``wgctl add-host``: grant a host its place."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from meshd.model.network import IPAddress, IPNetwork
from meshd.terminal import confirm, echo
from wgctl.files import STANDARD_STREAM, check_writable, read_text, write_text
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json
from wgctl.parameters import ADDRESS, INSTANT, NETWORK, draft_option, garage_options

if TYPE_CHECKING:
    from meshd.registry.bundle import EnrollmentRequest
    from meshd.registry.ledger import Ledger
    from meshd.registry.reducer import EffectiveGrant, UnendorsedGrant
    from wgctl.admin.admission import GrantOutcome, GrantRequest

REPORT_FORMAT: Final = "wgctl-add-host/1"
MAX_REQUEST_BYTES: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class AddHostOptions:
    """What was typed. ``fingerprint``: of the identity that asks; None: ask, unless it is known."""

    name: str
    request: str
    asked: GrantRequest
    fingerprint: str | None
    out: str | None
    s3_credentials: Path | None
    new_identity: bool
    garage_admin: tuple[str, ...]
    garage_token_file: Path | None
    offline: bool

    @property
    def target(self) -> str:
        return self.out or f"{self.name}.bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``bundle``: where it was written; None: there is none yet. ``holds_key``: it has the host's S3 key."""

    hid: str
    fingerprint: str
    root_fingerprint: str
    admitted: GrantOutcome
    bundle: str | None
    holds_key: bool


@click.command("add-host")
@click.argument("name")
@click.option("--request", required=True, metavar="FILE|-", help="What `meshd enroll` printed on the host.")
@click.option("--fingerprint", help="Of the host's identity, as meshd enroll showed it there. [default: ask]")
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
def command(options: Options, /, draft: str | None, as_json: bool, **typed: Any) -> None:
    """Grant a host its place and print its join bundle.

    Asks whether the host showed the same fingerprint, before anything is signed; --fingerprint says so.
    With a Garage that wgctl administers, the bundle holds an S3 key of the host's own. The same
    request again prints the bundle again; with other options it changes the grant.
    """
    asks = _parse(**typed)
    if as_json and asks.target == STANDARD_STREAM:
        raise click.UsageError("--json and --out - both want standard output")
    text = read_text(asks.request, "an enrollment request", MAX_REQUEST_BYTES)
    now = time.time()
    if draft is not None:
        _write_draft(options, draft, asks, text, as_json, now=now)
        return
    render(asks, run(options, asks, text, now=now), as_json)


def run(options: Options, asks: AddHostOptions, text: str, *, now: float) -> Outcome:
    """Compare, sign, publish, and write the bundle. Nothing is signed or published before the comparison."""
    from meshd.registry.bundle import build_bundle, render_bundle
    from meshd.registry.signing import render_fingerprint
    from wgctl.admin.admission import admit, host_key_source, parse_named_request, read_host_credentials
    from wgctl.admin.session import open_session

    enrollment = parse_named_request(text, asks.name)
    given = read_host_credentials(asks.s3_credentials)
    check_writable(asks.target, "the bundle")
    with open_session(options, offline=asks.offline) as session:
        session.sync(now=now)
        _compare(session.ledger, asks, enrollment)
        with host_key_source(session, given, asks.garage_admin, asks.garage_token_file) as provide_key:
            admitted = admit(session, enrollment, asks.asked, now=now)
            bundle, credentials = "", given
            if admitted.is_member:
                credentials = provide_key(enrollment.hid)
                bundle = render_bundle(build_bundle(session.ledger, enrollment.hid, s3=credentials)) + "\n"
        session.report_failures()
        root_fingerprint = render_fingerprint(session.ledger.chain.fingerprint)
    if bundle:
        write_text(asks.target, bundle)
    return Outcome(
        hid=enrollment.hid,
        fingerprint=render_fingerprint(enrollment.kid),
        root_fingerprint=root_fingerprint,
        admitted=admitted,
        bundle=asks.target if bundle else None,
        holds_key=credentials is not None,
    )


def render(asks: AddHostOptions, outcome: Outcome, as_json: bool) -> None:
    admitted = outcome.admitted
    if asks.offline:
        note("wgctl: warning: no store was asked; the next command that reaches one publishes this")
    for warning in admitted.warnings:
        note(f"wgctl: warning: {warning}")
    if as_json:
        write_json(
            {
                "format": REPORT_FORMAT,
                "name": asks.name,
                "hid": outcome.hid,
                "fingerprint": outcome.fingerprint,
                "addresses": admitted.addresses,
                "networks": admitted.networks,
                "statement": admitted.seq,
                "gen": admitted.gen,
                "changed": admitted.seq is not None,
                "bundle": outcome.bundle,
                "root_fingerprint": outcome.root_fingerprint,
                "warnings": admitted.warnings,
            }
        )
        return
    echo("\n".join(_lines(asks, outcome)), err=asks.target == STANDARD_STREAM)


def _parse(
    *,
    networks: tuple[IPNetwork, ...],
    address: IPAddress | None,
    region: str | None,
    roles: tuple[str, ...],
    tags: tuple[str, ...],
    expires: int | None,
    **others: Any,
) -> AddHostOptions:
    from wgctl.admin.admission import GrantRequest

    asked = GrantRequest(
        address=address,
        networks=networks or None,
        region=region,
        roles=roles or None,
        tags=tags or None,
        expires_at=expires,
    )
    return AddHostOptions(asked=asked, **others)


def _lines(asks: AddHostOptions, outcome: Outcome) -> list[str]:
    admitted = outcome.admitted
    done = f"granted as statement {admitted.seq}" if admitted.seq is not None else "was granted so before"
    lines = [
        f"{asks.name}: {done}: {' '.join(admitted.addresses)}",
        f"  networks     {' '.join(admitted.networks) or 'none'}",
        f"  fingerprint  {outcome.fingerprint}",
    ]
    if outcome.bundle is None:
        lines.append("  bundle       none yet: once it is endorsed, type this again")
    else:
        lines += [
            f"  bundle       {asks.target if asks.target != STANDARD_STREAM else 'on standard output'}"
            + (" (holds the host's S3 key)" if outcome.holds_key else ""),
            f"  on {asks.name}:   meshd join {asks.name}.bundle --fingerprint {outcome.root_fingerprint}",
        ]
    if admitted.gen > 1:
        lines.append(f"  identity     {admitted.gen}: meshd there takes it up by itself; the old one is over")
    return lines


def _compare(ledger: Ledger, asks: AddHostOptions, request: EnrollmentRequest) -> None:
    """A request proves that it is whole, not whose it is; an identity that is granted was compared before."""
    from meshd.host.comparison import require_compared
    from wgctl.admin.admission import check_identity, newest_grant

    before = newest_grant(ledger, request.hid)
    check_identity(before, request)
    _confirm_identity(before, request, asks.new_identity)
    if before is not None and before.ranges.identity == request.identity and asks.fingerprint is None:
        return
    require_compared(
        f"request of {asks.name}",
        request.kid,
        [asks.fingerprint] if asks.fingerprint is not None else [],
        shown_by="meshd enroll --new-identity" if request.gen > 1 else f"meshd enroll --name {asks.name}",
        source=asks.request,
    )


def _confirm_identity(
    before: EffectiveGrant | UnendorsedGrant | None, request: EnrollmentRequest, agreed: bool
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
    options: Options, path: str, asks: AddHostOptions, request: str, as_json: bool, *, now: float
) -> None:
    """Nobody is asked here: who signs the draft is shown the fingerprint and asked."""
    from wgctl.admin.admission import parse_named_request
    from wgctl.admin.signing_request import AddHost, draft_operation, report_draft

    if asks.out or asks.s3_credentials or asks.garage_admin or asks.garage_token_file or asks.offline:
        raise click.UsageError("--draft: the bundle and its S3 key are made where it is signed")
    if asks.fingerprint is not None:
        raise click.UsageError("--draft: the fingerprint is compared where it is signed")
    parse_named_request(request, asks.name)
    asked = asks.asked
    drafted = AddHost(
        name=asks.name,
        request=request,
        region=asked.region,
        roles=asked.roles,
        tags=asked.tags,
        address=str(asked.address) if asked.address is not None else None,
        networks=tuple(map(str, asked.networks)) if asked.networks is not None else None,
        expires=asked.expires_at,
    )
    report_draft(path, draft_operation(options, path, lambda _: drafted, now=now), as_json)
