"""What ``wgctl add-host`` does once its words are understood: a new host, a known one, one over ssh."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from msgspec.structs import replace

from meshd.errors import UnsafePlanError
from meshd.host.comparison import require_compared
from meshd.registry.bundle import EnrollmentRequest, build_bundle, render_bundle
from meshd.registry.envelope import key_id
from meshd.registry.ledger import Ledger
from meshd.registry.reducer import EffectiveGrant, UnendorsedGrant
from meshd.registry.signing import render_fingerprint
from meshd.terminal import confirm
from meshd.text_files import somebody_answers
from wgctl.admin.admission import (
    GrantOutcome,
    GrantRequest,
    admit,
    change_grant,
    check_identity,
    newest_grant,
    parse_named_request,
)
from wgctl.admin.grant_change import Difference
from wgctl.admin.home import open_home
from wgctl.admin.key_source import host_key_source, read_host_credentials
from wgctl.admin.select_hosts import find_grantee
from wgctl.admin.session import open_session
from wgctl.options import Options
from wgctl.output import note

if TYPE_CHECKING:
    from wgctl.admin.onboarding import SshWishes


class AddHostOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed. ``fingerprint``: of the identity that asks; None: ask, unless it is known."""

    name: str
    request: str | None
    ssh: SshWishes | None
    asked: GrantRequest
    fingerprint: str | None
    out: str | None
    s3_credentials: Path | None
    new_identity: bool
    yes: bool
    garage_admin: tuple[str, ...]
    garage_token_file: Path | None
    offline: bool

    @property
    def target(self) -> str:
        """Where the bundle goes; empty: over ssh, to nobody else."""
        return "" if self.ssh is not None else self.out or f"{self.name}.bundle"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """``bundle``: its text, None: there is none yet. ``holds_key``: it has the host's S3 key. ``running``:
    what meshd said once it was started over ssh, empty: it was not."""

    hid: str
    fingerprint: str
    root_fingerprint: str
    admitted: GrantOutcome
    bundle: str | None
    holds_key: bool
    running: str = ""


def grant_over_ssh(options: Options, asks: AddHostOptions, ssh: SshWishes, *, now: float) -> Outcome:
    """All steps on the host and here, each reported. RemoteError names the one that failed; those before
    it stay done."""
    # Subprocesses and what they need: a sixth of the time to start, and most calls reach nobody by ssh.
    from wgctl.admin.onboarding import Onboarding
    from wgctl.admin.ssh import connected

    def say(line: str) -> None:
        note(f"{asks.name}: {line}")

    mesh_id = open_home(options.home).mesh.mesh_id
    with connected(ssh.destination, ssh.options) as channel:
        host = Onboarding(channel, asks.name, ssh, asks.asked.networks or (), say)
        host.prepare(mesh_id)
        request, fingerprint = host.enroll()
        outcome = grant_place(
            options, replace(asks, fingerprint=asks.fingerprint or fingerprint), request, now=now
        )
        if outcome.bundle is None:
            return outcome
        seq = outcome.admitted.seq
        say("was granted so before" if seq is None else f"granted as statement {seq}")
        host.join(outcome.bundle, mesh_id, outcome.root_fingerprint)
        return replace(outcome, running=host.start())


def grant_place(options: Options, asks: AddHostOptions, text: str, *, now: float) -> Outcome:
    """Compare, sign, and publish. Nothing is signed or published before the comparison."""

    enrollment = parse_named_request(text, asks.name)
    given = read_host_credentials(asks.s3_credentials)
    with (
        open_session(options, offline=asks.offline) as session,
        host_key_source(session, given, asks.garage_admin, asks.garage_token_file) as keys,
    ):
        session.sync(now=now)
        _compare(session.ledger, asks, enrollment)
        keys.check()
        admitted = admit(
            session,
            enrollment,
            asks.asked,
            partial(_consent, asks),
            now=now,
            on_member=partial(keys.begin, enrollment.hid),
        )
        bundle, credentials = "", given
        if admitted.is_member:
            credentials = keys.provide(enrollment.hid)
            bundle = render_bundle(build_bundle(session.ledger, enrollment.hid, s3=credentials)) + "\n"
        session.report_failures()
        root_fingerprint = render_fingerprint(session.ledger.chain.fingerprint)
    return Outcome(
        hid=enrollment.hid,
        fingerprint=render_fingerprint(enrollment.kid),
        root_fingerprint=root_fingerprint,
        admitted=admitted,
        bundle=bundle or None,
        holds_key=credentials is not None,
    )


def change_place(options: Options, asks: AddHostOptions, *, now: float) -> Outcome:
    """Another grant for a host that has one: nothing of its own is needed for that, and no bundle."""

    with open_session(options, offline=asks.offline) as session:
        session.sync(now=now)
        hid = find_grantee(session.ledger, asks.name)
        if asks.fingerprint is not None or asks.new_identity:
            raise click.UsageError("--fingerprint and --new-identity go with a --request")
        changed = change_grant(session, hid, asks.asked, partial(_consent, asks), now=now)
        session.report_failures()
        found = newest_grant(session.ledger, hid)
        assert found is not None
        root_fingerprint = render_fingerprint(session.ledger.chain.fingerprint)
    return Outcome(
        hid=hid,
        fingerprint=render_fingerprint(key_id(found.ranges.identity)),
        root_fingerprint=root_fingerprint,
        admitted=changed,
        bundle=None,
        holds_key=False,
    )


def _consent(asks: AddHostOptions, differences: Sequence[Difference]) -> None:
    """UnsafePlanError where nobody can be asked whether the host is to lose that."""
    for each in differences:
        note(f"{asks.name}: {each}")
    taken = ", ".join(what for each in differences for what in each.taken)
    if asks.yes:
        return
    source = asks.request or ""
    if not somebody_answers(source):
        raise UnsafePlanError(f"{asks.name} would lose {taken}; nothing was signed; if that is wanted: --yes")
    confirm(f"Take from {asks.name}: {taken}?", source=source)


def _compare(ledger: Ledger, asks: AddHostOptions, request: EnrollmentRequest) -> None:
    """A request proves that it is whole, not whose it is; an identity that is granted was compared before."""

    before = newest_grant(ledger, request.hid)
    check_identity(before, request)
    source = asks.request or ""
    _confirm_identity(before, request, asks.new_identity, source)
    if before is not None and before.ranges.identity == request.identity and asks.fingerprint is None:
        return
    require_compared(
        f"request of {asks.name}",
        request.kid,
        [asks.fingerprint] if asks.fingerprint is not None else [],
        shown_by="meshd enroll --new-identity" if request.gen > 1 else f"meshd enroll --name {asks.name}",
        source=source,
    )


def _confirm_identity(
    before: EffectiveGrant | UnendorsedGrant | None, request: EnrollmentRequest, agreed: bool, source: str
) -> None:
    """A request for another identity takes a host away from whoever holds the present one."""
    if before is None or agreed or request.gen <= before.grant.gen:
        return
    what = f"identity {before.grant.gen} of {before.grant.name} by identity {request.gen}"
    if not somebody_answers(source):
        raise click.UsageError(f"the request would replace {what}; if that is wanted: --new-identity")

    confirm(f"Replace {what}, fingerprint {render_fingerprint(request.kid)}?", source=source)
