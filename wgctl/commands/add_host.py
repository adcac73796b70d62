"""``wgctl add-host``: grant a host its place, and bring it there with ``--ssh``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec.structs import replace

from meshd.model.host import CLIENT_ROLE
from meshd.model.network import IPAddress, IPNetwork
from meshd.terminal import echo
from wgctl.completing import FILE, HOST
from wgctl.files import STANDARD_STREAM, check_writable, read_text, write_text
from wgctl.options import Options, pass_options
from wgctl.output import json_option, note, write_json
from wgctl.parameters import ADDRESS, EXPIRY, NETWORK, draft_option, garage_options, ssh_options

if TYPE_CHECKING:
    from wgctl.admin.placing import AddHostOptions, Outcome

MAX_REQUEST_BYTES: Final = 65536


@click.command("add-host")
@click.argument("name", metavar="NAME|-", type=HOST)
@click.option("--request", metavar="FILE|-", help="What `meshd enroll` printed on the host.", type=FILE)
@ssh_options
@click.option("--fingerprint", help="Of the host's identity, as meshd enroll showed it there. [default: ask]")
@click.option("--address", type=ADDRESS, help="Overlay address. [default: the lowest free one]")
@click.option(
    "--jails",
    "networks",
    type=NETWORK,
    multiple=True,
    help="Network that the host may announce; may be given again. Replaces those it has.",
)
@click.option("--add-jails", "added", type=NETWORK, multiple=True, help="One more, besides those it has.")
@click.option("--remove-jails", "removed", type=NETWORK, multiple=True, help="One less.")
@click.option("--region", help="Where it is, for people and for services.")
@click.option("--role", "roles", multiple=True, help="May be given again; `admin` is protected by meshd.")
@click.option("--tag", "tags", multiple=True, help="May be given again.")
@click.option("--expires", type=EXPIRY, help="End of the membership: 90d, 12h, a date in UTC, or never.")
@click.option(
    "--out", metavar="BUNDLE|-", help="Where the join bundle goes. [default: NAME.bundle]", type=FILE
)
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
@click.option("--yes", is_flag=True, help="Do not ask about what a known host loses.")
@garage_options
@click.option("--offline", is_flag=True, help="Ask no store: for hosts that a store is to run on.")
@draft_option
@json_option
@pass_options
def command(options: Options, /, draft: str | None, as_json: bool, **typed: Any) -> None:
    """Grant a host its place and print its join bundle.

    With --ssh all of it: enroll there, compare the fingerprint over ssh, grant, join, start. NAME as `-`:
    request on standard input, bundle on standard output, questions on the terminal.

    Asks whether the host showed the same fingerprint, before anything is signed; --fingerprint says so.
    With a Garage that wgctl administers, the bundle holds an S3 key of the host's own. The same
    request again prints the bundle again; with other options it changes the grant. For a host that is
    granted no request is needed. What it would lose is shown and asked about.
    """
    from wgctl.admin.placing import change_place, grant_over_ssh, grant_place

    asks, now = _parse(**typed), time.time()
    if asks.ssh is not None:
        _refuse_beside_ssh(asks, draft)
        render(asks, grant_over_ssh(options, asks, asks.ssh, now=now), as_json)
        return
    if asks.name == STANDARD_STREAM:
        asks = replace(asks, request=asks.request or STANDARD_STREAM)
    if asks.request is None:
        if draft is not None or asks.out is not None:
            raise click.UsageError("--draft and --out need a --request")
        render(asks, change_place(options, asks, now=now), as_json)
        return
    if asks.request == STANDARD_STREAM:
        options.passphrase.leave_standard_input()
    text = read_text(asks.request, "an enrollment request", MAX_REQUEST_BYTES)
    asks = _named_by(asks, text)
    if as_json and asks.target == STANDARD_STREAM:
        raise click.UsageError("--json and --out - both want standard output")
    if draft is not None:
        _write_draft(options, draft, asks, text, as_json, now=now)
        return
    from meshd.registry.bundle import BUNDLE_FORMAT, parse_request

    # A file of the host's own name may be of the host that was called so before.
    whose = {"hid": parse_request(text).hid} if asks.out else {}
    check_writable(asks.target, f"a join bundle of {asks.name}", {"format": BUNDLE_FORMAT, **whose})
    outcome = grant_place(options, asks, text, now=now)
    if outcome.bundle is not None:
        write_text(asks.target, outcome.bundle)
    render(asks, outcome, as_json)


def render(asks: AddHostOptions, outcome: Outcome, as_json: bool) -> None:
    admitted = outcome.admitted
    if asks.offline:
        note("wgctl: warning: no store was asked; the next command that reaches one publishes this")
    for warning in admitted.warnings:
        note(f"wgctl: warning: {warning}")
    if as_json:
        from wgctl.documents.members import HostAdded

        document = HostAdded(
            name=asks.name,
            hid=outcome.hid,
            fingerprint=outcome.fingerprint,
            addresses=admitted.addresses,
            networks=admitted.networks,
            statement=admitted.seq,
            gen=admitted.gen,
            changed=admitted.seq is not None,
            bundle=asks.target or None if outcome.bundle is not None else None,
            running=outcome.running or None,
            root_fingerprint=outcome.root_fingerprint,
            warnings=admitted.warnings,
        )
        write_json(document)
        return
    echo("\n".join(_lines(asks, outcome)), err=asks.target == STANDARD_STREAM)


def _parse(
    *,
    networks: tuple[IPNetwork, ...],
    added: tuple[IPNetwork, ...],
    removed: tuple[IPNetwork, ...],
    address: IPAddress | None,
    region: str | None,
    roles: tuple[str, ...],
    tags: tuple[str, ...],
    expires: int | None,
    ssh: str | None,
    ssh_words: tuple[str, ...],
    endpoints: tuple[str, ...],
    host_config: str,
    start: str,
    **others: Any,
) -> AddHostOptions:
    from wgctl.admin.admission import GrantRequest
    from wgctl.admin.placing import AddHostOptions

    if ssh is None and (ssh_words or endpoints or host_config or start):
        raise click.UsageError("--ssh-option, --endpoint, --host-config and --start go with --ssh")
    if networks and (added or removed):
        raise click.UsageError("--jails names all networks: no --add-jails or --remove-jails beside it")
    if CLIENT_ROLE in roles:
        raise click.UsageError(f"--role {CLIENT_ROLE}: a client is made by: wgctl add-client NAME")
    wishes = None
    if ssh is not None:
        # With what runs subprocesses, which the rest has no need of.
        from wgctl.admin.onboarding import SshWishes

        wishes = SshWishes(
            destination=ssh, options=ssh_words, endpoints=endpoints, config=host_config, start=start
        )
    asked = GrantRequest(
        address=address,
        networks=networks or None,
        region=region,
        roles=roles or None,
        tags=tags or None,
        expires_at=expires,
        added_networks=added,
        removed_networks=removed,
    )
    return AddHostOptions(asked=asked, ssh=wishes, **others)


def _refuse_beside_ssh(asks: AddHostOptions, draft: str | None) -> None:
    if asks.name == STANDARD_STREAM:
        raise click.UsageError("--ssh: a name expected, as there is no request yet to take it from")
    if asks.request is not None or asks.out is not None or draft is not None or asks.new_identity:
        raise click.UsageError(
            "--ssh fetches the request and hands the bundle over by itself: "
            "no --request, --out, --draft or --new-identity expected"
        )


def _named_by(asks: AddHostOptions, request: str) -> AddHostOptions:
    """``-`` as name: the request says which, and the bundle goes on to the next program."""
    if asks.name != STANDARD_STREAM:
        return asks
    from meshd.registry.bundle import parse_request

    return replace(asks, name=parse_request(request).name, out=asks.out or STANDARD_STREAM)


def _lines(asks: AddHostOptions, outcome: Outcome) -> list[str]:
    admitted = outcome.admitted
    done = f"granted as statement {admitted.seq}" if admitted.seq is not None else "was granted so before"
    lines = [
        f"{asks.name}: {done}: {' '.join(admitted.addresses)}",
        f"  networks     {' '.join(admitted.networks) or 'none'}",
        f"  fingerprint  {outcome.fingerprint}",
    ]
    if outcome.bundle is None and admitted.is_member:
        lines.append("  bundle       none needed: the host hears of it by itself")
    elif outcome.bundle is None:
        lines.append("  bundle       none yet: once it is endorsed, type this again")
    elif outcome.running:
        lines.append(f"  running      {outcome.running}")
    else:
        lines += [
            f"  bundle       {asks.target if asks.target != STANDARD_STREAM else 'on standard output'}"
            + (" (holds the host's S3 key)" if outcome.holds_key else ""),
            f"  on {asks.name}:   meshd join {asks.name}.bundle --fingerprint {outcome.root_fingerprint}",
        ]
    if admitted.gen > 1:
        lines.append(f"  identity     {admitted.gen}: meshd there takes it up by itself; the old one is over")
    return lines


def _write_draft(
    options: Options, path: str, asks: AddHostOptions, request: str, as_json: bool, *, now: float
) -> None:
    """Nobody is asked here: who signs the draft is shown the fingerprint and asked."""
    from wgctl.admin.admission import parse_named_request
    from wgctl.admin.signing_request import AddHost, draft_operation, report_draft

    if asks.out or asks.s3_credentials or asks.garage_admin or asks.garage_token_file or asks.offline:
        raise click.UsageError("--draft: the bundle and its S3 key are made where it is signed")
    if asks.asked.added_networks or asks.asked.removed_networks:
        raise click.UsageError("--draft: all networks expected, by --jails")
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
