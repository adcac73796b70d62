"""``wgctl rotate-keys``: ask hosts for new WireGuard keys."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Final

import click

from meshd.terminal import echo
from wgctl.completing import HOST
from wgctl.options import Options, pass_options
from wgctl.output import json_option, render_time, write_json
from wgctl.parameters import ANY_INSTANT, draft_option

if TYPE_CHECKING:
    from wgctl.documents.members import RotationAsked

MAX_AHEAD_SECONDS: Final = 366 * 86400
"""Further ahead is taken for a slip of the keyboard; nobody plans a rotation for the year 2206."""


@click.command("rotate-keys")
@click.argument("hosts", metavar="[NAME|HID]...", nargs=-1, type=HOST)
@click.option("--all", "everybody", is_flag=True, help="Every host, those that are granted later included.")
@click.option(
    "--at",
    type=ANY_INSTANT,
    default="now",
    metavar="TIME",
    help="Replace keys from before TIME, but not earlier: now, +2h, or RFC 3339. [default: now]",
)
@draft_option
@click.option("--watch", is_flag=True, help="Show how far they are until all are done; needs meshd here.")
@json_option
@pass_options
def command(
    options: Options,
    hosts: tuple[str, ...],
    everybody: bool,
    at: int,
    draft: str | None,
    watch: bool,
    as_json: bool,
) -> None:
    """Ask hosts to make new WireGuard keys.

    Each host makes its own key and changes over without losing a packet; private keys never travel. A
    host whose key is from after TIME has nothing to do.
    """
    from wgctl.admin.rotation import commit_rotation, is_asked
    from wgctl.admin.select_hosts import choose_granted
    from wgctl.admin.session import open_session

    if bool(hosts) == everybody:
        raise click.UsageError("either names of hosts or --all is needed")
    now = time.time()
    if at > now + MAX_AHEAD_SECONDS:
        days = MAX_AHEAD_SECONDS // 86400
        raise click.UsageError(f"--at: {render_time(at)} seen, at most {days} days ahead expected")
    if watch and (as_json or draft is not None):
        raise click.UsageError("--watch excludes --json and --draft")
    before = _read_keys(options) if watch else {}
    if draft is not None:
        _write_draft(options, draft, hosts, at, now, as_json)
        return
    with open_session(options) as session:
        session.sync(now=now)
        session.require_store()
        meant = choose_granted(session.ledger, hosts)
        reduction = session.ledger.reduction()
        names = {hid: reduction.effective[hid].grant.name for hid in meant}
        fresh = {hid for hid in meant if not is_asked(session.ledger, hid, at)}
        seqs = commit_rotation(session, meant, at, now=now)
        session.report_failures()
    if as_json:
        write_json(_document(everybody, at, seqs, names, fresh))
        return
    whom = "all hosts" if everybody else ", ".join(names.values())
    echo(f"{whom}: {_describe(seqs, at, now)}")
    if watch and seqs:
        from wgctl.views import rotation as rotationwatch

        if everybody:
            names = {hid: grant.grant.name for hid, grant in reduction.effective.items()}
        rotationwatch.watch(options.control_socket(), names, before)


def _document(
    everybody: bool, at: int, seqs: Sequence[int], names: dict[str, str], fresh: Set[str]
) -> RotationAsked:
    """``names``: of the hosts asked, by hid; ``fresh``: those that had not been asked before."""
    from wgctl.documents.members import AskedHost, RotationAsked

    hosts = (AskedHost(name=name, hid=hid, changed=hid in fresh) for hid, name in names.items())
    return RotationAsked(
        all=everybody, not_before=at, statements=tuple(seqs), changed=bool(seqs), hosts=tuple(hosts)
    )


def _describe(seqs: Sequence[int], at: int, now: float) -> str:
    if not seqs:
        return f"asked before to replace keys from before {render_time(at)}"
    number = f"statement {seqs[0]}" if len(seqs) == 1 else f"statements {seqs[0]} to {seqs[-1]}"
    when = f"at {render_time(at)}" if at > now else "now"
    return f"to make new WireGuard keys {when}, asked by {number}"


def _read_keys(options: Options) -> dict[str, str | None]:
    """The keys in force before anybody is asked; ControlError, and nobody is, without meshd."""
    from wgctl.client import ControlClient
    from wgctl.views.rotation import read_keys

    with ControlClient(options.control_socket()) as client:
        return read_keys(client.status())


def _write_draft(
    options: Options, path: str, hosts: tuple[str, ...], at: int, now: float, as_json: bool
) -> None:
    from wgctl.admin.select_hosts import choose_granted
    from wgctl.admin.signing_request import RotateKeys, draft_operation, report_draft

    report_draft(
        path,
        draft_operation(
            options,
            path,
            lambda ledger: RotateKeys(hids=tuple(choose_granted(ledger, hosts)), not_before=at),
            now=now,
        ),
        as_json,
    )
